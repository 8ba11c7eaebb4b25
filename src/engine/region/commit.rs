//! Commits: a proposal becomes one change, and one conditional write makes the change visible.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::ledger::LedgerError;
use crate::ledger::advance::{Advance, advance_head};
use crate::ledger::change::{ChangeBody, ChangeHeader, EditSpool, HeadEdit, LfsObject, SealedChange};
use crate::ledger::hash::{ChangeHash, Lattice, RefsDigest, RefsHash};
use crate::ledger::head::{Epoch, Frontier, Head, HeadItem, RepositoryId, Role, State};
use crate::ledger::keys;
use crate::ledger::log::{LargeBody, row_of};
use crate::ledger::metadata::{Metadata, MetadataEdit};
use crate::ledger::refs::hash_refs;
use gitferry_base::checksum::file_crc64;
use gitferry_base::clock::Clock;
use gitferry_git::refname::check_repository_name;
use gitferry_git::refs::RefValue;
use gitferry_store::table::Write;

use super::claims::HeldPacks;
use super::manifest::{LivePack, MAX_PACKS};
use super::{Region, RegionError, Result, blocking, default_head};

/// Attempts to commit against concurrent writers; each attempt decides again on the newest state.
pub const MAX_COMMIT_ATTEMPTS: u32 = 16;

/// Attempts to apply one step to a newer manifest; each failure means that a consolidation or sweep came first.
pub const MAX_MANIFEST_ATTEMPTS: u32 = 16;

/// Content of a change that is yet to be sealed.
#[derive(Debug)]
pub struct Proposal {
    /// User, link or command in whose name the change is made.
    pub actor: String,
    /// New name, if the change renames the repository.
    pub name: Option<String>,
    /// New state, if the change sets one.
    pub state: Option<State>,
    /// New HEAD, if the change sets one.
    pub head: Option<RefValue>,
    /// Edit of the metadata.
    pub metadata: MetadataEdit,
    /// Ref edits, sorted by name.
    pub edits: EditSpool,
    /// Number of refs created minus number of refs deleted.
    pub refs_added: i64,
    /// Packs that come with the change; durable in this region's object store.
    pub packs: Vec<LivePack>,
    /// LFS objects that come with the change; held by this region (see [`super::lfs`]).
    pub lfs: Vec<LfsObject>,
}

/// The repository that a proposal applies to.
#[derive(Clone, Debug)]
pub enum Subject {
    /// An existing repository, at the head on which the proposal was decided.
    Existing(Box<HeadItem>),
    /// A repository that the change creates.
    New {
        /// Fresh id of the repository.
        id: RepositoryId,
        /// Name of the repository.
        name: String,
        /// Object format, SHA-1 or SHA-256.
        format: gix::hash::Kind,
    },
}

impl Subject {
    /// Returns the id of the repository.
    pub fn id(&self) -> RepositoryId {
        match self {
            Subject::Existing(item) => item.id,
            Subject::New { id, .. } => *id,
        }
    }
}

/// Commits changes to repositories that this region may write.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    region: &'a Region,
}

impl Region {
    /// Returns the committer of this region.
    pub fn committer(&self) -> Committer<'_> {
        Committer { region: self }
    }
}

impl Committer<'_> {
    /// Refuses local writes to replicas, to frozen or deleted repositories, and to regions whose stores were rolled back.
    pub fn check_writable(self, item: &HeadItem) -> Result<()> {
        let head = &item.head;
        let name = head.name.clone();
        let region = self.region.name().to_owned();
        self.check_not_rolled_back(&name)?;
        if head.role == Role::Replica {
            return Err(RegionError::Replica { name, region, primary: head.epoch.region.clone() });
        }
        if head.state != State::Active {
            return Err(RegionError::NotActive { name, region, state: head.state });
        }
        Ok(())
    }

    /// Refuses changes while replicas have changes that this region lacks, or while the stores are not those that were
    /// opened: a second history would begin.
    fn check_not_rolled_back(self, repository: &str) -> Result<()> {
        match self.region.rolled_back().cloned().or_else(|| self.region.standing().wrong()) {
            None => Ok(()),
            Some(reason) => Err(RegionError::Refused { repository: repository.into(), reason: reason.to_string() }),
        }
    }

    /// Returns an empty spool for ref edits.
    pub fn edit_spool(self) -> EditSpool {
        EditSpool::new(self.region.spool_dir())
    }

    /// Returns the subject for a repository to be created, under a fresh id.
    pub fn new_subject(self, name: &str, format: gix::hash::Kind) -> Result<Subject> {
        check_repository_name(name)?;
        Ok(Subject::New { id: RepositoryId(self.region.clock().new_id()), name: name.into(), format })
    }

    /// Returns a proposal without any effect, to be filled in.
    pub fn proposal(self, actor: &str) -> Proposal {
        Proposal {
            actor: actor.into(),
            name: None,
            state: None,
            head: None,
            metadata: MetadataEdit::default(),
            edits: self.edit_spool(),
            refs_added: 0,
            packs: Vec::new(),
            lfs: Vec::new(),
        }
    }

    /// Returns the hash of all refs and HEAD before the next change. If the last change is of format 1, the hash is
    /// computed once from the log.
    async fn refs_before(self, item: Option<&HeadItem>) -> Result<Lattice> {
        let Some(item) = item else { return Ok(Lattice::default()) };
        if let RefsHash::Lattice(lattice) = &item.head.refs_hash {
            return Ok(lattice.clone());
        }
        let log = self.region.log();
        let id = item.id;
        let head = item.head.clone();
        let hashed = blocking(move || Ok::<_, RegionError>(hash_refs(&log, id, &head)?)).await;
        hashed.map(|hash| hash.lattice).map_err(|error| error.locate(self.region.name(), &item.head.name))
    }

    /// Commits a proposal as one change.
    ///
    /// # Errors
    /// [`LedgerError::Lost`] if another writer moved the head first: read the state again and decide again.
    pub async fn commit(self, subject: &Subject, proposal: Proposal) -> Result<HeadItem> {
        let id = subject.id();
        let before = match subject {
            Subject::Existing(item) => Some((**item).clone()),
            Subject::New { .. } => None,
        };
        if let Subject::New { name, .. } = subject {
            self.check_not_rolled_back(name)?;
        }
        check_metadata(subject, &proposal.metadata)?;
        let header = self.header(subject, &proposal);
        let Proposal { edits, packs, refs_added, .. } = proposal;
        let refs = self.refs_before(before.as_ref()).await?;
        let sealed = blocking(move || {
            edits.seal(header, refs).map_err(|error| RegionError::Ledger(LedgerError::corrupt(error.to_string())))
        })
        .await?;
        let mut after = match &before {
            None => self.first_head(subject),
            Some(item) => item.head.clone(),
        };
        let refs = RefsHash::Lattice(sealed.refs.clone());
        apply_change(&mut after, &sealed.header, (sealed.hash, sealed.size), refs, refs_added);
        let (sealed, body) = self.put_large_body(id, sealed).await?;
        let row = row_of(id, &sealed, body);
        gitferry_base::fault::crash_point("commit-before-head");
        let item = self.commit_with_packs(id, before, after, &packs, row).await?;
        gitferry_base::fault::crash_point("commit-after-head");
        Ok(item)
    }

    /// Moves the head and adds packs to the current manifest. If only a consolidation or a sweep's claim came first,
    /// the step is applied to the newer manifest; nothing is decided or proven again.
    async fn commit_with_packs(
        self,
        id: RepositoryId,
        before: Option<HeadItem>,
        after: Head,
        packs: &[LivePack],
        row: Write,
    ) -> Result<HeadItem> {
        let mut attempt = 1;
        loop {
            let mut after = after.clone();
            let mut with = vec![row.clone()];
            let mut manifest = None;
            if !packs.is_empty() {
                let held = self.region.claims().held_packs(id, before.as_ref(), &after.name).await?;
                with.push(self.region.claims().admit_uploads(&held, &after.name, packs).await?);
                manifest = Some(manifest_with(id, &held, packs.to_vec(), &mut after)?);
            }
            let step = Advance { id, before: before.clone(), after, manifest, with };
            match advance_head(self.region.table(), step).await {
                Ok(item) => return Ok(item),
                Err(LedgerError::NameTaken { name }) => {
                    return Err(RegionError::NameTaken { name, region: self.region.name().to_owned() });
                }
                Err(LedgerError::ManifestMoved { .. }) if attempt < MAX_MANIFEST_ATTEMPTS => attempt += 1,
                Err(LedgerError::ManifestMoved { id }) => return Err(LedgerError::Lost { id }.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn header(self, subject: &Subject, proposal: &Proposal) -> ChangeHeader {
        let mut header = ChangeHeader {
            epoch: 1,
            region: self.region.name().to_owned(),
            seq: 1,
            prev: Frontier::ORIGIN.hash,
            time: self.region.clock().now(),
            actor: proposal.actor.clone(),
            name: proposal.name.clone(),
            format: None,
            state: proposal.state,
            head: None,
            metadata: proposal.metadata.clone(),
            packs: proposal.packs.iter().map(LivePack::to_change).collect(),
            lfs: sorted(&proposal.lfs),
            digest: RefsDigest::default(),
            edits: 0,
        };
        match subject {
            Subject::New { name, format, .. } => {
                header.name = Some(name.clone());
                header.format = Some(*format);
                header.state = Some(State::Active);
                header.head = Some(HeadEdit { old: None, new: proposal.head.clone().unwrap_or_else(default_head) });
            }
            Subject::Existing(item) => {
                let head = &item.head;
                header.epoch = head.epoch.number;
                header.seq = head.frontier.seq + 1;
                header.prev = head.frontier.hash;
                let new = proposal.head.clone().filter(|new| *new != head.head);
                header.head = new.map(|new| HeadEdit { old: Some(head.head.clone()), new });
            }
        }
        header
    }

    fn first_head(self, subject: &Subject) -> Head {
        let (name, format) = match subject {
            Subject::New { name, format, .. } => (name.clone(), *format),
            Subject::Existing(item) => (item.head.name.clone(), item.head.format),
        };
        blank_head(name, format, Role::Primary, self.region.name().to_owned(), self.region.clock().now())
    }

    /// Stores a change that exceeds its table row in the object store; smaller ones pass through.
    async fn put_large_body(
        self,
        id: RepositoryId,
        mut sealed: SealedChange,
    ) -> Result<(SealedChange, Option<LargeBody>)> {
        let file = match sealed.body {
            ChangeBody::Inline(_) => return Ok((sealed, None)),
            ChangeBody::Spooled(file) => file,
        };
        sealed.body = ChangeBody::Inline(bytes::Bytes::new());
        let (file, crc64) = blocking(move || {
            let crc64 = file_crc64(&file)?;
            Ok::<_, RegionError>((file, crc64))
        })
        .await?;
        let key = keys::large_change(id, sealed.header.seq, sealed.hash);
        self.region.uploads().put_named_by_content(&key, file, "change", sealed.size, crc64).await?;
        Ok((sealed, Some(LargeBody { key, crc64 })))
    }
}

/// Refuses metadata that would exceed a limit.
fn check_metadata(subject: &Subject, edit: &MetadataEdit) -> Result<()> {
    let (mut metadata, name) = match subject {
        Subject::Existing(item) => (item.head.metadata.clone(), &item.head.name),
        Subject::New { name, .. } => (Metadata::default(), name),
    };
    metadata.apply(edit).map_err(|reason| RegionError::Refused { repository: name.clone(), reason })
}

/// Returns the head of a repository before its first change.
pub fn blank_head(name: String, format: gix::hash::Kind, role: Role, region: String, now: jiff::Timestamp) -> Head {
    Head {
        name,
        named: true,
        format,
        state: State::Active,
        deleted: None,
        role,
        fed_by: None,
        epoch: Epoch { number: 1, region, start: Frontier::ORIGIN },
        frontier: Frontier::ORIGIN,
        time: now,
        refs_hash: RefsHash::default(),
        refs: 0,
        head: default_head(),
        metadata: Metadata::default(),
        manifest: 0,
        snapshot: None,
        log_bytes: 0,
        floor: 0,
    }
}

/// Applies a change with this hash and size in bytes to a head: at the origin and at each replica alike. `refs_hash` is
/// the hash of all refs and HEAD after the change.
pub fn apply_change(
    head: &mut Head,
    header: &ChangeHeader,
    (hash, size): (ChangeHash, u64),
    refs_hash: RefsHash,
    refs_added: i64,
) {
    assert!(
        header.prev == head.frontier.hash && header.seq == head.frontier.seq.wrapping_add(1),
        "change {} extends state {}",
        header.seq,
        head.frontier
    );
    assert!(
        header.epoch >= head.frontier.epoch,
        "change {} is of the epoch of {} or a later one",
        header.seq,
        head.frontier
    );
    assert!(
        refs_hash.digest() == header.digest,
        "the refs after change {} have the digest {} that it was sealed with",
        header.seq,
        header.digest
    );
    if let Some(name) = &header.name {
        head.name = name.clone();
    }
    if let Some(state) = header.state {
        head.state = state;
        head.deleted = (state == State::Deleted).then_some(header.time);
        if state == State::Deleted {
            head.named = false;
        }
    }
    if let Some(edit) = &header.head {
        head.head = edit.new.clone();
    }
    let applied = head.metadata.apply(&header.metadata);
    assert!(applied.is_ok(), "the metadata after change {} keep the limits: {applied:?}", header.seq);
    head.frontier = Frontier { epoch: header.epoch, seq: header.seq, hash };
    head.time = header.time;
    head.refs_hash = refs_hash;
    head.refs = head.refs.saturating_add_signed(refs_added);
    head.log_bytes = head.log_bytes.saturating_add(size);
}

fn sorted(objects: &[LfsObject]) -> Vec<LfsObject> {
    let mut objects = objects.to_vec();
    objects.sort_unstable_by_key(|object| object.oid);
    objects.dedup_by_key(|object| object.oid);
    objects
}

/// Returns the document of the manifest with more packs and the revision that it replaces, ready for [`Advance`], and
/// sets the generation of `after`.
///
/// # Errors
/// [`RegionError::Full`] if the manifest would list more than [`MAX_PACKS`] packs. [`LedgerError::Internal`] if a
/// pack's key belongs to another repository, whose sweep would delete the pack.
pub fn manifest_with(
    id: RepositoryId,
    held: &HeldPacks,
    packs: Vec<LivePack>,
    after: &mut Head,
) -> Result<(serde_json::Value, u64)> {
    for pack in &packs {
        if keys::parse_pack(&pack.key).is_none_or(|(of, ..)| of != id) {
            let reason = format!("{} is not the key of a pack of repository {id}", pack.key);
            return Err(LedgerError::Internal(reason).into());
        }
    }
    let listed = held.manifest.packs.len() as u64;
    let manifest = held.manifest.with(packs);
    debug_assert!(manifest.generation > held.manifest.generation, "the generation of a manifest rises with each write");
    if manifest.packs.len() > MAX_PACKS {
        return Err(RegionError::Full { repository: after.name.clone(), packs: listed });
    }
    after.manifest = manifest.generation;
    Ok((serde_json::to_value(&manifest).map_err(std::io::Error::from)?, held.revision))
}

/// Waits for a random time up to 2 ms × `attempt`, at most `longest`, so that writers that lost together come back
/// apart.
pub(super) async fn back_off(clock: &dyn Clock, attempt: u32, longest: Duration) {
    let longest = Duration::from_millis(2).saturating_mul(attempt).min(longest);
    let random = u32::from(clock.new_id().as_bytes()[15]) + 1;
    tokio::time::sleep(longest * random / 256).await;
}
