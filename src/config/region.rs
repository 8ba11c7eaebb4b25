//! `[regions.NAME]`: stores of a region.

use std::path::Path;

use jiff::SignedDuration;
use serde::Deserialize;

use super::aws_region::check_region;
use super::cache::CacheConfig;
use super::events::EventsConfig;
use super::location::{self, ObjectsLocation, RegionStores, TableLocation};
use gitferry_store::aws::AwsConfig;
use gitferry_store::objects::s3::S3Options;

/// Stores of a region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Object store: `file:PATH` or `s3://BUCKET[/PREFIX]`.
    pub objects: String,
    /// Table: `sqlite:PATH` or `dynamodb://TABLE`.
    pub table: String,
    /// Settings of the region's AWS services.
    #[serde(default)]
    pub aws: AwsConfig,
    /// KMS key (id, ARN or alias) that encrypts objects in S3. Defaults to the bucket's encryption.
    #[serde(default)]
    pub kms_key: Option<String>,
    /// Storage class of objects in S3, such as `STANDARD_IA`. Defaults to `STANDARD`.
    #[serde(default)]
    pub storage_class: Option<String>,
    /// Local cache of packs that are in S3.
    #[serde(default)]
    pub cache: CacheConfig,
    /// Event bus for committed changes: `eventbridge:BUS`. Without a bus, changes wake only workers of this process.
    #[serde(default)]
    pub events: Option<EventsConfig>,
    /// Time for which unreferenced data is kept, so that a table restored to a moment within the window finds its
    /// packs.
    #[serde(default = "super::recovery::default_window", deserialize_with = "super::recovery::window")]
    pub recovery_window: SignedDuration,
}

impl RegionConfig {
    /// Parses the locations of the region's stores. Relative paths are resolved against `folder`.
    ///
    /// # Errors
    /// Returns the name of the invalid setting and the violation.
    pub(super) fn stores(&self, folder: &Path) -> Result<RegionStores, String> {
        let objects = self.objects(folder).map_err(|reason| format!("objects: {reason}"))?;
        let table = location::table(&self.table, folder).map_err(|reason| format!("table: {reason}"))?;
        self.aws.check().map_err(|reason| format!("aws: {reason}"))?;
        let services = [
            ("objects", matches!(objects, ObjectsLocation::S3(_))),
            ("table", matches!(table, TableLocation::DynamoDb(_))),
            ("events", self.events.is_some()),
        ];
        if let Some((setting, _)) = services.iter().find(|(_, is_on_aws)| *is_on_aws) {
            check_region(&self.aws, &format!("{setting}: this"))?;
        }
        if matches!(objects, ObjectsLocation::Filesystem(_)) {
            let options = [("kms_key", &self.kms_key), ("storage_class", &self.storage_class)];
            if let Some((name, _)) = options.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{name}: only for objects in S3, and these are in files"));
            }
            if !self.cache.is_default() {
                return Err("cache: only for objects in S3, and these are in files".into());
            }
        }
        Ok(RegionStores { objects, table, aws: self.aws.clone() })
    }

    fn objects(&self, folder: &Path) -> Result<ObjectsLocation, String> {
        if self.objects.starts_with("s3:") {
            let options = S3Options::parse(&self.objects)?;
            let kms_key = self.kms_key.clone();
            let storage_class = self.storage_class.clone();
            return Ok(ObjectsLocation::S3(S3Options { kms_key, storage_class, ..options }));
        }
        location::path(&self.objects, "file", folder)
            .map_err(|reason| format!("{reason}, or s3://BUCKET[/PREFIX]"))
            .map(ObjectsLocation::Filesystem)
    }
}
