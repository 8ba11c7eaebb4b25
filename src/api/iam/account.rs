//! The account itself: summary, all details, alias.

use std::collections::BTreeSet;
use std::sync::Arc;

use gitferry_iam::Account;
use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::{InlinePolicy, Quota};
use gitferry_policy::managed::{self, ManagedPolicy};
use serde_json::{Value, json};

use super::describe;
use super::managed::Holder;
use super::operation::{Ask, Change, Read, listing, operation};
use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result, shown};

operation!(GetAccountSummary {});

impl Read for GetAccountSummary {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let count = |count: usize| count as u64;
        let quotas = &account.settings().quotas;
        let counts = [
            ("Users", count(account.users().count())),
            ("Groups", count(account.groups().count())),
            ("Roles", count(account.roles().count())),
            ("Policies", count(account.policies().count())),
            ("PolicyVersionsInUse", account.policies().map(|policy| count(policy.versions.len())).sum()),
            ("Providers", count(account.oidc_providers().count())),
            ("MFADevices", 0),
            ("AccountMFAEnabled", 0),
            ("AccountAccessKeysPresent", 0),
        ];
        let counts = counts.into_iter().map(|(key, value)| json!({"key": key, "value": value}));
        let limits = Quota::ALL.iter().filter(|quota| !quota.is_of_hosts());
        let limits = limits.map(|quota| json!({"key": quota.as_str(), "value": quotas.limit(*quota)}));
        Ok(json!({"SummaryMap": {"entry": counts.chain(limits).collect::<Value>()}}))
    }
}

listing!(GetAccountAuthorizationDetails {
    #[serde(default)]
    filter: Vec<Holder>,
});

/// Entity of the details.
enum Detail<'a> {
    User(&'a gitferry_iam::model::User),
    Group(&'a gitferry_iam::model::Group),
    Role(&'a gitferry_iam::model::Role),
    Policy(&'a gitferry_iam::model::Policy),
    OfAws(&'static ManagedPolicy),
}

fn inline<'a>(policies: impl Iterator<Item = (&'a String, &'a Arc<InlinePolicy>)>) -> Value {
    let describe = |(name, policy): (&String, &Arc<InlinePolicy>)| json!({"PolicyName": name, "PolicyDocument": describe::document(&policy.text)});
    policies.map(describe).collect()
}

fn attached(arns: &BTreeSet<String>) -> Value {
    arns.iter().map(|arn| describe::attached(arn)).collect()
}

impl Detail<'_> {
    fn describe(self, account: &Account) -> Value {
        match self {
            Detail::User(user) => {
                let mut detail = describe::user(user);
                detail["UserPolicyList"] = inline(user.inline.iter());
                detail["GroupList"] = user.record.groups.iter().map(String::as_str).collect();
                detail["AttachedManagedPolicies"] = attached(&user.record.attached_policies);
                detail
            }
            Detail::Group(group) => {
                let mut detail = describe::group(group);
                detail["GroupPolicyList"] = inline(group.inline.iter());
                detail["AttachedManagedPolicies"] = attached(&group.record.attached_policies);
                detail
            }
            Detail::Role(role) => {
                let mut detail = describe::without(describe::role(role), &["Description", "MaxSessionDuration"]);
                detail["InstanceProfileList"] = json!([]);
                detail["RolePolicyList"] = inline(role.inline.iter());
                detail["AttachedManagedPolicies"] = attached(&role.record.attached_policies);
                detail["RoleLastUsed"] = json!({});
                detail
            }
            Detail::Policy(policy) => {
                let mut detail = describe::without(describe::policy(account, policy), &["Tags"]);
                let versions = policy.versions.iter();
                detail["PolicyVersionList"] =
                    versions.map(|(number, version)| describe::version(policy, *number, version)).collect();
                detail
            }
            Detail::OfAws(policy) => {
                let mut detail = describe::without(describe::managed_policy(account, policy), &["Tags"]);
                detail["PolicyVersionList"] = json!([describe::managed_version(policy)]);
                detail
            }
        }
    }
}

impl Read for GetAccountAuthorizationDetails {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let wanted = |kind| self.filter.is_empty() || self.filter.contains(&kind);
        let groups = account.groups().filter(|_| wanted(Holder::Group));
        let groups = groups.map(|group| (format!("1{}", group.name), "GroupDetailList", Detail::Group(group)));
        let roles = account.roles().filter(|_| wanted(Holder::Role));
        let roles = roles.map(|role| (format!("2{}", role.name), "RoleDetailList", Detail::Role(role)));
        let users = account.users().filter(|_| wanted(Holder::User));
        let users = users.map(|user| (format!("3{}", user.name), "UserDetailList", Detail::User(user)));
        let own = account.policies().filter(|_| wanted(Holder::LocalManagedPolicy));
        let own = own.map(|policy| (format!("4{}", policy.name), "Policies", Detail::Policy(policy)));
        let of_aws = managed::ALL.iter().filter(|_| wanted(Holder::AwsManagedPolicy));
        let of_aws = of_aws.map(|policy| (format!("5{}", policy.name), "Policies", Detail::OfAws(policy)));
        let all = groups.chain(roles).chain(users).chain(own).chain(of_aws);
        let lists = ["GroupDetailList", "RoleDetailList", "UserDetailList", "Policies"];
        Ok(self.page()?.of_lists(&lists, all, |detail| detail.describe(account)))
    }
}

listing!(ListAccountAliases {});

impl Read for ListAccountAliases {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let aliases = ask.caller.account.settings().alias.iter().map(|alias| (alias.clone(), alias));
        Ok(self.page()?.of("AccountAliases", aliases, |alias| alias.as_str().into()))
    }
}

operation!(CreateAccountAlias { account_alias: String });

impl Change for CreateAccountAlias {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.set_alias(Some(&self.account_alias))?, Value::Null))
    }
}

operation!(DeleteAccountAlias { account_alias: String });

impl Change for DeleteAccountAlias {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        if ask.caller.account.settings().alias.as_ref() != Some(&self.account_alias) {
            let alias = shown(&self.account_alias);
            ask.demand::<Self>(Resource::none()).authorize(&ask.caller)?;
            return Err(ApiError::no_such(format!("The Account Alias {alias} cannot be found.")));
        }
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.set_alias(None)?, Value::Null))
    }
}
