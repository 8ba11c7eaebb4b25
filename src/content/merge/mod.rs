//! Three-way merges of commits, as `git merge-tree` makes them.
//!
//! `trees` walks the three trees, merges files (`blobs`) and follows renames (`renames`); several merge bases are merged
//! first, as Git's `ort` does (`bases`). [`mod@conflict`] says what is in conflict, [`mod@resolve`] makes a tree of a merge with conflicts.

mod bases;
mod blobs;
pub mod conflict;
mod renames;
pub mod resolve;
mod trees;

use gix::ObjectId;

use crate::ancestry::{is_ancestor, merge_bases};
use crate::error::ContentError;
use crate::reader::Reader;
pub use blobs::Level;
use blobs::Policy;
pub use conflict::Conflict;
pub use renames::Renaming;
use trees::merge_trees;

/// Kind of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeOption {
    /// The destination moves to the source.
    FastForward,
    /// One commit on top of the destination.
    Squash,
    /// A commit with both as parents.
    ThreeWay,
}

/// Merge of two commits.
#[derive(Clone, Debug)]
pub struct Merge {
    /// Commit that the source is merged into.
    pub destination: ObjectId,
    /// Commit that is merged.
    pub source: ObjectId,
    /// Newest of the best common ancestors; `None` if the histories are unrelated.
    pub base: Option<ObjectId>,
    /// Unit of conflicts.
    pub level: Level,
    /// Conflicts, in the order of paths.
    pub conflicts: Vec<Conflict>,
    /// Tree with all changes but those in conflict.
    partial: ObjectId,
}

impl Merge {
    /// Tree of the merge; `None` while there are conflicts.
    pub fn tree(&self) -> Option<ObjectId> {
        self.conflicts.is_empty().then_some(self.partial)
    }

    /// Parents of the commit that the merge makes; `None` for a fast-forward, which makes none.
    pub fn parents(&self, option: MergeOption) -> Option<Vec<ObjectId>> {
        match option {
            MergeOption::FastForward => None,
            MergeOption::Squash => Some(vec![self.destination]),
            MergeOption::ThreeWay => Some(vec![self.destination, self.source]),
        }
    }
}

/// Returns true if the destination can move to the source without a merge.
pub fn is_fast_forward(reader: &mut Reader<'_>, destination: ObjectId, source: ObjectId) -> Result<bool, ContentError> {
    is_ancestor(reader, destination, source)
}

/// Merges a source into a destination. The reader has the new objects.
pub fn merge(
    reader: &mut Reader<'_>,
    destination: ObjectId,
    source: ObjectId,
    level: Level,
    renaming: Renaming,
) -> Result<Merge, ContentError> {
    let found = merge_bases(reader, destination, source)?;
    let base = bases::tree_of(reader, renaming, &found)?;
    let ours = reader.commit(&destination)?.tree;
    let theirs = reader.commit(&source)?.tree;
    let merged = merge_trees(reader, Policy::Report(level), renaming, [base, ours, theirs])?;
    Ok(Merge {
        destination,
        source,
        base: found.first().copied(),
        level,
        conflicts: merged.conflicts,
        partial: merged.tree,
    })
}
