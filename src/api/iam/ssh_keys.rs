//! SSH public keys of users.

use gitferry_iam::edit::{Edit, Editor};
use gitferry_iam::model::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, listing, operation};
use crate::access::Demand;
use crate::error::{ApiError, Result, shown};

operation!(UploadSSHPublicKey {
    user_name: String,
    #[serde(rename = "SSHPublicKeyBody")]
    body: String,
});

impl Change for UploadSSHPublicKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let (edit, id) = editor.upload_ssh_key(&self.user_name, &self.body)?;
        let after = editor.after(&edit)?;
        let key = after.ssh_key(&id).map(|(user, key)| describe::ssh_key(&user.name, &id, key));
        Ok((edit, json!({"SSHPublicKey": key})))
    }
}

/// Encoding in which a key is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Encoding {
    #[serde(rename = "SSH")]
    Ssh,
    #[serde(rename = "PEM")]
    Pem,
}

operation!(GetSSHPublicKey {
    user_name: String,
    #[serde(rename = "SSHPublicKeyId")]
    id: String,
    encoding: Encoding,
});

impl Read for GetSSHPublicKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        if self.encoding == Encoding::Pem {
            let text = "Public keys are kept and told as lines of OpenSSH: ask for the encoding SSH.";
            return Err(ApiError::new("UnrecognizedPublicKeyEncoding", 400, text));
        }
        let found = ask.caller.account.ssh_key(&self.id).filter(|(user, _)| user.name == self.user_name);
        let (user, key) = found.ok_or_else(|| {
            let id = shown(&self.id);
            ApiError::no_such(format!("The Public Key with id {id} cannot be found."))
        })?;
        Ok(json!({"SSHPublicKey": describe::ssh_key(&user.name, &self.id, key)}))
    }
}

operation!(UpdateSSHPublicKey {
    user_name: String,
    #[serde(rename = "SSHPublicKeyId")]
    id: String,
    status: Status,
});

impl Change for UpdateSSHPublicKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.update_ssh_key(&self.user_name, &self.id, self.status)?, Value::Null))
    }
}

operation!(DeleteSSHPublicKey {
    user_name: String,
    #[serde(rename = "SSHPublicKeyId")]
    id: String,
});

impl Change for DeleteSSHPublicKey {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.user(&self.user_name))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.delete_ssh_key(&self.user_name, &self.id)?, Value::Null))
    }
}

listing!(ListSSHPublicKeys { user_name: Option<String> });

impl Read for ListSSHPublicKeys {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        ask.demands_on_owner::<Self>(&self.user_name)
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let user = ask.existing_owner(&self.user_name)?;
        let keys = user.ssh_keys.iter().map(|(id, key)| (id.clone(), (id, key)));
        Ok(self.page()?.of("SSHPublicKeys", keys, |(id, key)| {
            describe::without(describe::ssh_key(&user.name, id, key), &["Fingerprint", "SSHPublicKeyBody"])
        }))
    }
}
