//! Folding changes into a head: each is read in full, its hash and its place checked, and what it does
//! to the refs digest compared with what it says it does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::commit::{apply_change, blank_head};
use crate::git::lfs::LfsOid;
use crate::git::refs::RefValue;
use crate::ledger::LedgerError;
use crate::ledger::change::{ChangeHeader, ChangePack, LfsObject};
use crate::ledger::hash::{ChangeHash, RefsDigest};
use crate::ledger::head::{Epoch, Frontier, Head, RepositoryId, Role};
use crate::ledger::log::{ChangeRow, Log};

/// What a chain of changes makes of a head.
#[derive(Debug)]
pub struct Folded {
    /// The head after the last change.
    pub head: Head,
    /// All packs that came with the changes, in order.
    pub packs: Vec<ChangePack>,
    /// All LFS objects that the changes name.
    pub lfs: BTreeMap<LfsOid, LfsObject>,
    /// Ref edits in all.
    pub edits: u64,
}

/// Why changes do not fold.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A change does not fit the state before it.
    #[error("change {seq} does not fit the state before it: {reason}")]
    Misfit {
        /// Its number.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// It could not be read.
    #[error(transparent)]
    Ledger(LedgerError),
}

/// Folds `rows` onto `before`. Blocking.
pub fn fold(log: &Log, id: RepositoryId, before: Option<&Head>, rows: &[ChangeRow]) -> Result<Folded, FoldError> {
    let mut folder = Folder { head: before.cloned(), packs: Vec::new(), lfs: BTreeMap::new(), edits: 0 };
    for row in rows {
        let mut effect = Effect::default();
        let header = log
            .read(id, row, |_, edit| {
                effect.digest.edit(edit.name.as_bstr(), edit.old.as_ref(), edit.new.as_ref());
                effect.refs_added += i64::from(edit.old.is_none()) - i64::from(edit.new.is_none());
                effect.edits += 1;
            })
            .map_err(FoldError::Ledger)?;
        folder
            .apply(header, row.hash, row.facts.size, effect)
            .map_err(|reason| FoldError::Misfit { seq: row.facts.seq, reason })?;
    }
    match folder.head {
        Some(head) => Ok(Folded { head, packs: folder.packs, lfs: folder.lfs, edits: folder.edits }),
        None => Err(FoldError::Misfit { seq: 0, reason: "there is no first change".into() }),
    }
}

/// What a change's ref edits amount to.
struct Effect {
    digest: RefsDigest,
    refs_added: i64,
    edits: u64,
}

impl Default for Effect {
    fn default() -> Self {
        Effect { digest: RefsDigest::ZERO, refs_added: 0, edits: 0 }
    }
}

struct Folder {
    head: Option<Head>,
    packs: Vec<ChangePack>,
    lfs: BTreeMap<LfsOid, LfsObject>,
    edits: u64,
}

impl Folder {
    fn apply(&mut self, header: ChangeHeader, hash: ChangeHash, size: u64, effect: Effect) -> Result<(), String> {
        let first = self.head.is_none();
        let mut head = match self.head.take() {
            Some(head) => head,
            None => first_head(&header)?,
        };
        let Frontier { epoch, seq, hash: tip } = head.frontier;
        if header.seq != seq + 1 || header.prev != tip || header.epoch < epoch {
            return Err(format!("it does not follow change {seq} ({tip})"));
        }
        if header.format.is_some() != first {
            return Err("only a first change sets the object format".into());
        }
        let old_head: Option<&RefValue> = (!first).then_some(&head.head);
        let mut digest = head.refs_digest;
        for (byte, other) in digest.0.iter_mut().zip(effect.digest.0) {
            *byte ^= other;
        }
        if let Some(edit) = &header.head {
            if edit.old.as_ref() != old_head {
                return Err("it edits a HEAD that is not the one here".into());
            }
            digest.edit(b"HEAD", edit.old.as_ref(), Some(&edit.new));
        }
        if digest != header.digest {
            return Err(format!("the refs digest is {digest}, the change says {}", header.digest));
        }
        apply_change(&mut head, &header, hash, size, effect.refs_added);
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
}

/// The head that a first change starts from.
fn first_head(header: &ChangeHeader) -> Result<Head, String> {
    let (Some(name), Some(format), Some(_)) = (&header.name, header.format, &header.head) else {
        return Err("a first change sets name, object format and HEAD".into());
    };
    let mut head = blank_head(name.clone(), format, Role::Replica, header.region.clone(), header.time);
    head.epoch = Epoch { number: header.epoch, region: header.region.clone(), start: Frontier::ORIGIN };
    Ok(head)
}
