//! Merges of two versions of a file, link or submodule.

use gix::ObjectId;
use gix::objs::Kind;

use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{Bound, MAX_LINE_MERGE_BYTES};
use crate::lines::{Favor, LineMerge, Markers, is_binary};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::source::Data;

/// Unit in which changes of both sides conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `FILE_LEVEL`: a file that both sides changed is a conflict.
    File,
    /// `LINE_LEVEL`: files are merged line by line.
    Line,
}

/// Treatment of conflicts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Policy {
    /// Conflicts are reported.
    Report(Level),
    /// Merge of merge bases: conflicts are settled as Git's `ort` does.
    Virtual {
        /// Number of merges of merge bases that this one is part of.
        depth: usize,
    },
}

/// Length of Git's conflict markers in characters.
const MARKER_CHARACTERS: usize = 7;

/// Conflicts of one entry, and the entry that is used all the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Merged {
    pub(super) entry: Option<Entry>,
    /// Number of conflicts in content; 0 if it was merged.
    pub(super) content: u32,
    pub(super) mode: bool,
    pub(super) object_type: bool,
}

impl Merged {
    pub(super) fn clean(entry: Option<Entry>) -> Merged {
        Merged { entry, ..Merged::default() }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.content == 0 && !self.mode && !self.object_type
    }
}

/// Three versions of an entry: base, destination, source. None of them is a folder.
pub(super) type Versions = [Option<Entry>; 3];

/// Paths of both sides where they differ, for the markers of conflicts between merge bases.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) paths: Option<[&'a RepoPath; 2]>,
    /// Characters by which a marker is longer.
    pub(super) longer: usize,
}

impl Names<'_> {
    fn label(&self, side: usize) -> String {
        let branch = format!("Temporary merge branch {}", side + 1);
        self.paths.map_or_else(|| branch.clone(), |paths| format!("{branch}:{}", paths[side]))
    }
}

/// Merges two versions of an entry. `bytes_left` is the budget of bytes to read.
pub(super) fn merge_entries(
    reader: &mut Reader<'_>,
    policy: Policy,
    versions: Versions,
    names: Names<'_>,
    bytes_left: &mut u64,
) -> Result<Merged, ContentError> {
    let [base, ours, theirs] = versions;
    if ours == theirs || base == theirs {
        return Ok(Merged::clean(ours));
    }
    if base == ours {
        return Ok(Merged::clean(theirs));
    }
    let kept = match policy {
        Policy::Report(_) => ours.or(theirs),
        Policy::Virtual { .. } => base,
    };
    match (ours, theirs) {
        (Some(one), Some(two)) if one.mode.same_type(two.mode) => {
            let base = base.filter(|base| base.mode.same_type(one.mode));
            merge_contents(reader, policy, [base, Some(one), Some(two)], names, bytes_left)
        }
        (Some(_), Some(_)) => Ok(Merged { entry: kept, object_type: true, ..Merged::default() }),
        // One side changed what the other deleted.
        _ => Ok(Merged { entry: kept, content: 1, ..Merged::default() }),
    }
}

fn merge_contents(
    reader: &mut Reader<'_>,
    policy: Policy,
    versions: Versions,
    names: Names<'_>,
    bytes_left: &mut u64,
) -> Result<Merged, ContentError> {
    let [base, Some(ours), Some(theirs)] = versions else { return Ok(Merged::clean(None)) };
    let base_mode = base.map(|base| base.mode);
    let base_id = base.map(|base| base.id);
    let is_theirs = ours.mode == theirs.mode || base_mode == Some(ours.mode);
    let mode = if is_theirs { theirs.mode } else { ours.mode };
    let mode_conflict = !is_theirs && base_mode != Some(theirs.mode);
    let (id, content) = if ours.id == theirs.id || base_id == Some(ours.id) {
        (Some(theirs.id), 0)
    } else if base_id == Some(theirs.id) {
        (Some(ours.id), 0)
    } else if mode.is_file() {
        merge_files(reader, policy, [base_id, Some(ours.id), Some(theirs.id)], names, bytes_left)?
    } else {
        match policy {
            Policy::Virtual { .. } if mode == Mode::Symlink => (base_id, 1),
            Policy::Virtual { .. } => (base_id.or(Some(ours.id)), 1),
            Policy::Report(_) => (Some(ours.id), 1),
        }
    };
    let entry = id.map(|id| Entry { mode, id });
    Ok(Merged { entry, content, mode: mode_conflict, object_type: false })
}

/// Merges two files line by line; the number of conflicts.
fn merge_files(
    reader: &mut Reader<'_>,
    policy: Policy,
    ids: [Option<ObjectId>; 3],
    names: Names<'_>,
    bytes_left: &mut u64,
) -> Result<(Option<ObjectId>, u32), ContentError> {
    let [base, ours, _] = ids;
    if let Policy::Report(Level::File) = policy {
        return Ok((ours, 1));
    }
    let Some(texts) = texts(reader, ids, bytes_left)? else {
        return match policy {
            Policy::Report(_) => Ok((ours, 1)),
            // Git takes the base, an empty file where there is none.
            Policy::Virtual { .. } => match base {
                Some(base) => Ok((Some(base), 1)),
                None => Ok((Some(reader.make(Kind::Blob, Vec::new())?), 1)),
            },
        };
    };
    let [base, destination, source] = &texts;
    let merge = LineMerge::new(base, destination, source);
    let conflicts = merge.conflicts();
    let merged = match policy {
        Policy::Report(_) if conflicts > 0 => return Ok((ours, conflicts)),
        Policy::Report(_) => merge.merged(Favor::Destination),
        Policy::Virtual { depth } => merge.merged(Favor::Both(Markers {
            destination: &names.label(0),
            source: &names.label(1),
            size: MARKER_CHARACTERS + 2 * depth + names.longer,
        })),
    };
    Ok((Some(reader.make(Kind::Blob, merged)?), conflicts))
}

/// Reads three versions of a file, an absent one as an empty file; `None` if one is binary or too large for lines.
pub(super) fn texts(
    reader: &mut Reader<'_>,
    ids: [Option<ObjectId>; 3],
    bytes_left: &mut u64,
) -> Result<Option<[Data; 3]>, ContentError> {
    let mut texts = [const { None }; 3];
    for (text, id) in texts.iter_mut().zip(ids) {
        let Some(id) = id else {
            *text = Some(Data::Memory([].into()));
            continue;
        };
        let size = reader.blob_size(&id)?;
        if size > MAX_LINE_MERGE_BYTES {
            return Ok(None);
        }
        *bytes_left = bytes_left.checked_sub(size).ok_or(ContentError::Limit(Bound::MergedBytes))?;
        let data = reader.blob(&id)?;
        if is_binary(&data) {
            return Ok(None);
        }
        *text = Some(data);
    }
    let [Some(base), Some(destination), Some(source)] = texts else { return Ok(None) };
    Ok(Some([base, destination, source]))
}
