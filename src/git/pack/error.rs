//! Errors of packs.

use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use gitferry_base::Kind;

/// Fault of one pack or its index. Nothing of the pack has been used.
#[derive(Debug, thiserror::Error)]
#[error("pack {}: {fault}", path.display())]
pub struct PackError {
    /// Path of the pack.
    pub path: PathBuf,
    /// Fault that was found.
    #[source]
    pub fault: Fault,
}

impl PackError {
    /// Kind of the error: the caller's next step.
    pub fn kind(&self) -> Kind {
        self.fault.kind()
    }
}

/// Fault of a pack. [`PackError`] adds the path.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An operation of the operating system failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// Failed operation, as a continuation of "cannot".
        action: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file as a whole is no valid pack.
    #[error("not a valid pack: {0}")]
    File(String),
    /// The trailer does not match the content.
    #[error("the checksum at its end is {stored} but its content has {computed}")]
    Checksum {
        /// Checksum in the trailer.
        stored: ObjectId,
        /// Checksum of the content.
        computed: ObjectId,
    },
    /// One entry is damaged.
    #[error("the entry at offset {offset} is damaged: {reason}")]
    Entry {
        /// Offset of the entry in the pack.
        offset: u64,
        /// Damage that was found.
        reason: String,
    },
    /// The pack is thin: the bases of some deltas are not in the pack.
    #[error(
        "it is thin: the delta at offset {offset} needs object {base}, which is not in the pack ({count} such deltas)"
    )]
    MissingBase {
        /// Offset of the first such delta.
        offset: u64,
        /// Base of that delta.
        base: ObjectId,
        /// Number of deltas with a base that is not in the pack.
        count: u64,
        /// Bases of all these deltas, sorted and without repetition; some may be results of others of these deltas.
        bases: Box<[ObjectId]>,
    },
    /// An object exceeds the size limit.
    #[error("the {what} at offset {offset} has {size} bytes; at most {limit} are supported")]
    TooLarge {
        /// Offset of the entry in the pack.
        offset: u64,
        /// Role of the object, such as `delta`.
        what: &'static str,
        /// Size of the object in bytes.
        size: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// The pack holds an object twice. `git index-pack --strict` refuses such packs as well.
    #[error(
        "object {id} is in it twice, at offsets {first} and {second}; `git repack -a -d` at the source repairs that"
    )]
    Duplicate {
        /// Id of the object.
        id: ObjectId,
        /// Offset of the first entry.
        first: u64,
        /// Offset of the second entry.
        second: u64,
    },
    /// The pack exceeds the size limit.
    #[error("it exceeds the limit of {limit} bytes")]
    PackTooLarge {
        /// Limit in bytes.
        limit: u64,
    },
    /// The inflated objects exceed the limit for the size of the pack.
    #[error("its objects have more than {limit} bytes together, out of all proportion to the pack")]
    Expands {
        /// Limit in bytes.
        limit: u64,
    },
    /// The content of an object was crafted for a SHA-1 collision.
    #[error("the object at offset {offset} is part of a SHA-1 collision attack")]
    Collision {
        /// Offset of the entry in the pack.
        offset: u64,
    },
    /// The index does not belong to the pack.
    #[error("index does not match pack: {0}")]
    Index(String),
    /// Too many links lead out of the pack.
    #[error("more than {limit} of the objects that it needs are not in it")]
    TooManyLinks {
        /// Most links out of one pack.
        limit: usize,
    },
    /// A requested object is in none of the packs.
    #[error("object {id} is missing")]
    MissingObject {
        /// Id of the object.
        id: ObjectId,
    },
    /// The delta chain of an object is longer than any that Git writes.
    #[error(
        "the delta chain of the object at offset {offset} has more than {limit} deltas; `git repack -adF` at the source \
         shortens it"
    )]
    TooDeep {
        /// Offset of the entry in the pack.
        offset: u64,
        /// Most deltas of one chain.
        limit: usize,
    },
    /// Other requests hold the memory that the operation needs.
    #[error(transparent)]
    Busy(crate::memory::Busy),
    /// The caller cancelled the operation.
    #[error("stopped on request")]
    Cancelled,
}

impl Fault {
    /// Kind of the error: the caller's next step.
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

    /// Adds the path of the pack.
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
