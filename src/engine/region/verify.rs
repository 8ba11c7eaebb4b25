//! Verification: proof, from the bytes up, that a repository is what its ledger records.

use std::path::Path;
use std::sync::Arc;

use gix::ObjectId;
use serde::Serialize;

use super::consolidate::PackAside;
use super::fold::{FoldError, Folded, fold};
use super::local::{LocalPack, LocalPacks};
use super::manifest::{LivePack, Manifest};
use super::{Region, RegionError, Result, blocking};
use crate::ledger::LedgerError;
use crate::ledger::change::LfsObject;
use crate::ledger::hash::{HashedRefs, Lattice};
use crate::ledger::head::{Frontier, Head, HeadItem};
use crate::ledger::heads::read_head;
use crate::ledger::keys;
use crate::ledger::log::read_chain;
use crate::ledger::refs::RefsAt;
use gitferry_base::Kind;
use gitferry_git::connectivity::missing_from;
use gitferry_git::pack::{CheckOptions, CheckProgress, CheckedPack, PackSet, check_pack};

/// Most findings that are listed for one repository.
pub const MAX_FINDINGS: usize = 1_000;

/// Report of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    /// Name of the repository.
    pub repository: String,
    /// Id of the repository.
    pub id: String,
    /// Name of the region.
    pub region: String,
    /// State that was verified.
    pub frontier: Frontier,
    /// Changes whose hash chain was followed.
    pub changes: u64,
    /// Refs over which the digest was computed.
    pub refs: u64,
    /// Packs that were examined.
    pub packs: u64,
    /// LFS objects that the changes name.
    pub lfs_objects: u64,
    /// Objects that were hashed (`--deep`).
    pub objects: u64,
    /// Bytes of packs, indexes and LFS objects.
    pub bytes: u64,
    /// True if packs were hashed and reachability was proven.
    pub deep: bool,
    /// Deviations, at most [`MAX_FINDINGS`].
    pub findings: Vec<String>,
    /// Objects that are encrypted under another KMS key than the repository has, at most [`MAX_FINDINGS`]. Their bytes are
    /// no less sound for that.
    pub other_keys: Vec<String>,
}

impl Verified {
    fn find(&mut self, finding: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding.into());
        }
    }
}

/// Verifies repositories of a region. Writes nothing but the rows of packs that were set aside.
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the verifier of this region.
    pub fn verifier(&self) -> Verifier<'_> {
        Verifier { region: self }
    }
}

impl Verifier<'_> {
    /// Verifies one repository. Deviations are findings; an error means that the verification could not be completed.
    pub async fn verify(self, item: &HeadItem, deep: bool, progress: Arc<CheckProgress>) -> Result<Verified> {
        let mut verified = Verified {
            repository: item.head.name.clone(),
            id: item.id.to_string(),
            region: self.region.name().to_owned(),
            frontier: item.head.frontier,
            changes: 0,
            refs: 0,
            packs: 0,
            lfs_objects: 0,
            objects: 0,
            bytes: 0,
            deep,
            findings: Vec::new(),
            other_keys: self.region.encryption().strays(item, MAX_FINDINGS).await?,
        };
        let folded = self.verify_chain(item, &mut verified).await?;
        let (lfs, by_ledger) = folded.map_or_else(Default::default, |folded| (folded.lfs, folded.refs));
        let lfs: Vec<LfsObject> = lfs.into_values().collect();
        verified.lfs_objects = lfs.len() as u64;
        verified.bytes = lfs.iter().map(|object| object.size).fold(0, u64::saturating_add);
        self.region.lfs().verify(item, &lfs, deep).await?.into_iter().for_each(|finding| verified.find(finding));
        let tips = self.verify_refs(item, by_ledger.as_ref(), &mut verified, deep).await?;
        self.verify_name(item, &mut verified).await?;
        let manifest = match self.region.reader().manifest(item).await {
            Ok((manifest, _)) => manifest,
            Err(error @ RegionError::Corrupt { .. }) => {
                verified.find(error.to_string());
                return Ok(verified);
            }
            Err(error) => return Err(error),
        };
        for pack in self.still_aside(item, &manifest, deep).await? {
            let id = pack.pack;
            let key = pack.key;
            let reason = pack.reason;
            verified.find(format!("pack {id} is damaged and consolidation skips it: {reason} (object {key})"));
        }
        let present = self.verify_presence(&manifest, &mut verified).await?;
        if deep {
            let local = self.region.packs().stored(&present).await?;
            let format = item.head.format;
            let dir = self.region.spool_dir();
            let check = Deep { local, format, dir, tips, progress };
            verified = blocking(move || check.run(verified)).await?;
        }
        Ok(verified)
    }

    /// Follows the hash chain and checks that it leads to the head. Returns the folded changes if they are sound.
    async fn verify_chain(self, item: &HeadItem, verified: &mut Verified) -> Result<Option<Folded>> {
        let rows = match read_chain(self.region.table(), item.id, Frontier::ORIGIN, item.head.frontier).await {
            Ok(rows) => rows,
            Err(error @ (LedgerError::Corrupt(_) | LedgerError::Fork { .. })) => {
                verified.find(error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        verified.changes = rows.len() as u64;
        let log = self.region.log();
        let id = item.id;
        let folding = move || Ok::<_, std::io::Error>(fold(&log, id, None, &rows));
        match blocking(folding).await? {
            Ok(folded) => {
                compare(&folded.head, &item.head, verified);
                return Ok(Some(folded));
            }
            Err(FoldError::Ledger(error)) if !is_damage(error.kind()) => return Err(error.into()),
            Err(error) => verified.find(error.to_string()),
        }
        Ok(None)
    }

    /// Checks that the row of the repository's name points to the repository.
    async fn verify_name(self, item: &HeadItem, verified: &mut Verified) -> Result<()> {
        if !item.head.named {
            return Ok(());
        }
        let row = self.region.table().get(&keys::name(&item.head.name)).await?;
        let holder = row.as_ref().map(|row| row.document.get("id").and_then(serde_json::Value::as_str));
        let problem = match holder {
            Some(Some(id)) if id == verified.id => return Ok(()),
            Some(Some(id)) => format!("the row of its name points to repository {}", id.escape_debug()),
            Some(None) => "the row of its name has no id".to_owned(),
            None => "the row of its name is missing".to_owned(),
        };
        // A rename may have come between the two reads.
        if read_head(self.region.table(), item.id).await?.as_ref() == Some(item) {
            verified.find(problem);
        }
        Ok(())
    }

    /// Compares the hash of all refs, computed afresh, with that of the head and, if available, that of the ledger: the
    /// head's may be an XOR, which can be forged. Returns the objects that refs name, if `collect` is set.
    async fn verify_refs(
        self,
        item: &HeadItem,
        by_ledger: Option<&Lattice>,
        verified: &mut Verified,
        collect: bool,
    ) -> Result<Vec<(String, ObjectId)>> {
        let refs = match self.region.reader().refs(item).await {
            Ok(refs) => refs,
            Err(error) if error.kind() == Kind::Corrupt => {
                verified.find(format!("the refs cannot be read: {error}"));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let read = blocking(move || Ok::<_, std::io::Error>(read_refs(refs, collect))).await?;
        let (mut hash, count, mut tips) = match read {
            Ok(read) => read,
            Err(error) if !is_damage(error.kind()) => return Err(error.into()),
            Err(error) => {
                verified.find(format!("the refs cannot be read: {error}"));
                return Ok(Vec::new());
            }
        };
        item.head.add_head_to(&mut hash);
        verified.refs = count;
        if !hash.has_hash(&item.head.refs_hash) {
            verified
                .find(format!("the refs do not have digest {}, which the head records", item.head.refs_hash.digest()));
        } else if by_ledger.is_some_and(|refs| *refs != hash.lattice) {
            verified.find("the refs differ from those that its changes yield");
        }
        tips.extend(item.head.head.object().map(|id| ("HEAD".to_owned(), *id)));
        Ok(tips)
    }

    /// Returns the packs that consolidation has set aside; a deep verification reads them again first.
    async fn still_aside(self, item: &HeadItem, manifest: &Manifest, deep: bool) -> Result<Vec<PackAside>> {
        if deep {
            match self.region.packs_aside().recheck(item.id, manifest, true).await {
                Ok(aside) => return Ok(aside),
                Err(error) => tracing::warn!(%error, repository = item.head.name, "could not read packs again"),
            }
        }
        self.region.packs_aside().of(item.id).await
    }

    /// Checks that every pack and index is present with the recorded size and checksum. Returns those that are.
    async fn verify_presence(self, manifest: &Manifest, verified: &mut Verified) -> Result<Vec<LivePack>> {
        let mut present = Vec::new();
        for pack in &manifest.packs {
            verified.packs += 1;
            verified.bytes = verified.bytes.saturating_add(pack.bytes).saturating_add(pack.index_bytes);
            let mut sound = true;
            let index = ("index", keys::index_of(&pack.key), pack.index_bytes, pack.index_crc64);
            for (what, key, size, crc64) in [("pack", pack.key.clone(), pack.bytes, pack.crc64), index] {
                let problem = match self.region.objects().head(&key).await? {
                    None => "is missing".to_owned(),
                    Some(meta) if meta.size != size => format!("has {} bytes, not {size}", meta.size),
                    Some(meta) if meta.crc64.is_some_and(|stored| stored != crc64) => {
                        format!("has a CRC-64/NVME other than {crc64} in the store")
                    }
                    Some(_) => continue,
                };
                sound = false;
                verified.find(format!("the {what} of pack {} {problem} (object {key})", pack.id));
            }
            if sound {
                present.push(pack.clone());
            }
        }
        Ok(present)
    }
}

/// Returns true if the error shows damage in the data, and not a failure to read it.
fn is_damage(kind: Kind) -> bool {
    matches!(kind, Kind::Corrupt | Kind::Missing | Kind::Refused)
}

/// Compares the head with the head that its ledger yields.
fn compare(ledger: &Head, head: &Head, verified: &mut Verified) {
    let pairs = [
        ("name", ledger.name.clone(), head.name.clone()),
        ("state", ledger.state.to_string(), head.state.to_string()),
        ("HEAD", ledger.head.to_string(), head.head.to_string()),
        ("refs digest", ledger.refs_hash.digest().to_string(), head.refs_hash.digest().to_string()),
        ("number of refs", ledger.refs.to_string(), head.refs.to_string()),
        ("object format", ledger.format.to_string(), head.format.to_string()),
        ("description", format!("{:?}", ledger.metadata.description), format!("{:?}", head.metadata.description)),
        ("tags", format!("{:?}", ledger.metadata.tags), format!("{:?}", head.metadata.tags)),
    ];
    for (what, expected, found) in pairs {
        if expected != found {
            verified.find(format!("the head records {what} {found}, its ledger yields {expected}"));
        }
    }
}

type Refs = (HashedRefs, u64, Vec<(String, ObjectId)>);

fn read_refs(refs: RefsAt, collect: bool) -> std::result::Result<Refs, LedgerError> {
    let mut hash = HashedRefs::default();
    let mut count = 0;
    let mut tips = Vec::new();
    for entry in refs.open()? {
        let (name, value) = entry?;
        hash.edit(name.as_bstr(), None, Some(&value));
        count += 1;
        if let (true, Some(id)) = (collect, value.object()) {
            tips.push((name.to_string(), *id));
        }
    }
    Ok((hash, count, tips))
}

/// The pack-reading part of a deep verification. Blocking.
struct Deep {
    local: LocalPacks,
    format: gix::hash::Kind,
    dir: std::path::PathBuf,
    tips: Vec<(String, ObjectId)>,
    progress: Arc<CheckProgress>,
}

impl Deep {
    fn run(self, mut verified: Verified) -> Result<Verified> {
        let mut all = PackSet::new(self.format).with_spool(self.dir.clone());
        let mut checked = Vec::new();
        for local in &self.local.packs {
            match self.check(local) {
                Ok(pack) => {
                    verified.objects += u64::from(pack.objects);
                    if pack.id != local.live.id {
                        verified
                            .find(format!("pack {} is really pack {} ({})", local.live.id, pack.id, local.live.key));
                    }
                    all.add(&local.pack, &local.index)?;
                    checked.push(pack);
                }
                Err(RegionError::Pack(error)) if is_damage(error.kind()) => {
                    verified.find(format!("pack {} is damaged: {error}", local.live.id));
                }
                Err(error) => return Err(error),
            }
        }
        self.verify_reachability(&checked, &all, &mut verified)?;
        Ok(verified)
    }

    /// Checks one pack in full. The index that the check writes is discarded; if the region's own disk is full or
    /// read-only, it goes to the system's temporary folder.
    fn check(&self, local: &LocalPack) -> Result<CheckedPack> {
        let options = CheckOptions::new(self.format);
        let check_in = |dir: &Path| -> Result<CheckedPack> {
            let index = tempfile::NamedTempFile::new_in(dir)?.into_temp_path();
            Ok(check_pack(&local.pack, Some(&local.index), &options, &index, &self.progress)?)
        };
        match check_in(&self.dir) {
            Err(error) if error.kind() == Kind::Environment => check_in(&std::env::temp_dir()),
            result => result,
        }
    }

    /// Checks that every object reachable from a ref is present: directly if no pack lacks anything, otherwise by a
    /// walk.
    fn verify_reachability(&self, checked: &[CheckedPack], all: &PackSet, verified: &mut Verified) -> Result<()> {
        let sound = |pack: &CheckedPack| pack.mismatched.is_empty() && pack.unparsable_count == 0;
        let complete =
            checked.iter().all(|pack| sound(pack) && pack.unresolved.iter().all(|link| all.contains(&link.id)));
        if complete && self.tips.iter().all(|(_, id)| all.contains(id)) {
            return Ok(());
        }
        for missing in missing_from(self.tips.iter().cloned(), all, &|_| false)? {
            verified.find(missing.to_string());
        }
        Ok(())
    }
}
