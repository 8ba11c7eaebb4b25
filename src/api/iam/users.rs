//! Users, and their groups.

use gitferry_iam::edit::{Edit, Editor, NewUser};
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, Tag, listing, operation, pairs};
use crate::access::{Demand, Resource};
use crate::error::Result;

operation!(CreateUser {
    user_name: String,
    path: Option<String>,
    permissions_boundary: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
});

impl Change for CreateUser {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let arn = ask.arn("user", self.path.as_deref().unwrap_or("/"), &self.user_name);
        let create = ask.demand::<Self>(Resource::new(arn)).sets_boundary(self.permissions_boundary.as_deref());
        Ok(create.and_tag("iam:TagUser", &pairs(&self.tags)))
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.create_user(NewUser {
            name: self.user_name.clone(),
            path: self.path.clone(),
            permissions_boundary: self.permissions_boundary.clone(),
            tags: pairs(&self.tags),
        })?;
        let after = editor.after(&edit)?;
        let made = after.user(&self.user_name).map(|user| describe::user(user));
        Ok((edit, json!({"User": made})))
    }
}

operation!(GetUser { user_name: Option<String> });

impl Read for GetUser {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let user = ask.existing_owner(&self.user_name)?;
        Ok(json!({"User": describe::user(user)}))
    }
}

listing!(ListUsers { path_prefix: Option<String> });

impl Read for ListUsers {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.all("user", &self.path_prefix))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let prefix = self.path_prefix.as_deref().unwrap_or("/");
        let users = ask.caller.account.users().filter(|user| user.record.path.starts_with(prefix));
        let users = users.map(|user| (user.name.clone(), user));
        Ok(self.page()?.of("Users", users, |user| describe::listed_user(user)))
    }
}

operation!(UpdateUser { user_name: String, new_path: Option<String>, new_user_name: Option<String> });

impl Change for UpdateUser {
    /// The caller needs the right on the user as it is and as it will be.
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let user = ask.caller.account.user(&self.user_name);
        let path = self.new_path.as_deref().or(user.map(|user| user.record.path.as_str())).unwrap_or("/");
        let name = self.new_user_name.as_deref().unwrap_or(&self.user_name);
        let after = Resource { arn: ask.arn("user", path, name), ..ask.user(&self.user_name) };
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name)), ask.demand::<Self>(after)])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.update_user(&self.user_name, self.new_user_name.as_deref(), self.new_path.as_deref())?;
        Ok((edit, Value::Null))
    }
}

operation!(DeleteUser { user_name: String });

impl Change for DeleteUser {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_user(&self.user_name)?, Value::Null))
    }
}

listing!(ListGroupsForUser { user_name: String });

impl Read for ListGroupsForUser {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let user = ask.existing_user(&self.user_name)?;
        let groups = user.record.groups.iter().filter_map(|name| account.group(name));
        let groups = groups.map(|group| (group.name.clone(), group));
        Ok(self.page()?.of("Groups", groups, |group| describe::group(group)))
    }
}
