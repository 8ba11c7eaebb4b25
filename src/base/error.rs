//! Error kinds: the caller's next step after a failure.
//!
//! Every module has its own error type with a method `kind`. The command line maps kinds to exit codes and adds a hint
//! for the operator.

/// Kind of an error, by the caller's next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is wrong (arguments, configuration, a forbidden name). Correct it.
    Usage,
    /// The request names something that does not exist.
    NotFound,
    /// A rule forbids the request, and nothing was changed. An operator must decide.
    Refused,
    /// Another writer committed first. Read the state again and decide again.
    Conflict,
    /// A store or the network failed temporarily. Running again is safe and may succeed.
    Transient,
    /// A write may have happened: its answer was lost, and no read has settled the outcome. Nothing that the write may
    /// refer to was removed. Read the state before deciding; repeating is safe, as every write is conditional.
    InDoubt,
    /// The environment needs repair (full disk, permissions, read-only store). Running again is safe afterwards.
    Environment,
    /// Stored or received bytes are damaged. None of them were used.
    Corrupt,
    /// Storage lacks a pack, an index or another file of gitferry's own. The object of the request exists.
    Missing,
    /// gitferry violated one of its own invariants. Please report it.
    Internal,
}

impl Kind {
    /// Returns true if the same request may succeed when repeated.
    pub fn is_retryable(self) -> bool {
        matches!(self, Kind::Conflict | Kind::Transient | Kind::InDoubt)
    }

    /// Kind of an operating system error. An absent file is [`Kind::Missing`]: only code that knows that the caller
    /// named the file can report [`Kind::NotFound`].
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

/// Formats an error with its causes, which many errors leave out of their own text.
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
