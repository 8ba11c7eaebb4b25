//! Packs as local files: in place, or from the cache for stores on other machines.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::cache::{PACKS_IN_FLIGHT, Pinned, fetch};
use super::error::BadPack;
use super::manifest::LivePack;
use super::pack_checks::Problem;
use super::{Region, RegionError, Result, Unreadable};
use crate::ledger::advance::read_head;
use crate::ledger::keys;
use gitferry_store::objects::ObjectError;

/// A pack and its index as local files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPack {
    /// Path of the pack.
    pub pack: PathBuf,
    /// Path of the index.
    pub index: PathBuf,
    /// Entry of the pack in the manifest.
    pub live: LivePack,
}

/// The live packs of a repository as local files. The files are sure to exist until this is dropped.
#[derive(Debug)]
pub struct LocalPacks {
    /// In the order of the manifest.
    pub packs: Vec<LocalPack>,
    pinned: Vec<Arc<Pinned>>,
    _copies: Option<tempfile::TempDir>,
}

impl Region {
    /// Makes packs readable as files: in place, or in the cache.
    ///
    /// # Errors
    /// [`RegionError::Moved`] if a pack was replaced and removed meanwhile: read the manifest again.
    pub async fn local_packs(&self, packs: &[LivePack]) -> Result<LocalPacks> {
        self.local_packs_after(packs, None).await
    }

    /// Makes packs readable like [`Region::local_packs`], reusing files that are `known` already.
    pub async fn local_packs_after(&self, packs: &[LivePack], known: Option<&LocalPacks>) -> Result<LocalPacks> {
        if let Some(local) = self.in_place(packs) {
            self.check_in_place(&local).await?;
            return Ok(LocalPacks { packs: local, pinned: Vec::new(), _copies: None });
        }
        let known: HashMap<&str, &Arc<Pinned>> = known
            .into_iter()
            .flat_map(|known| known.packs.iter().zip(&known.pinned))
            .map(|(pack, pinned)| (pack.live.key.as_str(), pinned))
            .collect();
        let pins: Vec<_> = packs
            .iter()
            .map(|live| {
                let held = known.get(live.key.as_str()).map(|pinned| Arc::clone(pinned));
                async move {
                    match held {
                        Some(pinned) => Ok(pinned),
                        None => self.pin(live).await.map(Arc::new),
                    }
                }
            })
            .collect();
        let pinned: Vec<Arc<Pinned>> = stream::iter(pins).buffered(PACKS_IN_FLIGHT).try_collect().await?;
        let local = packs.iter().zip(&pinned).map(|(live, pinned)| LocalPack {
            pack: pinned.pack.clone(),
            index: pinned.index.clone(),
            live: live.clone(),
        });
        Ok(LocalPacks { packs: local.collect(), pinned, _copies: None })
    }

    /// Returns the current bytes of the store, past any cache and unchecked, for callers that check them in full.
    pub async fn stored_packs(&self, packs: &[LivePack]) -> Result<LocalPacks> {
        if let Some(local) = self.in_place(packs) {
            return Ok(LocalPacks { packs: local, pinned: Vec::new(), _copies: None });
        }
        let copies = tempfile::TempDir::new_in(self.spool_dir())?;
        let fetched = packs.iter().enumerate().map(|(number, live)| {
            let path = |extension: &str| copies.path().join(format!("{number}-{}.{extension}", live.id));
            self.fetch_pack(LocalPack { pack: path("pack"), index: path("idx"), live: live.clone() })
        });
        let fetched: Vec<_> = fetched.collect();
        let local = stream::iter(fetched).buffered(PACKS_IN_FLIGHT).try_collect().await?;
        Ok(LocalPacks { packs: local, pinned: Vec::new(), _copies: Some(copies) })
    }

    fn in_place(&self, packs: &[LivePack]) -> Option<Vec<LocalPack>> {
        let here = packs.iter().map(|live| {
            let pack = self.objects.local_path(&live.key)?;
            let index = self.objects.local_path(&keys::index_of(&live.key))?;
            Some(LocalPack { pack, index, live: live.clone() })
        });
        here.collect()
    }

    async fn pin(&self, live: &LivePack) -> Result<Pinned> {
        match self.cache.pin(&*self.objects, live).await {
            Err(RegionError::Objects(error)) => Err(self.explain_store(live, error).await),
            result => result,
        }
    }

    /// Names repository and pack in an error of the store, if the pack is at fault.
    async fn explain_store(&self, live: &LivePack, error: ObjectError) -> RegionError {
        match error {
            ObjectError::NotFound { .. } => self.explain(live, Problem::Missing(error.to_string())).await,
            ObjectError::Corrupt { .. } => self.explain(live, Problem::Damaged(error.to_string())).await,
            error => error.into(),
        }
    }

    async fn fetch_pack(&self, local: LocalPack) -> Result<LocalPack> {
        let live = &local.live;
        let memory = self.cache.memory();
        let index_key = keys::index_of(&live.key);
        let fetched = futures::join!(
            fetch(&*self.objects, &live.key, live.bytes, &local.pack, memory),
            fetch(&*self.objects, &index_key, live.index_bytes, &local.index, memory),
        );
        match fetched.0.and(fetched.1) {
            Err(RegionError::Objects(error)) => Err(self.explain_store(live, error).await),
            result => result.map(|_| local),
        }
    }

    /// Explains why a pack of a manifest cannot be used: replaced since the manifest was read, or bad if the manifest
    /// still names it.
    pub(super) async fn explain(&self, live: &LivePack, problem: Problem) -> RegionError {
        let (missing, reason) = match problem {
            Problem::Missing(reason) => (true, reason),
            Problem::Damaged(reason) => (false, reason),
        };
        let bad = |name: &str| {
            let repository = name.into();
            let region = self.name.clone();
            let key = live.key.clone();
            RegionError::BadPack(Box::new(BadPack { repository, region, key, missing, reason }))
        };
        let Some((id, ..)) = keys::parse_pack(&live.key) else { return bad(&live.key) };
        let item = match read_head(&*self.table, id).await {
            Ok(Some(item)) => item,
            Ok(None) => return Unreadable::without_head(id).error,
            Err(error) => return error.into(),
        };
        match self.manifest(&item).await {
            Ok((manifest, _)) if manifest.packs.iter().any(|pack| pack.key == live.key) => bad(&item.head.name),
            Ok(_) => RegionError::Moved { repository: item.head.name },
            Err(error) => error,
        }
    }
}
