//! Files, differences, history, merges and edits of Git trees, as pure values on a [`Source`] of objects. Blocking; no
//! stores, no network.

pub mod ancestry;
pub mod commit;
pub mod differences;
pub mod edit;
mod entries;
mod error;
pub mod folder;
pub mod history;
pub mod history_cursor;
pub mod limits;
pub mod lines;
mod lookup;
pub mod merge;
mod path;
mod reader;
mod similarity;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree_edit;

pub use entries::{Entry, Mode};
pub use error::ContentError;
pub use path::{InvalidPath, RepoPath};
pub use reader::{NewObject, Reader};
pub use source::{Data, Memory, Source, ViewSource};
