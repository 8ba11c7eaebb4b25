//! Opening the stores that a configuration names.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gitferry_base::clock::SystemClock;
use gitferry_config::{AwsConfig, Config, ConfigError, ObjectsLocation, Place, RegionStores, TableLocation};
use gitferry_engine::region::encryption::RepositoryKeys;
use gitferry_engine::region::standing::Standing;
use gitferry_engine::region::{Region, RegionError, probe};
use gitferry_store::objects::FilesystemStore;
use gitferry_store::objects::s3::S3Store;
use gitferry_store::table::{DynamoTable, SqliteTable, Table, TableError};

mod key_services;
mod link;

pub use key_services::{key_file, key_services, make_key_services};
pub use link::{OpenLinkError, remote_link};

type Result<T> = std::result::Result<T, RegionError>;

/// Reason why a region could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration is not valid, or names no such region.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A store does not open.
    #[error(transparent)]
    Region(#[from] RegionError),
}

impl OpenError {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> gitferry_base::Kind {
        match self {
            OpenError::Config(error) => error.kind(),
            OpenError::Region(error) => error.kind(),
        }
    }
}

/// Opens a region of a configuration, to read it. Nothing is created: a store that is missing, empty or of another
/// region is an error (see [`gitferry_engine::region::stores`]).
pub async fn region(config: &Config, name: &str) -> std::result::Result<Region, OpenError> {
    let region = open_stores(config, &config.stores(name)?, name, Missing::Error).await?;
    region.stores().check_identity().await?;
    Ok(region)
}

/// Creates a region of a configuration, with embedded stores that are missing. S3 and DynamoDB stores exist already.
/// With `accept_older_table`, a table counts although the object store has seen a later one. Returns true if the region
/// was created; an existing one stays as it is.
pub async fn init_region(
    config: &Config,
    name: &str,
    accept_older_table: bool,
) -> std::result::Result<bool, OpenError> {
    let stores = config.stores(name)?;
    let region = open_stores(config, &stores, name, Missing::Make).await?;
    prove(&region, &stores).await?;
    if accept_older_table {
        region.stores().accept_table().await?;
    }
    Ok(region.stores().make_identity().await?)
}

/// Opens a region of a configuration, to write it. Stores that are not embedded must prove first, once per process,
/// that they keep what they promise (see [`gitferry_engine::region::probe`]). Stores without an identity get one.
pub async fn writable_region(config: &Config, name: &str) -> std::result::Result<Region, OpenError> {
    let stores = config.stores(name)?;
    let region = open_stores(config, &stores, name, Missing::Error).await?;
    prove(&region, &stores).await?;
    region.stores().adopt_identity().await?;
    Ok(region)
}

/// Lets stores that are not embedded prove, once per process, that they keep what they promise (see
/// [`gitferry_engine::region::probe`]).
async fn prove(region: &Region, stores: &RegionStores) -> Result<()> {
    let [objects, table] = stores.places();
    if matches!(stores.table, TableLocation::DynamoDb(_)) && !is_proven(&table) {
        probe::table(region.table(), region.clock()).await?;
        proven(table);
    }
    if matches!(stores.objects, ObjectsLocation::S3(_)) && !is_proven(&objects) {
        probe::objects(region.objects(), region.clock()).await?;
        proven(objects);
    }
    Ok(())
}

async fn open_stores(config: &Config, stores: &RegionStores, name: &str, missing: Missing) -> Result<Region> {
    let sdk = if stores.is_remote() { Some(config.sdk.get(&stores.aws).await) } else { None };
    let objects_name = format!("object store of {name}");
    let objects = match (&stores.objects, &sdk) {
        (ObjectsLocation::S3(options), Some(sdk)) => {
            let objects_name = format!("object store s3://{} of {name}", options.bucket);
            Objects::S3(Box::new(S3Store::new(sdk, options.clone(), objects_name)))
        }
        (ObjectsLocation::Filesystem(path), _) => Objects::Files(match missing {
            Missing::Make => FilesystemStore::open(path, objects_name)?,
            Missing::Error => {
                must_be_there(name, "object store", path)?;
                FilesystemStore::open_existing(path, objects_name)?
            }
        }),
        (ObjectsLocation::S3(_), None) => unreachable!("a region with a store in S3 is remote"),
    };
    let table: Arc<dyn Table> = match (&stores.table, missing) {
        (TableLocation::Sqlite(path), Missing::Error) => {
            must_be_there(name, "table", path)?;
            Arc::new(SqliteTable::open_existing(path, format!("of {name}"))?)
        }
        (TableLocation::Sqlite(path), Missing::Make) => Arc::new(SqliteTable::open(path, format!("of {name}"))?),
        (TableLocation::DynamoDb(table), _) => {
            Arc::new(DynamoTable::open(&config.sdk.get(&stores.aws).await, table, name))
        }
    };
    let places = stores.places().map(|place| format!("{place:?}"));
    let region = match objects {
        Objects::Files(objects) => Region::new(name, Arc::new(objects), table, SystemClock::shared()),
        Objects::S3(objects) => {
            let keys = RepositoryKeys::new(table.clone());
            let objects = Arc::new(objects.with_kms_keys(keys.clone()));
            Region::new(name, objects, table, SystemClock::shared()).with_repository_keys(keys)
        }
    };
    let region = region.with_standing(Standing::shared(places, stores.is_remote()));
    Ok(match config.regions.get(name) {
        Some(said) => {
            let cache = said.cache.options(&config.path(Path::new("")), region.cache().options());
            region.with_settings(cache, said.recovery_window)
        }
        None => region,
    })
}

/// Object store of a region.
enum Objects {
    Files(FilesystemStore),
    S3(Box<S3Store>),
}

/// Treatment of embedded stores that do not exist.
#[derive(Clone, Copy, Debug)]
enum Missing {
    Make,
    Error,
}

fn must_be_there(region: &str, what: &str, path: &Path) -> Result<()> {
    match path.try_exists() {
        Ok(false) => Err(RegionError::WrongStore {
            region: region.into(),
            reason: format!(
                "its {what} {} is missing. If the region is new, make it with `gitferry region init {region}`; if not, \
                 its disk is not mounted, or it has to be restored",
                path.display()
            ),
        }),
        // Opening the store reports any other fault.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Opens the table of a link between two remotes. Nothing is created: see [`make_link_table`].
pub async fn open_link_table(
    config: &Config,
    location: &TableLocation,
    aws: &AwsConfig,
    link: &str,
) -> Result<Arc<dyn Table>> {
    let name = format!("link {link}");
    Ok(match location {
        TableLocation::DynamoDb(table) => Arc::new(DynamoTable::open(&config.sdk.get(aws).await, table, &name)),
        TableLocation::Sqlite(path) => {
            if matches!(path.try_exists(), Ok(false)) {
                return Err(TableError::Environment {
                    table: name,
                    reason: format!(
                        "{} is missing. If the link is new, make its table with `gitferry region init`; if not, its \
                         disk is not mounted, or it has to be restored",
                        path.display()
                    ),
                }
                .into());
            }
            Arc::new(SqliteTable::open_existing(path, name)?)
        }
    })
}

/// Creates the table of a link between two remotes where it is a file. Returns true if it was missing.
pub fn make_link_table(location: &TableLocation, link: &str) -> Result<bool> {
    let TableLocation::Sqlite(path) = location else { return Ok(false) };
    let missing = matches!(path.try_exists(), Ok(false));
    SqliteTable::open(path, format!("link {link}"))?;
    Ok(missing)
}

/// The stores that have proven themselves to this process.
static PROVEN: Mutex<Option<HashSet<Place>>> = Mutex::new(None);

fn is_proven(place: &Place) -> bool {
    PROVEN.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|proven| proven.contains(place))
}

fn proven(place: Place) {
    PROVEN.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(place);
}
