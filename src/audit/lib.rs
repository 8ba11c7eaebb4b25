//! The audit trail of a host: one record for each request, in the shape of AWS CloudTrail ("CloudTrail record contents",
//! and "Logging AWS CodeCommit API calls with AWS CloudTrail" in the CodeCommit user guide).
//!
//! A front door (HTTP, SSH, an API) makes one call for each request, [`AuditTrail::begin`], and tells the [`Entry`] what
//! it learns about the request:
//!
//! ```ignore
//! let entry = trail.begin();
//! entry.caller(Caller { protocol: Protocol::Ssh, request_id, source, user_agent, tls_host: None });
//! entry.action(Action::new("GitPush").writes());
//! entry.repository("team/app");
//! entry.authenticated(principal.identity()).await;     // a proven principal; waits at most MAX_WAIT
//! entry.refused("AccessDenied", "no policy allows …");  // or entry.succeeded()
//! ```
//!
//! The record is written when the last clone of the entry is dropped, so once for each request, also if the client hangs
//! up or the task is cancelled. [`record`] builds it without effects. It then waits in the bounded queue of each sink
//! ([`queue`]), whose task writes it ([`deliver`]) to a file or an event bus ([`sinks`]).

mod action;
mod deliver;
mod entry;
mod identity;
mod queue;
mod record;
pub mod sinks;
mod trail;

pub use action::{Action, Caller, MAX_REFERENCES, Protocol, Reference, References};
pub use entry::Entry;
pub use identity::UserIdentity;
pub use queue::{MAX_QUEUED, MAX_WAIT, SinkCounts};
pub use record::{MAX_RECORD_BYTES, bounded, code_of_status, without_secrets};
pub use trail::AuditTrail;
