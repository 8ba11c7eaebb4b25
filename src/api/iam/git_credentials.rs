//! Git credentials of users: service-specific credentials.

use gitferry_iam::edit::{Edit, Editor, NewGitCredential};
use gitferry_iam::model::{GIT_SERVICE, Status};
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, operation};
use crate::access::Demand;
use crate::error::Result;

/// A credential with its password, which is shown once.
fn told(editor: &Editor<'_>, edit: &Edit, user: &str, made: &NewGitCredential) -> gitferry_iam::Result<Value> {
    let after = editor.after(edit)?;
    let credential = after.user(user).and_then(|user| user.git_credentials.get(&made.id));
    let mut told = credential.map_or(Value::Null, |one| describe::git_credential(user, &made.id, one));
    if let Value::Object(fields) = &mut told {
        fields.insert("ServicePassword".to_owned(), made.password.expose().into());
    }
    Ok(json!({"ServiceSpecificCredential": told}))
}

operation!(CreateServiceSpecificCredential { user_name: String, service_name: String });

impl Change for CreateServiceSpecificCredential {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let (edit, made) = editor.create_git_credential(&self.user_name, &self.service_name)?;
        let told = told(editor, &edit, &self.user_name, &made)?;
        Ok((edit, told))
    }
}

operation!(ResetServiceSpecificCredential { user_name: Option<String>, service_specific_credential_id: String });

impl Change for ResetServiceSpecificCredential {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let user = ask.owner(&self.user_name);
        let (edit, made) = editor.reset_git_credential(user, &self.service_specific_credential_id)?;
        let told = told(editor, &edit, user, &made)?;
        Ok((edit, told))
    }
}

operation!(UpdateServiceSpecificCredential {
    user_name: Option<String>,
    service_specific_credential_id: String,
    status: Status,
});

impl Change for UpdateServiceSpecificCredential {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let user = ask.owner(&self.user_name);
        Ok((editor.update_git_credential(user, &self.service_specific_credential_id, self.status)?, Value::Null))
    }
}

operation!(DeleteServiceSpecificCredential { user_name: Option<String>, service_specific_credential_id: String });

impl Change for DeleteServiceSpecificCredential {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn change(&self, ask: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let user = ask.owner(&self.user_name);
        Ok((editor.delete_git_credential(user, &self.service_specific_credential_id)?, Value::Null))
    }
}

operation!(ListServiceSpecificCredentials { user_name: Option<String>, service_name: Option<String> });

impl Read for ListServiceSpecificCredentials {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let user = ask.existing_owner(&self.user_name)?;
        let wanted = self.service_name.as_deref().is_none_or(|service| service == GIT_SERVICE);
        let credentials = user.git_credentials.iter().filter(|_| wanted);
        let credentials: Value = credentials.map(|(id, one)| describe::git_credential(&user.name, id, one)).collect();
        Ok(json!({"ServiceSpecificCredentials": credentials}))
    }
}
