//! Facts that a front door adds to an entry: caller, action, refs.

use std::net::IpAddr;

/// Most refs of one record.
pub const MAX_REFERENCES: usize = 100;
/// Event source of Git, Git LFS and the CodeCommit API.
const CODECOMMIT: &str = "codecommit.amazonaws.com";

/// Protocol of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Git over HTTP, or another request over HTTP.
    #[default]
    Http,
    /// Git over SSH.
    Ssh,
    /// Git LFS over HTTP.
    Lfs,
    /// An API of AWS.
    Api,
}

impl Protocol {
    /// Value of `additionalEventData.protocol`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Http => "HTTP",
            Protocol::Ssh => "SSH",
            Protocol::Lfs => "LFS",
            Protocol::Api => "API",
        }
    }
}

/// Client of a request, as far as it is known before authentication.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// Protocol of the front door.
    pub protocol: Protocol,
    /// Id of the request in the log and in the response.
    pub request_id: String,
    /// Address of the client, behind trusted proxies.
    pub source: Option<IpAddr>,
    /// Software of the client.
    pub user_agent: String,
    /// Host that the client asked for, if the request was encrypted by TLS as far as the host knows.
    pub tls_host: Option<String>,
}

/// Action of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub(crate) source: &'static str,
    pub(crate) name: String,
    pub(crate) read_only: bool,
}

/// A request that addresses nothing that a host has.
impl Default for Action {
    fn default() -> Self {
        Action::new("InvalidRequest")
    }
}

impl Action {
    /// An action of CodeCommit that changes nothing.
    pub fn new(name: impl Into<String>) -> Self {
        Action { source: CODECOMMIT, name: name.into(), read_only: true }
    }

    /// The same action with a change (`readOnly` is false).
    #[must_use]
    pub fn writes(self) -> Self {
        Action { read_only: false, ..self }
    }

    /// The same action of another service, such as `iam.amazonaws.com` or `sts.amazonaws.com`.
    #[must_use]
    pub fn of(self, source: &'static str) -> Self {
        Action { source, ..self }
    }
}

/// One ref of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Name of the ref.
    pub name: String,
    /// Value that the client expected; `None` if the ref was to be created.
    pub old: Option<String>,
    /// Value that the client asked for; `None` if the ref was to be deleted.
    pub new: Option<String>,
    /// Reason for the refusal; `None` if the ref was changed.
    pub refused: Option<String>,
}

/// The first refs of a push, and the number of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub(crate) first: Vec<Reference>,
    pub(crate) left_out: u64,
}

impl References {
    /// Takes the first [`MAX_REFERENCES`], and counts the rest.
    pub fn of(all: impl ExactSizeIterator<Item = Reference>) -> Self {
        let total = all.len();
        let first: Vec<Reference> = all.take(MAX_REFERENCES).collect();
        let left_out = (total - first.len()) as u64;
        References { first, left_out }
    }

    /// Leaves out the second half of the refs.
    pub(crate) fn halve(&mut self) {
        let kept = self.first.len() / 2;
        self.left_out += (self.first.len() - kept) as u64;
        self.first.truncate(kept);
    }
}
