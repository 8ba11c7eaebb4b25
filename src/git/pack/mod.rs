//! Packs: checking, indexing, reading, building. Works on local files; blocking, for a blocking thread.
//!
//! [`check_pack`] believes nothing: it resolves and hashes every object, finds the links between them and
//! writes the index. [`PackSet`] reads objects from many checked packs. [`PackWriter`] and [`gather`] make
//! new packs.

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

/// Blobs that are stored whole and are larger than this are inflated piece by piece.
pub const STREAMED_BLOB_BYTES: u64 = 16 << 20;
/// Largest object that is resolved in memory, unless [`CheckOptions`] says otherwise: a delta, what it
/// makes or is made for, a tree, a commit, a tag. Git itself makes no deltas above `core.bigFileThreshold`
/// (512 MiB). Blobs that are stored whole have no limit.
pub const MAX_RESOLVED_BYTES: u64 = 1 << 30;
/// Most deltas that an object is made by, one on the other: as many as Git's `pack.depth` allows.
pub const MAX_DELTA_DEPTH: usize = 4095;
/// Bytes of bases that all threads together keep for deltas still to be applied, unless [`CheckOptions`]
/// says otherwise; as `core.deltaBaseCacheLimit` in Git. Bases beyond it are resolved again when needed.
pub const MAX_HELD_BYTES: u64 = 96 << 20;
