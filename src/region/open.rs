//! Opening the stores that a configuration names.

use std::sync::Arc;

use super::{Region, Result};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError};
use crate::objects::FilesystemStore;
use crate::table::SqliteTable;

/// Why a region could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration does not allow it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A store does not open.
    #[error(transparent)]
    Region(#[from] super::RegionError),
}

impl OpenError {
    /// What the caller should do.
    pub fn kind(&self) -> crate::Kind {
        match self {
            OpenError::Config(error) => error.kind(),
            OpenError::Region(error) => error.kind(),
        }
    }
}

impl Region {
    /// Opens a region of a configuration; embedded stores are made where they are missing.
    pub fn open(config: &Config, name: &str) -> std::result::Result<Region, OpenError> {
        let (objects, table) = config.region_paths(name)?;
        Ok(Region::open_embedded(name, &objects, &table)?)
    }

    /// Opens a region on the embedded stores.
    pub fn open_embedded(name: &str, objects: &std::path::Path, table: &std::path::Path) -> Result<Region> {
        let objects = FilesystemStore::open(objects, format!("object store of {name}"))?;
        let table = SqliteTable::open(table, format!("of {name}"))?;
        Ok(Region::new(name, Arc::new(objects), Arc::new(table), SystemClock::shared()))
    }
}
