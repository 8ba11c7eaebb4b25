//! Finds objects that both sides have, which a fetch for the target leaves out.
//!
//! Objects that refs of both sides name, or that the source has confirmed before, cost nothing. A source that has none
//! of the old values of a batch is asked about all tips of the target, and then about their ancestors, since commits
//! that were made at the target are built on commits that both sides have. The depth of the ancestors doubles with each
//! request; no pack is read.

use std::collections::HashSet;

use gix::ObjectId;

use super::error::MirrorError;
use super::object_source::{ObjectSource, commits_at};
use super::plan::{Edit, TargetObjects};
use gitferry_git::client::{Server, UploadPack};
use gitferry_git::view::RefTable;

/// First depth below the target's tips, in commits. Doubles with each request.
const FIRST_DEPTH: u32 = 2;
/// Last depth, in commits.
const LAST_DEPTH: u32 = 4_096;
/// Most tips whose ancestors are asked about.
const MAX_TIPS: usize = 256;
/// Most tips of the target that a source is asked about.
pub(super) const MAX_TIPS_ASKED: usize = 8_192;

/// Haves of a fetch, and the way in which they were found.
#[derive(Debug)]
pub(super) struct Common {
    /// Objects to declare as haves.
    pub haves: Vec<ObjectId>,
    /// Objects that the source turned out to have although none of its refs names them.
    pub known: HashSet<ObjectId>,
    /// Kind of the common objects.
    pub found: Found,
}

/// Kind of objects that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None: the target is empty.
    Empty,
    /// Tips of the target.
    Tips,
    /// Ancestors of the target's tips, and their number.
    Ancestors(usize),
    /// None was found.
    Nothing,
}

/// Scope of a search.
pub(super) struct Search<'a> {
    /// Server of the target.
    pub target: &'a dyn Server,
    /// Objects that the target's refs name.
    pub target_objects: &'a TargetObjects<'a>,
    /// Objects that the target advertises as `.have`.
    pub extra: &'a [ObjectId],
    /// Refs of the source.
    pub source: &'a RefTable,
    /// Objects that the source is known to have although none of its refs names them.
    pub known: &'a HashSet<ObjectId>,
}

impl Search<'_> {
    /// Finds the haves for the fetch of these edits.
    pub fn run(&self, edits: &[Edit<'_>], object_source: &mut dyn ObjectSource) -> Result<Common, MirrorError> {
        let haves = self.target_objects.haves(edits, self.source, self.known);
        let is_common = |id: &ObjectId| self.source.names(id) || self.known.contains(id);
        let known = HashSet::new();
        if haves.iter().any(is_common) {
            return Ok(Common { haves, known, found: Found::Tips });
        }
        if self.target_objects.is_empty() {
            return Ok(Common { haves, known, found: Found::Empty });
        }
        let tips = self.tips();
        let known = object_source.known(&tips)?;
        let (known, found) = if !known.is_empty() {
            (known, Found::Tips)
        } else {
            let known = known_ancestors(self.target, &tips, object_source).unwrap_or_else(|error| {
                tracing::info!(%error, "cannot search for common ancestors of the target's tips");
                HashSet::new()
            });
            let found = if known.is_empty() { Found::Nothing } else { Found::Ancestors(known.len()) };
            (known, found)
        };
        let haves = known.iter().copied().chain(haves).collect();
        Ok(Common { haves, known, found })
    }

    /// Tips of the target, at most [`MAX_TIPS_ASKED`].
    pub fn tips(&self) -> Vec<ObjectId> {
        self.target_objects.iter().chain(self.extra.iter().copied()).take(MAX_TIPS_ASKED).collect()
    }
}

/// Finds ancestors of the target's `tips` that the source has, at the smallest depth that has any.
fn known_ancestors(
    target: &dyn Server,
    tips: &[ObjectId],
    object_source: &mut dyn ObjectSource,
) -> Result<HashSet<ObjectId>, MirrorError> {
    let mut upload = UploadPack::open(target)?;
    let wants: Vec<ObjectId> = tips.iter().copied().take(MAX_TIPS).collect();
    let mut depth = FIRST_DEPTH;
    while depth <= LAST_DEPTH && !wants.is_empty() {
        let ends = commits_at(&mut upload, &wants, depth)?;
        if ends.is_empty() {
            break;
        }
        let known = object_source.known(&ends)?;
        if !known.is_empty() {
            return Ok(known);
        }
        depth *= 2;
    }
    Ok(HashSet::new())
}
