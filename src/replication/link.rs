//! A link between two regions, and the values that its deliveries hand on.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Semaphore;

use super::progress::Progress;
use gitferry_config::{CarriedNames, LinkMode};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::log::ChangeRow;
use gitferry_engine::region::Region;

/// A link between two regions with both ends open.
#[derive(Clone, Debug)]
pub struct Link {
    /// Name of the link in the configuration.
    pub name: String,
    /// Region that is read.
    pub source: Region,
    /// Region that is written.
    pub target: Region,
    /// Names of the repositories that the link carries.
    pub repositories: CarriedNames,
    /// Active, or standby for another link to the same target.
    pub mode: LinkMode,
    /// Names of all active links of the configuration. A repository's feeder that is not among them was removed.
    pub active_links: Arc<[String]>,
    /// Names of those that carry the account's repository. An account's feeder that is not among them was told to stop.
    pub account_links: Arc<[String]>,
    /// Permits for parts in memory, shared by all transfers of the process.
    pub memory: Arc<Semaphore>,
    /// Counters of the link's passes.
    pub progress: Arc<Progress>,
}

/// Outcome of a delivery that changed the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Delivered {
    /// Changes applied.
    pub changes: u64,
    /// Ref edits in them.
    pub edits: u64,
    /// Packs copied.
    pub packs: u64,
    /// LFS objects copied.
    pub lfs_objects: u64,
    /// Bytes of packs, indexes and LFS objects that the changes needed.
    pub bytes: u64,
    /// Milliseconds from the commit of the oldest change at its origin to its visibility in the target; never below 0.
    #[serde(rename = "lag_seconds", serialize_with = "gitferry_base::text::millis_as_seconds")]
    pub lag_ms: i64,
    /// Seq of the last change.
    #[serde(skip)]
    pub seq: u64,
    /// True if the commit included the caller's writes (see [`Link::deliver_with`]).
    #[serde(skip)]
    pub along: bool,
}

/// Both heads of a repository, as read at one time, and the changes between them.
pub(super) struct Lag {
    pub source: HeadItem,
    pub target: Option<HeadItem>,
    pub rows: Vec<ChangeRow>,
}
