//! Tags of users, roles, policies and OpenID Connect providers.

use crate::documents::paths;
use crate::edit::{Edit, Editor, no_such, shown};
use crate::error::{IamError, Result};
use crate::model::{EntityKind, OidcProvider, PolicyRecord};
use crate::names::{Tags, check_tags};

/// Tags after a request: a key in other letters is the same key.
fn tagged(old: &Tags, new: Vec<(String, String)>) -> Result<Tags> {
    let new = check_tags(new)?;
    let replaced = |key: &str| new.keys().any(|other| other.to_lowercase() == key.to_lowercase());
    let kept = old.iter().filter(|(key, _)| !replaced(key)).map(|(key, value)| (key.clone(), value.clone()));
    check_tags(kept.chain(new.clone()))
}

fn untagged(old: &Tags, keys: &[String]) -> Tags {
    let removed = |key: &str| keys.iter().any(|other| other.to_lowercase() == key.to_lowercase());
    old.iter().filter(|(key, _)| !removed(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Editor<'_> {
    /// `TagUser`, `TagRole`, and `TagPolicy` (of a policy's name).
    ///
    /// # Errors
    /// `NoSuchEntity`, also for a group; `ValidationError`, `InvalidInput`, `LimitExceeded`.
    pub fn tag(&self, kind: EntityKind, name: &str, tags: Vec<(String, String)>) -> Result<Edit> {
        self.change_tags(kind, name, Edit::new(format!("Tag {} {}", kind.word(), shown(name))), |old| tagged(old, tags))
    }

    /// `UntagUser`, `UntagRole`, and `UntagPolicy` (of a policy's name).
    ///
    /// # Errors
    /// `NoSuchEntity`, also for a group.
    pub fn untag(&self, kind: EntityKind, name: &str, keys: &[String]) -> Result<Edit> {
        let edit = Edit::new(format!("Untag {} {}", kind.word(), shown(name)));
        self.change_tags(kind, name, edit, |old| Ok(untagged(old, keys)))
    }

    fn change_tags(
        &self,
        kind: EntityKind,
        name: &str,
        edit: Edit,
        change: impl FnOnce(&Tags) -> Result<Tags>,
    ) -> Result<Edit> {
        let path = paths::entity(kind, name);
        match kind {
            EntityKind::User => {
                let mut record = (*self.user(name)?.record).clone();
                record.tags = change(&record.tags)?;
                edit.put(path, &record)
            }
            EntityKind::Role => {
                let mut record = (*self.role(name)?.record).clone();
                record.tags = change(&record.tags)?;
                edit.put(path, &record)
            }
            EntityKind::Policy => {
                let policy = self.account.policy(name).ok_or_else(|| no_such(kind, name))?;
                let tags = change(&policy.record.tags)?;
                edit.put(path, &PolicyRecord { tags, ..(*policy.record).clone() })
            }
            EntityKind::Group => Err(no_such(kind, name)),
        }
    }

    /// `TagOpenIDConnectProvider`.
    ///
    /// # Errors
    /// `NoSuchEntity`, `ValidationError`, `InvalidInput`, `LimitExceeded`.
    pub fn tag_oidc_provider(&self, arn: &str, tags: Vec<(String, String)>) -> Result<Edit> {
        let provider = self.oidc_provider(arn)?;
        let tags = tagged(&provider.tags, tags)?;
        let edit = Edit::new(format!("Tag OpenID Connect provider {}", provider.url));
        edit.put(paths::provider(&provider.url), &OidcProvider { tags, ..provider.clone() })
    }

    /// `UntagOpenIDConnectProvider`.
    ///
    /// # Errors
    /// `NoSuchEntity`.
    pub fn untag_oidc_provider(&self, arn: &str, keys: &[String]) -> Result<Edit> {
        let provider = self.oidc_provider(arn)?;
        let tags = untagged(&provider.tags, keys);
        let edit = Edit::new(format!("Untag OpenID Connect provider {}", provider.url));
        edit.put(paths::provider(&provider.url), &OidcProvider { tags, ..provider.clone() })
    }

    pub(super) fn oidc_provider(&self, arn: &str) -> Result<&OidcProvider> {
        let url = arn.strip_prefix(&format!("arn:aws:iam::{}:oidc-provider/", self.account.id()));
        let provider = url.and_then(|url| self.account.oidc_provider(url));
        provider
            .map(|provider| &**provider)
            .ok_or_else(|| IamError::no_such_entity(format!("OpenIDConnect Provider not found for arn {}", shown(arn))))
    }
}
