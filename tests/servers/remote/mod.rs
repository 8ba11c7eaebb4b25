//! Git servers that gitferry did not build, reached over HTTP and SSH: Git's own, gitferry's, OpenSSH, and such as
//! misbehave.

mod credentials;
mod early;
mod head;
mod hosts;
mod http;
mod place;
mod ssh;
mod ssh_hostile;
mod wire;
