//! What went wrong, sorted by what the caller should do about it.
//!
//! Every module has its own error type; each tells its [`Kind`]. The command line turns kinds into
//! exit codes and adds the hint for the reader on call.

/// What a caller should do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request itself is wrong (arguments, configuration, a name that is not allowed). Correct it.
    Usage,
    /// Something that was named does not exist.
    NotFound,
    /// A rule forbids it and nothing was changed. A person has to decide.
    Refused,
    /// Another writer came first. Read the state again and decide again.
    Conflict,
    /// A store or the network failed for now. Running again is safe and may help.
    Transient,
    /// A write may have happened: its answer was lost, and no read has settled it. Nothing that it may have named was
    /// removed. Read the state before deciding; repeating is safe, as every write is conditional.
    InDoubt,
    /// The surroundings need a hand (full disk, permissions, read-only store). Safe to run again after.
    Environment,
    /// Bytes are not what they should be. Nothing that was read from there has been used.
    Corrupt,
    /// Storage lacks something that it should have: a pack, an index, a file of gitferry's own. What the request
    /// names exists.
    Missing,
    /// gitferry broke a rule of its own. Please report it.
    Internal,
}

impl Kind {
    /// Whether the same request may succeed when it is simply repeated.
    pub fn is_retryable(self) -> bool {
        matches!(self, Kind::Conflict | Kind::Transient | Kind::InDoubt)
    }

    /// The kind of an operating system error. A file that is not there is [`Kind::Missing`]: only the place that knows
    /// that the caller named the file can call it [`Kind::NotFound`].
    pub fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::Missing,
            E::PermissionDenied | E::StorageFull | E::ReadOnlyFilesystem | E::QuotaExceeded | E::FileTooLarge => {
                Kind::Environment
            }
            E::UnexpectedEof | E::InvalidData => Kind::Corrupt,
            _ => Kind::Transient,
        }
    }
}

/// An error with its causes, which many leave out of their own text.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}
