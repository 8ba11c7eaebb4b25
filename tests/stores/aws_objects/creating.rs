//! Creating objects: what is sent along, and what is believed when the answer is lost.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use gitferry_store::objects::{Crc64, ObjectError, ObjectStore, PART_BYTES, S3Options, S3Store};

use crate::aws_objects::wire::{Answer, Wire, bucket};
use gitferry_test_support::git::noise;

const KEY: &str = "a/b.pack";

fn file(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

async fn read(store: &S3Store, key: &str) -> Vec<u8> {
    let size = store.head(key).await.unwrap().unwrap().size;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(&store.get(key, at..at + PART_BYTES).await.unwrap());
    }
    bytes
}

#[tokio::test]
async fn a_put_that_landed_without_an_answer_is_done() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    wire.answer(Answer::error("PutObject", 500, "InternalError").once());
    let meta = store.put(KEY, Bytes::from_static(b"ours")).await.unwrap();
    assert_eq!((meta.size, meta.crc64), (4, Some(Crc64::of(b"ours"))));
    // The SDK sent it again, was told that the key is taken, and the object was looked at.
    assert_eq!((wire.count("PutObject"), wire.count("HeadObject")), (2, 1));
    assert_eq!(read(&store, KEY).await, b"ours");
}

#[tokio::test]
async fn somebody_elses_object_is_never_taken_for_ours() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    store.put(KEY, Bytes::from_static(b"this")).await.unwrap();
    wire.answer(Answer::error("PutObject", 500, "InternalError").once());
    let error = store.put(KEY, Bytes::from_static(b"that")).await.unwrap_err();
    assert!(matches!(error, ObjectError::Exists { .. }), "{error}");
    // Without a doubt, equal bytes are somebody else's, too.
    let error = store.put(KEY, Bytes::from_static(b"this")).await.unwrap_err();
    assert!(matches!(error, ObjectError::Exists { .. }), "{error}");
    assert_eq!(read(&store, KEY).await, b"this");
}

#[tokio::test]
async fn a_doubt_that_cannot_be_resolved_is_told() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    wire.answer(Answer::error("PutObject", 500, "InternalError"));
    wire.answer(Answer::error("HeadObject", 500, "InternalError"));
    let error = store.put(KEY, Bytes::from_static(b"ours")).await.unwrap_err();
    assert!(matches!(error, ObjectError::Unavailable { ambiguous: true, .. }), "{error}");
}

#[tokio::test]
async fn a_conflict_with_another_write_is_sent_again() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    let taken = Answer::error("PutObject", 409, "ConditionalRequestConflict").once();
    // It did not happen: the emulator's own answer to the second request would be that it did.
    wire.answer(taken);
    let result = store.put(KEY, Bytes::from_static(b"ours")).await;
    assert!(matches!(result, Err(ObjectError::Exists { .. })), "{result:?}");
    assert_eq!(wire.count("PutObject"), 2);
}

#[tokio::test]
async fn key_storage_class_and_checksum_go_along() {
    let options = S3Options {
        kms_key: Some("arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-555555555555".into()),
        storage_class: Some("STANDARD_IA".into()),
        ..bucket().await
    };
    let (wire, kms) = (Wire::default(), options.kms_key.clone());
    let store = wire.store(options).await;
    store.put(KEY, Bytes::from_static(b"ours")).await.unwrap();
    let upload = store.begin("upload").await.unwrap();
    store.abort(&upload).await.unwrap();
    store.copy_from(&store, KEY, "copy", 4, Crc64::of(b"ours")).await.unwrap().unwrap();
    for operation in ["PutObject", "CreateMultipartUpload", "CopyObject"] {
        let header = |name: &str| wire.headers(operation, name);
        assert_eq!(header("x-amz-server-side-encryption"), [Some("aws:kms".into())], "{operation}");
        assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), std::slice::from_ref(&kms), "{operation}");
        assert_eq!(header("x-amz-storage-class"), [Some("STANDARD_IA".into())], "{operation}");
    }
    for operation in ["PutObject", "CopyObject"] {
        assert_eq!(wire.headers(operation, "if-none-match"), [Some("*".into())], "{operation}");
    }
    let checksum = wire.headers("PutObject", "x-amz-checksum-crc64nvme");
    assert!(checksum.iter().all(Option::is_some) && !checksum.is_empty());
    assert_eq!(wire.headers("CreateMultipartUpload", "x-amz-checksum-type"), [Some("FULL_OBJECT".into())]);
    assert_eq!(wire.headers("CopyObject", "x-amz-checksum-algorithm"), [Some("CRC64NVME".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts_and_small_ones_in_one_request() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    store.put_file("small", file(&noise(1, 1_000_000))).await.unwrap();
    assert_eq!(wire.counts(), [("PutObject", 1)].into());
    wire.reset();
    let large = noise(2, (2 * PART_BYTES + 5) as usize);
    let path = file(&large);
    let local = path.to_path_buf();
    let meta = store.put_file("large", path).await.unwrap();
    assert_eq!((meta.size, meta.crc64), (large.len() as u64, Some(Crc64::of(&large))));
    assert_eq!((wire.count("UploadPart"), wire.count("PutObject")), (3, 0));
    let whole = wire.headers("CompleteMultipartUpload", "x-amz-checksum-crc64nvme");
    assert!(whole.first().is_some_and(Option::is_some), "the checksum of the whole goes along");
    assert!(!local.exists());
    assert_eq!(read(&store, "large").await, large);
    // The first stays, and what was sent of the second is gone.
    let second = store.put_file("large", file(&noise(3, large.len()))).await;
    assert!(matches!(second, Err(ObjectError::Exists { .. })), "{second:?}");
    assert_eq!(store.remove_stale(Duration::MAX, jiff::Timestamp::MAX).await.unwrap(), 0);
}
