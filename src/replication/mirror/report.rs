//! Report on a pass over one repository.

use gix::bstr::BStr;
use serde::Serialize;

use gitferry_git::lfs::Pointer;

/// Most notes on single refs of one repository; further ones are only counted.
pub const MAX_NOTES: usize = 1_000;

/// Most remarks on one repository.
const MAX_REMARKS: usize = 20;

/// Result for a ref that did not simply become equal to the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoteKind {
    /// The target cannot have such a ref.
    Invalid,
    /// Another client has moved the ref at the target, and it stays as it is.
    Diverged,
    /// The ref was overwritten, and its old value is kept under another name.
    Preserved,
    /// The target refused the change.
    Refused,
    /// The ref keeps its value until a condition is met, which the reason names.
    Pending,
}

/// Note on one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefNote {
    /// Name of the ref; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Result for the ref.
    pub outcome: NoteKind,
    /// Reason, for people.
    pub reason: String,
}

/// Notes on refs, at most [`MAX_NOTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// First notes.
    pub refs: Vec<RefNote>,
    /// Number of further notes.
    pub more: u64,
}

impl Notes {
    /// Adds a note.
    pub fn add(&mut self, name: &BStr, outcome: NoteKind, reason: impl Into<String>) {
        if self.refs.len() < MAX_NOTES {
            self.refs.push(RefNote { name: name.to_string(), outcome, reason: reason.into() })
        } else {
            self.more += 1
        }
    }

    /// Adds all notes of `other`.
    pub fn append(&mut self, other: Notes) {
        let room = MAX_NOTES - self.refs.len().min(MAX_NOTES);
        self.more += other.more + other.refs.len().saturating_sub(room) as u64;
        self.refs.extend(other.refs.into_iter().take(room));
    }

    /// Returns true if there are no notes.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.more == 0
    }

    /// Returns true if a ref had this result.
    pub fn has(&self, outcome: NoteKind) -> bool {
        self.refs.iter().any(|note| note.outcome == outcome)
    }
}

/// Outcome of a pass over one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MirrorOutcome {
    /// Refs created at the target.
    pub created: u64,
    /// Refs updated.
    pub updated: u64,
    /// Refs deleted.
    pub deleted: u64,
    /// Diverged tips kept under `refs/gitferry/diverged/`.
    pub preserved: u64,
    /// Refs that the target refused.
    pub refused: u64,
    /// Refs that were equal before the pass.
    pub equal: u64,
    /// Branch that the target's `HEAD` was set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Packs that flowed from the source to the target.
    pub packs: u64,
    /// Objects in these packs.
    pub objects: u64,
    /// Bytes of these packs.
    pub bytes: u64,
    /// Bytes of packs that were fetched into a region on the way.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_via: u64,
    /// LFS objects transferred to the target.
    pub lfs_objects: u64,
    /// Bytes of these LFS objects.
    pub lfs_bytes: u64,
    /// LFS objects that the source lacks, where the pass went on without them: their number, and the first of them.
    #[serde(skip)]
    pub lfs_missing: (u64, Vec<Pointer>),
    /// Remarks about the way that the pass took, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Notes on single refs.
    #[serde(skip_serializing_if = "Notes::is_empty")]
    pub notes: Notes,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl MirrorOutcome {
    /// Clears what belongs to a single attempt: notes, refusals and missing LFS objects. Counters and notes of
    /// preserved tips stay.
    pub fn begin_attempt(&mut self) {
        self.refused = 0;
        self.lfs_missing = (0, Vec::new());
        self.notes.refs.retain(|note| note.outcome == NoteKind::Preserved);
        self.notes.more = 0;
    }

    /// Adds a remark, once.
    pub fn remark(&mut self, text: &str) {
        if self.remarks.len() < MAX_REMARKS && !self.remarks.iter().any(|remark| remark == text) {
            self.remarks.push(text.into());
        }
    }

    /// Refs changed at the target, preserved tips not counted.
    pub fn edits(&self) -> u64 {
        self.created + self.updated + self.deleted
    }

    /// Returns true if the target has changed.
    pub fn has_changed(&self) -> bool {
        self.edits() + self.preserved + self.lfs_objects > 0 || self.head.is_some()
    }

    /// Returns true if nothing has changed and there is nothing to report.
    pub fn is_nothing(&self) -> bool {
        !self.has_changed() && self.refused == 0 && self.notes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded() {
        let mut notes = Notes::default();
        for n in 0..MAX_NOTES + 5 {
            notes.add(BStr::new(&format!("refs/{n}")), NoteKind::Refused, "no");
        }
        assert_eq!((notes.refs.len(), notes.more), (MAX_NOTES, 5));
        let mut all = Notes::default();
        all.add("refs/x".into(), NoteKind::Pending, "later");
        all.append(notes);
        assert_eq!((all.refs.len(), all.more), (MAX_NOTES, 6));
        assert!(all.has(NoteKind::Pending) && all.has(NoteKind::Refused) && !all.has(NoteKind::Invalid));
    }
}
