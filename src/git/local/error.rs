//! Errors of reading a local repository.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use gix::bstr::BString;

use gitferry_base::Kind;

/// Feature of a repository that gitferry does not support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `core.repositoryFormatVersion` above 1 or not a number.
    FormatVersion(String),
    /// Unknown `extensions.*`.
    Extension(String),
    /// `extensions.<name>` of format version 1 in a repository of version 0, which Git refuses as well.
    ExtensionNeedsVersion1(String),
    /// `extensions.objectFormat` other than `sha1` or `sha256`.
    ObjectFormat(String),
    /// `extensions.compatObjectFormat`: two object formats in one repository.
    CompatObjectFormat,
    /// `extensions.refStorage` other than `files`; mostly `reftable`.
    RefStorage(String),
    /// Partial clone, with the setting or file that marks it as one.
    PartialClone(String),
    /// Shallow clone.
    Shallow,
    /// `info/grafts` replaces parents of commits.
    Grafts,
    /// Alternates nested deeper than Git follows them.
    AlternateDepth(PathBuf),
    /// Missing alternate object directory: the alternates file and the number of the entry, from 1.
    AlternateMissing(PathBuf, usize),
    /// Alternate object directory that belongs to a different user than the repository; fields as above.
    AlternateForeign(PathBuf, usize),
    /// Object directory that is a link out of a repository of another user.
    LinkedObjects,
    /// Symbolic link to a directory below another such link, inside `refs/`.
    LinkedRefDirectories(PathBuf),
    /// More entries than fit into memory: kind of the entries and limit.
    TooMany(&'static str, usize),
}

/// Most bytes of a setting's value that an error quotes.
const MAX_QUOTED_BYTES: usize = 32;

/// Returns a value that is safe to quote, a short word, and a placeholder for any other value, which may be the content
/// of another file.
pub(super) fn word(value: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if value.len() <= MAX_QUOTED_BYTES && !value.is_empty() && value.bytes().all(is_word) {
        value
    } else {
        "(not a word)"
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
                write!(f, "a missing alternate, entry {entry} of {}", path.display())
            }
            Feature::AlternateForeign(path, entry) => {
                write!(f, "an alternate that belongs to a different user, entry {entry} of {}", path.display())
            }
            Feature::LinkedObjects => write!(f, "an object directory outside of it, and belongs to another user"),
            Feature::LinkedRefDirectories(path) => {
                write!(f, "a link to a directory below another link inside refs/, {}", path.display())
            }
            Feature::TooMany(what, limit) => write!(f, "more than {limit} {what}"),
        }
    }
}

impl Feature {
    /// Hint: the command that makes the source readable.
    pub fn way_out(&self) -> &'static str {
        match self {
            Feature::FormatVersion(_) | Feature::Extension(_) | Feature::ObjectFormat(_) => {
                "clone it with a Git that supports it (git clone --mirror --no-local) and read the clone"
            }
            Feature::ExtensionNeedsVersion1(_) => {
                "if the extension is intended, run `git config core.repositoryFormatVersion 1` there"
            }
            Feature::CompatObjectFormat => {
                "clone it without that extension (git clone --mirror --no-local) and read the clone"
            }
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
                "restore it; or, if `git fsck` finds nothing missing, remove its line from objects/info/alternates"
            }
            Feature::LinkedRefDirectories(_) => "run `git pack-refs --all` there and remove the link",
            Feature::TooMany(..) => "run `git gc` there, which packs refs and objects",
        }
    }
}

/// Error of reading a local repository. Nothing at the source is ever changed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The path is no repository.
    #[error("there is no repository at {}: {reason}", path.display())]
    NotFound {
        /// Path of the expected repository.
        path: PathBuf,
        /// Missing or unexpected file at the path.
        reason: String,
    },
    /// The repository uses an unsupported feature, so that a copy would differ from it.
    #[error("the repository {} cannot be read faithfully: it has {feature}; {}", path.display(), feature.way_out())]
    Unsupported {
        /// Path of the repository.
        path: PathBuf,
        /// Unsupported feature.
        feature: Feature,
    },
    /// Invalid value of a ref or `HEAD`.
    #[error("the ref {name} in {} is broken: {reason}; give it a value (git update-ref) or delete it", path.display())]
    BrokenRef {
        /// File that holds the value.
        path: PathBuf,
        /// Name of the ref.
        name: BString,
        /// Reason why the value is invalid.
        reason: String,
    },
    /// Ref name that Git does not allow.
    #[error("a ref in {} has a name that Git does not allow: {reason}; rename it or delete it", path.display())]
    BadRefName {
        /// `packed-refs`, or the file of the loose ref.
        path: PathBuf,
        /// Rule that the name violates.
        reason: String,
    },
    /// The repository belongs to another user, and `safe.directory` does not make it readable.
    #[error(
        "the repository {} belongs to another user (uid {owner}), who could link it to files of yours; {}",
        path.display(),
        not_owned(path, *trusted)
    )]
    NotOwned {
        /// Path of the repository.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
        /// True if `safe.directory` lists the repository, but its parts belong to different users.
        trusted: bool,
    },
    /// File with invalid content.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Damage that was found.
        reason: String,
    },
    /// Loose object above the caller's memory limit.
    #[error("the loose object {} has {size} bytes, above the limit of {limit} for a read into memory", path.display())]
    TooLarge {
        /// Path of the object.
        path: PathBuf,
        /// Size of the object in bytes.
        size: u64,
        /// Limit of the caller in bytes.
        limit: u64,
    },
    /// A file vanished or appeared while the repository was read: a concurrent gc, repack or push. Running again is
    /// safe.
    #[error("the repository changed while it was read ({} is gone or new); run again", path.display())]
    Changed {
        /// File or directory that vanished or appeared.
        path: PathBuf,
    },
    /// The operating system failed to read a file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Hint for [`SourceError::NotOwned`].
fn not_owned(path: &Path, trusted: bool) -> String {
    if trusted {
        "its parts belong to different users, so it is not read although safe.directory lists it; clone it with \
             `git clone --mirror --no-local` and read the clone"
            .into()
    } else {
        format!(
            "if you trust that user, run `git config --global --add safe.directory {}`, else read a clone of your own",
            path.display()
        )
    }
}

impl SourceError {
    /// Kind of the error: the caller's next step.
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
                // The path exists with the wrong type: waiting does not help.
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

    /// Error of the operating system on a file that may legitimately be absent.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        SourceError::Io { path: path.to_owned(), source }
    }

    /// Error on a file that a listing has just returned: if it is gone, the source has changed.
    pub(super) fn io_of_listed(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => SourceError::Changed { path: path.to_owned() },
            _ => SourceError::io(path, source),
        }
    }
}

impl From<SourceError> for io::Error {
    /// Wraps the error for [`io::Read`] implementations; [`io::Error::downcast`] unwraps it.
    fn from(error: SourceError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
