//! Where a region's stores are: on this machine, or with AWS.

use std::path::{Path, PathBuf};

use super::{AwsConfig, RegionConfig};
use gitferry_store::objects::s3::S3Options;

/// Where an object store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectsLocation {
    /// `file:PATH`: a folder.
    Filesystem(PathBuf),
    /// `s3://BUCKET[/PREFIX]`: a bucket, or what lies below a prefix in one.
    S3(S3Options),
}

/// Where a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableLocation {
    /// `sqlite:PATH`: a file.
    Sqlite(PathBuf),
    /// `dynamodb://TABLE`: a table of this name.
    DynamoDb(String),
}

/// Where both stores of a region are, and how AWS is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionStores {
    /// The object store.
    pub objects: ObjectsLocation,
    /// The table.
    pub table: TableLocation,
    /// How its AWS services are reached.
    pub aws: AwsConfig,
}

impl RegionConfig {
    /// Where its stores are; `folder` is what relative paths are relative to.
    ///
    /// # Errors
    /// The name of the setting that makes no sense, and what is wrong with it.
    pub(super) fn stores(&self, folder: &Path) -> Result<RegionStores, String> {
        let objects = self.objects(folder).map_err(|reason| format!("objects: {reason}"))?;
        let table = table(&self.table, folder).map_err(|reason| format!("table: {reason}"))?;
        self.aws.check().map_err(|reason| format!("aws: {reason}"))?;
        if matches!(objects, ObjectsLocation::Filesystem(_)) {
            let options = [("kms_key", &self.kms_key), ("storage_class", &self.storage_class)];
            if let Some((name, _)) = options.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{name}: it is for objects in S3, and these are in files"));
            }
            if !self.cache.is_default() {
                return Err("cache: it is for objects in S3, and these are in files".into());
            }
        }
        Ok(RegionStores { objects, table, aws: self.aws.clone() })
    }

    fn objects(&self, folder: &Path) -> Result<ObjectsLocation, String> {
        if self.objects.starts_with("s3:") {
            let options = S3Options::parse(&self.objects)?;
            let (kms_key, storage_class) = (self.kms_key.clone(), self.storage_class.clone());
            return Ok(ObjectsLocation::S3(S3Options { kms_key, storage_class, ..options }));
        }
        path(&self.objects, "file", folder)
            .map_err(|reason| format!("{reason}, or s3://BUCKET[/PREFIX]"))
            .map(ObjectsLocation::Filesystem)
    }
}

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
        return Err(format!("`{name}` is not the name of a table (3 to 255 of a-z, A-Z, 0-9, `_`, `-`, `.`)"));
    }
    Ok(TableLocation::DynamoDb(name.to_owned()))
}

/// The path in a location such as `file:///a/b` or `file:relative`, made absolute.
fn path(location: &str, scheme: &str, folder: &Path) -> Result<PathBuf, String> {
    let Some(path) = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':')) else {
        return Err(format!("`{location}` is not of the form {scheme}:PATH"));
    };
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => {
            return Err(format!("`{location}` names a host; write {scheme}:///absolute or {scheme}:relative"));
        }
        None => path,
    };
    if path.is_empty() {
        return Err(format!("`{location}` has no path"));
    }
    let folder = std::path::absolute(folder.join(".")).map_err(|error| error.to_string())?;
    Ok(folder.join(path))
}

/// What a store occupies, whatever it is called: no two regions may have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file or folder, by its real path.
    Local(PathBuf),
    /// Keys of a bucket. Buckets have one name space for all AWS regions and accounts.
    Bucket {
        /// Where the bucket is, if not with AWS.
        endpoint: Option<String>,
        /// Its name.
        bucket: String,
        /// What the keys start with.
        prefix: String,
    },
    /// A table, one for each name, AWS region and account.
    Table {
        /// Where the table is, if not with AWS.
        endpoint: Option<String>,
        /// The AWS region.
        region: Option<String>,
        /// Whose it is, as far as the configuration tells: the account of the role, or the profile.
        owner: Option<String>,
        /// Its name.
        table: String,
    },
}

impl Place {
    /// Whether a store in one and a store in the other would meet.
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
    /// Whether any of the stores is with AWS.
    pub fn is_remote(&self) -> bool {
        matches!(self.objects, ObjectsLocation::S3(_)) || matches!(self.table, TableLocation::DynamoDb(_))
    }

    /// What the object store and the table occupy.
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

/// The path without links, `.` and `..`, so that one place has one spelling. Parts that do not exist yet
/// are taken by their letters.
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
