//! Uploads in parts, and copies within S3, when things go wrong on the way.

use std::time::Duration;

use bytes::Bytes;
use gitferry_store::objects::{Crc64, ObjectError, ObjectStore, PART_BYTES, Upload};

use crate::aws_objects::wire::{Answer, Wire, bucket};
use gitferry_test_support::git::noise;

/// Uploads something. The store knows then that the emulator has no checksums of wholes, and asks for no more.
async fn completed(store: &dyn ObjectStore, key: &str) {
    let upload = store.begin(key).await.unwrap();
    let part = store.put_part(&upload, 0, Bytes::from_static(b"bytes")).await.unwrap();
    store.complete(&upload, &[part], 5, Crc64::of(b"bytes")).await.unwrap();
}

#[tokio::test]
async fn an_error_in_a_200_answer_is_an_error() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    let crc64 = Crc64::of(b"bytes");
    store.put("x", Bytes::from_static(b"bytes")).await.unwrap();
    wire.answer(Answer::error("CopyObject", 200, "InternalError"));
    let error = store.copy_from(&store, "x", "copy", 5, crc64).await.unwrap_err();
    assert!(matches!(error, ObjectError::Unavailable { .. }), "{error}");
    assert_eq!(store.head("copy").await.unwrap(), None);
    // An upload that S3 did complete before it failed to say so is complete.
    completed(&store, "before").await;
    let upload = store.begin("upload").await.unwrap();
    let part = store.put_part(&upload, 0, Bytes::from_static(b"bytes")).await.unwrap();
    wire.answer(Answer::error("CompleteMultipartUpload", 200, "InternalError"));
    store.complete(&upload, &[part], 5, crc64).await.unwrap();
    assert_eq!(store.get("upload", 0..10).await.unwrap(), "bytes");
}

#[tokio::test]
async fn a_completion_that_was_lost_and_sent_again_is_done() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    completed(&store, "before").await;
    let upload = store.begin("x").await.unwrap();
    let part = store.put_part(&upload, 0, Bytes::from_static(b"bytes")).await.unwrap();
    wire.answer(Answer::error("CompleteMultipartUpload", 500, "InternalError").once());
    wire.answer(Answer::error("CompleteMultipartUpload", 404, "NoSuchUpload"));
    store.complete(&upload, std::slice::from_ref(&part), 5, Crc64::of(b"bytes")).await.unwrap();
    // Without a doubt, an upload that is gone is gone.
    let error = store.complete(&upload, &[part], 5, Crc64::of(b"bytes")).await.unwrap_err();
    assert!(matches!(error, ObjectError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_copy_does_not_stay() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    store.put("x", Bytes::from_static(b"damaged")).await.unwrap();
    let error = store.copy_from(&store, "x", "copy", 7, Crc64::of(b"correct")).await.unwrap_err();
    assert!(matches!(error, ObjectError::Corrupt { .. }), "{error}");
    assert_eq!(store.head("copy").await.unwrap(), None);
}

#[tokio::test]
async fn copied_parts_are_believed_only_with_a_checksum() {
    let (wire, from) = (Wire::default(), Wire::default());
    let (source, store) = (from.store(bucket().await).await, wire.store(bucket().await).await);
    let bytes = noise(1, PART_BYTES as usize + 100);
    let tail = Bytes::copy_from_slice(&bytes[PART_BYTES as usize..]);
    let upload = source.begin("x").await.unwrap();
    let first = source.put_part(&upload, 0, Bytes::copy_from_slice(&bytes[..PART_BYTES as usize])).await.unwrap();
    let second = source.put_part(&upload, 1, tail.clone()).await.unwrap();
    let checksum = from.headers("UploadPart", "x-amz-checksum-crc64nvme")[1].clone().unwrap();
    source.complete(&upload, &[first, second], bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    // As S3 answers.
    let upload = store.begin("x").await.unwrap();
    let body = format!(
        "<CopyPartResult><ETag>\"tag\"</ETag><ChecksumCRC64NVME>{checksum}</ChecksumCRC64NVME></CopyPartResult>"
    );
    let told = Answer { body, ..Answer::error("UploadPartCopy", 200, "") };
    wire.answer(told.once());
    let part = store.put_part_from(&upload, 1, tail.len() as u64, &source, "x").await.unwrap().unwrap();
    assert_eq!((part.number, part.size, part.crc64), (1, 100, Crc64::of(&tail)));
    assert_eq!(part.tag, "tag");
    let range = format!("bytes={PART_BYTES}-{}", bytes.len() - 1);
    assert_eq!(wire.headers("UploadPartCopy", "x-amz-copy-source-range"), [Some(range)]);
    // The emulator tells no checksum: the caller carries the bytes, and is not kept asking.
    for _ in 0..3 {
        assert_eq!(store.put_part_from(&upload, 1, tail.len() as u64, &source, "x").await.unwrap(), None);
    }
    assert_eq!(wire.count("UploadPartCopy"), 2);
    // No byte came here.
    assert_eq!(from.count("GetObject") + wire.count("GetObject"), 0);
}

#[tokio::test]
async fn only_old_uploads_below_the_own_prefix_are_aborted() {
    let options = bucket().await;
    let (wire, elsewhere) = (Wire::default(), Wire::default());
    let store = wire.store(options.clone()).await;
    let other =
        elsewhere.store(gitferry_store::objects::S3Options { prefix: "below/this-too".into(), ..options }).await;
    let mine: Vec<Upload> = [store.begin("a/1").await.unwrap(), store.begin("a/1").await.unwrap()].into();
    let theirs = other.begin("a/1").await.unwrap();
    assert_eq!(store.remove_stale(Duration::ZERO, jiff::Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    store.parts(&mine[0]).await.unwrap();
    assert_eq!(store.remove_stale(Duration::ZERO, jiff::Timestamp::MAX).await.unwrap(), 2);
    for upload in &mine {
        assert!(matches!(store.parts(upload).await, Err(ObjectError::NotFound { .. })));
    }
    other.parts(&theirs).await.unwrap();
}

/// Against S3 itself (`GITFERRY_TEST_AWS_ENDPOINT`): sends 5 GiB and copies it once.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "moves 5 GiB; the emulator takes hours for its checksums"]
async fn an_object_too_large_for_one_copy_is_copied_in_parts() {
    let (wire, from) = (Wire::default(), Wire::default());
    let (source, store) = (from.store(bucket().await).await, wire.store(bucket().await).await);
    let size = gitferry_store::objects::s3::MAX_COPY_BYTES + 1;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    let crc64 = source.put_file("x", file.into_temp_path()).await.unwrap().crc64.unwrap();
    assert_eq!(store.copy_from(&source, "x", "x", size, crc64).await.unwrap(), None);
    let upload = store.begin("x").await.unwrap();
    let mut parts = Vec::new();
    for number in 0..size.div_ceil(PART_BYTES) as u32 {
        let length = (size - u64::from(number) * PART_BYTES).min(PART_BYTES);
        parts.push(store.put_part_from(&upload, number, length, &source, "x").await.unwrap().unwrap());
    }
    store.complete(&upload, &parts, size, crc64).await.unwrap();
    assert_eq!(store.head("x").await.unwrap().unwrap().crc64, Some(crc64));
    assert_eq!(from.count("GetObject") + wire.count("UploadPart"), 0);
}
