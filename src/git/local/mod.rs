//! Git repositories on the local disk: reading one as the source of an import, writing one as an export.
//!
//! Files are read directly, through gix's parsers. No `git` binary runs, no hook and no command named in
//! a configuration is ever executed, nothing is written at the source, and of the user's and the
//! system's configuration `safe.directory` alone has a say: `config` of the repository itself is
//! the only other one read, without its `include`s. A source of another user is read where Git would read it
//! (`ownership`), and then nothing outside of it (`reader`). Errors quote no content of files: a file may be a link to
//! one that the reader of the error may not read.

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
