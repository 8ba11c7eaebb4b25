//! Checks of pack files that are read in place: their bytes must be those that the manifest records.
//!
//! Each file is checked once per process, and again when it changes (a change to a pack of an open repository is seen
//! within a second at the next push): presence and size before the first read, the
//! CRC-64/NVME before the first use up to `CHECKED_BEFORE_BYTES`, otherwise in the background. A damaged pack is
//! reported with the command that repairs it, and refused from then on. (Packs in the cache of a region are checked
//! when they enter it.) [`super::packs`] asks for the checks.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::local::LocalPack;
use gitferry_base::checksum::file_crc64;
use gitferry_store::objects::Crc64;

/// Bytes of packs and indexes that are checked before a repository is opened; the rest is checked while it is served.
const CHECKED_BEFORE_BYTES: u64 = 64 * 1024 * 1024;
/// Most remembered verdicts; above that, all are forgotten and packs are checked again at their next use.
const MAX_VERDICTS: usize = 100_000;

/// Verdicts on the pack files of a region.
#[derive(Debug)]
pub struct PackChecks {
    verdicts: Mutex<HashMap<String, Known>>,
    /// One background check at a time reads the disk.
    pub(super) background: Semaphore,
}

/// Verdict on one version of the files of a pack.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    verdict: Verdict,
    /// Time at which the files last had that version.
    seen: Instant,
}

/// Identifies a version of the two files of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp([FileStamp; 2]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

#[derive(Clone, Debug)]
enum Verdict {
    Sound,
    Damaged(String),
    /// A check is under way.
    Open,
}

/// Packs that are still to be checked, with the versions of their files.
pub(super) type Unchecked = Vec<(Arc<LocalPack>, Stamp)>;

/// Fault of a pack.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    Missing(String),
    Damaged(String),
}

impl Default for PackChecks {
    fn default() -> Self {
        PackChecks { verdicts: Mutex::default(), background: Semaphore::new(1) }
    }
}

impl PackChecks {
    fn verdicts(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, local: &LocalPack, stamp: Stamp, verdict: Verdict) {
        let mut verdicts = self.verdicts();
        if verdicts.len() >= MAX_VERDICTS {
            verdicts.clear();
        }
        verdicts.insert(local.live.key.clone(), Known { stamp, verdict, seen: Instant::now() });
    }

    /// Returns the version of a pack's files if it has to be checked, and `None` if it is known not to be damaged. Files
    /// that were seen less than `recheck_after` ago are not looked at.
    fn unknown(&self, local: &LocalPack, recheck_after: Duration) -> std::result::Result<Option<Stamp>, Problem> {
        let key = &local.live.key;
        let is_recent =
            |known: &Known| !matches!(known.verdict, Verdict::Damaged(_)) && known.seen.elapsed() < recheck_after;
        if self.verdicts().get(key).is_some_and(is_recent) {
            return Ok(None);
        }
        let stamp = Stamp::of(local)?;
        match self.verdicts().get_mut(key).filter(|known| known.stamp == stamp) {
            Some(Known { verdict: Verdict::Damaged(reason), .. }) => Err(Problem::Damaged(reason.clone())),
            Some(known) => {
                known.seen = Instant::now();
                Ok(None)
            }
            None => Ok(Some(stamp)),
        }
    }

    /// Checks packs up to [`CHECKED_BEFORE_BYTES`]. Returns those that are still to be checked. Blocking.
    pub(super) fn check(
        &self,
        packs: &[Arc<LocalPack>],
        recheck_after: Duration,
    ) -> std::result::Result<Unchecked, Box<(Arc<LocalPack>, Problem)>> {
        let mut bytes = 0_u64;
        let mut left = Vec::new();
        for local in packs {
            let bad = |problem| Box::new((Arc::clone(local), problem));
            let Some(stamp) = self.unknown(local, recheck_after).map_err(bad)? else { continue };
            bytes = bytes.saturating_add(local.live.bytes).saturating_add(local.live.index_bytes);
            if bytes > CHECKED_BEFORE_BYTES {
                self.note(local, stamp, Verdict::Open);
                left.push((Arc::clone(local), stamp));
                continue;
            }
            let checked = check_bytes(local);
            self.conclude(local, stamp, &checked);
            checked.map_err(bad)?;
        }
        Ok(left)
    }

    pub(super) fn conclude(&self, local: &LocalPack, stamp: Stamp, checked: &std::result::Result<(), Problem>) {
        match checked {
            Ok(()) => self.note(local, stamp, Verdict::Sound),
            Err(Problem::Damaged(reason)) => self.note(local, stamp, Verdict::Damaged(reason.clone())),
            // Removed meanwhile: the next use reports it.
            Err(Problem::Missing(_)) => _ = self.verdicts().remove(&local.live.key),
        }
    }
}

impl Stamp {
    /// Reads the version of the files, which must exist with the recorded sizes.
    fn of(local: &LocalPack) -> std::result::Result<Stamp, Problem> {
        let stamp = |path: &Path, bytes: u64| match std::fs::metadata(path) {
            Ok(metadata) if metadata.len() == bytes => {
                Ok(FileStamp { inode: metadata.ino(), bytes, modified: (metadata.mtime(), metadata.mtime_nsec()) })
            }
            Ok(metadata) => Err(Problem::Damaged(format!(
                "{} has {} bytes, its manifest records {bytes}",
                path.display(),
                metadata.len()
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Problem::Missing(format!("there is no file {}", path.display())))
            }
            Err(error) => Err(Problem::Damaged(format!("{} cannot be read: {error}", path.display()))),
        };
        Ok(Stamp([stamp(&local.pack, local.live.bytes)?, stamp(&local.index, local.live.index_bytes)?]))
    }
}

/// Reads a pack and its index and compares their checksums. Blocking.
pub(super) fn check_bytes(local: &LocalPack) -> std::result::Result<(), Problem> {
    let check = |path: &Path, recorded: Crc64| match file_crc64(path) {
        Ok(found) if found == recorded => Ok(()),
        Ok(found) => Err(Problem::Damaged(format!(
            "{} has the CRC-64/NVME {found}, its manifest records {recorded}",
            path.display()
        ))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Problem::Missing(format!("there is no file {}", path.display())))
        }
        Err(error) => Err(Problem::Damaged(format!("{} cannot be read: {error}", path.display()))),
    };
    check(&local.pack, local.live.crc64)?;
    check(&local.index, local.live.index_crc64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::manifest::{LivePack, PackClass};

    fn pack(dir: &Path, bytes: &[u8]) -> Arc<LocalPack> {
        let (pack, index) = (dir.join("p.pack"), dir.join("p.idx"));
        std::fs::write(&pack, bytes).unwrap();
        std::fs::write(&index, b"index").unwrap();
        let live = LivePack {
            key: "p.pack".into(),
            class: PackClass::Live,
            id: gix::ObjectId::null(gix::hash::Kind::Sha1),
            bytes: bytes.len() as u64,
            objects: 1,
            crc64: Crc64::of(bytes),
            index_bytes: 5,
            index_crc64: Crc64::of(b"index"),
            closed: true,
        };
        Arc::new(LocalPack { pack, index, live })
    }

    fn check(
        checks: &PackChecks,
        local: &Arc<LocalPack>,
    ) -> std::result::Result<Unchecked, Box<(Arc<LocalPack>, Problem)>> {
        checks.check(std::slice::from_ref(local), Duration::ZERO)
    }

    fn is_damaged(checks: &PackChecks, local: &Arc<LocalPack>) -> bool {
        check(checks, local).is_err_and(|bad| matches!(bad.1, Problem::Damaged(_)))
    }

    #[test]
    fn a_file_is_checked_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let local = pack(dir.path(), b"some bytes");
        let checks = PackChecks::default();
        assert!(check(&checks, &local).unwrap().is_empty());
        let damaged = |checks: &PackChecks| is_damaged(checks, &local);
        // Another file of the same size in its place, like a copy from a bad disk.
        let other = dir.path().join("other");
        std::fs::write(&other, b"some bYtes").unwrap();
        std::fs::rename(&other, &local.pack).unwrap();
        assert!(damaged(&checks) && damaged(&checks));
        std::fs::write(&other, b"some bytes").unwrap();
        std::fs::rename(&other, &local.pack).unwrap();
        assert!(check(&checks, &local).unwrap().is_empty(), "what was mended is used again");
        std::fs::write(&local.index, b"inde").unwrap();
        assert!(damaged(&checks));
        std::fs::remove_file(&local.index).unwrap();
        let missing = check(&checks, &local).unwrap_err();
        assert!(matches!(missing.1, Problem::Missing(_)));
    }

    #[test]
    fn what_was_seen_a_moment_ago_is_not_looked_at_and_damage_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let local = pack(dir.path(), b"some bytes");
        let checks = PackChecks::default();
        let later = |checks: &PackChecks| checks.check(std::slice::from_ref(&local), Duration::from_secs(3600));
        assert!(later(&checks).unwrap().is_empty());
        let other = dir.path().join("other");
        std::fs::write(&other, b"some bYtes").unwrap();
        std::fs::rename(&other, &local.pack).unwrap();
        assert!(later(&checks).unwrap().is_empty(), "seen a moment ago");
        assert!(is_damaged(&checks, &local));
        assert!(matches!(later(&checks), Err(bad) if matches!(bad.1, Problem::Damaged(_))));
    }

    #[test]
    fn what_is_large_is_left_to_the_background_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut local = Arc::unwrap_or_clone(pack(dir.path(), b""));
        let large = std::fs::File::create(&local.pack).unwrap();
        large.set_len(CHECKED_BEFORE_BYTES + 1).unwrap();
        local.live.bytes = CHECKED_BEFORE_BYTES + 1;
        let local = Arc::new(local);
        let checks = PackChecks::default();
        let left = check(&checks, &local).unwrap();
        assert_eq!(left.len(), 1);
        assert!(check(&checks, &local).unwrap().is_empty(), "one check of it is under way");
        let (_, stamp) = left[0];
        checks.conclude(&local, stamp, &check_bytes(&local));
        assert!(is_damaged(&checks, &local));
    }
}
