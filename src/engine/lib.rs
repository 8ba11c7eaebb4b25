//! The ledger of a repository, and a region that keeps repositories on an object store and a table.

pub mod announce;
pub mod ledger;
pub mod region;
