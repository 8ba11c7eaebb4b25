//! The policies that decide on a principal's requests, put together once for each state of the account.

use std::sync::{Arc, LazyLock};

use gitferry_policy::{DocumentKind, Effect, NamedPolicy, PolicyDocument, PolicySet, managed};

use crate::account::Account;
use crate::model::{Group, Role, User};
use crate::session::Session;

/// A document that decides cannot be read or is gone: everything is denied.
struct Unreadable;

type Found<T> = std::result::Result<T, Unreadable>;

/// The set that denies everything, if a policy cannot be read: the policy might have denied.
fn or_deny(set: Found<PolicySet>) -> PolicySet {
    let denied = || everything(Effect::Deny, "a document of the account that is missing or cannot be read");
    set.unwrap_or_else(|Unreadable| PolicySet { identity: vec![denied()], ..PolicySet::default() })
}

/// Policy of one statement on everything.
pub(crate) fn everything(effect: Effect, name: &str) -> NamedPolicy {
    static ALLOW: LazyLock<Arc<PolicyDocument>> = LazyLock::new(|| on_everything("Allow"));
    static DENY: LazyLock<Arc<PolicyDocument>> = LazyLock::new(|| on_everything("Deny"));
    let document = match effect {
        Effect::Allow => ALLOW.clone(),
        Effect::Deny => DENY.clone(),
    };
    NamedPolicy::new(name, document)
}

fn on_everything(effect: &str) -> Arc<PolicyDocument> {
    let text = format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "{effect}", "Action": "*", "Resource": "*"}}}}"#
    );
    match PolicyDocument::parse(&text, DocumentKind::Identity) {
        Ok(document) => Arc::new(document),
        Err(error) => unreachable!("the text is a policy: {error}"),
    }
}

impl Account {
    /// Policies of a user of a unique id, its groups included, and of its session if it has one.
    pub(crate) fn policies_of_user(&self, id: &str, session: Option<&Session>) -> Arc<PolicySet> {
        let key = session.map_or(id, |session| &session.access_key_id);
        let user = || self.user_by_id(id).ok_or(Unreadable);
        self.policy_sets.get(key, || or_deny(user().and_then(|user| self.limit(self.user_set(user)?, session))))
    }

    /// Policies of a session of the role of a unique id.
    pub(crate) fn policies_of_role(&self, id: &str, session: &Session) -> Arc<PolicySet> {
        let role = || self.role_by_id(id).ok_or(Unreadable);
        let set = || role().and_then(|role| self.limit(self.role_set(role)?, Some(session)));
        self.policy_sets.get(&session.access_key_id, || or_deny(set()))
    }

    /// Policies of a user without a session, for a simulation.
    pub fn simulate_user(&self, user: &User) -> PolicySet {
        or_deny(self.user_set(user))
    }

    /// Policies of a role without a session, for a simulation.
    pub fn simulate_role(&self, role: &Role) -> PolicySet {
        or_deny(self.role_set(role))
    }

    /// Policies of a group alone, for a simulation.
    pub(crate) fn simulate_group(&self, group: &Group) -> PolicySet {
        let mut identity = Vec::new();
        let added = self.add_group(&mut identity, group);
        or_deny(added.map(|()| PolicySet { identity, ..PolicySet::default() }))
    }

    fn user_set(&self, user: &User) -> Found<PolicySet> {
        if user.unreadable.is_some() {
            return Err(Unreadable);
        }
        let mut identity: Vec<NamedPolicy> =
            user.inline.iter().map(|(name, policy)| inline(&user.arn, name, policy)).collect();
        for arn in &user.record.attached_policies {
            identity.push(self.managed(arn)?);
        }
        for name in &user.record.groups {
            self.add_group(&mut identity, self.group(name).ok_or(Unreadable)?)?;
        }
        Ok(PolicySet {
            identity,
            boundary: self.boundary(user.record.permissions_boundary.as_deref())?,
            session: Vec::new(),
        })
    }

    fn add_group(&self, identity: &mut Vec<NamedPolicy>, group: &Group) -> Found<()> {
        if group.unreadable.is_some() {
            return Err(Unreadable);
        }
        identity.extend(group.inline.iter().map(|(name, policy)| inline(&group.arn, name, policy)));
        for arn in &group.record.attached_policies {
            identity.push(self.managed(arn)?);
        }
        Ok(())
    }

    fn role_set(&self, role: &Role) -> Found<PolicySet> {
        if role.unreadable.is_some() {
            return Err(Unreadable);
        }
        let mut identity: Vec<NamedPolicy> =
            role.inline.iter().map(|(name, policy)| inline(&role.arn, name, policy)).collect();
        for arn in &role.record.attached_policies {
            identity.push(self.managed(arn)?);
        }
        Ok(PolicySet {
            identity,
            boundary: self.boundary(role.record.permissions_boundary.as_deref())?,
            session: Vec::new(),
        })
    }

    fn limit(&self, mut set: PolicySet, session: Option<&Session>) -> Found<PolicySet> {
        let Some(session) = session else { return Ok(set) };
        set.session.clone_from(&session.policies);
        for arn in &session.policy_arns {
            set.session.push(self.managed(arn)?);
        }
        Ok(set)
    }

    fn boundary(&self, arn: Option<&str>) -> Found<Option<NamedPolicy>> {
        arn.map(|arn| self.managed(arn)).transpose()
    }

    /// Managed policy in force, of AWS or of the account.
    fn managed(&self, arn: &str) -> Found<NamedPolicy> {
        if let Some(policy) = self.aws_policy(arn).map_err(|()| Unreadable)? {
            return Ok(NamedPolicy::new(arn, policy.parsed.clone()));
        }
        if let Some(policy) = managed::find(arn) {
            return Ok(policy.named());
        }
        let version = self.policy_by_arn(arn).and_then(|policy| policy.default_version());
        Ok(NamedPolicy::new(arn, version.ok_or(Unreadable)?.parsed.clone()))
    }
}

fn inline(owner: &str, name: &str, policy: &crate::model::InlinePolicy) -> NamedPolicy {
    NamedPolicy::new(format!("{name} of {owner}"), policy.parsed.clone())
}
