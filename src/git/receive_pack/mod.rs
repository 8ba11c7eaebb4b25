//! Server side of a push (gitprotocol-pack, "Pushing Data To a Server"): reads the request, ingests and checks the
//! pack, proves connectivity, runs hooks and writes the report. Blocking, on local files. The engine's `region::push`
//! decides on ref updates.

mod ancestry;
mod changed_paths;
mod depth;
mod end;
mod hook;
mod ingest;
mod places;
mod quarantine;
mod reach;
mod report;
mod request;

pub use ancestry::is_ancestor;
pub use changed_paths::{ChangedPaths, Update, changed_paths};
pub use depth::{TooDeep, tag_too_deep, too_deep};
pub use end::{Endless, PushEnd};
pub use hook::{CommandHook, HookError, HookInput, HookVerdict, MAX_HOOK_OUTPUT_BYTES, PreReceive};
pub use ingest::{IngestError, IngestOptions, MAX_EXPANSION, Received, ReceivedPack, check_special_blobs, ingest};
pub use places::{PlaceInPush, places_of};
pub use quarantine::Quarantine;
pub use reach::{Required, unproven};
pub use report::{Outcome, Report};
pub use request::{
    CAPABILITIES, Command, MAX_COMMANDS, MAX_PUSH_OPTIONS, MAX_SHALLOW_LINES, PushCapabilities, PushRequest,
};
