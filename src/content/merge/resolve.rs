//! Trees of merges with conflicts: a strategy for all, and manual resolutions by path.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;
use gix::objs::Kind;

use super::Merge;
use super::blobs::{Level, texts};
use super::conflict::{Conflict, Versions};
use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{MAX_COMMIT_BYTES, MAX_FILE_BYTES, MAX_MERGED_BYTES, MAX_RESOLUTIONS};
use crate::lines::{Favor, LineMerge, Version};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::tree_edit::{TreeEdits, keep_folders};

/// Treatment of conflicts that no manual resolution names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// `NONE` and `AUTOMERGE`: they stay conflicts. What can be merged, the merge has merged at its level.
    Manual,
    /// `ACCEPT_SOURCE`: the source's lines where files are merged by line, or else the source's file.
    AcceptSource,
    /// `ACCEPT_DESTINATION`, likewise.
    AcceptDestination,
}

/// Content that takes the place of a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// `KEEP_BASE`, `KEEP_SOURCE`, `KEEP_DESTINATION`: this version. An absent version deletes the path.
    Keep(Version),
    /// `USE_NEW_CONTENT`: these bytes.
    New(Vec<u8>),
}

/// Manual resolutions of conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolutions {
    /// Replaced contents, with the mode where the request has one.
    pub replace: Vec<(RepoPath, Replacement, Option<Mode>)>,
    /// Paths to delete.
    pub delete: Vec<RepoPath>,
    /// Modes to set.
    pub modes: Vec<(RepoPath, Mode)>,
    /// Adds a `.gitkeep` to folders that resolutions leave empty.
    pub keep_empty_folders: bool,
}

/// Failure to make a tree of a merge.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Conflicts are left.
    #[error("{count} conflicts are left, the first one at {first}")]
    Unresolved {
        /// Number of paths.
        count: usize,
        /// First path.
        first: RepoPath,
    },
    /// More than [`MAX_RESOLUTIONS`].
    #[error("more than {MAX_RESOLUTIONS} conflicts are resolved in one request")]
    TooMany,
    /// Two resolutions name one path.
    #[error("{0} has two resolutions")]
    Twice(RepoPath),
    /// A resolution names a path that is in no conflict.
    #[error("{0} is in no conflict")]
    NoConflict(RepoPath),
    /// New content exceeds [`MAX_FILE_BYTES`], or all of it [`MAX_COMMIT_BYTES`].
    #[error("the content for {0} exceeds {MAX_FILE_BYTES} bytes, or all new content {MAX_COMMIT_BYTES} bytes")]
    TooLarge(RepoPath),
    /// A mode that a file cannot have, or a mode for a path that is no file.
    #[error("{0} cannot have the mode")]
    Mode(RepoPath),
    /// An object cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Decision about one conflict.
struct Decision<'a> {
    content: Option<Content<'a>>,
    mode: Option<Mode>,
}

enum Content<'a> {
    Replace(&'a Replacement),
    Delete,
}

/// Makes the tree of a merge. Returns its id; the reader has the new objects.
pub fn resolve(
    reader: &mut Reader<'_>,
    merge: &Merge,
    strategy: Strategy,
    resolutions: &Resolutions,
) -> Result<ObjectId, ResolveError> {
    let mut decisions = decisions(merge, resolutions)?;
    let mut edits = TreeEdits::default();
    let mut removed = Vec::new();
    let mut unresolved: Vec<&RepoPath> = Vec::new();
    let mut bytes_left = MAX_MERGED_BYTES;
    for conflict in &merge.conflicts {
        let decision = decisions.remove(&conflict.path);
        let resolved = match decision {
            Some(decision) => decide(reader, conflict, &decision)?,
            None => None,
        };
        let resolved = match (resolved, strategy) {
            (Some(resolved), _) => Some(resolved),
            (None, Strategy::Manual) => None,
            (None, Strategy::AcceptSource) => {
                Some(accept(reader, merge.level, conflict, Version::Source, &mut bytes_left)?)
            }
            (None, Strategy::AcceptDestination) => {
                Some(accept(reader, merge.level, conflict, Version::Destination, &mut bytes_left)?)
            }
        };
        match resolved {
            None => unresolved.push(&conflict.path),
            // The merge has the folder already, with the changes of both sides.
            Some(Some(Entry { mode: Mode::Folder, .. })) => {}
            Some(entry) => {
                if entry.is_none() {
                    removed.push(conflict.path.clone());
                }
                edits.set(&conflict.path, entry);
            }
        }
    }
    if let Some(first) = unresolved.first() {
        return Err(ResolveError::Unresolved { count: unresolved.len(), first: (*first).clone() });
    }
    let tree = edits.apply(reader, merge.partial)?;
    Ok(if resolutions.keep_empty_folders { keep_folders(reader, tree, &removed)? } else { tree })
}

/// Checks resolutions, and sorts them by path.
fn decisions<'a>(
    merge: &Merge,
    resolutions: &'a Resolutions,
) -> Result<BTreeMap<&'a RepoPath, Decision<'a>>, ResolveError> {
    let Resolutions { replace, delete, modes, .. } = resolutions;
    if replace.len() + delete.len() + modes.len() > MAX_RESOLUTIONS {
        return Err(ResolveError::TooMany);
    }
    let conflicts: BTreeSet<&RepoPath> = merge.conflicts.iter().map(|conflict| &conflict.path).collect();
    let mut found: BTreeMap<&RepoPath, Decision<'a>> = BTreeMap::new();
    let mut bytes = 0;
    let replaced = replace.iter().map(|(path, replacement, mode)| {
        let content = Some(Content::Replace(replacement));
        (path, Decision { content, mode: *mode })
    });
    let deleted = delete.iter().map(|path| (path, Decision { content: Some(Content::Delete), mode: None }));
    for (path, decision) in replaced.chain(deleted) {
        if !conflicts.contains(path) {
            return Err(ResolveError::NoConflict(path.clone()));
        }
        if let Some(Content::Replace(Replacement::New(content))) = &decision.content {
            bytes += content.len() as u64;
            if content.len() as u64 > MAX_FILE_BYTES || bytes > MAX_COMMIT_BYTES {
                return Err(ResolveError::TooLarge(path.clone()));
            }
        }
        if found.insert(path, decision).is_some() {
            return Err(ResolveError::Twice(path.clone()));
        }
    }
    for (path, mode) in modes {
        if !conflicts.contains(path) {
            return Err(ResolveError::NoConflict(path.clone()));
        }
        let decision = found.entry(path).or_insert(Decision { content: None, mode: None });
        if decision.mode.is_some() || matches!(decision.content, Some(Content::Delete)) {
            return Err(ResolveError::Twice(path.clone()));
        }
        decision.mode = Some(*mode);
    }
    Ok(found)
}

/// Entry that a decision puts at the path of a conflict; `None` if it leaves a conflict.
fn decide(
    reader: &mut Reader<'_>,
    conflict: &Conflict,
    decision: &Decision<'_>,
) -> Result<Option<Option<Entry>>, ResolveError> {
    let Versions { destination, source, .. } = conflict.entries;
    let known = destination.or(source).filter(|entry| entry.mode.is_blob());
    let entry = match decision.content {
        Some(Content::Delete) => return Ok(Some(None)),
        Some(Content::Replace(Replacement::Keep(version))) => version_of(conflict, *version),
        Some(Content::Replace(Replacement::New(content))) => {
            let id = reader.make(Kind::Blob, content.clone())?;
            Some(Entry { mode: known.map_or(Mode::File, |entry| entry.mode), id })
        }
        // A mode alone settles no other conflict than one of modes.
        None if conflict.content > 0 || conflict.object_type => return Ok(None),
        None => known,
    };
    match (entry, decision.mode) {
        (Some(entry), Some(mode)) if entry.mode.is_blob() && mode.is_blob() => Ok(Some(Some(Entry { mode, ..entry }))),
        (_, Some(_)) => Err(ResolveError::Mode(conflict.path.clone())),
        (entry, None) => Ok(Some(entry)),
    }
}

fn version_of(conflict: &Conflict, version: Version) -> Option<Entry> {
    let Versions { base, destination, source } = conflict.entries;
    match version {
        Version::Base => base,
        Version::Destination => destination,
        Version::Source => source,
    }
}

/// Entry of one side; where files are merged by line, the merged file with the side's lines in conflicts.
fn accept(
    reader: &mut Reader<'_>,
    level: Level,
    conflict: &Conflict,
    version: Version,
    bytes_left: &mut u64,
) -> Result<Option<Entry>, ContentError> {
    let accepted = version_of(conflict, version);
    let Versions { base, destination, source } = conflict.entries;
    let (Some(accepted), Some(ours), Some(theirs)) = (accepted, destination, source) else { return Ok(accepted) };
    let is_text = ours.mode.is_file() && theirs.mode.is_file() && conflict.content > 0;
    if level == Level::File || !is_text {
        return Ok(Some(accepted));
    }
    let base = base.filter(|base| base.mode.is_file()).map(|base| base.id);
    let Some([base, ours, theirs]) = texts(reader, [base, Some(ours.id), Some(theirs.id)], bytes_left)? else {
        return Ok(Some(accepted));
    };
    let favor = if version == Version::Source { Favor::Source } else { Favor::Destination };
    let merged = LineMerge::new(&base, &ours, &theirs).merged(favor);
    let id = reader.make(Kind::Blob, merged)?;
    Ok(Some(Entry { mode: accepted.mode, id }))
}
