//! Operations of IAM as values: an input with the requests that it demands, and its work.

use std::net::IpAddr;
use std::sync::Arc;

use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::{EntityKind, User};
use gitferry_iam::{Authenticated, IamArn, KeyRing};
use serde::Deserialize;
use serde_json::Value;

use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result};

/// Name of an operation's action.
pub trait Named {
    /// Action in policies, such as `iam:GetUser`.
    const ACTION: &'static str;
}

/// Operation that reads the account.
pub trait Read: Send + Sync {
    /// Requests that the caller's policies have to allow.
    ///
    /// # Errors
    /// `ValidationError`.
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>>;

    /// The result.
    ///
    /// # Errors
    /// Those of the operation.
    fn read(&self, ask: &Ask) -> Result<Value>;
}

/// Operation that changes the account.
pub trait Change: Send + Sync {
    /// Requests that the caller's policies have to allow.
    ///
    /// # Errors
    /// `ValidationError`.
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>>;

    /// The change of a state of the account, and the result; null for an operation without one. Asked again when another
    /// change comes first.
    ///
    /// # Errors
    /// Those of the operation.
    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)>;
}

/// Declares the input of an operation: its parameters, under the names of AWS.
macro_rules! operation {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", deny_unknown_fields)]
        pub struct $name { $($(#[$attribute])* $field: $type,)* }

        impl $crate::iam::operation::Named for $name {
            const ACTION: &'static str = concat!("iam:", stringify!($name));
        }
    };
}

/// Declares the input of an operation that answers in pages.
macro_rules! listing {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $crate::iam::operation::operation! {
            $name { $($(#[$attribute])* $field: $type,)* marker: Option<String>, max_items: Option<u32> }
        }

        impl $name {
            fn page(&self) -> $crate::error::Result<$crate::page::Page> {
                $crate::page::Page::parse(self.marker.as_deref(), self.max_items)
            }
        }
    };
}

pub(crate) use {listing, operation};

/// Tag in a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Tag {
    key: String,
    value: String,
}

impl Tag {
    /// The tag as an answer has it.
    pub fn describe(&self) -> Value {
        serde_json::json!({"Key": self.key, "Value": self.value})
    }
}

/// Tags as the library takes them.
pub fn pairs(tags: &[Tag]) -> Vec<(String, String)> {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

/// Request as an operation sees it: the caller and the state of the account that proved it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Caller, condition keys and account.
    pub caller: Authenticated,
    /// Opened data keys of the account.
    pub keys: Arc<KeyRing>,
    /// Address of the client.
    pub source: IpAddr,
}

impl Ask {
    /// A demand of an operation on a resource.
    pub fn demand<O: Named>(&self, resource: Resource) -> Demand {
        Demand::new(O::ACTION, resource)
    }

    /// ARN of an entity of the account.
    pub fn arn(&self, kind: &str, path: &str, name: &str) -> String {
        self.caller.account.id().iam_arn(kind, path, name)
    }

    /// The user that a request names, or else the caller.
    ///
    /// # Errors
    /// `ValidationError` for a caller that is no user.
    pub fn user_name<'a>(&'a self, given: &'a Option<String>) -> Result<&'a str> {
        let own = || self.caller.principal.user_name();
        let text = "Must specify userName when calling with non-User credentials";
        given.as_deref().or_else(own).ok_or_else(|| ApiError::validation(text))
    }

    /// The demand of an operation on the user that a request names, or else on the caller.
    ///
    /// # Errors
    /// `ValidationError` for a caller that is no user.
    pub fn demands_on_owner<O: Named>(&self, given: &Option<String>) -> Result<Vec<Demand>> {
        Ok(vec![self.demand::<O>(self.user(self.user_name(given)?))])
    }

    /// The user of this name.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn existing_user(&self, name: &str) -> Result<&User> {
        self.caller.account.user(name).map(|user| &**user).ok_or_else(|| no_entity(EntityKind::User, name))
    }

    /// The user that a request names, or else the caller.
    ///
    /// # Errors
    /// `ValidationError` for a caller that is no user; `NoSuchEntity`.
    pub fn existing_owner(&self, given: &Option<String>) -> Result<&User> {
        self.existing_user(self.user_name(given)?)
    }

    /// The same name in a change, whose demands have refused a request without a user.
    pub fn owner<'a>(&'a self, given: &'a Option<String>) -> &'a str {
        self.user_name(given).unwrap_or_default()
    }

    /// A user, group or role as a resource; one that does not exist has the path `/`.
    pub fn entity(&self, kind: EntityKind, name: &str) -> Resource {
        let account = &self.caller.account;
        let tagged = |arn: &str, tags: &gitferry_iam::Tags, boundary: &Option<String>| Resource {
            arn: arn.to_owned(),
            tags: tags.clone().into_iter().collect(),
            boundary: boundary.clone(),
        };
        let found = match kind {
            EntityKind::User => {
                account.user(name).map(|user| tagged(&user.arn, &user.record.tags, &user.record.permissions_boundary))
            }
            EntityKind::Group => account.group(name).map(|group| Resource::new(&group.arn)),
            EntityKind::Role => {
                account.role(name).map(|role| tagged(&role.arn, &role.record.tags, &role.record.permissions_boundary))
            }
            EntityKind::Policy => account.policy(name).map(|policy| tagged(&policy.arn, &policy.record.tags, &None)),
        };
        found.unwrap_or_else(|| Resource::new(self.arn(kind.word(), "/", name)))
    }

    /// A user as a resource.
    pub fn user(&self, name: &str) -> Resource {
        self.entity(EntityKind::User, name)
    }

    /// A managed policy as a resource, by its ARN.
    pub fn policy(&self, arn: &str) -> Resource {
        let found = self.caller.account.policy_by_arn(arn);
        let tags = found.map(|policy| policy.record.tags.clone().into_iter().collect());
        Resource { arn: arn.to_owned(), tags: tags.unwrap_or_default(), boundary: None }
    }

    /// An OpenID Connect provider as a resource, by its ARN.
    pub fn provider(&self, arn: &str) -> Resource {
        let found = self.caller.account.oidc_providers().find(|one| one.arn(&self.caller.account.id()) == arn);
        let tags = found.map(|provider| provider.tags.clone().into_iter().collect());
        Resource { arn: arn.to_owned(), tags: tags.unwrap_or_default(), boundary: None }
    }

    /// All entities of a kind below a path, as the resource of a listing.
    pub fn all(&self, kind: &str, prefix: &Option<String>) -> Resource {
        let prefix = prefix.as_deref().filter(|prefix| prefix.starts_with('/')).unwrap_or("/");
        Resource::new(self.arn(kind, prefix, ""))
    }
}

/// Name of the entity of an ARN of this account and kind.
pub fn name_in<'a>(arn: &'a str, kind: &str) -> Option<&'a str> {
    IamArn::parse(arn).filter(|parts| parts.kind == kind).map(|parts| parts.name)
}

/// The entity does not exist.
pub fn no_entity(kind: EntityKind, name: &str) -> ApiError {
    let name = crate::error::shown(name);
    ApiError::no_such(format!("The {} with name {name} cannot be found.", kind.word()))
}

/// The managed policy does not exist.
pub fn no_policy(arn: &str) -> ApiError {
    ApiError::no_such(format!("Policy {} was not found.", crate::error::shown(arn)))
}
