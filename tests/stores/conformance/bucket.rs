//! S3 through the SDK, against the emulator.

use std::sync::Arc;

use aws_config::SdkConfig;
use gitferry_store::objects::{ObjectStore, S3Options, S3Store};
use tokio::sync::OnceCell;

use crate::conformance::StoreFactory;
use gitferry_test_support::aws::Emulator;

/// A prefix in a bucket of this process that nobody else has.
pub struct Bucket {
    sdk: SdkConfig,
    options: S3Options,
}

impl Bucket {
    pub async fn new() -> Self {
        static BUCKET: OnceCell<String> = OnceCell::const_new();
        let emulator = Emulator::get();
        let bucket = BUCKET.get_or_init(|| emulator.bucket()).await.clone();
        let prefix = format!("conformance/{}", uuid::Uuid::new_v4());
        let options = S3Options { bucket, prefix, ..S3Options::default() };
        // Connections belong to the runtime of the test.
        Bucket { sdk: emulator.sdk_config().await, options }
    }
}

impl StoreFactory for Bucket {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn ObjectStore> {
        Arc::new(S3Store::new(&self.sdk, self.options.clone(), "test"))
    }
}
