//! Consolidating: small packs become larger ones, so that no manifest fills up however many changes bring
//! packs. Objects are copied as they are compressed, none is dropped.
//!
//! It is a matter of one region alone: the ledger names the packs that came, the manifest those that are
//! here now. A target that lags behind copies the live packs that it does not hold instead.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::commit::file_crc64;
use super::local::LocalPacks;
use super::manifest::{LivePack, Manifest, PackClass};
use super::new_pack::NewPack;
use super::{Region, Result, blocking};
use crate::git::pack::{CheckProgress, PackSet, gather};
use crate::ledger::advance::{Advance, advance_head};
use crate::ledger::head::HeadItem;
use crate::ledger::keys;
use crate::table::{Condition, Write};

/// Manifests with fewer packs are left alone.
const CONSOLIDATE_ABOVE: usize = 100;
/// Most packs that become one at a time: each leaves a row in the committing transaction.
const MERGED_AT_MOST: usize = 80;
/// A pack stays when it is at least this many times as large as all smaller ones together
/// (as `git repack --geometric`), so that each object is copied a logarithmic number of times.
const GROWTH: u64 = 2;
/// Most rounds after one change.
const MAX_ROUNDS: usize = 32;

/// Which packs become one: the smallest, up to the first that is large beside all of them. Nothing where
/// there are few. Closed packs are only merged with closed ones: an open pack proves nothing.
pub fn choose(packs: &[LivePack]) -> Vec<LivePack> {
    if packs.len() <= CONSOLIDATE_ABOVE {
        return Vec::new();
    }
    let live = packs.iter().filter(|pack| pack.class == PackClass::Live);
    let (mut closed, mut open): (Vec<&LivePack>, Vec<&LivePack>) = live.partition(|pack| pack.closed);
    let group = if closed.len() >= open.len() { &mut closed } else { &mut open };
    group.sort_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.key.cmp(&b.key)));
    let (mut chosen, mut bytes): (Vec<LivePack>, u64) = (Vec::new(), 0);
    for pack in group.iter().take(MERGED_AT_MOST) {
        if chosen.len() > 1 && pack.bytes >= bytes.saturating_mul(GROWTH) {
            break;
        }
        bytes = bytes.saturating_add(pack.bytes);
        chosen.push((*pack).clone());
    }
    if chosen.len() > 1 { chosen } else { Vec::new() }
}

impl Region {
    /// Consolidates where there are many packs. Best effort: nothing depends on it, the next change tries
    /// again.
    pub async fn maintain_packs(&self, item: HeadItem) -> HeadItem {
        let mut item = item;
        for _ in 0..MAX_ROUNDS {
            if item.head.packs <= CONSOLIDATE_ABOVE as u64 {
                break;
            }
            match self.consolidate(&item).await {
                Ok(Some(next)) => item = next,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, repository = item.head.name, "could not consolidate packs");
                    break;
                }
            }
        }
        item
    }

    /// One round. `None` where there is nothing to do, or somebody else changed the repository meanwhile.
    async fn consolidate(&self, item: &HeadItem) -> Result<Option<HeadItem>> {
        let (manifest, revision) = self.manifest(item).await?;
        let chosen = choose(&manifest.packs);
        if chosen.is_empty() {
            return Ok(None);
        }
        let local = self.local_packs(&chosen).await?;
        let (format, spool) = (item.head.format, self.spool_dir());
        let mut pack = blocking(move || merge(&local, format, spool)).await?;
        pack.closed = chosen.iter().all(|pack| pack.closed);
        let merged = self.put_packs(item.id, vec![pack]).await?;
        let kept = manifest.packs.iter().filter(|pack| chosen.iter().all(|other| other.key != pack.key));
        let next = Manifest { generation: manifest.generation + 1, packs: kept.chain(&merged).cloned().collect() };
        let mut after = item.head.clone();
        after.manifest = next.generation;
        after.packs = next.packs.len() as u64;
        let mut with = vec![self.admit_uploads(item.id, &item.head.name, &merged).await?];
        with.extend(
            chosen
                .iter()
                .map(|pack| Write::put(keys::retired(item.id, &pack.key), Condition::Any, json!({ "key": pack.key }))),
        );
        let step = Advance {
            id: item.id,
            before: Some(item.clone()),
            after,
            manifest: Some((serde_json::to_value(&next).map_err(std::io::Error::from)?, revision)),
            with,
        };
        crate::fault::crash_point("consolidate-before-head");
        match advance_head(&*self.table, step).await {
            Ok(item) => Ok(Some(item)),
            Err(error) => {
                let error = error.into();
                self.drop_packs(&merged, &error).await;
                match error {
                    super::RegionError::Ledger(crate::ledger::LedgerError::Lost { .. }) => Ok(None),
                    error => Err(error),
                }
            }
        }
    }
}

/// Makes one pack of many. Blocking.
fn merge(local: &LocalPacks, format: gix::hash::Kind, spool: PathBuf) -> Result<NewPack> {
    let mut set = PackSet::new(format);
    for pack in &local.packs {
        set.add(&pack.pack, &pack.index)?;
    }
    let mut wanted: Vec<gix::ObjectId> =
        set.indices().flat_map(|index| (0..index.objects()).map(|row| index.id(row).to_owned())).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let dir = tempfile::TempDir::new_in(&spool)?;
    let path = dir.path().join("consolidated.pack");
    gather(&wanted, &set, &mut |_| Ok(None), &path)?;
    let file = tempfile::NamedTempFile::new_in(&spool)?.into_temp_path();
    std::fs::rename(&path, &file)?;
    let crc64 = file_crc64(&file)?;
    NewPack::check(file, crc64, None, format, &Arc::new(CheckProgress::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Crc64;

    fn pack(number: usize, bytes: u64, closed: bool) -> LivePack {
        LivePack {
            key: format!("k{number:04}"),
            class: PackClass::Live,
            id: gix::ObjectId::null(gix::hash::Kind::Sha1),
            bytes,
            objects: 1,
            crc64: Crc64(0),
            index_bytes: 0,
            index_crc64: Crc64(0),
            closed,
        }
    }

    #[test]
    fn few_packs_are_left_alone() {
        let packs: Vec<LivePack> = (0..CONSOLIDATE_ABOVE).map(|n| pack(n, 1, true)).collect();
        assert!(choose(&packs).is_empty());
    }

    #[test]
    fn the_small_ones_are_chosen_and_the_large_ones_stay() {
        let mut packs: Vec<LivePack> = (0..60).map(|n| pack(n, 10, true)).collect();
        packs.extend((60..120).map(|n| pack(n, 1_000_000, true)));
        let chosen = choose(&packs);
        assert_eq!(chosen.len(), 60);
        assert!(chosen.iter().all(|pack| pack.bytes == 10));
    }

    #[test]
    fn open_and_closed_packs_do_not_mix() {
        let packs: Vec<LivePack> = (0..150).map(|n| pack(n, 10, n % 3 != 0)).collect();
        let chosen = choose(&packs);
        assert_eq!(chosen.len(), MERGED_AT_MOST);
        assert!(chosen.iter().all(|pack| pack.closed));
    }

    #[test]
    fn each_object_is_copied_a_logarithmic_number_of_times() {
        let (mut packs, mut written): (Vec<LivePack>, u64) = (Vec::new(), 0);
        for number in 0..5_000 {
            packs.push(pack(number, 100, true));
            while let chosen @ [_, ..] = &choose(&packs)[..] {
                let bytes = chosen.iter().map(|pack| pack.bytes).sum();
                written += bytes;
                packs.retain(|pack| chosen.iter().all(|other| other.key != pack.key));
                packs.push(pack(100_000 + number, bytes, true));
            }
            assert!(packs.len() <= CONSOLIDATE_ABOVE);
        }
        assert!(written <= 5_000 * 100 * 12, "{written} bytes written for {} bytes", 5_000 * 100);
    }
}
