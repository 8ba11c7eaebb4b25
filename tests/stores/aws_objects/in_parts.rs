//! Packs that are too large for one CopyObject cross within S3 all the same, part by part.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gitferry_base::clock::SystemClock;
use gitferry_engine::region::Region;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_store::objects::{Crc64, ObjectStore as _, PART_BYTES, S3Store};
use gitferry_store::table::SqliteTable;

use crate::aws_objects::regions::import;
use crate::aws_objects::wire::bucket;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::faulty::{assert_equal, assert_sound, link};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::proxy::{Fault, Proxy, Rewrite};

/// Far below S3's own limit: 5 GiB.
const MAX_COPY: u64 = 1 << 20;

async fn region(proxy: &Proxy, dir: &Path, name: &str) -> Region {
    let sdk = Emulator::get().sdk_config().await.into_builder().endpoint_url(&proxy.endpoint).build();
    let objects = S3Store::new(&sdk, bucket().await, name).with_max_copy(MAX_COPY);
    let table = Arc::new(SqliteTable::open(dir.join(format!("{name}.db")), name).unwrap());
    let cache = CacheOptions { dir: dir.join(format!("{name}-cache")), max_bytes: 1 << 30 };
    Region::new(name, Arc::new(objects), table, SystemClock::shared()).with_cache(cache)
}

/// The checksum of each part of the largest object, as S3 writes it.
async fn checksums(region: &Region) -> Vec<String> {
    let listed = region.objects().list("", None, 100).await.unwrap().objects;
    let pack = listed.iter().max_by_key(|object| object.size).unwrap();
    let bytes = region.objects().get(&pack.key, 0..pack.size).await.unwrap();
    bytes.chunks(PART_BYTES as usize).map(|part| BASE64.encode(Crc64::of(part).0.to_be_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_too_large_for_one_copy() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    let (us, eu) = (region(&proxy, dir.path(), "us").await, region(&proxy, dir.path(), "eu").await);
    let source = GitRepo::init(dir.path().join("source.git"), &[]);
    source.commit_bytes("main", "large", &noise(3, PART_BYTES as usize + 100_000));
    import(&us, &source).await;
    // The emulator does not tell the checksums of copied parts; S3 does.
    let checksums = checksums(&us).await;
    let parts = checksums.len();
    let told = Rewrite(Arc::new(move |request, body| {
        let query = request.path.split_once('?').unwrap().1;
        let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap();
        let checksum = &checksums[number.parse::<usize>().unwrap() - 1];
        let end = "</CopyPartResult>";
        assert!(body.contains(end), "{body}");
        body.replace(end, &format!("<ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME>{end}"))
    }));
    // And for want of them, it would not find them again in what completes the upload.
    let untold = Rewrite(Arc::new(|_, body| {
        let mut kept = body.split("<ChecksumCRC64NVME>");
        let first = kept.next().unwrap().to_owned();
        kept.fold(first, |kept, rest| kept + rest.split_once("</ChecksumCRC64NVME>").unwrap().1)
    }));
    proxy.rule(move |request| match request {
        _ if request.is_s3("UploadPartCopy") => Some(Fault::Rewrite(told.clone())),
        _ if request.is_s3("CompleteMultipartUpload") => Some(Fault::RewriteRequest(untold.clone())),
        _ => None,
    });
    proxy.requests();
    let id = us.repositories().get("repo").await.unwrap().id;
    link(us.clone(), eu.clone()).deliver(id).await.unwrap().unwrap();
    let requests = proxy.requests();
    let count = |operation: &str| requests.iter().filter(|request| request.is_s3(operation)).count();
    assert_eq!((parts, count("UploadPartCopy")), (2, 2));
    // Only the index is small enough for one request, and no byte came here.
    assert_eq!(count("CopyObject"), 1);
    assert_eq!(["GetObject", "UploadPart", "PutObject"].map(count), [0; 3]);
    assert_equal(&us, &eu).await;
    assert_sound(&eu).await;
}

/// S3 completes an upload no more that it has answered so, and the first answers were sent again and again before.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_met_another_write_is_started_anew() {
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    let sdk = Emulator::get().sdk_config().await.into_builder().endpoint_url(&proxy.endpoint).build();
    let store = S3Store::new(&sdk, bucket().await, "test");
    let refused = std::sync::atomic::AtomicBool::new(false);
    let conflict = "<Error><Code>ConditionalRequestConflict</Code><Message>another</Message></Error>";
    proxy.rule(move |request| {
        let first =
            request.is_s3("CompleteMultipartUpload") && !refused.swap(true, std::sync::atomic::Ordering::SeqCst);
        first.then(|| Fault::Answer(409, conflict.into()))
    });
    let large = noise(2, (2 * PART_BYTES + 5) as usize);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &large).unwrap();
    let meta = store.put_file("large", file.into_temp_path()).await.unwrap();
    assert_eq!(meta.crc64, Some(Crc64::of(&large)));
    let requests = proxy.requests();
    let count = |operation: &str| requests.iter().filter(|request| request.is_s3(operation)).count();
    // How often an upload is completed depends on the checksums that the server knows.
    assert_eq!(["CreateMultipartUpload", "UploadPart"].map(count), [2, 6]);
    assert_eq!(store.remove_stale(std::time::Duration::MAX, jiff::Timestamp::MAX).await.unwrap(), 0);
}
