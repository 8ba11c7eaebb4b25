//! Errors say what to do.

use bytes::Bytes;
use gitferry::Kind;
use gitferry::objects::{ObjectError, ObjectStore, S3Options};

use crate::wire::{Answer, Wire, bucket};

#[tokio::test]
async fn a_bucket_in_another_region_is_named() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    let mut answer = Answer::error("PutObject", 301, "PermanentRedirect");
    answer.headers.push(("x-amz-bucket-region", "eu-west-1"));
    wire.answer(answer);
    let error = store.put("x", Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Environment);
    assert!(error.to_string().contains("region = \"eu-west-1\""), "{error}");
    assert!(error.to_string().contains(&store.options().bucket), "{error}");
}

#[tokio::test]
async fn no_bucket_and_no_permission_are_for_people() {
    let options = S3Options { bucket: "gitferry-there-is-none".into(), ..S3Options::default() };
    let missing = Wire::default().store(options).await;
    for error in [missing.put("x", Bytes::new()).await.unwrap_err(), missing.list("", None, 10).await.unwrap_err()] {
        assert_eq!(error.kind(), Kind::Environment);
        assert!(error.to_string().contains("gitferry-there-is-none"), "{error}");
    }
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    wire.answer(Answer::error("GetObject", 403, "AccessDenied"));
    let error = store.get("x", 0..1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Environment);
    assert!(error.to_string().contains("AccessDenied") && error.to_string().contains("policies"), "{error}");
}

#[tokio::test]
async fn expired_credentials_and_throttling_pass() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    store.put("x", Bytes::from_static(b"there")).await.unwrap();
    for answer in [Answer::error("GetObject", 400, "ExpiredToken"), Answer::error("GetObject", 503, "SlowDown")] {
        wire.answer(answer);
        let error = store.get("x", 0..1).await.unwrap_err();
        assert!(matches!(error, ObjectError::Unavailable { ambiguous: false, .. }), "{error}");
        wire.reset();
    }
    // One that passes while the SDK tries again is not even seen.
    wire.answer(Answer::error("GetObject", 503, "SlowDown").once());
    assert_eq!(store.get("x", 0..10).await.unwrap(), "there");
}

#[tokio::test]
async fn bytes_that_are_not_those_announced_are_corrupt() {
    let wire = Wire::default();
    let store = wire.store(bucket().await).await;
    wire.answer(Answer::error("PutObject", 400, "BadDigest"));
    assert_eq!(store.put("x", Bytes::new()).await.unwrap_err().kind(), Kind::Corrupt);
}
