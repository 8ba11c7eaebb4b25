//! Git over SSH for one region, in the process of the host.
//!
//! `listen` accepts connections and drains them at shutdown, within the limits that `link` keeps per connection.
//! `session` answers the messages of one connection, which `russh` reads: it authenticates by public key
//! (`identities`, `authorized_keys`; `failed_logins` for those that fail), opens channels and starts one `conversation` for
//! each command (`command`). A conversation ends in the same services as a request over HTTP: `fetch`, `push`, admission
//! control, push policies; `lfs_tokens` are the credentials that `git-lfs-authenticate` hands out for the host's HTTP address; `lfs_transfer`
//! transfers LFS objects over SSH itself.
//!
//! There is no shell, no terminal, no forwarding, no agent and no subsystem.

pub mod authorized_keys;
mod command;
mod conversation;
mod failed_logins;
pub mod host_keys;
pub mod identities;
mod input;
pub mod lfs_tokens;
mod lfs_transfer;
mod link;
mod listen;
mod output;
mod packets;
mod session;

pub use listen::SshListening;
