//! OpenID Connect providers.

use gitferry_iam::edit::{Edit, Editor, NewOidcProvider};
use serde_json::{Value, json};

use super::describe;
use super::operation::{Ask, Change, Read, Tag, operation, pairs};
use crate::access::{Demand, Resource};
use crate::error::{ApiError, Result, shown};

operation!(CreateOpenIDConnectProvider {
    url: String,
    #[serde(default, rename = "ClientIDList")]
    client_ids: Vec<String>,
    #[serde(default)]
    thumbprint_list: Vec<String>,
    #[serde(default)]
    tags: Vec<Tag>,
});

impl CreateOpenIDConnectProvider {
    fn arn(&self, account: &gitferry_iam::AccountId) -> String {
        let issuer = self.url.strip_prefix("https://").unwrap_or(&self.url);
        format!("arn:aws:iam::{account}:oidc-provider/{issuer}")
    }
}

impl Change for CreateOpenIDConnectProvider {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        let provider = Resource::new(self.arn(&ask.caller.account.id()));
        Ok(ask.demand::<Self>(provider).and_tag("iam:TagOpenIDConnectProvider", &pairs(&self.tags)))
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        let edit = editor.create_oidc_provider(NewOidcProvider {
            url: self.url.clone(),
            client_ids: self.client_ids.clone(),
            thumbprints: self.thumbprint_list.clone(),
            tags: pairs(&self.tags),
        })?;
        let arn = self.arn(&editor.account().id());
        let tags: Value = self.tags.iter().map(Tag::describe).collect();
        Ok((edit, json!({"OpenIDConnectProviderArn": arn, "Tags": tags})))
    }
}

operation!(GetOpenIDConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
});

impl Read for GetOpenIDConnectProvider {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.provider(&self.arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let provider = account.oidc_providers().find(|provider| provider.arn(&account.id()) == self.arn);
        let missing = || ApiError::no_such(format!("OpenIDConnect Provider not found for arn {}", shown(&self.arn)));
        let provider = provider.ok_or_else(missing)?;
        Ok(json!({
            "Url": provider.url,
            "ClientIDList": provider.client_ids,
            "ThumbprintList": provider.thumbprints,
            "CreateDate": describe::time(provider.created),
            "Tags": describe::tags(&provider.tags),
        }))
    }
}

operation!(ListOpenIDConnectProviders {});

impl Read for ListOpenIDConnectProviders {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let account = &ask.caller.account;
        let arns: Value =
            account.oidc_providers().map(|provider| json!({"Arn": provider.arn(&account.id())})).collect();
        Ok(json!({"OpenIDConnectProviderList": arns}))
    }
}

operation!(DeleteOpenIDConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
});

impl Change for DeleteOpenIDConnectProvider {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.provider(&self.arn))])
    }

    /// Deleting a provider that does not exist succeeds, as on AWS.
    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        match editor.delete_oidc_provider(&self.arn) {
            Err(error) if error.code() == gitferry_iam::Code::NoSuchEntity => Ok((Edit::default(), Value::Null)),
            edit => Ok((edit?, Value::Null)),
        }
    }
}

operation!(AddClientIDToOpenIDConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(rename = "ClientID")]
    client_id: String,
});

impl Change for AddClientIDToOpenIDConnectProvider {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.provider(&self.arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.add_client_id(&self.arn, &self.client_id)?, Value::Null))
    }
}

operation!(RemoveClientIDFromOpenIDConnectProvider {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    #[serde(rename = "ClientID")]
    client_id: String,
});

impl Change for RemoveClientIDFromOpenIDConnectProvider {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.provider(&self.arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.remove_client_id(&self.arn, &self.client_id)?, Value::Null))
    }
}

operation!(UpdateOpenIDConnectProviderThumbprint {
    #[serde(rename = "OpenIDConnectProviderArn")]
    arn: String,
    thumbprint_list: Vec<String>,
});

impl Change for UpdateOpenIDConnectProviderThumbprint {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(ask.provider(&self.arn))])
    }

    fn change(&self, _: &Ask, editor: &Editor<'_>) -> gitferry_iam::Result<(Edit, Value)> {
        Ok((editor.update_thumbprints(&self.arn, &self.thumbprint_list)?, Value::Null))
    }
}
