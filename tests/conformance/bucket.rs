//! S3 through the SDK, against the emulator.

use std::sync::{Arc, OnceLock};

use aws_config::SdkConfig;
use gitferry::objects::{ObjectStore, S3Options, S3Store};

use crate::StoreFactory;
use crate::aws::Emulator;

/// A bucket, shared by all tests; each has a prefix of its own.
pub struct Bucket {
    sdk: SdkConfig,
    options: S3Options,
}

impl Bucket {
    pub fn new() -> Self {
        static BUCKET: OnceLock<(SdkConfig, String)> = OnceLock::new();
        let (sdk, bucket) = BUCKET.get_or_init(|| {
            // The tests' runtimes are busy with the tests.
            let made = std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let emulator = Emulator::get();
                runtime.block_on(async { (emulator.sdk_config().await, emulator.bucket().await) })
            });
            made.join().unwrap()
        });
        let prefix = format!("conformance/{}", uuid::Uuid::new_v4());
        let options = S3Options { bucket: bucket.clone(), prefix, ..S3Options::default() };
        Bucket { sdk: sdk.clone(), options }
    }
}

impl StoreFactory for Bucket {
    /// Opens one more.
    fn handle(&self) -> Arc<dyn ObjectStore> {
        Arc::new(S3Store::new(&self.sdk, self.options.clone(), "test"))
    }
}
