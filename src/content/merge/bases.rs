//! The base of a merge: the tree of the merge base, or a merge of all merge bases.

use gix::ObjectId;

use super::blobs::Policy;
use super::renames::Renaming;
use super::trees::merge_trees;
use crate::ancestry::bases_of;
use crate::error::ContentError;
use crate::limits::{Bound, MAX_VIRTUAL_DEPTH, MAX_VIRTUAL_MERGES};
use crate::reader::Reader;

/// Returns the base tree of a merge whose merge bases are `bases`, newest first; the empty tree if there are none.
pub(super) fn tree_of(
    reader: &mut Reader<'_>,
    renaming: Renaming,
    bases: &[ObjectId],
) -> Result<ObjectId, ContentError> {
    let mut merges_left = MAX_VIRTUAL_MERGES;
    base_tree(reader, renaming, bases, 0, &mut merges_left)
}

/// Recursion ends at [`MAX_VIRTUAL_DEPTH`].
fn base_tree(
    reader: &mut Reader<'_>,
    renaming: Renaming,
    bases: &[ObjectId],
    depth: usize,
    merges_left: &mut u64,
) -> Result<ObjectId, ContentError> {
    // Git merges the oldest first.
    let mut bases = bases.iter().rev();
    let Some(first) = bases.next() else { return Ok(ObjectId::empty_tree(reader.format())) };
    let mut tree = reader.commit(first)?.tree;
    // A merge of bases stands for a commit with these parents.
    let mut merged = vec![*first];
    for next in bases {
        let depth = depth + 1;
        *merges_left = merges_left.checked_sub(1).ok_or(ContentError::Limit(Bound::VirtualMerges))?;
        if depth > MAX_VIRTUAL_DEPTH {
            return Err(ContentError::Limit(Bound::VirtualMerges));
        }
        let inner = bases_of(reader, &merged, &[*next])?;
        let base = base_tree(reader, renaming, &inner, depth, merges_left)?;
        let theirs = reader.commit(next)?.tree;
        tree = merge_trees(reader, Policy::Virtual { depth }, renaming, [base, tree, theirs])?.tree;
        merged.push(*next);
    }
    Ok(tree)
}
