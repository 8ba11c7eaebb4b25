//! Folding changes into a head: each change is read in full, its hash and place are checked, and its effect on the hash
//! of all refs is compared with the digest that it records.
//!
//! The first change of format 2 behind one of format 1 introduces the hash that cannot be forged: each region computes
//! it from its own refs, and the change fits only if its author computed the same.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::commit::{apply_change, blank_head};
use crate::ledger::LedgerError;
use crate::ledger::change::{ChangeHeader, ChangePack, LfsObject};
use crate::ledger::hash::{ChangeHash, HashedRefs, Lattice, RefsDigest, RefsHash, Xor};
use crate::ledger::head::{Epoch, Frontier, Head, RepositoryId, Role};
use crate::ledger::log::{ChangeRow, Log};
use crate::ledger::refs::hash_refs;
use gitferry_git::lfs::LfsOid;
use gitferry_git::refs::RefValue;

/// Result of folding a chain of changes.
#[derive(Debug)]
pub struct Folded {
    /// Head after the last change.
    pub head: Head,
    /// Packs that came with the changes, in order.
    pub packs: Vec<ChangePack>,
    /// LFS objects that the changes name.
    pub lfs: BTreeMap<LfsOid, LfsObject>,
    /// Number of ref edits in all changes.
    pub edits: u64,
    /// Lattice hash of all refs and HEAD after the last change. `None` if the fold began at a head with an XOR hash and
    /// none of the changes is of format 2.
    pub refs: Option<Lattice>,
}

/// State onto which changes are folded.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Head of the state.
    pub head: &'a Head,
    /// Log from which the refs of the state are read, if needed.
    pub log: &'a Log,
}

/// Folding a chain of changes failed.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A change does not fit the state before it.
    #[error("change {seq} does not fit the state before it: {reason}")]
    Misfit {
        /// Sequence number of the change.
        seq: u64,
        /// The rule that the change breaks.
        reason: String,
    },
    /// A change could not be read.
    #[error(transparent)]
    Ledger(LedgerError),
    /// The refs of the state before could not be read.
    #[error(transparent)]
    Before(LedgerError),
}

/// Folds `rows`, read from `log`, onto `before`, or onto an empty ledger if `before` is `None`. Blocking.
pub fn fold(log: &Log, id: RepositoryId, before: Option<Before<'_>>, rows: &[ChangeRow]) -> Result<Folded, FoldError> {
    let mut folder = Folder::new(id, before);
    for row in rows {
        let mut effect = Effect::default();
        let header = log
            .read(id, row, |_, edit| {
                effect.refs.edit(edit.name.as_bstr(), edit.old.as_ref(), edit.new.as_ref());
                effect.refs_added += i64::from(edit.old.is_none()) - i64::from(edit.new.is_none());
                effect.edits += 1;
            })
            .map_err(FoldError::Ledger)?;
        folder.apply(header, row, effect)?;
    }
    let refs = folder.is_whole.then_some(folder.refs);
    match folder.head {
        Some(head) => Ok(Folded { head, packs: folder.packs, lfs: folder.lfs, edits: folder.edits, refs }),
        None => Err(FoldError::Misfit { seq: 0, reason: "there is no first change".into() }),
    }
}

/// Sum of a change's ref edits.
#[derive(Default)]
struct Effect {
    refs: HashedRefs,
    refs_added: i64,
    edits: u64,
}

struct Folder<'a> {
    id: RepositoryId,
    before: Option<Before<'a>>,
    head: Option<Head>,
    packs: Vec<ChangePack>,
    lfs: BTreeMap<LfsOid, LfsObject>,
    edits: u64,
    /// Hash of all refs if `is_whole`, otherwise of the edits so far.
    refs: Lattice,
    is_whole: bool,
}

impl<'a> Folder<'a> {
    fn new(id: RepositoryId, before: Option<Before<'a>>) -> Self {
        let head = before.map(|before| before.head);
        let (refs, is_whole) = match head.map(|head| &head.refs_hash) {
            None => (Lattice::default(), true),
            Some(RefsHash::Lattice(refs)) => (refs.clone(), true),
            Some(RefsHash::Xor(_)) => (Lattice::default(), false),
        };
        Folder { id, before, head: head.cloned(), packs: Vec::new(), lfs: BTreeMap::new(), edits: 0, refs, is_whole }
    }

    fn apply(&mut self, header: ChangeHeader, row: &ChangeRow, effect: Effect) -> Result<(), FoldError> {
        if matches!(header.digest, RefsDigest::Lattice(_)) && !self.is_whole {
            self.read_before()?;
        }
        let step = self.step(header, (row.hash, row.facts.size), effect);
        step.map_err(|reason| FoldError::Misfit { seq: row.facts.seq, reason })
    }

    /// Adds the refs of the state before the changes.
    fn read_before(&mut self) -> Result<(), FoldError> {
        if let Some(Before { head, log }) = self.before {
            let hash = hash_refs(log, self.id, head).map_err(FoldError::Before)?;
            self.refs.add(&hash.lattice);
            self.is_whole = true;
        }
        Ok(())
    }

    fn step(&mut self, header: ChangeHeader, (hash, size): (ChangeHash, u64), effect: Effect) -> Result<(), String> {
        let first = self.head.is_none();
        let mut head = match self.head.take() {
            Some(head) => head,
            None => first_head(&header)?,
        };
        let Frontier { epoch, seq, hash: tip } = head.frontier;
        if Some(header.seq) != seq.checked_add(1) || header.prev != tip || header.epoch < epoch {
            return Err(format!("it does not follow change {seq} ({tip})"));
        }
        if header.epoch == u64::MAX {
            return Err("its epoch is the highest number there is".into());
        }
        if header.format.is_some() != first {
            return Err("only a first change sets the object format".into());
        }
        let old_head: Option<&RefValue> = (!first).then_some(&head.head);
        let mut refs = effect.refs;
        if let Some(edit) = &header.head {
            if edit.old.as_ref() != old_head {
                return Err("the old value of HEAD is not that of the state before".into());
            }
            refs.edit(b"HEAD", edit.old.as_ref(), Some(&edit.new));
        }
        head.metadata.clone().apply(&header.metadata)?;
        self.refs.add(&refs.lattice);
        let refs = self.refs_after(&head.refs_hash, &refs, header.digest)?;
        apply_change(&mut head, &header, (hash, size), refs, effect.refs_added);
        self.edits += effect.edits;
        self.packs.extend(header.packs);
        for object in header.lfs {
            let first = *self.lfs.entry(object.oid).or_insert(object);
            if first != object {
                return Err(format!("LFS object {} has another size or checksum than before", object.oid));
            }
        }
        self.head = Some(head);
        Ok(())
    }

    /// Returns the hash of all refs after `edits`, of the kind of the recorded digest. Fails if it differs from the
    /// recorded digest.
    fn refs_after(&self, before: &RefsHash, edits: &HashedRefs, said: RefsDigest) -> Result<RefsHash, String> {
        let after = match (before, said) {
            (RefsHash::Xor(xor), RefsDigest::Xor(_)) => {
                let mut xor = *xor;
                xor.add(&edits.xor);
                RefsHash::Xor(xor)
            }
            (RefsHash::Lattice(_), RefsDigest::Xor(_)) => {
                return Err("it is of format 1, behind a change of format 2".into());
            }
            (_, RefsDigest::Lattice(_)) => RefsHash::Lattice(self.refs.clone()),
        };
        let digest = after.digest();
        if digest == said { Ok(after) } else { Err(format!("the refs digest is {digest}, the change says {said}")) }
    }
}

/// Returns the head from which a first change starts.
fn first_head(header: &ChangeHeader) -> Result<Head, String> {
    let (Some(name), Some(format), Some(_)) = (&header.name, header.format, &header.head) else {
        return Err("a first change sets name, object format and HEAD".into());
    };
    let mut head = blank_head(name.clone(), format, Role::Replica, header.region.clone(), header.time);
    if matches!(header.digest, RefsDigest::Xor(_)) {
        head.refs_hash = RefsHash::Xor(Xor::default());
    }
    head.epoch = Epoch { number: header.epoch, region: header.region.clone(), start: Frontier::ORIGIN };
    Ok(head)
}
