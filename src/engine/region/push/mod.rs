//! Pushes: objects and ref commands from a client become one change, or nothing.
//!
//! A push has three steps. [`mod@judge`] receives the pack, checks it, proves connectivity and asks the hook; it blocks and
//! changes nothing. [`decide()`] determines the outcome for each ref in one exact state. [`Receiver::push`]
//! makes the pack durable and commits, deciding again each time another writer comes first. [`Serving`] runs all three
//! behind Git's protocol.

mod authorization;
mod decide;
mod judge;
mod judged;
mod lfs;
mod objects;
mod policy;
mod quota;
mod receive;
mod rejection;
mod room;
mod serve;
mod state;
mod unborn;

pub use authorization::{Facts, RefAuthorizer, RefUpdate};
pub use decide::{Decision, Fact, decide};
pub use judge::{PushProgress, judge};
pub use judged::Judged;
pub use lfs::MAX_REPORTED_LFS;
pub use objects::MAX_SEPARATE_WALKS;
pub use policy::{MAX_OBJECT_BYTES, MAX_PUSH_BYTES, Missing, Protection, PushPolicy, WithHead, is_hidden};
pub use quota::{PackRoom, Reservation, Reserved, StorageQuota};
pub use receive::{MAX_PUSH_ATTEMPTS, Pushed, Receiver};
pub use rejection::{Refused, Rejection};
pub use serve::{MAX_DRAINED_BYTES, Serving};
pub use state::{CommitPermit, FreshStates, PushState, PushStates, without};
pub use unborn::Unborn;
