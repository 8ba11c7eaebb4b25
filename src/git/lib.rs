//! Git formats and protocols on gix: packs, the wire protocol, both sides of fetch and push. Blocking, on local files.

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
pub mod refspec;
pub mod upload_pack;
pub mod view;
