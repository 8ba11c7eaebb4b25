//! A user, group or role as a simulation sees it: its policies, and the condition keys of its requests.

use gitferry_policy::{Context, ContextBuilder, PolicySet, PrincipalType};

use crate::account::Account;
use crate::names::Tags;

/// Policies and condition keys of an entity without a request.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Policies that decide on the entity's requests. Those of a session are not among them.
    pub policies: PolicySet,
    /// Condition keys of the principal. Keys of a request, such as `aws:SourceIp`, are absent.
    pub context: ContextBuilder,
}

impl Account {
    /// The entity of an ARN: a user, a group, a role, or a session of a role
    /// (`arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`); `None` if there is none.
    pub fn simulated(&self, arn: &str) -> Option<Simulated> {
        let sessions = format!("arn:aws:sts::{}:assumed-role/", self.id());
        if let Some((role, session)) = arn.strip_prefix(&sessions).and_then(|rest| rest.split_once('/')) {
            return self.simulated_role(role, Some(session));
        }
        let parts = crate::arn::IamArn::parse(arn)?;
        match parts.kind {
            "user" => self.user(parts.name).filter(|user| user.arn == arn).map(|user| Simulated {
                policies: self.simulate_user(user),
                context: self
                    .keys_of(arn, PrincipalType::User, &user.record.id, &user.record.tags)
                    .username(&user.name),
            }),
            "group" => self
                .group(parts.name)
                .filter(|group| group.arn == arn)
                .map(|group| Simulated { policies: self.simulate_group(group), context: Context::builder() }),
            "role" if self.role_by_arn(arn).is_some() => self.simulated_role(parts.name, None),
            _ => None,
        }
    }

    fn simulated_role(&self, name: &str, session: Option<&str>) -> Option<Simulated> {
        let role = self.role(name)?;
        let id = session.map_or_else(|| role.record.id.clone(), |session| format!("{}:{session}", role.record.id));
        let context = self.keys_of(&role.arn, PrincipalType::AssumedRole, &id, &role.record.tags);
        Some(Simulated { policies: self.simulate_role(role), context })
    }

    fn keys_of(&self, arn: &str, kind: PrincipalType, id: &str, tags: &Tags) -> ContextBuilder {
        let keys = Context::builder().principal_arn(arn).principal_account(self.id().as_str());
        let keys = keys.principal_type(kind).user_id(id);
        tags.iter().fold(keys, |keys, (tag, value)| keys.principal_tag(tag, value))
    }
}
