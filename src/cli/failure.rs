//! End of a command: exit codes, error messages, and hints with the next command to run.

use std::path::Path;
use std::process::ExitCode;

use super::output;
use super::places::USUAL_DIR;
use gitferry_base::Kind;
use gitferry_config::{ConfigError, DEFAULT_FILE};
use gitferry_engine::region::RegionError;
use gitferry_git::client::ClientError;
use gitferry_replication::ReplicationError;
use gitferry_replication::mirror::MirrorError;
use gitferry_service::open::{OpenError, OpenLinkError};

/// Exit status of a command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// No difference, no failure.
    Done,
    /// The command found a difference.
    Difference,
    /// A rule forbade part of the work: running the command again does not help.
    Refused,
    /// Part of the work failed; running the command again is safe.
    Failed,
}

impl Exit {
    /// Returns the more severe of two: a difference before a failure before a refusal.
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

/// Failure of a command, with its exit code and a hint.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
    /// True if the stores of one region are lost, swapped or rolled back; other regions can go on.
    store_fault: bool,
}

impl Failure {
    /// A request that is not valid: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { code: 2, message: message.into(), hint: None, store_fault: false }
    }

    /// A command stopped by a signal: exit code 3.
    pub fn interrupted() -> Self {
        let hint = Some("nothing half-done is visible; run the same command again to resume".into());
        Failure { code: 3, message: "interrupted".into(), hint, store_fault: false }
    }

    /// Sets the hint: the next thing to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prefixes the message with the action or thing that failed.
    pub fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Returns true if the request or the configuration has to change before anything can be done. A region whose
    /// stores are lost, swapped or rolled back does not count: other regions go on.
    pub fn is_refusal(&self) -> bool {
        self.code == 2 && !self.store_fault
    }

    /// Message without prefix and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Prints message and hint to standard error.
    pub fn print(&self) {
        output::note(format!("error: {}", self.message));
        if let Some(hint) = &self.hint {
            output::note(format!("  hint: {hint}"));
        }
    }

    /// Prints the failure and returns its exit code.
    pub fn report(self) -> ExitCode {
        self.print();
        ExitCode::from(self.code)
    }

    fn of(kind: Kind, message: String) -> Self {
        let code = if is_refusal(kind) { 2 } else { 3 };
        Failure { code, message, hint: hint_for(kind).map(Into::into), store_fault: false }
    }
}

/// Returns true if the request itself has to change before it can succeed.
pub fn is_refusal(kind: Kind) -> bool {
    matches!(kind, Kind::Usage | Kind::NotFound | Kind::Refused)
}

/// Returns the general hint for a kind of error.
pub fn hint_for(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Usage | Kind::NotFound | Kind::Refused => None,
        Kind::Conflict => Some("another process changed the repository first; run the same command again"),
        Kind::Transient => Some("nothing half-done is visible; run the same command again"),
        Kind::InDoubt => {
            Some("the change may have happened; run the same command again, which finds out and resumes from there")
        }
        Kind::Environment => {
            Some("nothing half-done is visible; free disk space or fix permissions, then run the command again")
        }
        Kind::Corrupt => Some(
            "no damaged data was used and nothing was changed; `gitferry verify NAME --region R --deep` lists all \
             damage, and `gitferry repair NAME --region R --from OTHER` replaces damaged packs and LFS objects with \
             copies from another region",
        ),
        Kind::Missing => Some(
            "storage lacks something that it should have; `gitferry verify NAME --region R` lists all that is \
             missing, and `gitferry repair NAME --region R --from OTHER` copies it from another region",
        ),
        Kind::Internal => Some("this is a bug in gitferry; nothing was changed; please report it with this message"),
    }
}

/// Returns the hint for an error, or for its kind.
pub fn hint_for_error(error: &ReplicationError) -> Option<&'static str> {
    let special = match error {
        ReplicationError::Mirror { error, .. } => hint_for_mirror(error),
        ReplicationError::BadObject { .. } => Some(
            "nothing was overwritten; `gitferry repair NAME --region R --from OTHER` copies it from a region that holds \
             it undamaged",
        ),
        ReplicationError::NoNames { .. } => Some("name repositories on the command line, or in full in `repositories`"),
        _ => None,
    };
    special.or_else(|| hint_for(error.kind()))
}

fn hint_for_mirror(error: &MirrorError) -> Option<&'static str> {
    Some(match error {
        MirrorError::LeaseHeld => "another worker, function or command replicates it; run the command again after that",
        MirrorError::EmptySource { .. } => "if the source is meant to be empty, add --allow-empty",
        MirrorError::Formats { .. } => "recreate the target with the source's object format",
        MirrorError::LfsMissing { .. } => {
            "push them to the source with `git lfs push --all`, or skip them: lfs_missing = \"allow\" for the link"
        }
        MirrorError::LfsUnsupported { .. } => {
            "enable filters at the source (Git: uploadpack.allowFilter), or set lfs = \"ignore\" for the link"
        }
        MirrorError::CannotSplit { .. } => {
            "nothing was pushed; set `via = \"REGION\"` for the link, so that a region splits the history, or raise \
             the target's limit for pushes"
        }
        MirrorError::Unpack { .. } => {
            "a check or limit of the target forbids the push; the target's log says which. Objects that other refs \
             need may have arrived"
        }
        MirrorError::Client(ClientError::Unauthorized { .. }) => {
            "check `auth` of the remote, and that its token or key may read the source and write the target"
        }
        MirrorError::Client(ClientError::NotFound { .. }) => {
            "check `url` of the remote and the repository's name; gitferry does not create repositories at remotes"
        }
        MirrorError::Client(ClientError::Untrusted { .. }) => {
            "nothing was sent; check the fingerprint with the server's owner before changing `ca` or `known_hosts`"
        }
        MirrorError::Client(ClientError::Shallow { .. }) => {
            "run `git fetch --unshallow` at the source, or choose a source that has the whole history"
        }
        _ if error.kind().is_retryable() => {
            "refs that were pushed stay, the others are unchanged; run the same command again to resume"
        }
        _ => return None,
    })
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Self {
        let mut failure = Failure::of(error.kind(), error.to_string());
        failure.store_fault = matches!(error, RegionError::WrongStore { .. });
        match &error {
            RegionError::NoRepository { region, .. } => {
                failure.hint(format!("`gitferry repo list --region {region}` lists the repositories of the region"))
            }
            RegionError::Replica { name, primary, .. } => {
                failure.hint(format!("write to {name} in {primary}; replication copies the change to this region"))
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
            let hint = "compare both ledgers with `gitferry log NAME --region R`, then decide which history stays";
            failure = failure.hint(hint);
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
                if of_up.exists() && *file == *DEFAULT_FILE {
                    failure.hint(format!("`gitferry up` has written one: add --config {}", of_up.display()))
                } else {
                    failure.hint(
                        "`gitferry init` writes one; --config FILE or GITFERRY_CONFIG names another; \
                         GITFERRY_CONFIG_TOML may hold its text",
                    )
                }
            }
            ConfigError::Unreadable { file, .. } => failure.hint(format!(
                "nothing was changed; let this user read the file, or name another with --config (`ls -l {}` shows the \
                 permissions)",
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
    gitferry_service::lambda::runtime::RuntimeError
);

impl From<gitferry_identity::AdministrationError> for Failure {
    fn from(error: gitferry_identity::AdministrationError) -> Self {
        use gitferry_identity::AdministrationError as E;
        let failure = Failure::of(error.kind(), error.to_string());
        match &error {
            _ if error.kind() == Kind::InDoubt => {
                failure.hint("list what the account has now before you run the command again")
            }
            E::Keys(_) | E::KeyService(_) => failure.hint(
                "nothing was changed; `[account]` of the configuration names the key services, and \
                 `gitferry iam data-key list` those that the data keys need",
            ),
            E::LacksKeyService { .. } | E::NoKeyService => failure.hint(
                "nothing was changed; add them to `[account]` (`key`, `kms_key`), or leave them out with --without ID",
            ),
            _ => failure,
        }
    }
}

impl From<gitferry_host::ssh::host_keys::HostKeyError> for Failure {
    fn from(error: gitferry_host::ssh::host_keys::HostKeyError) -> Self {
        Failure::of(error.kind(), error.to_string())
    }
}

impl From<gitferry_iam::secret::LocalKeyError> for Failure {
    fn from(error: gitferry_iam::secret::LocalKeyError) -> Self {
        Failure::of(error.kind(), error.to_string()).hint(
            "`[account] key` names the key file of the account, relative to the configuration: `gitferry iam init` makes \
             it with the account; to other machines it is copied, with mode 0600",
        )
    }
}

impl From<gitferry_host::listen::tls::CertificateError> for Failure {
    fn from(error: gitferry_host::listen::tls::CertificateError) -> Self {
        Failure::of(error.kind(), error.to_string()).hint(
            "`tls` of the host needs a certificate and its key as PEM files that this user may read; paths are \
             relative to the configuration",
        )
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // I/O errors reach this conversion only for files that the caller named: a missing one is a wrong request.
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::of_io(&error) };
        let failure = Failure::of(kind, error.to_string());
        match error.kind() {
            std::io::ErrorKind::AddrInUse => failure
                .hint("another process listens on it (`ss -ltnp` shows which): stop it, or configure another address"),
            std::io::ErrorKind::AddrNotAvailable => failure
                .hint("this machine has no such address (`ip address` lists its addresses): configure one of them"),
            std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
                failure.hint("the path is a file where a folder is needed, or the reverse: name another path")
            }
            std::io::ErrorKind::InvalidData => {
                failure.hint("the file is damaged (not UTF-8, or truncated): write it again")
            }
            _ if error.raw_os_error() == Some(libc::EMFILE) => {
                failure.hint("the process has reached its limit of open files: raise it (`ulimit -n`) and try again")
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
