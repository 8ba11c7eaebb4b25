//! Packs as local files. [`super::packs`] makes them.

use std::path::PathBuf;
use std::sync::Arc;

use super::cache::Pinned;
use super::manifest::LivePack;

/// A pack and its index as local files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPack {
    /// Path of the pack.
    pub pack: PathBuf,
    /// Path of the index.
    pub index: PathBuf,
    /// Entry of the pack in the manifest.
    pub live: LivePack,
}

/// The live packs of a repository as local files. The files are sure to exist until this is dropped.
#[derive(Debug)]
pub struct LocalPacks {
    /// In the order of the manifest.
    pub packs: Vec<Arc<LocalPack>>,
    pub(super) pinned: Vec<Arc<Pinned>>,
    pub(super) _copies: Option<tempfile::TempDir>,
}
