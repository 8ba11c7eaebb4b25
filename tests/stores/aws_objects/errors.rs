//! Errors say what to do.

use bytes::Bytes;
use gitferry_base::Kind;
use gitferry_store::objects::{ObjectError, ObjectStore, S3Options, S3Store};

use crate::aws_objects::wire::{Answer, Wire, bucket};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::proxy::{Fault, Proxy};

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

/// Whichever request it was: the next attempt may go through, and a write may have happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_closes_before_the_answer_is_no_fault_of_the_environment() {
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    let sdk = Emulator::get().sdk_config().await.into_builder().endpoint_url(&proxy.endpoint).build();
    let store = S3Store::new(&sdk, bucket().await, "store");
    store.put("a", "a".into()).await.unwrap();
    for read in [false, true] {
        proxy.rule(|_| Some(Fault::Lose));
        let error = match read {
            true => store.get("a", 0..1).await.map(drop).unwrap_err(),
            false => store.put("b", "b".into()).await.map(drop).unwrap_err(),
        };
        assert!(matches!(error, ObjectError::Unavailable { ambiguous, .. } if ambiguous != read), "{error:?}");
    }
    // All answers to the request are lost, and what is there decides.
    proxy.rule(|request| request.is_s3("PutObject").then_some(Fault::LoseAnswer));
    store.put("c", "c".into()).await.unwrap();
    proxy.relent();
    assert_eq!(store.get("c", 0..1).await.unwrap(), "c");
}
