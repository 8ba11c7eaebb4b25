//! What a pass between two servers came to.

use gix::bstr::BStr;
use serde::Serialize;

use gitferry_git::lfs::Pointer;

/// Most refs of one repository about which something is told; the rest is counted.
pub const MAX_NOTES: usize = 1_000;

/// Most remarks about one repository.
const MAX_REMARKS: usize = 20;

/// What became of a ref that is not simply as it is at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It cannot be a ref of the target.
    Invalid,
    /// Somebody else has moved it at the target, and it stays as it is.
    Diverged,
    /// What it named at the target is kept under another name.
    Preserved,
    /// The target refused it.
    Refused,
    /// It stays until the target's `HEAD` names another branch.
    Pending,
}

/// Something to tell about one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefNote {
    /// The ref; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
}

/// Something to tell about some refs, bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// The first of them.
    pub refs: Vec<RefNote>,
    /// How many more there are.
    pub more: u64,
}

impl Notes {
    /// Adds one.
    pub fn add(&mut self, name: &BStr, outcome: Outcome, reason: impl Into<String>) {
        match self.refs.len() < MAX_NOTES {
            true => self.refs.push(RefNote { name: name.to_string(), outcome, reason: reason.into() }),
            false => self.more += 1,
        }
    }

    /// Adds those of another.
    pub fn append(&mut self, other: Notes) {
        let room = MAX_NOTES - self.refs.len().min(MAX_NOTES);
        self.more += other.more + other.refs.len().saturating_sub(room) as u64;
        self.refs.extend(other.refs.into_iter().take(room));
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.refs.is_empty() && self.more == 0
    }

    /// Whether something of this kind is told.
    pub fn has(&self, outcome: Outcome) -> bool {
        self.refs.iter().any(|note| note.outcome == outcome)
    }
}

/// What a pass did for one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// Refs that were made at the target.
    pub created: u64,
    /// Refs that were moved.
    pub updated: u64,
    /// Refs that were deleted.
    pub deleted: u64,
    /// Diverged tips that were kept under `refs/gitferry/diverged/`.
    pub preserved: u64,
    /// Refs that the target refused.
    pub refused: u64,
    /// Refs that were as they are at the source.
    pub equal: u64,
    /// What the target's `HEAD` was made to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// Packs that flowed from the source to the target.
    pub packs: u64,
    /// Objects in them.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of packs that were fetched into a region on the way.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_via: u64,
    /// Objects of Git LFS that were brought to the target.
    pub lfs_objects: u64,
    /// Their bytes.
    pub lfs_bytes: u64,
    /// LFS objects that the source lacks, where the pass went on without them: how many, and some of them.
    #[serde(skip)]
    pub lfs_missing: (u64, Vec<Pointer>),
    /// What was out of the ordinary about the way, for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What there is to tell about single refs.
    #[serde(skip_serializing_if = "Notes::is_empty")]
    pub notes: Notes,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Carried {
    /// What single refs and the number of refused ones are told about belongs to the last attempt; what was kept has
    /// been kept.
    pub fn begin_attempt(&mut self) {
        self.refused = 0;
        self.lfs_missing = (0, Vec::new());
        self.notes.refs.retain(|note| note.outcome == Outcome::Preserved);
        self.notes.more = 0;
    }

    /// Says once what is out of the ordinary.
    pub fn remark(&mut self, text: &str) {
        if self.remarks.len() < MAX_REMARKS && !self.remarks.iter().any(|remark| remark == text) {
            self.remarks.push(text.into());
        }
    }

    /// Refs that were changed at the target, kept tips not counted.
    pub fn edits(&self) -> u64 {
        self.created + self.updated + self.deleted
    }

    /// Whether anything at the target is another than before.
    pub fn has_changed(&self) -> bool {
        self.edits() + self.preserved + self.lfs_objects > 0 || self.head.is_some()
    }

    /// Whether nothing at the target is another than before, and there is nothing to tell.
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
            notes.add(BStr::new(&format!("refs/{n}")), Outcome::Refused, "no");
        }
        assert_eq!((notes.refs.len(), notes.more), (MAX_NOTES, 5));
        let mut all = Notes::default();
        all.add("refs/x".into(), Outcome::Pending, "later");
        all.append(notes);
        assert_eq!((all.refs.len(), all.more), (MAX_NOTES, 6));
        assert!(all.has(Outcome::Pending) && all.has(Outcome::Refused) && !all.has(Outcome::Invalid));
    }
}
