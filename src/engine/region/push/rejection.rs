//! Refusals of commands: in words for the client, and by cause for metrics.

/// Cause of a refusal, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The ref has moved since the client read it.
    Stale,
    /// A protection, or a ref that clients may not write: hidden, gitferry's own, the branch of HEAD.
    Protected,
    /// Access policies do not allow the change.
    Unauthorized,
    /// No ref can have the name.
    Name,
    /// Commands contradict each other, or would make a name directory and file at once.
    Conflict,
    /// Objects are missing, or are of another type than the ref takes.
    Objects,
    /// The pack is damaged, too large, or has malformed objects.
    Pack,
    /// A quota on storage is used up.
    Quota,
    /// Objects of Git LFS are missing or have another size.
    Lfs,
    /// The hook declined.
    Hook,
    /// The hook could not be asked.
    HookFailed,
    /// The region takes no writes for the repository, or the repository was replaced.
    NotWritable,
    /// Other pushes came first each time.
    Contention,
    /// The server failed.
    Server,
}

impl Rejection {
    /// All causes.
    pub const ALL: [Rejection; 14] = [
        Rejection::Stale,
        Rejection::Protected,
        Rejection::Unauthorized,
        Rejection::Name,
        Rejection::Conflict,
        Rejection::Objects,
        Rejection::Pack,
        Rejection::Quota,
        Rejection::Lfs,
        Rejection::Hook,
        Rejection::HookFailed,
        Rejection::NotWritable,
        Rejection::Contention,
        Rejection::Server,
    ];

    /// Name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Rejection::Stale => "stale",
            Rejection::Protected => "protected",
            Rejection::Unauthorized => "unauthorized",
            Rejection::Name => "name",
            Rejection::Conflict => "conflict",
            Rejection::Objects => "objects",
            Rejection::Pack => "pack",
            Rejection::Quota => "quota",
            Rejection::Lfs => "lfs",
            Rejection::Hook => "hook",
            Rejection::HookFailed => "hook_failed",
            Rejection::NotWritable => "not_writable",
            Rejection::Contention => "contention",
            Rejection::Server => "server",
        }
    }
}

/// Refusal of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Cause of the refusal.
    pub rejection: Rejection,
    /// Reason that the client is told.
    pub reason: String,
}

impl Refused {
    /// A refusal with a reason for the client.
    pub fn new(rejection: Rejection, reason: impl Into<String>) -> Self {
        Refused { rejection, reason: reason.into() }
    }
}
