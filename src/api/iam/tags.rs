//! Tags of users, roles, managed policies and OpenID Connect providers.

use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::EntityKind;
use gitferry_iam::{IamError, Tags};
use serde_json::{Value, json};

use super::operation::{Ask, Change, Read, Tag, listing, name_in, no_entity, no_policy, operation, pairs};
use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result, shown};

/// Entity with tags, as a request names it.
trait Tagged {
    fn resource(ask: &Ask, key: &str) -> Resource;
    fn tags<'a>(ask: &'a Ask, key: &str) -> Result<&'a Tags>;
    fn tag(editor: &Editor<'_>, key: &str, tags: Vec<(String, String)>) -> std::result::Result<Edit, IamError>;
    fn untag(editor: &Editor<'_>, key: &str, keys: &[String]) -> std::result::Result<Edit, IamError>;
}

struct OfUser;

impl Tagged for OfUser {
    fn resource(ask: &Ask, key: &str) -> Resource {
        ask.user(key)
    }

    fn tags<'a>(ask: &'a Ask, key: &str) -> Result<&'a Tags> {
        let user = ask.caller.account.user(key);
        user.map(|user| &user.record.tags).ok_or_else(|| no_entity(EntityKind::User, key))
    }

    fn tag(editor: &Editor<'_>, key: &str, tags: Vec<(String, String)>) -> std::result::Result<Edit, IamError> {
        editor.tag(EntityKind::User, key, tags)
    }

    fn untag(editor: &Editor<'_>, key: &str, keys: &[String]) -> std::result::Result<Edit, IamError> {
        editor.untag(EntityKind::User, key, keys)
    }
}

struct OfRole;

impl Tagged for OfRole {
    fn resource(ask: &Ask, key: &str) -> Resource {
        ask.entity(EntityKind::Role, key)
    }

    fn tags<'a>(ask: &'a Ask, key: &str) -> Result<&'a Tags> {
        let role = ask.caller.account.role(key);
        role.map(|role| &role.record.tags).ok_or_else(|| no_entity(EntityKind::Role, key))
    }

    fn tag(editor: &Editor<'_>, key: &str, tags: Vec<(String, String)>) -> std::result::Result<Edit, IamError> {
        editor.tag(EntityKind::Role, key, tags)
    }

    fn untag(editor: &Editor<'_>, key: &str, keys: &[String]) -> std::result::Result<Edit, IamError> {
        editor.untag(EntityKind::Role, key, keys)
    }
}

/// A managed policy, by its ARN.
struct OfPolicy;

impl OfPolicy {
    /// Name of the policy with this ARN, path included; a name that no policy has if there is none.
    fn name<'a>(editor: &Editor<'_>, arn: &'a str) -> &'a str {
        let own = editor.account().policy_by_arn(arn).is_some();
        name_in(arn, "policy").filter(|_| own).unwrap_or(arn)
    }
}

impl Tagged for OfPolicy {
    fn resource(ask: &Ask, key: &str) -> Resource {
        ask.policy(key)
    }

    fn tags<'a>(ask: &'a Ask, key: &str) -> Result<&'a Tags> {
        static NONE: Tags = Tags::new();
        let policy = ask.caller.account.policy_by_arn(key).map(|policy| &policy.record.tags);
        let of_aws = gitferry_policy::managed::find(key).map(|_| &NONE);
        policy.or(of_aws).ok_or_else(|| no_policy(key))
    }

    fn tag(editor: &Editor<'_>, key: &str, tags: Vec<(String, String)>) -> std::result::Result<Edit, IamError> {
        editor.tag(EntityKind::Policy, OfPolicy::name(editor, key), tags)
    }

    fn untag(editor: &Editor<'_>, key: &str, keys: &[String]) -> std::result::Result<Edit, IamError> {
        editor.untag(EntityKind::Policy, OfPolicy::name(editor, key), keys)
    }
}

/// An OpenID Connect provider, by its ARN.
struct OfProvider;

impl Tagged for OfProvider {
    fn resource(ask: &Ask, key: &str) -> Resource {
        ask.provider(key)
    }

    fn tags<'a>(ask: &'a Ask, key: &str) -> Result<&'a Tags> {
        let id = ask.caller.account.id();
        let provider = ask.caller.account.oidc_providers().find(|provider| provider.arn(&id) == key);
        let missing = || ApiError::no_such(format!("OpenIDConnect Provider not found for arn {}", shown(key)));
        provider.map(|provider| &provider.tags).ok_or_else(missing)
    }

    fn tag(editor: &Editor<'_>, key: &str, tags: Vec<(String, String)>) -> std::result::Result<Edit, IamError> {
        editor.tag_oidc_provider(key, tags)
    }

    fn untag(editor: &Editor<'_>, key: &str, keys: &[String]) -> std::result::Result<Edit, IamError> {
        editor.untag_oidc_provider(key, keys)
    }
}

macro_rules! tags_of {
    ($kind:ident $(#[$rename:meta])* $key:ident: $tag:ident $untag:ident $list:ident) => {
        operation!($tag { $(#[$rename])* $key: String, tags: Vec<Tag> });

        impl Change for $tag {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>($kind::resource(ask, &self.$key)).with_tags(&pairs(&self.tags))])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok(($kind::tag(editor, &self.$key, pairs(&self.tags))?, Value::Null))
            }
        }

        operation!($untag { $(#[$rename])* $key: String, tag_keys: Vec<String> });

        impl Change for $untag {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>($kind::resource(ask, &self.$key)).with_tag_keys(&self.tag_keys)])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok(($kind::untag(editor, &self.$key, &self.tag_keys)?, Value::Null))
            }
        }

        listing!($list { $(#[$rename])* $key: String });

        impl Read for $list {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>($kind::resource(ask, &self.$key))])
            }

            fn read(&self, ask: &Ask) -> Result<Value> {
                let tags = $kind::tags(ask, &self.$key)?.iter().map(|(key, value)| (key.clone(), (key, value)));
                Ok(self.page()?.of("Tags", tags, |(key, value)| json!({"Key": key, "Value": value})))
            }
        }
    };
}

tags_of!(OfUser user_name: TagUser UntagUser ListUserTags);
tags_of!(OfRole role_name: TagRole UntagRole ListRoleTags);
tags_of!(OfPolicy policy_arn: TagPolicy UntagPolicy ListPolicyTags);
tags_of!(OfProvider #[serde(rename = "OpenIDConnectProviderArn")] arn: TagOpenIDConnectProvider
    UntagOpenIDConnectProvider ListOpenIDConnectProviderTags);
