//! upload-pack against real Git clients, over `git://` (with state) and HTTP (without).
mod cloning;
mod fetching;
mod hostile;
mod listing;
mod parity;
mod partial;
mod permission;
mod random;
mod raw;
mod repo;
mod shallow;
mod traced;
mod work;
