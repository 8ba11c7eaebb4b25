//! Limits on what one request may read, compute and change.

use std::fmt;

/// Longest path of a file in bytes.
pub const MAX_PATH_BYTES: usize = 4096;
/// Most components of a path that an edit writes, and of a changed path that a merge writes.
pub const MAX_EDIT_DEPTH: usize = 128;
/// Most objects that one request reads: a walk of a million commits with a tree each.
pub const MAX_READ_OBJECTS: u64 = 2_000_000;
/// Most commits that one search for merge bases walks.
pub const MAX_BASE_COMMITS: u64 = 500_000;
/// Most commits that one page of a file's history walks. A page that ends here may be empty and has a cursor.
pub const MAX_HISTORY_COMMITS: u64 = 20_000;
/// Most commits that wait for their turn in a walk of a file's history: width of the graph, and size of its cursor.
pub const MAX_HISTORY_WIDTH: usize = 1_000;
/// Most newer versions that a version of a file lists.
pub const MAX_VERSION_CHILDREN: usize = 100;
/// Most removed files that are compared with an added file to find a rename.
pub const MAX_RENAME_CANDIDATES: usize = 1_000;
/// Largest file that is compared to find a rename, in bytes. Larger files are found by equal content alone.
pub const MAX_RENAME_BYTES: u64 = 4 << 20;
/// Most bytes of files that are read to find one rename.
pub const MAX_RENAME_TOTAL_BYTES: u64 = 64 << 20;
/// Largest file that is merged line by line, in bytes; a larger one conflicts as a binary file does.
pub const MAX_LINE_MERGE_BYTES: u64 = 16 << 20;
/// Most bytes of files that one merge reads to merge lines.
pub const MAX_MERGED_BYTES: u64 = 512 << 20;
/// Most paths that differ from the merge base on both sides, or that a merge changes.
pub const MAX_MERGE_PATHS: usize = 200_000;
/// Most conflicts of one merge.
pub const MAX_CONFLICTS: usize = 10_000;
/// Most merges of merge bases for one merge.
pub const MAX_VIRTUAL_MERGES: u64 = 64;
/// Most merges of merge bases within each other.
pub const MAX_VIRTUAL_DEPTH: usize = 12;
/// Most entries of one listed folder.
pub const MAX_FOLDER_ENTRIES: usize = 100_000;
/// Largest file of `GetFile`, `GetBlob` and `PutFile` in bytes.
pub const MAX_FILE_BYTES: u64 = 6 << 20;
/// Most bytes of all files that one commit of the API brings.
pub const MAX_COMMIT_BYTES: u64 = 7 << 20;
/// Most entries (files to put, delete, or change the mode of) of one commit of the API.
pub const MAX_FILE_ENTRIES: usize = 100;
/// Most manual resolutions of conflicts of one merge.
pub const MAX_RESOLUTIONS: usize = 1_000;
/// Longest message of a commit in bytes.
pub const MAX_MESSAGE_BYTES: usize = 256 << 10;
/// Longest name, and longest email address, of an author in bytes.
pub const MAX_PERSON_BYTES: usize = 1_024;

/// Limit that a request exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`MAX_READ_OBJECTS`].
    Objects,
    /// [`MAX_BASE_COMMITS`].
    BaseCommits,
    /// [`MAX_HISTORY_WIDTH`].
    HistoryWidth,
    /// [`MAX_MERGED_BYTES`].
    MergedBytes,
    /// [`MAX_MERGE_PATHS`].
    MergePaths,
    /// [`MAX_CONFLICTS`].
    Conflicts,
    /// [`MAX_VIRTUAL_MERGES`] and [`MAX_VIRTUAL_DEPTH`].
    VirtualMerges,
    /// [`MAX_FOLDER_ENTRIES`].
    FolderEntries,
    /// Depth of Git's trees, [`gitferry_git::limits::MAX_TREE_DEPTH`].
    TreeDepth,
    /// [`MAX_EDIT_DEPTH`].
    EditDepth,
    /// Size of a commit or tree, [`gitferry_git::limits::MAX_WALKED_BYTES`].
    WalkedBytes,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Objects => write!(f, "{MAX_READ_OBJECTS} objects read"),
            Bound::BaseCommits => write!(f, "{MAX_BASE_COMMITS} commits walked to find the merge base"),
            Bound::HistoryWidth => write!(f, "{MAX_HISTORY_WIDTH} lines of history at a time"),
            Bound::MergedBytes => write!(f, "{MAX_MERGED_BYTES} bytes of files to merge"),
            Bound::MergePaths => write!(f, "{MAX_MERGE_PATHS} paths to merge"),
            Bound::Conflicts => write!(f, "{MAX_CONFLICTS} conflicts"),
            Bound::VirtualMerges => write!(f, "{MAX_VIRTUAL_MERGES} merges of merge bases"),
            Bound::FolderEntries => write!(f, "{MAX_FOLDER_ENTRIES} entries of a folder"),
            Bound::TreeDepth => write!(f, "{} folders within each other", gitferry_git::limits::MAX_TREE_DEPTH),
            Bound::EditDepth => write!(f, "{MAX_EDIT_DEPTH} folders within each other at a changed path"),
            Bound::WalkedBytes => write!(f, "{} bytes of a commit or folder", gitferry_git::limits::MAX_WALKED_BYTES),
        }
    }
}
