//! [`Conflict`]: a path that cannot be merged, with the metadata and hunks of the API.

use crate::differences::Change;
use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{MAX_LINE_MERGE_BYTES, MAX_MERGED_BYTES};
use crate::lines::{Detail, LineMerge, Version, is_binary};
use crate::merge::blobs::texts;
use crate::path::RepoPath;
use crate::reader::Reader;

/// One value for each version of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions<T> {
    /// Merge base.
    pub base: T,
    /// Commit that the source is merged into.
    pub destination: T,
    /// Commit that is merged.
    pub source: T,
}

/// Path that cannot be merged without a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The path.
    pub path: RepoPath,
    /// Entries at the path, folders included.
    pub entries: Versions<Option<Entry>>,
    /// Number of conflicts in content: hunks, or 1 for what has none (a binary file, a deleted file, a link).
    pub content: u32,
    /// Path of the base, and of one side, if the other side renamed the file.
    pub renamed_from: Option<RepoPath>,
    /// Both sides changed the mode, differently.
    pub mode: bool,
    /// The sides have objects of different types.
    pub object_type: bool,
}

impl Conflict {
    pub(super) fn new(path: RepoPath, [base, destination, source]: [Option<Entry>; 3]) -> Conflict {
        let entries = Versions { base, destination, source };
        Conflict { path, entries, renamed_from: None, content: 0, mode: false, object_type: false }
    }

    pub(super) fn add(&mut self, content: u32, mode: bool, object_type: bool) {
        self.content += content;
        self.mode |= mode;
        self.object_type |= object_type;
    }

    /// Number of all conflicts at the path: of content, mode and type.
    pub fn count(&self) -> u32 {
        self.content + u32::from(self.mode) + u32::from(self.object_type)
    }

    /// Changes of the source and of the destination; `None` for a side that left the path as it was.
    pub fn operations(&self) -> (Option<Change>, Option<Change>) {
        let Versions { base, destination, source } = self.entries;
        (operation(base, source), operation(base, destination))
    }
}

fn operation(base: Option<Entry>, side: Option<Entry>) -> Option<Change> {
    match (base, side) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Deleted),
        (base, side) => (base != side).then_some(Change::Modified),
    }
}

/// Figures of a conflict that need the blobs. `None` stands for a version that is absent or no blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Sizes in bytes.
    pub sizes: Versions<Option<u64>>,
    /// Binary files. `None` also for files larger than [`MAX_LINE_MERGE_BYTES`].
    pub binary: Versions<Option<bool>>,
}

/// Reads the figures of a conflict.
pub fn figures(reader: &mut Reader<'_>, conflict: &Conflict) -> Result<Figures, ContentError> {
    let Versions { base, destination, source } = conflict.entries;
    let base = figures_of(reader, base)?;
    let destination = figures_of(reader, destination)?;
    let source = figures_of(reader, source)?;
    Ok(Figures {
        sizes: Versions { base: base.0, destination: destination.0, source: source.0 },
        binary: Versions { base: base.1, destination: destination.1, source: source.1 },
    })
}

fn figures_of(reader: &mut Reader<'_>, entry: Option<Entry>) -> Result<(Option<u64>, Option<bool>), ContentError> {
    let Some(entry) = entry.filter(|entry| entry.mode.is_blob()) else { return Ok((None, None)) };
    let size = reader.blob_size(&entry.id)?;
    if size > MAX_LINE_MERGE_BYTES {
        return Ok((Some(size), None));
    }
    Ok((Some(size), Some(is_binary(&reader.blob(&entry.id)?))))
}

/// Hunk of a merge, as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeHunk {
    /// Both sides changed the lines, differently.
    pub is_conflict: bool,
    /// Lines of the three versions.
    pub lines: Versions<Detail>,
}

/// Returns hunks of the file at a path from number `skip` on, at most `limit`, and true if more follow. An absent version
/// counts as an empty file. Folders, links, submodules, binary and too large files have no hunks.
pub fn hunks(
    reader: &mut Reader<'_>,
    entries: Versions<Option<Entry>>,
    skip: usize,
    limit: usize,
) -> Result<(Vec<MergeHunk>, bool), ContentError> {
    let Versions { base, destination, source } = entries;
    let versions = [base, destination, source];
    if versions.iter().flatten().any(|entry| !matches!(entry.mode, Mode::File | Mode::Executable)) {
        return Ok((Vec::new(), false));
    }
    let mut bytes_left = MAX_MERGED_BYTES;
    let ids = versions.map(|entry| entry.map(|entry| entry.id));
    let Some([base, destination, source]) = texts(reader, ids, &mut bytes_left)? else {
        return Ok((Vec::new(), false));
    };
    let merge = LineMerge::new(&base, &destination, &source);
    let all = merge.hunks();
    let shown = all.iter().skip(skip).take(limit).map(|hunk| MergeHunk {
        is_conflict: hunk.is_conflict(),
        lines: Versions {
            base: merge.detail(hunk, Version::Base),
            destination: merge.detail(hunk, Version::Destination),
            source: merge.detail(hunk, Version::Source),
        },
    });
    Ok((shown.collect(), all.len() > skip.saturating_add(limit)))
}
