//! Locations of stores: on this machine or in AWS.

use std::path::{Path, PathBuf};

use gitferry_store::aws::AwsConfig;
use gitferry_store::objects::s3::S3Options;

/// Location of an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectsLocation {
    /// `file:PATH`: a folder.
    Filesystem(PathBuf),
    /// `s3://BUCKET[/PREFIX]`: a bucket, or a prefix within one.
    S3(S3Options),
}

/// Location of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableLocation {
    /// `sqlite:PATH`: a file.
    Sqlite(PathBuf),
    /// `dynamodb://TABLE`: a table by name.
    DynamoDb(String),
}

/// Locations of both stores of a region, with its AWS settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStores {
    /// Location of the object store.
    pub objects: ObjectsLocation,
    /// Location of the table.
    pub table: TableLocation,
    /// AWS settings of both stores.
    pub aws: AwsConfig,
}

/// Parses the location of a table.
pub(super) fn table(location: &str, folder: &Path) -> Result<TableLocation, String> {
    if !location.starts_with("dynamodb:") {
        let path = path(location, "sqlite", folder).map_err(|reason| format!("{reason}, or dynamodb://TABLE"))?;
        return Ok(TableLocation::Sqlite(path));
    }
    let Some(name) = location.strip_prefix("dynamodb://") else {
        return Err(format!("`{location}` is not of the form dynamodb://TABLE"));
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !(3..=255).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(format!("`{name}` is not a valid table name (3 to 255 of a-z, A-Z, 0-9, `_`, `-`, `.`)"));
    }
    Ok(TableLocation::DynamoDb(name.to_owned()))
}

/// Parses a location such as `file:///a/b` or `file:relative` into an absolute path.
pub(super) fn path(location: &str, scheme: &str, folder: &Path) -> Result<PathBuf, String> {
    let Some(path) = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) else {
        return Err(format!("`{location}` is not of the form {scheme}:PATH"));
    };
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(format!("`{location}` names a host; use {scheme}:///absolute or {scheme}:relative"));
        }
        None => path,
    };
    if path.is_empty() {
        return Err(format!("`{location}` has no path"));
    }
    let folder = std::path::absolute(folder.join(".")).map_err(|error| error.to_string())?;
    Ok(folder.join(path))
}

/// Canonical identity of a store. No two regions may have overlapping places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file or folder, by canonical path.
    Local(PathBuf),
    /// Keys of a bucket. Bucket names are unique across AWS regions and accounts.
    Bucket {
        /// Endpoint of the bucket; `None` for AWS.
        endpoint: Option<String>,
        /// Name of the bucket.
        bucket: String,
        /// Prefix of the keys.
        prefix: String,
    },
    /// A DynamoDB table. Table names are unique per AWS region and account.
    Table {
        /// Endpoint of the table; `None` for AWS.
        endpoint: Option<String>,
        /// AWS region, if configured.
        region: Option<String>,
        /// Account of the configured role, or else the profile.
        owner: Option<String>,
        /// Name of the table.
        table: String,
    },
}

impl Place {
    /// Returns true if stores at the two places would share data.
    pub fn overlaps(&self, other: &Place) -> bool {
        match (self, other) {
            (
                Place::Bucket { endpoint, bucket, prefix },
                Place::Bucket { endpoint: other_endpoint, bucket: other_bucket, prefix: other_prefix },
            ) => {
                let inside =
                    |a: &str, b: &str| a.is_empty() || a == b || b.strip_prefix(a).is_some_and(|r| r.starts_with('/'));
                let meet = inside(prefix, other_prefix) || inside(other_prefix, prefix);
                endpoint == other_endpoint && bucket == other_bucket && meet
            }
            _ => self == other,
        }
    }
}

impl RegionStores {
    /// Returns true if one of the stores is in AWS.
    pub fn is_remote(&self) -> bool {
        matches!(self.objects, ObjectsLocation::S3(_)) || matches!(self.table, TableLocation::DynamoDb(_))
    }

    /// Returns the places of the object store and the table.
    pub fn places(&self) -> [Place; 2] {
        let AwsConfig { region, profile, endpoint_url: endpoint, role_arn, .. } = &self.aws;
        let objects = match &self.objects {
            ObjectsLocation::Filesystem(path) => Place::Local(real_path(path)),
            ObjectsLocation::S3(S3Options { bucket, prefix, .. }) => {
                Place::Bucket { endpoint: endpoint.clone(), bucket: bucket.clone(), prefix: prefix.clone() }
            }
        };
        let account = role_arn.as_ref().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
        let table = match &self.table {
            TableLocation::Sqlite(path) => Place::Local(real_path(path)),
            TableLocation::DynamoDb(table) => Place::Table {
                endpoint: endpoint.clone(),
                region: region.clone(),
                owner: account.or_else(|| profile.clone()),
                table: table.clone(),
            },
        };
        [objects, table]
    }
}

/// Canonicalizes a path, without links, `.` and `..`. Components that do not exist yet are resolved lexically.
fn real_path(path: &Path) -> PathBuf {
    use std::path::Component;
    let found = path.ancestors().find_map(|there| Some((there.canonicalize().ok()?, path.strip_prefix(there).ok()?)));
    let Some((mut real, rest)) = found else { return path.into() };
    for component in rest.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = real.pop(),
            other => real.push(other),
        }
    }
    real
}
