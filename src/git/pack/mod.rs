//! Packs: check, index, read and build. Works on local files; all calls block.
//!
//! [`check_pack`] trusts nothing: it resolves and hashes every object, collects the links between objects and writes
//! the index. [`PackSet`] reads objects from many checked packs. [`PackWriter`] and [`mod@gather`] build new packs.

mod append;
mod arrive;
mod build;
mod check;
mod content;
mod delta;
mod entries;
mod error;
mod family;
mod gather;
mod index;
mod inflate;
mod link_sink;
mod nesting;
mod progress;
mod resolve;
mod set;
mod stream;

pub use append::append_bases;
pub(crate) use append::truncate;
pub use arrive::{Arrival, ArrivalLimits, arrive};
pub use build::PackWriter;
pub use check::{CheckedPack, check_arrived, check_pack};
pub use content::Content;
pub use error::{Fault, PackError};
pub use family::MAX_LISTED_UNPARSABLE;
pub use gather::{FindLoose, LooseObject, gather};
pub use index::Index;
pub use link_sink::MAX_UNRESOLVED_LINKS;
pub use progress::{CheckOptions, CheckProgress};
pub use set::{Finder, Location, Object, PackSet};
pub(crate) use set::{RawEntry, Stored};
pub use stream::BuiltPack;
pub(crate) use stream::PackStream;

/// Size in bytes above which a blob that is stored whole is inflated as a stream.
pub const STREAMED_BLOB_BYTES: u64 = 16 << 20;
/// Default of [`CheckOptions::max_resolved_bytes`]: most bytes of a delta, of its base or result, and of a commit, tree
/// or tag. Git makes no deltas above `core.bigFileThreshold` (512 MiB). Blobs that are stored whole have no limit.
pub const MAX_RESOLVED_BYTES: u64 = 1 << 30;
/// Longest delta chain: the maximum of Git's `pack.depth`.
pub const MAX_DELTA_DEPTH: usize = 4095;
/// Default of [`CheckOptions::max_held_bytes`]: bytes of delta bases that all threads together hold for unapplied
/// deltas, as `core.deltaBaseCacheLimit` in Git. Bases beyond the limit are resolved again when needed.
pub const MAX_HELD_BYTES: u64 = 96 << 20;
