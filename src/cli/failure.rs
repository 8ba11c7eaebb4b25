//! How a command ends: exit codes, and the hint for the reader on call.

use std::path::Path;
use std::process::ExitCode;

use super::output;
use gitferry_base::Kind;
use gitferry_config::{ConfigError, DEFAULT_FILE};
use gitferry_engine::region::RegionError;
use gitferry_git::client::ClientError;
use gitferry_replication::ReplicationError;
use gitferry_replication::remotes::RemotesError;
use gitferry_service::open::{OpenError, OpenLinkError};

use super::up::USUAL_DIR;

/// A command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Done,
    /// It found a difference.
    Difference,
    /// A rule forbade part of it: running it again as it stands does not help.
    Refused,
    /// Part of it failed and may be run again.
    Failed,
}

impl Exit {
    /// The one of two that is worth more attention: a difference before a failure before a refusal.
    pub fn worse(self, other: Exit) -> Exit {
        let rank = |exit| match exit {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Failed => 2,
            Exit::Difference => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Difference => 1,
            Exit::Refused => 2,
            Exit::Failed => 3,
        })
    }
}

/// A command that did not.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
    /// The stores of one region are to blame.
    of_stores: bool,
}

impl Failure {
    /// The request is not valid as it stands.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { code: 2, message: message.into(), hint: None, of_stores: false }
    }

    /// Stopped by a signal.
    pub fn interrupted() -> Self {
        let hint = Some("nothing half-done is visible; run the same command again to go on".into());
        Failure { code: 3, message: "interrupted".into(), hint, of_stores: false }
    }

    /// Adds what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says first what could not be done.
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The request or the configuration has to change before anything can be done. A region whose stores are lost,
    /// foreign or set back is no such failure: other regions go on.
    pub fn is_refusal(&self) -> bool {
        self.code == 2 && !self.of_stores
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints it on standard error.
    pub fn print(&self) {
        output::note(format!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            output::note(format!("  hint: {hint}"));
        }
    }

    /// Prints it; the exit code.
    pub fn report(self) -> ExitCode {
        self.print();
        ExitCode::from(self.code)
    }

    fn of(kind: Kind, message: String) -> Self {
        let code = if is_refusal(kind) { 2 } else { 3 };
        Failure { code, message, hint: hint_for(kind).map(Into::into), of_stores: false }
    }
}

/// Whether the request itself has to change before it can succeed.
pub fn is_refusal(kind: Kind) -> bool {
    matches!(kind, Kind::Usage | Kind::NotFound | Kind::Refused)
}

/// What helps with a kind of error in general.
pub fn hint_for(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Usage | Kind::NotFound | Kind::Refused => None,
        Kind::Conflict => Some("somebody else was faster; run the same command again"),
        Kind::Transient => Some("nothing half-done is visible; run the same command again"),
        Kind::InDoubt => {
            Some("it may have happened; run the same command again, which finds out and goes on from there")
        }
        Kind::Environment => {
            Some("nothing half-done is visible; make room or mend the permissions, then run the same command again")
        }
        Kind::Corrupt => Some(
            "nothing of it was used and nothing was changed; `gitferry verify NAME --region R --deep` lists all damage, \
             `gitferry repair NAME --region R --from OTHER` mends packs and LFS objects from another region",
        ),
        Kind::Missing => Some(
            "storage lacks something that it should have; `gitferry verify NAME --region R` lists all of it, and \
             `gitferry repair NAME --region R --from OTHER` copies it from another region",
        ),
        Kind::Internal => Some("this is a bug in gitferry; nothing was changed; please report it with this message"),
    }
}

/// What helps with this error, or else with its kind.
pub fn hint_for_error(error: &ReplicationError) -> Option<&'static str> {
    let special = match error {
        ReplicationError::Remotes { error, .. } => hint_for_remotes(error),
        ReplicationError::BadObject { .. } => Some(
            "nothing was overwritten; `gitferry repair NAME --region R --from OTHER` copies it from a region that has it \
             sound",
        ),
        ReplicationError::NoNames { .. } => Some("name repositories on the command line, or in full in `repositories`"),
        _ => None,
    };
    special.or_else(|| hint_for(error.kind()))
}

fn hint_for_remotes(error: &RemotesError) -> Option<&'static str> {
    Some(match error {
        RemotesError::UnderWay => "a worker, a function or another command carries it; run it again when that is done",
        RemotesError::EmptySource { .. } => "if the source is meant to be empty, run it with --allow-empty",
        RemotesError::Formats { .. } => "make the target anew with the source's object format",
        RemotesError::LfsMissing { .. } => {
            "push them there with `git lfs push --all`, or let the link go on without them: lfs_missing = \"allow\""
        }
        RemotesError::LfsUnsupported { .. } => {
            "enable filters there (Git: uploadpack.allowFilter), or set lfs = \"ignore\""
        }
        RemotesError::Whole { .. } => {
            "nothing was moved; give the link a region, `via = \"REGION\"`, that parts the history, or let the target take \
             larger pushes"
        }
        RemotesError::Unpack { .. } => {
            "the target's own checks or limits forbid it; its log tells which. What other refs needed may have got there"
        }
        RemotesError::Client(ClientError::Unauthorized { .. }) => {
            "check `auth` of the remote, and that its token or key may read the source and write the target"
        }
        RemotesError::Client(ClientError::NotFound { .. }) => {
            "check `url` of the remote and the repository's name; gitferry makes no repositories at remotes"
        }
        RemotesError::Client(ClientError::Untrusted { .. }) => {
            "nothing was sent; compare with what the server's owner says before changing `ca` or `known_hosts`"
        }
        RemotesError::Client(ClientError::Shallow { .. }) => {
            "run `git fetch --unshallow` there, or choose a source that has all of the history"
        }
        _ if error.kind().is_retryable() => {
            "refs that were pushed stay, the others are as they were; run the same command again to go on"
        }
        _ => return None,
    })
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Self {
        let mut failure = Failure::of(error.kind(), error.to_string());
        failure.of_stores = matches!(error, RegionError::WrongStore { .. });
        match &error {
            RegionError::NoRepository { region, .. } => {
                failure.hint(format!("`gitferry repo list --region {region}` shows those that there are"))
            }
            RegionError::Replica { name, primary, .. } => {
                failure.hint(format!("write {name} in {primary}; replication brings the change here"))
            }
            _ => failure,
        }
    }
}

impl From<ReplicationError> for Failure {
    fn from(error: ReplicationError) -> Self {
        let mut failure = Failure::of(error.kind(), error.to_string());
        if let Some(hint) = hint_for_error(&error) {
            failure = failure.hint(hint);
        }
        if matches!(error, ReplicationError::Fork { .. }) {
            failure.code = 1;
            failure = failure.hint("compare both ledgers with `gitferry log NAME --region R`; a person has to choose");
        }
        failure
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Config(error) => error.into(),
            OpenError::Region(error) => error.into(),
        }
    }
}

impl From<OpenLinkError> for Failure {
    fn from(error: OpenLinkError) -> Self {
        match error {
            OpenLinkError::Open(error) => error.into(),
            OpenLinkError::Remote(error) => error.into(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let failure = Failure::of(error.kind(), error.to_string());
        match error {
            ConfigError::Missing { file } => {
                let of_up = Path::new(USUAL_DIR).join(DEFAULT_FILE);
                match of_up.exists() && *file == *DEFAULT_FILE {
                    true => failure.hint(format!("`gitferry up` has made one: add --config {}", of_up.display())),
                    false => failure.hint(
                        "`gitferry init` writes one; --config FILE or GITFERRY_CONFIG name another; GITFERRY_CONFIG_TOML \
                         may hold its text",
                    ),
                }
            }
            ConfigError::Unreadable { file, .. } => failure.hint(format!(
                "nothing was changed; --config names a file that this user may read (`ls -l {}`)",
                file.display()
            )),
            _ => failure,
        }
    }
}

macro_rules! failure_by_kind {
    ($($error:ty),*) => { $(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::of(error.kind(), error.to_string())
            }
        }
    )* };
}

failure_by_kind!(
    gitferry_engine::ledger::LedgerError,
    gitferry_store::table::TableError,
    gitferry_git::refname::NameError,
    gitferry_host::forward::ForwarderError,
    gitferry_service::events::codecommit::Rejection,
    gitferry_remote::RemoteError,
    gitferry_service::worker::lambda::runtime::RuntimeError
);

impl From<gitferry_host::listen::tls::CertificateError> for Failure {
    fn from(error: gitferry_host::listen::tls::CertificateError) -> Self {
        Failure::of(error.kind(), error.to_string()).hint(
            "`tls` of the host names a certificate and its key as PEM files, relative to the configuration, which this \
             user may read",
        )
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A command passes on only what became of a file that its caller named.
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::of_io(&error) };
        let failure = Failure::of(kind, error.to_string());
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure
                .hint("another process listens there (`ss -ltnp` names it): stop it, or configure another address"),
            std::io::ErrorKind::AddrNotAvailable => failure
                .hint("this machine has no such address (`ip address` lists those that it has): configure one of them"),
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
                failure.hint("a path names a file where a folder is needed, or the other way round: name another one")
            }
            std::io::ErrorKind::InvalidData => {
                failure.hint("the content of the file is not what it should be (not UTF-8, or cut off): write it anew")
            }
            _ if error.raw_os_error() == Some(libc::EMFILE) => {
                failure.hint("this process may open no more files: raise the limit (`ulimit -n`) and run it again")
            }
            _ => failure,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure::of(Kind::Internal, error.to_string())
    }
}
