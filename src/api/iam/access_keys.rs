//! Access keys of users.

use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::Status;
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, listing, operation};
use crate::access::Demand;
use crate::error::{ApiError, Result, shown};

operation!(CreateAccessKey { user_name: Option<String> });

impl Change for CreateAccessKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let user = ask.owner(&self.user_name);
        let (edit, made) = editor.create_access_key(user, &ask.keys)?;
        let after = editor.after(&edit)?;
        let created = after.access_key(&made.id).map(|(_, key)| describe::time(key.created));
        let key = json!({
            "UserName": user,
            "AccessKeyId": made.id,
            "Status": Status::Active.as_str(),
            "SecretAccessKey": made.secret.expose(),
            "CreateDate": created,
        });
        Ok((edit, json!({"AccessKey": key})))
    }
}

operation!(UpdateAccessKey { user_name: Option<String>, access_key_id: String, status: Status });

impl Change for UpdateAccessKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let user = ask.owner(&self.user_name);
        Ok((editor.update_access_key(user, &self.access_key_id, self.status)?, Value::Null))
    }
}

operation!(DeleteAccessKey { user_name: Option<String>, access_key_id: String });

impl Change for DeleteAccessKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_access_key(ask.owner(&self.user_name), &self.access_key_id)?, Value::Null))
    }
}

listing!(ListAccessKeys { user_name: Option<String> });

impl Read for ListAccessKeys {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let user = ask.existing_owner(&self.user_name)?;
        let keys = user.access_keys.iter().map(|(id, key)| (id.clone(), (id, key)));
        Ok(self.page()?.of("AccessKeyMetadata", keys, |(id, key)| describe::access_key(&user.name, id, key)))
    }
}

operation!(GetAccessKeyLastUsed { access_key_id: String });

impl Read for GetAccessKeyLastUsed {
    /// The resource is the owner of the key; for an unknown key it is no user.
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let owner = ask.caller.account.access_key(&self.access_key_id).map(|(user, _)| user.name.as_str());
        Ok(vec![ask.demand::<Self>(ask.user(owner.unwrap_or("*")))])
    }

    /// Uses of keys are not recorded.
    fn read(&self, ask: &Ask) -> Result<Value> {
        let (user, _) = ask.caller.account.access_key(&self.access_key_id).ok_or_else(|| {
            let id = shown(&self.access_key_id);
            ApiError::no_such(format!("The Access Key with id {id} cannot be found."))
        })?;
        Ok(json!({"UserName": user.name, "AccessKeyLastUsed": {"Region": "N/A", "ServiceName": "N/A"}}))
    }
}
