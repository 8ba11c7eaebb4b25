//! Opening the stores that a configuration names.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::PackCache;
use super::{Region, Result, probe};
use crate::clock::SystemClock;
use crate::config::{AwsConfig, Config, ConfigError, ObjectsLocation, Place, RegionStores, TableLocation};
use crate::objects::s3::S3Store;
use crate::objects::{FilesystemStore, ObjectStore};
use crate::table::{DynamoTable, SqliteTable, Table};

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
    /// Opens a region of a configuration, to read it; embedded stores are made where they are missing. Asks AWS
    /// nothing yet.
    pub async fn open(config: &Config, name: &str) -> std::result::Result<Region, OpenError> {
        Ok(Region::open_stores(config, &config.stores(name)?, name).await?)
    }

    /// Opens a region of a configuration, to write it: stores that are not embedded must prove first, once per
    /// process, that they keep what they promise (see [`probe`]).
    pub async fn open_writable(config: &Config, name: &str) -> std::result::Result<Region, OpenError> {
        let stores = config.stores(name)?;
        let region = Region::open_stores(config, &stores, name).await?;
        let [objects, table] = stores.places();
        if matches!(stores.table, TableLocation::DynamoDb(_)) && !is_proven(&table) {
            probe::table(&*region.table, &*region.clock).await?;
            proven(table);
        }
        if matches!(stores.objects, ObjectsLocation::S3(_)) && !is_proven(&objects) {
            probe::objects(&*region.objects, &*region.clock).await?;
            proven(objects);
        }
        Ok(region)
    }

    async fn open_stores(config: &Config, stores: &RegionStores, name: &str) -> Result<Region> {
        let sdk = if stores.is_remote() { Some(config.sdk.get(&stores.aws).await) } else { None };
        let objects_name = format!("object store of {name}");
        let objects: Arc<dyn ObjectStore> = match (&stores.objects, &sdk) {
            (ObjectsLocation::S3(options), Some(sdk)) => {
                Arc::new(S3Store::new(sdk, options.clone(), format!("object store s3://{} of {name}", options.bucket)))
            }
            (ObjectsLocation::Filesystem(path), _) => Arc::new(FilesystemStore::open(path, objects_name)?),
            (ObjectsLocation::S3(_), None) => unreachable!("a region with a store in S3 is remote"),
        };
        let table = open_table(config, &stores.table, &stores.aws, name).await?;
        let mut region = Region::new(name, objects, table, SystemClock::shared());
        if let Some(said) = config.regions.get(name) {
            let options = said.cache.options(&config.path(Path::new("")), region.cache.options());
            region.cache = PackCache::shared(options);
            region.recovery_window = said.recovery_window;
        }
        Ok(region)
    }

    /// Opens a region on the embedded stores.
    pub fn open_embedded(name: &str, objects: &Path, table: &Path) -> Result<Region> {
        let objects = FilesystemStore::open(objects, format!("object store of {name}"))?;
        let table = SqliteTable::open(table, format!("of {name}"))?;
        Ok(Region::new(name, Arc::new(objects), Arc::new(table), SystemClock::shared()))
    }
}

/// Opens a table; `name` says whose it is.
pub async fn open_table(
    config: &Config,
    location: &TableLocation,
    aws: &AwsConfig,
    name: &str,
) -> Result<Arc<dyn Table>> {
    Ok(match location {
        TableLocation::DynamoDb(table) => Arc::new(DynamoTable::open(&config.sdk.get(aws).await, table, name)),
        TableLocation::Sqlite(path) => Arc::new(SqliteTable::open(path, format!("of {name}"))?),
    })
}

/// The stores that have proven themselves to this process.
static PROVEN: Mutex<Option<HashSet<Place>>> = Mutex::new(None);

fn is_proven(place: &Place) -> bool {
    PROVEN.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|proven| proven.contains(place))
}

fn proven(place: Place) {
    PROVEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(place);
}
