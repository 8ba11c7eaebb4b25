//! What a target's tips are built on, for a source that has none of them.
//!
//! Commits that were made at the target are on top of some that both sides have. Those that are some commits below its
//! tips are asked about, deeper and deeper; no pack is read.

use std::collections::HashSet;

use gix::ObjectId;

use super::error::RemotesError;
use super::supply::{Supply, commits_at};
use crate::git::client::{Server, UploadPack};

/// How deep it is looked at first, in commits; then twice as deep each time.
const FIRST_DEPTH: u32 = 2;
/// How deep it is looked at last.
const LAST_DEPTH: u32 = 4_096;
/// Most tips whose histories are looked at.
const MAX_TIPS: usize = 256;

/// Commits that `tips` of the target are built on and that the source has: some, as near as they were found.
pub fn known_ancestors(
    target: &dyn Server,
    tips: &[ObjectId],
    supply: &mut dyn Supply,
) -> Result<HashSet<ObjectId>, RemotesError> {
    let mut upload = UploadPack::open(target)?;
    let wants: Vec<ObjectId> = tips.iter().copied().take(MAX_TIPS).collect();
    let mut depth = FIRST_DEPTH;
    while depth <= LAST_DEPTH && !wants.is_empty() {
        let ends = commits_at(&mut upload, &wants, depth)?;
        if ends.is_empty() {
            break;
        }
        let known = supply.known(&ends)?;
        if !known.is_empty() {
            return Ok(known);
        }
        depth *= 2;
    }
    Ok(HashSet::new())
}
