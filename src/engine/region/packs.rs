//! Packs of a manifest as files that are sure to have the recorded bytes: read in place, or from the cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::cache::{PACKS_IN_FLIGHT, Pinned, fetch};
use super::error::BadPack;
use super::local::{LocalPack, LocalPacks};
use super::manifest::LivePack;
use super::pack_checks::{Problem, Unchecked, check_bytes};
use super::{Region, RegionError, Result, Unreadable, blocking};
use crate::ledger::heads::read_head;
use crate::ledger::keys;
use gitferry_store::objects::ObjectError;

/// Time for which the files of an open repository count as unchanged: a repository that takes a hundred pushes a second
/// would otherwise ask the file system for twice its number of packs at each.
const SEEN_FOR: Duration = Duration::from_secs(1);

/// Makes the packs of manifests readable as files.
#[derive(Clone, Copy, Debug)]
pub struct Packs<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the packs of this region, to be read as files.
    pub fn packs(&self) -> Packs<'_> {
        Packs { region: self }
    }
}

impl Packs<'_> {
    /// Makes packs readable as files: in place, or in the cache.
    ///
    /// # Errors
    /// [`RegionError::Moved`] if a pack was replaced and removed meanwhile: read the manifest again.
    pub async fn local(self, packs: &[LivePack]) -> Result<LocalPacks> {
        self.local_after(packs, None).await
    }

    /// Makes packs readable like [`Self::local`], reusing files that are `known` already.
    pub async fn local_after(self, packs: &[LivePack], known: Option<&LocalPacks>) -> Result<LocalPacks> {
        if let Some(local) = self.in_place(packs, known) {
            let recheck_after = if known.is_some() { SEEN_FOR } else { Duration::ZERO };
            self.check_in_place(&local, recheck_after).await?;
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
        let local = packs.iter().zip(&pinned).map(|(live, pinned)| {
            let pack = pinned.pack.clone();
            let index = pinned.index.clone();
            Arc::new(LocalPack { pack, index, live: live.clone() })
        });
        Ok(LocalPacks { packs: local.collect(), pinned, _copies: None })
    }

    /// Returns the current bytes of the store, past any cache and unchecked, for callers that check them in full.
    pub async fn stored(self, packs: &[LivePack]) -> Result<LocalPacks> {
        if let Some(local) = self.in_place(packs, None) {
            return Ok(LocalPacks { packs: local, pinned: Vec::new(), _copies: None });
        }
        let copies = tempfile::TempDir::new_in(self.region.spool_dir())?;
        let fetched = packs.iter().enumerate().map(|(number, live)| {
            let path = |extension: &str| copies.path().join(format!("{number}-{}.{extension}", live.id));
            self.fetch(LocalPack { pack: path("pack"), index: path("idx"), live: live.clone() })
        });
        let fetched: Vec<_> = fetched.collect();
        let local = stream::iter(fetched).buffered(PACKS_IN_FLIGHT).try_collect().await?;
        Ok(LocalPacks { packs: local, pinned: Vec::new(), _copies: Some(copies) })
    }

    /// Finds the files of packs in a store of files; those in `known` are shared.
    fn in_place(self, packs: &[LivePack], known: Option<&LocalPacks>) -> Option<Vec<Arc<LocalPack>>> {
        let known: HashMap<&str, &Arc<LocalPack>> =
            known.into_iter().flat_map(|known| &known.packs).map(|pack| (pack.live.key.as_str(), pack)).collect();
        let here = packs.iter().map(|live| match known.get(live.key.as_str()) {
            Some(known) if known.live == *live => Some(Arc::clone(known)),
            _ => {
                let pack = self.region.objects().local_path(&live.key)?;
                let index = self.region.objects().local_path(&keys::index_of(&live.key))?;
                Some(Arc::new(LocalPack { pack, index, live: live.clone() }))
            }
        });
        here.collect()
    }

    async fn pin(self, live: &LivePack) -> Result<Pinned> {
        match self.region.cache().pin(self.region.objects(), live).await {
            Err(RegionError::Objects(error)) => Err(self.explain_store(live, error).await),
            result => result,
        }
    }

    /// Names repository and pack in an error of the store, if the pack is at fault.
    async fn explain_store(self, live: &LivePack, error: ObjectError) -> RegionError {
        match error {
            ObjectError::NotFound { .. } => self.explain(live, Problem::Missing(error.to_string())).await,
            ObjectError::Corrupt { .. } => self.explain(live, Problem::Damaged(error.to_string())).await,
            error => error.into(),
        }
    }

    async fn fetch(self, local: LocalPack) -> Result<Arc<LocalPack>> {
        let live = &local.live;
        let memory = self.region.cache().memory();
        let index_key = keys::index_of(&live.key);
        let fetched = futures::join!(
            fetch(self.region.objects(), &live.key, live.bytes, &local.pack, memory),
            fetch(self.region.objects(), &index_key, live.index_bytes, &local.index, memory),
        );
        match fetched.0.and(fetched.1) {
            Err(RegionError::Objects(error)) => Err(self.explain_store(live, error).await),
            result => result.map(|_| Arc::new(local)),
        }
    }

    /// Explains why a pack of a manifest cannot be used: replaced since the manifest was read, or bad if the manifest
    /// still names it.
    pub(super) async fn explain(self, live: &LivePack, problem: Problem) -> RegionError {
        let (missing, reason) = match problem {
            Problem::Missing(reason) => (true, reason),
            Problem::Damaged(reason) => (false, reason),
        };
        let bad = |name: &str| {
            let repository = name.into();
            let region = self.region.name().to_owned();
            let key = live.key.clone();
            RegionError::BadPack(Box::new(BadPack { repository, region, key, missing, reason }))
        };
        let Some((id, ..)) = keys::parse_pack(&live.key) else { return bad(&live.key) };
        let item = match read_head(self.region.table(), id).await {
            Ok(Some(item)) => item,
            Ok(None) => return Unreadable::without_head(id).error,
            Err(error) => return error.into(),
        };
        match self.region.reader().manifest(&item).await {
            Ok((manifest, _)) if manifest.packs.iter().any(|pack| pack.key == live.key) => bad(&item.head.name),
            Ok(_) => RegionError::Moved { repository: item.head.name },
            Err(error) => error,
        }
    }

    /// Checks packs that are read in place. Files that were seen to be sound less than `recheck_after` ago are not
    /// looked at.
    ///
    /// # Errors
    /// [`RegionError::BadPack`] for a missing or damaged pack; [`RegionError::Moved`] for a pack that was replaced
    /// meanwhile.
    pub(super) async fn check_in_place(self, packs: &[Arc<LocalPack>], recheck_after: Duration) -> Result<()> {
        let checks = self.region.checks().clone();
        let owned = packs.to_vec();
        let checked = blocking(move || Ok::<_, std::io::Error>(checks.check(&owned, recheck_after))).await?;
        match checked {
            Ok(left) if left.is_empty() => Ok(()),
            Ok(left) => {
                tokio::spawn(check_the_rest(self.region.clone(), left));
                Ok(())
            }
            Err(bad) => {
                let (local, problem) = *bad;
                Err(self.explain(&local.live, problem).await)
            }
        }
    }

    /// Compares the bytes of packs with the manifest, ignoring remembered verdicts, for callers that hand out the
    /// files.
    pub(super) async fn prove_bytes(self, packs: &[Arc<LocalPack>]) -> Result<()> {
        for local in packs {
            let owned = local.clone();
            if let Err(problem) = blocking(move || Ok::<_, std::io::Error>(check_bytes(&owned))).await? {
                return Err(self.explain(&local.live, problem).await);
            }
        }
        Ok(())
    }
}

/// Checks packs in the background, one at a time in this process.
async fn check_the_rest(region: Region, left: Unchecked) {
    for (local, stamp) in left {
        let _one_at_a_time = region.checks().background.acquire().await;
        let owned = local.clone();
        let checked = blocking(move || Ok::<_, std::io::Error>(check_bytes(&owned))).await;
        let checked = checked.unwrap_or_else(|error| Err(Problem::Missing(error.to_string())));
        region.checks().conclude(&local, stamp, &checked);
        if let Err(problem @ Problem::Damaged(_)) = checked {
            let error: RegionError = region.packs().explain(&local.live, problem).await;
            tracing::error!(%error, region = region.name(), "a pack is damaged; its repository is no longer served");
        }
    }
}
