//! Git formats and protocols on gix.

pub mod client;
pub mod connectivity;
pub mod fsck;
pub mod lfs;
pub mod limits;
pub mod links;
pub mod local;
pub mod memory;
pub mod own_refs;
pub mod pack;
pub mod protocol;
pub mod receive_pack;
pub mod refname;
pub mod refs;
pub mod renames;
pub mod upload_pack;
pub mod view;
