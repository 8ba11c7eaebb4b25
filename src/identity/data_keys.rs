//! Rotation of the account's data keys: a new one that the key services seal, secrets sealed again under it, and the end
//! of old ones. Each step is a commit that leaves everything readable, so a rotation may end after any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gitferry_account::Author;
use gitferry_iam::edit::{DataKeyUse, Edit, Editor, data_key_uses};
use gitferry_iam::secret::{KeyContext, KeyService};
use gitferry_iam::{Account, KeyRing, Opening, SystemRandom};

use crate::administration::{Administration, AdministrationError, Result};

/// Most commits that seal secrets again in one run: 1,000 times [`gitferry_iam::edit::MAX_RESEALED`] secrets.
const MAX_BATCHES: usize = 1_000;

/// Steps of a rotation, or of the rest of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationPlan {
    /// Id of the data key that seals new secrets now.
    pub data_key: String,
    /// Ids of the key services' keys that seal data keys from now on.
    pub services: Vec<String>,
    /// Seals that older data keys lack: id of the data key, id of the key service's key.
    pub seals: Vec<(String, String)>,
    /// Number of secrets that are sealed again.
    pub secrets: usize,
    /// Ids of the data keys that are removed.
    pub retired: Vec<String>,
}

/// Rotation that was done.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Id of the new data key.
    pub data_key: String,
    /// Id of the data key that the new one has replaced.
    pub replaced: String,
    /// Ids of the key services' keys that have sealed the new data key.
    pub services: Vec<String>,
}

/// Secrets sealed under the current data key, and old data keys removed.
#[derive(Clone, Debug, Default)]
pub struct Resealing {
    /// Seals that data keys got: id of the data key, id of the key service's key.
    pub seals: Vec<(String, String)>,
    /// Number of secrets that were sealed again.
    pub secrets: usize,
    /// Ids of access keys whose secrets do not open; they stay as they are.
    pub unreadable: BTreeSet<String>,
    /// Reasons for the data keys that do not open here.
    pub closed: Vec<String>,
    /// Ids of the data keys that were removed.
    pub retired: Vec<String>,
}

impl Administration {
    /// Steps of [`Administration::rotate_data_key`] and [`Administration::reseal`], or of the latter alone.
    ///
    /// # Errors
    /// As of the two; nothing is changed.
    pub async fn plan_rotation(&self, without: &[String], is_new: bool) -> Result<RotationPlan> {
        let account = self.account().await?;
        let services = self.sealing(&account, without)?;
        let now = self.now();
        let editor = Editor::new(&account, now, &SystemRandom);
        let all = data_key_uses(&account).iter().map(|key| key.secrets).sum();
        Ok(RotationPlan {
            data_key: account.settings().data_key.clone(),
            services: services.iter().map(|service| service.key_id().to_owned()).collect(),
            seals: lacking(&account, &services)
                .into_iter()
                .map(|(id, service)| (id, service.key_id().into()))
                .collect(),
            secrets: if is_new { all } else { editor.to_reseal() },
            retired: editor.unused_data_keys(),
        })
    }

    /// Makes a new data key the one that seals new secrets. Every key service but those `without` seals it, and every
    /// older data key that opens here. Secrets under older data keys stay readable; [`Administration::reseal`] seals them
    /// again.
    ///
    /// # Errors
    /// A key service that has sealed the current data key is missing here and not in `without`
    /// ([`AdministrationError::LacksKeyService`]), a key service fails, or the account cannot be changed. Nothing was
    /// changed, unless the kind is [`gitferry_base::Kind::InDoubt`].
    pub async fn rotate_data_key(&self, author: &Author, without: &[String]) -> Result<Rotation> {
        let account = self.account().await?;
        let services = self.sealing(&account, without)?;
        // Older keys first: a region whose only key service is new opens the sessions under them from the start.
        let (seals, _) = self.seals(&account, &services).await?;
        let fresh = KeyRing::fresh_key(&SystemRandom)?;
        let id = fresh.id().to_owned();
        let wrapped = KeyRing::wrapped(&fresh, &account.id(), &services).await?;
        let names = wrapped.keys().cloned().collect();
        let replaced = self
            .change(author, |editor| {
                let edit = if seals.is_empty() { Edit::default() } else { editor.add_seals(&seals)? };
                let replaced = editor.account().settings().data_key.clone();
                Ok((edit.then(editor.replace_data_key(&id, wrapped.clone())?), replaced))
            })
            .await?;
        Ok(Rotation { data_key: id, replaced, services: names })
    }

    /// Seals everything under the current data key, in commits of a bounded size, adds the seals of key services that data
    /// keys lack, and removes data keys that nothing uses. May be run at any time, and again.
    ///
    /// # Errors
    /// As [`Administration::rotate_data_key`]. What was sealed again until then stays so.
    pub async fn reseal(&self, author: &Author, without: &[String]) -> Result<Resealing> {
        let account = self.account().await?;
        let services = self.sealing(&account, without)?;
        let (seals, closed) = self.seals(&account, &services).await?;
        let mut done = Resealing { closed, ..Resealing::default() };
        if !seals.is_empty() {
            self.change(author, |editor| Ok((editor.add_seals(&seals)?, ()))).await?;
            for (id, keys) in seals {
                done.seals.extend(keys.into_keys().map(|key| (id.clone(), key)));
            }
        }
        let ring = self.keys(&account).await?;
        for _ in 0..MAX_BATCHES {
            let batch = self.change(author, |editor| editor.reseal_access_keys(&ring)).await?;
            done.secrets += batch.resealed;
            done.unreadable = batch.unreadable;
            if batch.left == 0 {
                break;
            }
        }
        done.retired = self.change(author, |editor| Ok(editor.retire_data_keys())).await?;
        Ok(done)
    }

    /// Data keys of the account with their use, the current one first.
    ///
    /// # Errors
    /// The account cannot be read.
    pub async fn data_keys(&self) -> Result<Vec<DataKeyUse>> {
        Ok(data_key_uses(&self.account().await?))
    }

    /// Key services that seal data keys: all but those `without`. Refuses to leave out one by accident, which may be the
    /// only one of a region.
    fn sealing(&self, account: &Account, without: &[String]) -> Result<Vec<Arc<dyn KeyService>>> {
        let data_key = &account.settings().data_key;
        let services = self.key_services().iter().filter(|service| !without.iter().any(|id| id == service.key_id()));
        let services: Vec<_> = services.cloned().collect();
        let offered: BTreeSet<&str> = services.iter().map(|service| service.key_id()).collect();
        let sealed = account.data_key(data_key).map(|record| record.wrapped.keys().cloned().collect::<Vec<_>>());
        let missing: Vec<String> = sealed
            .unwrap_or_default()
            .into_iter()
            .filter(|id| !offered.contains(id.as_str()) && !without.contains(id))
            .collect();
        if !missing.is_empty() {
            return Err(AdministrationError::LacksKeyService { data_key: data_key.clone(), missing });
        }
        if services.is_empty() {
            return Err(AdministrationError::NoKeyService);
        }
        Ok(services)
    }

    /// Seals that data keys lack, made by the key services, and the reasons for data keys that do not open.
    async fn seals(
        &self,
        account: &Account,
        services: &[Arc<dyn KeyService>],
    ) -> Result<(BTreeMap<String, BTreeMap<String, Vec<u8>>>, Vec<String>)> {
        let mut seals: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
        let lacking = lacking(account, services);
        if lacking.is_empty() {
            return Ok((seals, Vec::new()));
        }
        let Opening { ring, failures } = KeyRing::closed(account).open_missing(account, self.key_services()).await;
        for (id, service) in lacking {
            let Some(key) = ring.key(&id) else { continue };
            let blob = service.wrap(key.expose(), KeyContext { account: &account.id(), data_key: &id }).await?;
            seals.entry(id).or_default().insert(service.key_id().to_owned(), blob);
        }
        Ok((seals, failures.iter().map(ToString::to_string).collect()))
    }
}

/// Data keys with the key services that have not sealed them.
fn lacking<'a>(account: &Account, services: &'a [Arc<dyn KeyService>]) -> Vec<(String, &'a Arc<dyn KeyService>)> {
    let keys = account.data_keys();
    keys.flat_map(|(id, record)| {
        let lacks = services.iter().filter(move |service| !record.wrapped.contains_key(service.key_id()));
        lacks.map(move |service| (id.to_owned(), service))
    })
    .collect()
}
