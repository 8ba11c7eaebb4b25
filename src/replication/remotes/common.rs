//! What of a target's objects a source has: that is what a fetch for the target may leave out.
//!
//! What both sides name, or the source has been asked about, costs nothing more. A source that has nothing of what moves
//! is asked about all of the target's tips, and then about what these are built on: commits that were made at the target
//! are on top of some that both sides have. Those that are some commits below its tips are asked about, deeper and deeper;
//! no pack is read.

use std::collections::HashSet;

use gix::ObjectId;

use super::error::RemotesError;
use super::plan::{Edit, Held};
use super::supply::{Supply, commits_at};
use gitferry_git::client::{Server, UploadPack};
use gitferry_git::view::RefTable;

/// How deep it is looked at first, in commits; then twice as deep each time.
const FIRST_DEPTH: u32 = 2;
/// How deep it is looked at last.
const LAST_DEPTH: u32 = 4_096;
/// Most tips whose histories are looked at.
const MAX_TIPS: usize = 256;
/// Most tips of the target that a source is asked about when it has none of those that move.
pub(super) const MAX_TIPS_ASKED: usize = 8_192;

/// What the source has of the target's, and how that was found.
#[derive(Debug)]
pub(super) struct Common {
    /// What a fetch says that the target has.
    pub haves: Vec<ObjectId>,
    /// What the source has turned out to have although it does not name it.
    pub known: HashSet<ObjectId>,
    /// How it was found.
    pub found: Found,
}

/// How something that both sides have was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The target has nothing at all.
    Empty,
    /// Tips of the target.
    Tips,
    /// Not tips, but so many commits that they are built on.
    Ancestors(usize),
    /// Not at all.
    Nothing,
}

/// Where it is looked for.
pub(super) struct Search<'a> {
    /// The target.
    pub target: &'a dyn Server,
    /// What it has.
    pub held: &'a Held<'a>,
    /// What it has beside that.
    pub extra: &'a [ObjectId],
    /// What the source names.
    pub source: &'a RefTable,
    /// What the source has although it does not name it.
    pub known: &'a HashSet<ObjectId>,
}

impl Search<'_> {
    /// What the source has for a fetch that these edits need.
    pub fn run(&self, edits: &[Edit<'_>], supply: &mut dyn Supply) -> Result<Common, RemotesError> {
        let haves = self.held.haves(edits, self.source, self.known);
        let is_common = |id: &ObjectId| self.source.names(id) || self.known.contains(id);
        let known = HashSet::new();
        if haves.iter().any(is_common) {
            return Ok(Common { haves, known, found: Found::Tips });
        }
        if self.held.is_empty() {
            return Ok(Common { haves, known, found: Found::Empty });
        }
        let tips = self.tips();
        let known = supply.known(&tips)?;
        let (known, found) = match known.is_empty() {
            false => (known, Found::Tips),
            true => {
                let known = known_ancestors(self.target, &tips, supply).unwrap_or_else(|error| {
                    tracing::info!(%error, "cannot look for what the target's tips are built on");
                    HashSet::new()
                });
                let found = if known.is_empty() { Found::Nothing } else { Found::Ancestors(known.len()) };
                (known, found)
            }
        };
        let haves = known.iter().copied().chain(haves).collect();
        Ok(Common { haves, known, found })
    }

    /// What the target names, bounded.
    pub fn tips(&self) -> Vec<ObjectId> {
        self.held.iter().chain(self.extra.iter().copied()).take(MAX_TIPS_ASKED).collect()
    }
}

/// Commits that `tips` of the target are built on and that the source has: some, as near as they were found.
fn known_ancestors(
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
