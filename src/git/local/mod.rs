//! Git repositories on the local disk: sources of imports and targets of exports.
//!
//! Files are read directly with gix's parsers. No `git` binary, hook or configured command ever runs, and nothing is
//! written at the source. Configuration comes from the repository's own `config`, without `include`s; of the user's and
//! the system's configuration only `safe.directory` is read. A repository of another user is opened under the rules of
//! Git (`ownership`), and then no file outside of it is read (`reader`). Errors quote no file content: a file may be a
//! link to one that the reader of the error must not see.

mod bare;
mod error;
mod export_error;
mod features;
mod location;
mod loose;
mod loose_refs;
mod objects;
mod ownership;
mod packed_refs;
mod pattern;
mod reader;
mod source;
mod staging;

pub use bare::{BareRepository, Peel};
pub use error::{Feature, SourceError};
pub use export_error::ExportError;
pub use loose::{LooseEntry, LooseObject, LooseObjects};
pub use loose_refs::MAX_LOOSE_REFS;
pub use objects::{MAX_ALTERNATE_DEPTH, MAX_DIRECTORY_ENTRIES, SourcePack};
pub use packed_refs::MAX_UNSORTED_REFS;
pub use pattern::{PatternError, RefPatterns};
pub use source::{Refs, SourceRepository};
