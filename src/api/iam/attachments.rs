//! Policies of users, groups and roles: managed ones attached, inline ones put. One macro, as the three kinds differ in
//! their names alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gitferry_iam::Account;
use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::{EntityKind, InlinePolicy};
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, listing, no_entity, operation};
use crate::access::Demand;
use crate::error::{ApiError, Result, shown};

/// Policies of an entity: ARNs of managed ones, and inline ones by name.
type Policies<'a> = (&'a BTreeSet<String>, &'a BTreeMap<String, Arc<InlinePolicy>>);

fn policies<'a>(account: &'a Account, kind: EntityKind, name: &str) -> Result<Policies<'a>> {
    let found = match kind {
        EntityKind::User => account.user(name).map(|user| (&user.record.attached_policies, &user.inline)),
        EntityKind::Group => account.group(name).map(|group| (&group.record.attached_policies, &group.inline)),
        EntityKind::Role => account.role(name).map(|role| (&role.record.attached_policies, &role.inline)),
        EntityKind::Policy => None,
    };
    found.ok_or_else(|| no_entity(kind, name))
}

fn inline<'a>(account: &'a Account, kind: EntityKind, name: &str, policy: &str) -> Result<&'a InlinePolicy> {
    let (_, inline) = policies(account, kind, name)?;
    let found = inline.get(policy).map(|policy| &**policy);
    found.ok_or_else(|| {
        let policy = shown(policy);
        ApiError::no_such(format!("The {} policy with name {policy} cannot be found.", kind.word()))
    })
}

/// Path of a managed policy, from its ARN.
fn path_of(arn: &str) -> &str {
    gitferry_iam::IamArn::parse(arn).map_or("/", |parts| parts.path)
}

macro_rules! policies_of {
    (
        $kind:ident $name:ident $key:literal: $attach:ident $detach:ident $attached:ident $put:ident $get:ident
        $delete:ident $list:ident
    ) => {
        operation!($attach { $name: String, policy_arn: String });

        impl Change for $attach {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.about_policy(&self.policy_arn).within_boundary()])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok((editor.attach_policy(EntityKind::$kind, &self.$name, &self.policy_arn)?, Value::Null))
            }
        }

        operation!($detach { $name: String, policy_arn: String });

        impl Change for $detach {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.about_policy(&self.policy_arn).within_boundary()])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok((editor.detach_policy(EntityKind::$kind, &self.$name, &self.policy_arn)?, Value::Null))
            }
        }

        listing!($attached { $name: String, path_prefix: Option<String> });

        impl Read for $attached {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name))])
            }

            fn read(&self, ask: &Ask) -> Result<Value> {
                let (attached, _) = policies(&ask.caller.account, EntityKind::$kind, &self.$name)?;
                let prefix = self.path_prefix.as_deref().unwrap_or("/");
                let attached = attached.iter().filter(|arn| path_of(arn).starts_with(prefix));
                let attached = attached.map(|arn| (arn.clone(), arn));
                Ok(self.page()?.of("AttachedPolicies", attached, |arn| describe::attached(arn)))
            }
        }

        operation!($put { $name: String, policy_name: String, policy_document: String });

        impl Change for $put {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.within_boundary()])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                let edit =
                    editor.put_policy(EntityKind::$kind, &self.$name, &self.policy_name, &self.policy_document)?;
                Ok((edit, Value::Null))
            }
        }

        operation!($get { $name: String, policy_name: String });

        impl Read for $get {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name))])
            }

            fn read(&self, ask: &Ask) -> Result<Value> {
                let policy = inline(&ask.caller.account, EntityKind::$kind, &self.$name, &self.policy_name)?;
                Ok(json!({
                    $key: self.$name,
                    "PolicyName": self.policy_name,
                    "PolicyDocument": describe::document(&policy.text),
                }))
            }
        }

        operation!($delete { $name: String, policy_name: String });

        impl Change for $delete {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                let demand = ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name));
                Ok(vec![demand.within_boundary()])
            }

            fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
                Ok((editor.delete_inline_policy(EntityKind::$kind, &self.$name, &self.policy_name)?, Value::Null))
            }
        }

        listing!($list { $name: String });

        impl Read for $list {
            fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
                Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::$kind, &self.$name))])
            }

            fn read(&self, ask: &Ask) -> Result<Value> {
                let (_, inline) = policies(&ask.caller.account, EntityKind::$kind, &self.$name)?;
                let names = inline.keys().map(|name| (name.clone(), name));
                Ok(self.page()?.of("PolicyNames", names, |name| name.as_str().into()))
            }
        }
    };
}

policies_of!(User user_name "UserName": AttachUserPolicy DetachUserPolicy ListAttachedUserPolicies PutUserPolicy
    GetUserPolicy DeleteUserPolicy ListUserPolicies);
policies_of!(Group group_name "GroupName": AttachGroupPolicy DetachGroupPolicy ListAttachedGroupPolicies PutGroupPolicy
    GetGroupPolicy DeleteGroupPolicy ListGroupPolicies);
policies_of!(Role role_name "RoleName": AttachRolePolicy DetachRolePolicy ListAttachedRolePolicies PutRolePolicy
    GetRolePolicy DeleteRolePolicy ListRolePolicies);
