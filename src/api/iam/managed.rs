//! Managed policies and their versions: those of the account, and those of AWS, which cannot be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_iam::edit::{Edit, Editor, NewPolicy};
use gitferry_iam::model::Policy;
use gitferry_policy::managed::{self, ManagedPolicy};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, Tag, listing, no_policy, operation, pairs};
use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result, shown};

/// Fields of `Policy` that lists and `CreatePolicy` lack.
const OF_GET_POLICY: [&str; 2] = ["Description", "Tags"];

operation!(CreatePolicy {
    policy_name: String,
    path: Option<String>,
    policy_document: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
});

impl Change for CreatePolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let arn = ask.arn("policy", self.path.as_deref().unwrap_or("/"), &self.policy_name);
        Ok(ask.demand::<Self>(Resource::new(arn)).and_tag("iam:TagPolicy", &pairs(&self.tags)))
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.create_policy(NewPolicy {
            name: self.policy_name.clone(),
            path: self.path.clone(),
            document: self.policy_document.clone(),
            description: self.description.clone(),
            tags: pairs(&self.tags),
        })?;
        let after = editor.after(&edit)?;
        let made = after.policy(&self.policy_name).map(|policy| describe::policy(&after, policy));
        let made = made.map(|policy| describe::without(policy, &["Description"]));
        Ok((edit, json!({"Policy": made})))
    }
}

/// Managed policy of the account or of AWS.
#[derive(Clone, Copy)]
enum Found<'a> {
    Own(&'a Arc<Policy>),
    OfAws(&'static ManagedPolicy),
}

impl<'a> Found<'a> {
    fn by_arn(ask: &'a Ask, arn: &str) -> Result<Found<'a>> {
        let own = ask.caller.account.policy_by_arn(arn).map(Found::Own);
        own.or_else(|| managed::find(arn).map(Found::OfAws)).ok_or_else(|| no_policy(arn))
    }

    fn describe(self, ask: &Ask) -> Value {
        match self {
            Found::Own(policy) => describe::policy(&ask.caller.account, policy),
            Found::OfAws(policy) => describe::managed_policy(&ask.caller.account, policy),
        }
    }

    /// Versions by number, whole.
    fn versions(self) -> BTreeMap<u32, Value> {
        match self {
            Found::Own(policy) => policy
                .versions
                .iter()
                .map(|(number, version)| (*number, describe::version(policy, *number, version)))
                .collect(),
            Found::OfAws(policy) => BTreeMap::from([(1, describe::managed_version(policy))]),
        }
    }
}

operation!(GetPolicy { policy_arn: String });

impl Read for GetPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        Ok(json!({"Policy": Found::by_arn(ask, &self.policy_arn)?.describe(ask)}))
    }
}

/// Policies that a list shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Scope {
    #[default]
    All,
    #[serde(rename = "AWS")]
    Aws,
    Local,
}

/// Use that the policies of a list have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Usage {
    PermissionsPolicy,
    PermissionsBoundary,
}

listing!(ListPolicies {
    #[serde(default)]
    scope: Scope,
    only_attached: Option<bool>,
    path_prefix: Option<String>,
    policy_usage_filter: Option<Usage>,
});

impl Read for ListPolicies {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let own =
            account.policies().filter(|policy| self.scope != Scope::Aws && policy.record.path.starts_with(prefix));
        let own = own.map(|policy| (policy.arn.clone(), Found::Own(policy)));
        let of_aws = managed::ALL.iter().filter(|_| self.scope != Scope::Local && prefix == "/");
        let all: BTreeMap<String, Found<'_>> =
            own.chain(of_aws.map(|policy| (policy.arn(), Found::OfAws(policy)))).collect();
        let is_used = |arn: &str| match (self.only_attached, self.policy_usage_filter) {
            (Some(true), Some(Usage::PermissionsBoundary)) => account.boundary_uses(arn) > 0,
            (Some(true), _) => account.attachments(arn) > 0,
            (_, Some(Usage::PermissionsBoundary)) => account.boundary_uses(arn) > 0,
            (_, Some(Usage::PermissionsPolicy)) => account.attachments(arn) > 0,
            (_, None) => true,
        };
        let used = all.into_iter().filter(|(arn, _)| is_used(arn));
        Ok(self.page()?.of("Policies", used, |policy| describe::without(policy.describe(ask), &OF_GET_POLICY)))
    }
}

operation!(DeletePolicy { policy_arn: String });

impl Change for DeletePolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_policy(&self.policy_arn)?, Value::Null))
    }
}

/// Number of a version, in a request `v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionId(u32);

impl<'de> Deserialize<'de> for VersionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = text.strip_prefix('v').and_then(|number| number.parse().ok());
        let number = number.filter(|number| *number > 0 && describe::version_id(*number) == text);
        number.map(VersionId).ok_or_else(|| serde::de::Error::custom("Member must be a version such as v1"))
    }
}

operation!(CreatePolicyVersion { policy_arn: String, policy_document: String, set_as_default: Option<bool> });

impl Change for CreatePolicyVersion {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let is_default = self.set_as_default.unwrap_or(false);
        let (edit, number) = editor.create_policy_version(&self.policy_arn, &self.policy_document, is_default)?;
        let after = editor.after(&edit)?;
        let made = after.policy_by_arn(&self.policy_arn).and_then(|policy| {
            let version = policy.versions.get(&number)?;
            Some(describe::without(describe::version(policy, number, version), &["Document"]))
        });
        Ok((edit, json!({"PolicyVersion": made})))
    }
}

operation!(GetPolicyVersion { policy_arn: String, version_id: VersionId });

impl Read for GetPolicyVersion {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let VersionId(number) = self.version_id;
        let version = Found::by_arn(ask, &self.policy_arn)?.versions().remove(&number);
        let version = version.ok_or_else(|| {
            let arn = shown(&self.policy_arn);
            ApiError::no_such(format!("Policy {arn} version v{number} does not exist or is not attachable."))
        })?;
        Ok(json!({"PolicyVersion": version}))
    }
}

listing!(ListPolicyVersions { policy_arn: String });

impl Read for ListPolicyVersions {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    /// The newest version comes first, as on AWS.
    fn read(&self, ask: &Ask) -> Result<Value> {
        let versions = Found::by_arn(ask, &self.policy_arn)?.versions().into_iter().rev();
        let versions = versions.map(|(number, version)| (format!("{:010}", u32::MAX - number), version));
        Ok(self.page()?.of("Versions", versions, |version| describe::without(version, &["Document"])))
    }
}

operation!(SetDefaultPolicyVersion { policy_arn: String, version_id: VersionId });

impl Change for SetDefaultPolicyVersion {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.set_default_policy_version(&self.policy_arn, self.version_id.0)?, Value::Null))
    }
}

operation!(DeletePolicyVersion { policy_arn: String, version_id: VersionId });

impl Change for DeletePolicyVersion {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_policy_version(&self.policy_arn, self.version_id.0)?, Value::Null))
    }
}

/// Kind of the entities that have a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Holder {
    User,
    Role,
    Group,
    LocalManagedPolicy,
    #[serde(rename = "AWSManagedPolicy")]
    AwsManagedPolicy,
}

listing!(ListEntitiesForPolicy {
    policy_arn: String,
    entity_filter: Option<Holder>,
    path_prefix: Option<String>,
    policy_usage_filter: Option<Usage>,
});

impl Read for ListEntitiesForPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.policy(&self.policy_arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        Found::by_arn(ask, &self.policy_arn)?;
        let account = &ask.caller.account;
        let arn = &self.policy_arn;
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let wanted = |kind| self.entity_filter.is_none_or(|filter| filter == kind);
        let uses = |attached: &std::collections::BTreeSet<String>, boundary: Option<&String>| {
            let permits = self.policy_usage_filter != Some(Usage::PermissionsBoundary) && attached.contains(arn);
            permits || self.policy_usage_filter != Some(Usage::PermissionsPolicy) && boundary == Some(arn)
        };
        let groups = account.groups().filter(|group| {
            wanted(Holder::Group)
                && group.record.path.starts_with(prefix)
                && uses(&group.record.attached_policies, None)
        });
        let groups = groups.map(|group| {
            let entity = json!({"GroupName": group.name, "GroupId": group.record.id});
            (format!("1{}", group.name), "PolicyGroups", entity)
        });
        let roles = account.roles().filter(|role| {
            let record = &role.record;
            wanted(Holder::Role)
                && record.path.starts_with(prefix)
                && uses(&record.attached_policies, record.permissions_boundary.as_ref())
        });
        let roles = roles.map(|role| {
            let entity = json!({"RoleName": role.name, "RoleId": role.record.id});
            (format!("2{}", role.name), "PolicyRoles", entity)
        });
        let users = account.users().filter(|user| {
            let record = &user.record;
            wanted(Holder::User)
                && record.path.starts_with(prefix)
                && uses(&record.attached_policies, record.permissions_boundary.as_ref())
        });
        let users = users.map(|user| {
            let entity = json!({"UserName": user.name, "UserId": user.record.id});
            (format!("3{}", user.name), "PolicyUsers", entity)
        });
        let lists = ["PolicyGroups", "PolicyRoles", "PolicyUsers"];
        Ok(self.page()?.of_lists(&lists, groups.chain(roles).chain(users), |entity| entity))
    }
}
