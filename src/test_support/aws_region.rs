//! Regions on S3 and DynamoDB, with stores of their own.

use std::path::Path;
use std::sync::Arc;

use aws_config::SdkConfig;
use gitferry_base::clock::SystemClock;
use gitferry_engine::region::Region;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_store::objects::{S3Options, S3Store};
use gitferry_store::table::DynamoTable;

use crate::aws::{Emulator, REGION};

/// Most bytes of packs that a region keeps as local files.
const CACHE_BYTES: u64 = 1 << 30;

/// An empty bucket and an empty table.
#[derive(Clone, Debug)]
pub struct AwsRegion {
    pub name: String,
    pub bucket: String,
    pub table: String,
}

impl AwsRegion {
    pub async fn new(name: &str) -> AwsRegion {
        let emulator = Emulator::get();
        AwsRegion { name: name.into(), bucket: emulator.bucket().await, table: emulator.table().await }
    }

    /// How a configuration names it; `more`: further lines.
    pub fn toml(&self, endpoint: &str, more: &str) -> String {
        let AwsRegion { name, bucket, table } = self;
        let aws = aws_toml(endpoint);
        format!("[regions.{name}]\nobjects = \"s3://{bucket}/git\"\ntable = \"dynamodb://{table}\"\n{aws}{more}")
    }

    /// Opens it in this process, reached at an endpoint. Two handles at different ones are two servers to S3's copies.
    pub async fn open(&self, endpoint: &str, cache: &Path) -> Region {
        let sdk = sdk_config(endpoint).await;
        let options = S3Options { bucket: self.bucket.clone(), prefix: "git".into(), ..S3Options::default() };
        let objects = Arc::new(S3Store::new(&sdk, options, format!("s3://{}", self.bucket)));
        let table = Arc::new(DynamoTable::open(&sdk, &self.table, &self.name));
        let cache = CacheOptions { dir: cache.join(&self.name), max_bytes: CACHE_BYTES };
        Region::new(&self.name, objects, table, SystemClock::shared()).with_cache(cache)
    }
}

/// The services at an endpoint, as the SDK is told.
pub async fn sdk_config(endpoint: &str) -> SdkConfig {
    Emulator::get().sdk_config().await.into_builder().endpoint_url(endpoint).build()
}

/// The same as it stands in a configuration.
pub fn aws_toml(endpoint: &str) -> String {
    format!("aws = {{ region = \"{REGION}\", endpoint_url = \"{endpoint}\" }}\n")
}
