//! Groups and their members.

use gitferry_iam::edit::{Edit, Editor, NewGroup};
use gitferry_iam::model::EntityKind;
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, listing, no_entity, operation};
use crate::access::{Demand, Resource};
use crate::error::Result;

operation!(CreateGroup { group_name: String, path: Option<String> });

impl Change for CreateGroup {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let arn = ask.arn("group", self.path.as_deref().unwrap_or("/"), &self.group_name);
        Ok(vec![ask.demand::<Self>(Resource::new(arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.create_group(NewGroup { name: self.group_name.clone(), path: self.path.clone() })?;
        let after = editor.after(&edit)?;
        let made = after.group(&self.group_name).map(|group| describe::group(group));
        Ok((edit, json!({"Group": made})))
    }
}

listing!(GetGroup { group_name: String });

impl Read for GetGroup {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Group, &self.group_name))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let group = account.group(&self.group_name).ok_or_else(|| no_entity(EntityKind::Group, &self.group_name))?;
        let members = account.members(&self.group_name).map(|user| (user.name.clone(), user));
        let mut page = self.page()?.of("Users", members, |user| describe::listed_user(user));
        page["Group"] = describe::group(group);
        Ok(page)
    }
}

listing!(ListGroups { path_prefix: Option<String> });

impl Read for ListGroups {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.all("group", &self.path_prefix))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let groups = ask.caller.account.groups().filter(|group| group.record.path.starts_with(prefix));
        let groups = groups.map(|group| (group.name.clone(), group));
        Ok(self.page()?.of("Groups", groups, |group| describe::group(group)))
    }
}

operation!(UpdateGroup { group_name: String, new_path: Option<String>, new_group_name: Option<String> });

impl Change for UpdateGroup {
    /// The caller needs the right on the group as it is and as it will be.
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let group = ask.caller.account.group(&self.group_name);
        let path = self.new_path.as_deref().or(group.map(|group| group.record.path.as_str())).unwrap_or("/");
        let name = self.new_group_name.as_deref().unwrap_or(&self.group_name);
        let before = ask.entity(EntityKind::Group, &self.group_name);
        let after = Resource::new(ask.arn("group", path, name));
        Ok(vec![ask.demand::<Self>(before), ask.demand::<Self>(after)])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.update_group(&self.group_name, self.new_group_name.as_deref(), self.new_path.as_deref())?;
        Ok((edit, Value::Null))
    }
}

operation!(DeleteGroup { group_name: String });

impl Change for DeleteGroup {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Group, &self.group_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_group(&self.group_name)?, Value::Null))
    }
}

operation!(AddUserToGroup { group_name: String, user_name: String });

impl Change for AddUserToGroup {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Group, &self.group_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.add_user_to_group(&self.user_name, &self.group_name)?, Value::Null))
    }
}

operation!(RemoveUserFromGroup { group_name: String, user_name: String });

impl Change for RemoveUserFromGroup {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.entity(EntityKind::Group, &self.group_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.remove_user_from_group(&self.user_name, &self.group_name)?, Value::Null))
    }
}
