//! Packs: check, index, read and build. Works on local files; all calls block.
//!
//! [`check_pack`] trusts nothing: it resolves and hashes every object, collects the links between objects and writes
//! the index. [`PackSet`] reads objects from many checked packs. [`PackWriter`] and [`mod@gather`] build new packs.
//!
//! - In: [`mod@arrive`] writes a received pack to a file, [`append`] completes a thin one, [`check`] checks it: boundaries
//!   and delta families ([`entries`]), shared by [`threads`] ([`resolve`]) that apply deltas ([`family`], [`unpack`]) and
//!   pass on links ([`link_sink`]). [`mod@end`] finds the end of a pack that passes through.
//! - Read: [`set`] finds an object in packs and indices ([`index`]), [`finder`] reads it.
//! - Out: [`mod@gather`] copies entries, [`build`] writes a file, [`stream`] writes entries anywhere.
//!
//! Below them: [`inflate`], [`delta`], [`content`] (memory or a file), [`progress`] (options and cancellation), [`limits`]
//! and [`error`].

mod append;
mod arrive;
mod build;
mod check;
mod content;
mod delta;
mod end;
mod entries;
mod error;
mod family;
mod finder;
mod gather;
mod index;
mod inflate;
mod limits;
mod link_sink;
mod nesting;
mod progress;
mod resolve;
mod set;
mod stream;
mod threads;
mod unpack;

pub use append::append_bases;
pub(crate) use append::truncate;
pub use arrive::{Arrival, ArrivalLimits, arrive};
pub use build::{PackWriter, pack_in_memory};
pub use check::{CheckedPack, check_arrived, check_gathered, check_pack};
pub use content::Content;
pub use end::PackEnd;
pub use error::{Fault, PackError};
pub use family::MAX_LISTED_UNPARSABLE;
pub use finder::{Finder, Object};
pub(crate) use finder::{RawEntry, Stored};
pub use gather::{FindLoose, Gathered, LooseObject, gather};
pub use index::Index;
pub use limits::{MAX_DELTA_DEPTH, MAX_HELD_BYTES, MAX_RESOLVED_BYTES, STREAMED_BLOB_BYTES};
pub use link_sink::MAX_UNRESOLVED_LINKS;
pub use progress::{CheckOptions, CheckProgress};
pub use set::{Location, PackSet};
pub use stream::BuiltPack;
pub(crate) use stream::PackStream;
