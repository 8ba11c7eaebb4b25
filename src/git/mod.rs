//! Git formats and protocols on gix.

pub mod connectivity;
pub mod fsck;
pub mod links;
pub mod local;
pub mod pack;
pub mod refname;
pub mod refs;
