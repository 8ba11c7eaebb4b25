//! OpenID Connect providers, whose tokens assume roles.

use std::collections::BTreeSet;

use crate::documents::paths;
use crate::edit::{Edit, Editor, shown};
use crate::error::{IamError, Result};
use crate::model::{Format, OidcProvider, Quota};
use crate::names::check_tags;

/// Longest URL of a provider, in characters.
const MAX_URL: usize = 255;
/// Longest audience, in characters.
const MAX_CLIENT_ID: usize = 255;
/// Largest number of thumbprints.
const MAX_THUMBPRINTS: usize = 5;

/// OpenID Connect provider to be created.
#[derive(Clone, Debug, Default)]
pub struct NewOidcProvider {
    /// The issuer, `https://…`.
    pub url: String,
    /// Audiences that tokens may have.
    pub client_ids: Vec<String>,
    /// SHA-1 thumbprints of certificates, in hex.
    pub thumbprints: Vec<String>,
    /// Tags.
    pub tags: Vec<(String, String)>,
}

/// The issuer without `https://`: a host name and perhaps a path, without port, query and fragment.
fn check_url(url: &str) -> Result<&str> {
    let rest = url.strip_prefix("https://").unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let of_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let of_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-".contains(&byte);
    let host_is_good = !host.is_empty() && host.bytes().all(of_host);
    if url.len() <= MAX_URL && host_is_good && path.bytes().all(of_path) && !path.contains("/.") && !rest.ends_with('/')
    {
        return Ok(rest);
    }
    let text =
        "The URL of a provider begins with https:// and has a host name in lower-case letters and perhaps a path.";
    Err(IamError::invalid_input(text))
}

fn check_client_id(id: &str) -> Result<()> {
    let length = id.chars().count();
    if (1..=MAX_CLIENT_ID).contains(&length) && !id.chars().any(char::is_control) {
        return Ok(());
    }
    Err(IamError::validation(format!("A client id has 1 to {MAX_CLIENT_ID} characters.")))
}

fn check_thumbprints(thumbprints: &[String]) -> Result<BTreeSet<String>> {
    let is_sha1 = |text: &String| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if thumbprints.len() > MAX_THUMBPRINTS || !thumbprints.iter().all(is_sha1) {
        let text = format!("A provider has at most {MAX_THUMBPRINTS} thumbprints of 40 hexadecimal digits.");
        return Err(IamError::validation(text));
    }
    Ok(thumbprints.iter().map(|text| text.to_ascii_lowercase()).collect())
}

impl Editor<'_> {
    /// `CreateOpenIDConnectProvider`.
    ///
    /// # Errors
    /// `InvalidInput`, `ValidationError`, `EntityAlreadyExists`, `LimitExceeded`.
    pub fn create_oidc_provider(&self, new: NewOidcProvider) -> Result<Edit> {
        let url = check_url(&new.url)?;
        let path = paths::provider(url);
        if self.account.has_document(&path) {
            return Err(IamError::already_exists(format!("Provider with url {} already exists.", shown(&new.url))));
        }
        let count = self.account.documents_below("oidc-providers/").count() + 1;
        self.account.settings().quotas.check(Quota::OidcProviders, count)?;
        self.account.settings().quotas.check(Quota::ClientIdsPerProvider, new.client_ids.len())?;
        new.client_ids.iter().try_for_each(|id| check_client_id(id))?;
        let provider = OidcProvider {
            format: Format,
            url: url.to_owned(),
            created: self.now,
            client_ids: new.client_ids.into_iter().collect(),
            thumbprints: check_thumbprints(&new.thumbprints)?,
            tags: check_tags(new.tags)?,
        };
        Edit::new(format!("Create OpenID Connect provider {url}")).put(path, &provider)
    }

    /// `DeleteOpenIDConnectProvider`. Its sessions go on until they expire.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn delete_oidc_provider(&self, arn: &str) -> Result<Edit> {
        let url = &self.oidc_provider(arn)?.url;
        Ok(Edit::new(format!("Delete OpenID Connect provider {url}")).remove(paths::provider(url)))
    }

    /// `AddClientIDToOpenIDConnectProvider`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `ValidationError`, `LimitExceeded`.
    pub fn add_client_id(&self, arn: &str, client_id: &str) -> Result<Edit> {
        check_client_id(client_id)?;
        let mut provider = self.oidc_provider(arn)?.clone();
        if !provider.client_ids.insert(client_id.to_owned()) {
            return Ok(Edit::default());
        }
        self.account.settings().quotas.check(Quota::ClientIdsPerProvider, provider.client_ids.len())?;
        let edit = Edit::new(format!("Add an audience to OpenID Connect provider {}", provider.url));
        edit.put(paths::provider(&provider.url), &provider)
    }

    /// `RemoveClientIDFromOpenIDConnectProvider`. Nothing changes for an audience that the provider does not have.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn remove_client_id(&self, arn: &str, client_id: &str) -> Result<Edit> {
        let mut provider = self.oidc_provider(arn)?.clone();
        if !provider.client_ids.remove(client_id) {
            return Ok(Edit::default());
        }
        let edit = Edit::new(format!("Remove an audience from OpenID Connect provider {}", provider.url));
        edit.put(paths::provider(&provider.url), &provider)
    }

    /// `UpdateOpenIDConnectProviderThumbprint`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `ValidationError`.
    pub fn update_thumbprints(&self, arn: &str, thumbprints: &[String]) -> Result<Edit> {
        let thumbprints = check_thumbprints(thumbprints)?;
        let provider = self.oidc_provider(arn)?.clone();
        let edit = Edit::new(format!("Replace the thumbprints of OpenID Connect provider {}", provider.url));
        edit.put(paths::provider(&provider.url), &OidcProvider { thumbprints, ..provider.clone() })
    }
}
