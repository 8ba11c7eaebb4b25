//! Roles and their trust policies.

use gitferry_iam::edit::{Edit, Editor, NewRole};
use gitferry_iam::model::EntityKind;
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, Tag, listing, no_entity, operation, pairs};
use crate::access::{Demand, Resource};
use crate::error::Result;

operation!(CreateRole {
    role_name: String,
    path: Option<String>,
    assume_role_policy_document: String,
    description: Option<String>,
    max_session_duration: Option<u32>,
    permissions_boundary: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
});

impl Change for CreateRole {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let arn = ask.arn("role", self.path.as_deref().unwrap_or("/"), &self.role_name);
        let create = ask.demand::<Self>(Resource::new(arn)).sets_boundary(self.permissions_boundary.as_deref());
        Ok(create.and_tag("iam:TagRole", &pairs(&self.tags)))
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.create_role(NewRole {
            name: self.role_name.clone(),
            path: self.path.clone(),
            trust_policy: self.assume_role_policy_document.clone(),
            description: self.description.clone(),
            max_session_seconds: self.max_session_duration,
            permissions_boundary: self.permissions_boundary.clone(),
            tags: pairs(&self.tags),
        })?;
        let after = editor.after(&edit)?;
        let made = after.role(&self.role_name).map(|role| describe::role(role));
        Ok((edit, json!({"Role": made})))
    }
}

operation!(GetRole { role_name: String });

impl Read for GetRole {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Role, &self.role_name))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let role = ask.caller.account.role(&self.role_name);
        let role = role.ok_or_else(|| no_entity(EntityKind::Role, &self.role_name))?;
        let mut described = describe::role(role);
        // Uses of roles are not recorded.
        described["RoleLastUsed"] = json!({});
        Ok(json!({"Role": described}))
    }
}

listing!(ListRoles { path_prefix: Option<String> });

impl Read for ListRoles {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.all("role", &self.path_prefix))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let roles = ask.caller.account.roles().filter(|role| role.record.path.starts_with(prefix));
        let roles = roles.map(|role| (role.name.clone(), role));
        Ok(self.page()?.of("Roles", roles, |role| describe::listed_role(role)))
    }
}

operation!(UpdateRole { role_name: String, description: Option<String>, max_session_duration: Option<u32> });

impl Change for UpdateRole {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Role, &self.role_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.update_role(&self.role_name, self.description.as_deref(), self.max_session_duration)?;
        Ok((edit, json!({})))
    }
}

operation!(UpdateRoleDescription { role_name: String, description: String });

impl Change for UpdateRoleDescription {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Role, &self.role_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.update_role(&self.role_name, Some(&self.description), None)?;
        let after = editor.after(&edit)?;
        let changed = after.role(&self.role_name).map(|role| describe::role(role));
        Ok((edit, json!({"Role": changed})))
    }
}

operation!(UpdateAssumeRolePolicy { role_name: String, policy_document: String });

impl Change for UpdateAssumeRolePolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Role, &self.role_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.update_trust_policy(&self.role_name, &self.policy_document)?, Value::Null))
    }
}

operation!(DeleteRole { role_name: String });

impl Change for DeleteRole {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Role, &self.role_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_role(&self.role_name)?, Value::Null))
    }
}
