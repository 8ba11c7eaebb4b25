//! Limits on the documents of an account. They hold when documents are written and when they are read.

/// Most documents of an account.
pub const MAX_DOCUMENTS: usize = 100_000;
/// Largest document in bytes. The longest policy that IAM accepts has 10,240 characters.
pub const MAX_DOCUMENT_BYTES: u64 = 64 * 1024;
/// Most bytes of all documents together.
pub const MAX_DOCUMENTS_BYTES: u64 = 128 << 20;
/// Longest path of a document in bytes.
pub const MAX_PATH_BYTES: usize = 512;
/// Most folders above a document.
pub const MAX_FOLDER_DEPTH: usize = 8;
/// Longest message of a change in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// Largest tree object in bytes. [`MAX_DOCUMENTS`] names of 100 bytes in one folder have 13 MB.
pub(crate) const MAX_TREE_BYTES: u64 = 32 << 20;
/// Largest commit object in bytes.
pub(crate) const MAX_COMMIT_BYTES: u64 = 1 << 20;
/// Most entries of folders that one reading visits. A tree may name the same folder many times.
pub(crate) const MAX_ENTRIES: usize = 2 * MAX_DOCUMENTS;
