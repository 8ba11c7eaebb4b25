//! Git repositories on the local disk: reading one as the source of an import, writing one as an export.
//!
//! Files are read directly, through gix's parsers. No `git` binary runs, no hook and no command named in
//! a configuration is ever executed, nothing is written at the source, and neither the user's nor the
//! system's configuration nor any environment variable has a say: `config` of the repository itself is
//! the only one read, without its `include`s. That is why a source owned by another user is read without
//! asking (`safe.directory` guards against running what such a repository configures).

mod bare;
mod error;
mod export_error;
mod features;
mod location;
mod loose;
mod loose_refs;
mod objects;
mod packed_refs;
mod pattern;
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
