//! Why a local repository cannot be read.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use gix::bstr::BString;

use gitferry_base::Kind;

/// Something a repository uses that cannot be read faithfully.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `core.repositoryFormatVersion` above 1, or none that can be understood.
    FormatVersion(String),
    /// An `extensions.*` that gitferry does not know.
    Extension(String),
    /// `extensions.<name>` of format version 1 in a repository of version 0, which Git refuses too.
    ExtensionNeedsVersion1(String),
    /// `extensions.objectFormat` other than `sha1` or `sha256`.
    ObjectFormat(String),
    /// `extensions.compatObjectFormat`: two object formats in one repository.
    CompatObjectFormat,
    /// `extensions.refStorage` other than `files`; mostly `reftable`.
    RefStorage(String),
    /// A partial clone, and how that showed.
    PartialClone(String),
    /// A shallow clone.
    Shallow,
    /// `info/grafts` pretends other parents for some commits.
    Grafts,
    /// Alternates of alternates, deeper than Git itself follows them.
    AlternateDepth(PathBuf),
    /// An alternate object directory that is not there: the file that names it, and the number of the entry there.
    AlternateMissing(PathBuf, usize),
    /// An alternate object directory of another user than the repository's.
    AlternateForeign(PathBuf, usize),
    /// An object directory that is a link out of a repository that belongs to another user.
    LinkedObjects,
    /// A symbolic link to a directory below another such link, inside `refs/`.
    LinkedRefDirectories(PathBuf),
    /// More entries than are read into memory: what, and how many at most.
    TooMany(&'static str, usize),
}

/// Longest value of a setting that an error quotes.
const MAX_QUOTED_BYTES: usize = 32;

/// A value that may be quoted: a short word. Anything else may be the content of another file.
pub(super) fn word(value: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match value.len() <= MAX_QUOTED_BYTES && !value.is_empty() && value.bytes().all(is_word) {
        true => value,
        false => "(not a word)",
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Feature::FormatVersion(version) => write!(f, "repository format version {}", word(version)),
            Feature::Extension(name) => write!(f, "the unknown extension extensions.{}", word(name)),
            Feature::ExtensionNeedsVersion1(name) => {
                write!(f, "extensions.{name}, which needs core.repositoryFormatVersion = 1")
            }
            Feature::ObjectFormat(name) => write!(f, "the object format {} (extensions.objectFormat)", word(name)),
            Feature::CompatObjectFormat => write!(f, "a second object format (extensions.compatObjectFormat)"),
            Feature::RefStorage(name) => write!(f, "refs stored as {} (extensions.refStorage)", word(name)),
            Feature::PartialClone(how) => write!(f, "a partial clone ({how})"),
            Feature::Shallow => write!(f, "a shallow clone (file shallow)"),
            Feature::Grafts => write!(f, "grafts (file info/grafts)"),
            Feature::AlternateDepth(path) => write!(f, "alternates nested too deep, at {}", path.display()),
            Feature::AlternateMissing(path, entry) => {
                write!(f, "an alternate that is not there, entry {entry} of {}", path.display())
            }
            Feature::AlternateForeign(path, entry) => {
                write!(f, "an alternate of another user than its own, entry {entry} of {}", path.display())
            }
            Feature::LinkedObjects => write!(f, "its objects outside of it, though it belongs to another user"),
            Feature::LinkedRefDirectories(path) => {
                write!(f, "a link to a directory below another one inside refs/, {}", path.display())
            }
            Feature::TooMany(what, limit) => write!(f, "more than {limit} {what}"),
        }
    }
}

impl Feature {
    /// What to do at the source so that it can be read.
    pub fn way_out(&self) -> &'static str {
        match self {
            Feature::FormatVersion(_) | Feature::Extension(_) | Feature::ObjectFormat(_) => {
                "clone it with a Git that knows it (git clone --mirror --no-local) and read the clone"
            }
            Feature::ExtensionNeedsVersion1(_) => {
                "if the extension is meant, run `git config core.repositoryFormatVersion 1` there"
            }
            Feature::CompatObjectFormat => "clone it without (git clone --mirror --no-local) and read the clone",
            Feature::RefStorage(_) => "run `git refs migrate --ref-format=files` there",
            Feature::PartialClone(_) => {
                "objects may be missing; read a full clone instead (git clone --mirror of its remote, without --filter)"
            }
            Feature::Shallow => "run `git fetch --unshallow` there",
            Feature::Grafts => "run `git replace --convert-graft-file` there, or remove the file",
            Feature::AlternateDepth(_) => "run `git repack -a -d` there and remove objects/info/alternates",
            Feature::AlternateForeign(..) | Feature::LinkedObjects => {
                "clone it with `git clone --mirror --no-local` and read the clone"
            }
            Feature::AlternateMissing(..) => {
                "bring it back; or, if `git fsck` finds nothing missing, remove its line from objects/info/alternates"
            }
            Feature::LinkedRefDirectories(_) => "run `git pack-refs --all` there and remove the link",
            Feature::TooMany(..) => "run `git gc` there, which packs refs and objects",
        }
    }
}

/// Why a local repository, or something in it, cannot be read. Nothing at the source is ever changed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is nothing at the path.
    #[error("there is no repository at {}: {reason}", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The repository uses something that cannot be read faithfully.
    #[error("the repository {} cannot be read faithfully: it has {feature}; {}", path.display(), feature.way_out())]
    Unsupported {
        /// The repository.
        path: PathBuf,
        /// What it uses.
        feature: Feature,
    },
    /// A ref (or `HEAD`) whose value cannot be right.
    #[error("the ref {name} in {} is broken: {reason}; give it a value (git update-ref) or delete it", path.display())]
    BrokenRef {
        /// The file it stands in.
        path: PathBuf,
        /// The ref.
        name: BString,
        /// What is wrong with it.
        reason: String,
    },
    /// A ref whose name Git does not allow.
    #[error("a ref in {} has a name that Git does not allow: {reason}; rename it or delete it", path.display())]
    BadRefName {
        /// The file it stands in, or which it is.
        path: PathBuf,
        /// The rule that the name breaks.
        reason: String,
    },
    /// The repository belongs to another user, and gitferry was not told to trust that user.
    #[error(
        "the repository {} belongs to another user (uid {owner}), who could make it lead to files of yours; {}",
        path.display(),
        not_owned(path, *trusted)
    )]
    NotOwned {
        /// The repository, or the part of it.
        path: PathBuf,
        /// The user's number.
        owner: u32,
        /// Whether `safe.directory` lists it: then its parts belong to different users.
        trusted: bool,
    },
    /// A file is not what its place says.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A loose object that the caller did not want to have in memory.
    #[error("the loose object {} has {size} bytes, more than the {limit} to be read at once", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the object.
        size: u64,
        /// Most bytes that were allowed.
        limit: u64,
    },
    /// A file went away while the repository was read: a gc, a repack or a push at the same time.
    #[error("the repository changed while it was read ({} is gone or new); run again", path.display())]
    Changed {
        /// What was missed.
        path: PathBuf,
    },
    /// The operating system would not read a file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn not_owned(path: &Path, trusted: bool) -> String {
    match trusted {
        true => {
            "its parts belong to different users, so it is not read although safe.directory lists it; clone it with \
                 `git clone --mirror --no-local` and read the clone"
                .into()
        }
        false => format!(
            "if you trust that user, run `git config --global --add safe.directory {}`, else read a clone of your own",
            path.display()
        ),
    }
}

impl SourceError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            SourceError::NotFound { .. } => Kind::NotFound,
            SourceError::Unsupported { .. } | SourceError::NotOwned { .. } => Kind::Refused,
            SourceError::BrokenRef { .. } | SourceError::BadRefName { .. } | SourceError::Damaged { .. } => {
                Kind::Corrupt
            }
            SourceError::TooLarge { .. } => Kind::Internal,
            SourceError::Changed { .. } => Kind::Transient,
            SourceError::Io { source, .. } => match source.kind() {
                // A place where a file should be, and nothing that waiting would mend.
                io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Kind::Environment,
                // The caller named the repository.
                io::ErrorKind::NotFound => Kind::NotFound,
                _ => Kind::of_io(source),
            },
        }
    }

    pub(super) fn unsupported(path: &Path, feature: Feature) -> Self {
        SourceError::Unsupported { path: path.to_owned(), feature }
    }

    pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        SourceError::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    /// An error of the operating system about a file that may rightly be absent.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        SourceError::Io { path: path.to_owned(), source }
    }

    /// An error about a file that was there a moment ago: if it is gone, the source has changed.
    pub(super) fn io_of_listed(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => SourceError::Changed { path: path.to_owned() },
            _ => SourceError::io(path, source),
        }
    }
}

impl From<SourceError> for io::Error {
    /// So that a reader can fail with it; [`io::Error::downcast`] brings it back.
    fn from(error: SourceError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
