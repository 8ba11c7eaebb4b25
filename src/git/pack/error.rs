//! What can be wrong with a pack.

use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use gitferry_base::Kind;

/// Something is wrong with one pack (or its index). Nothing of it has been used.
#[derive(Debug, thiserror::Error)]
#[error("pack {}: {fault}", path.display())]
pub struct PackError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

impl PackError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        self.fault.kind()
    }
}

/// What is wrong with a pack; [`PackError`] adds which one.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// The file as a whole is not a pack that can be read.
    #[error("not a valid pack: {0}")]
    File(String),
    /// The trailer is not the checksum of what comes before it.
    #[error("the checksum at its end is {stored} but its content has {computed}")]
    Checksum {
        /// What the trailer says.
        stored: ObjectId,
        /// What it should say.
        computed: ObjectId,
    },
    /// One entry cannot be right.
    #[error("the entry at offset {offset} is damaged: {reason}")]
    Entry {
        /// Where the entry begins in the pack.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The pack is thin: a delta's base is not in it.
    #[error(
        "it is thin: the delta at offset {offset} needs object {base}, which is not in the pack ({count} such deltas)"
    )]
    MissingBase {
        /// The first such delta.
        offset: u64,
        /// What it needs.
        base: ObjectId,
        /// How many deltas name a base that is not in the pack.
        count: u64,
        /// All that they name, sorted, each once; some may be made by others of these deltas.
        bases: Box<[ObjectId]>,
    },
    /// An object is too large to be resolved in memory.
    #[error("the {what} at offset {offset} has {size} bytes; at most {limit} are supported")]
    TooLarge {
        /// Where the entry begins in the pack.
        offset: u64,
        /// What it is.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An object is in the pack twice. `git index-pack --strict` refuses that as well.
    #[error(
        "object {id} is in it twice, at offsets {first} and {second}; `git repack -a -d` at the source repairs that"
    )]
    Duplicate {
        /// The object.
        id: ObjectId,
        /// Its first place.
        first: u64,
        /// Its second place.
        second: u64,
    },
    /// The pack is larger than it may be.
    #[error("it is larger than {limit} bytes, the most that is accepted")]
    PackTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Its objects are out of all proportion to the pack.
    #[error("its objects have more than {limit} bytes together, out of all proportion to the pack")]
    Expands {
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes of an object were made to collide with those of another.
    #[error("the object at offset {offset} is part of a SHA-1 collision attack")]
    Collision {
        /// Where the entry begins in the pack.
        offset: u64,
    },
    /// The index that came with the pack is not the pack's.
    #[error("index does not match pack: {0}")]
    Index(String),
    /// More links leave the pack than can be listed.
    #[error("more than {limit} of the objects that it needs are not in it")]
    TooManyLinks {
        /// The limit.
        limit: usize,
    },
    /// An object that was asked for is in none of the packs.
    #[error("object {id} is missing")]
    MissingObject {
        /// The object.
        id: ObjectId,
    },
    /// An object is made by more deltas, one on the other, than any Git makes.
    #[error(
        "the object at offset {offset} is made by more than {limit} deltas, one on the other; `git repack -adF` helps"
    )]
    TooDeep {
        /// Where the entry begins in the pack.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// Other requests have taken the memory that it needs.
    #[error(transparent)]
    Busy(crate::memory::Busy),
    /// The caller asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

impl Fault {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Fault::Io { source, .. } => Kind::of_io(source),
            Fault::File(_)
            | Fault::Checksum { .. }
            | Fault::Entry { .. }
            | Fault::MissingBase { .. }
            | Fault::Collision { .. }
            | Fault::Index(_) => Kind::Corrupt,
            Fault::TooLarge { .. }
            | Fault::PackTooLarge { .. }
            | Fault::Expands { .. }
            | Fault::Duplicate { .. }
            | Fault::TooDeep { .. }
            | Fault::TooManyLinks { .. } => Kind::Refused,
            Fault::MissingObject { .. } => Kind::Missing,
            Fault::Busy(_) | Fault::Cancelled => Kind::Transient,
        }
    }

    /// Says which pack it is about.
    pub fn of(self, path: &Path) -> PackError {
        PackError { path: path.to_owned(), fault: self }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Fault {
        move |source| Fault::Io { action, source }
    }

    pub(crate) fn entry(offset: u64, reason: impl Into<String>) -> Fault {
        Fault::Entry { offset, reason: reason.into() }
    }
}
