//! Keys of KMS: what they seal opens for its owner alone, and each reason for which one cannot be used.

use std::time::{Duration, Instant};

use aws_sdk_kms::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kms::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kms::error::BoxError;
use aws_sdk_s3::primitives::SdkBody;
use gitferry_base::Kind;
use gitferry_store::aws::kms::KMS_TIMEOUT;
use gitferry_store::aws::{KeyFault, KmsError, KmsKey, KmsKeyArn};
use gitferry_test_support::aws::Emulator;

const OWNER: &[(&str, &str)] = &[("account", "111122223333"), ("data-key", "one")];

async fn client() -> aws_sdk_kms::Client {
    aws_sdk_kms::Client::new(&Emulator::get().sdk_config().await)
}

async fn new_key() -> KmsKeyArn {
    let made = client().await.create_key().send().await.unwrap();
    made.key_metadata.unwrap().arn.unwrap().parse().unwrap()
}

async fn open(arn: KmsKeyArn) -> KmsKey {
    KmsKey::new(&Emulator::get().sdk_config().await, arn)
}

fn fault<T: std::fmt::Debug>(outcome: Result<T, KmsError>) -> KeyFault {
    outcome.unwrap_err().fault
}

#[tokio::test]
async fn a_secret_opens_for_its_owner_alone() {
    let (key, other) = (open(new_key().await).await, open(new_key().await).await);
    let sealed = key.encrypt(b"a secret", OWNER).await.unwrap();
    assert!(!sealed.windows(8).any(|window| window == b"a secret"));
    assert_eq!(key.decrypt(&sealed, OWNER).await.unwrap(), b"a secret");
    for owner in [&OWNER[..1], &[("account", "111122223333"), ("data-key", "two")], &[]] {
        assert_eq!(fault(key.decrypt(&sealed, owner).await), KeyFault::NotSealed, "{owner:?}");
    }
    assert_eq!(other.decrypt(&sealed, &OWNER[..1]).await.unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_key_that_cannot_be_used_says_why() {
    let arn = new_key().await;
    let key = open(arn.clone()).await;
    let sealed = key.encrypt(b"a secret", OWNER).await.unwrap();
    let client = client().await;
    client.disable_key().key_id(arn.as_str()).send().await.unwrap();
    let error = key.decrypt(&sealed, OWNER).await.unwrap_err();
    assert_eq!((error.fault, error.kind()), (KeyFault::Disabled, Kind::Environment));
    assert!(error.to_string().contains("aws kms enable-key"), "{error}");
    assert_eq!(fault(key.encrypt(b"a secret", OWNER).await), KeyFault::Disabled);
    client.enable_key().key_id(arn.as_str()).send().await.unwrap();
    assert_eq!(key.decrypt(&sealed, OWNER).await.unwrap(), b"a secret");
    client.schedule_key_deletion().key_id(arn.as_str()).send().await.unwrap();
    assert_eq!(fault(key.decrypt(&sealed, OWNER).await), KeyFault::NotReady);
    let nothing = arn.as_str().rsplit_once('/').unwrap().0.to_owned() + "/11111111-2222-3333-4444-555555555555";
    assert_eq!(fault(open(nothing.parse().unwrap()).await.encrypt(b"x", OWNER).await), KeyFault::NotFound);
}

/// Answers every request with an error of KMS.
#[derive(Debug)]
struct Says(u16, &'static str);

impl Intercept for Says {
    fn name(&self) -> &'static str {
        "Says"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = format!("{{\"__type\": \"{}\", \"message\": \"said so\"}}", self.1);
        let response = context.response_mut();
        *response.status_mut() = self.0.try_into()?;
        response.headers_mut().remove("x-amzn-errortype");
        response.headers_mut().insert("content-length", body.len().to_string());
        *response.body_mut() = SdkBody::from(body);
        Ok(())
    }
}

#[tokio::test]
async fn errors_of_kms_are_sorted_by_what_can_be_done() {
    let arn = new_key().await;
    for (status, code, expected, kind) in [
        (400, "AccessDeniedException", KeyFault::Denied, Kind::Environment),
        (400, "ThrottlingException", KeyFault::Throttled, Kind::Transient),
        (400, "InvalidKeyUsageException", KeyFault::WrongUsage, Kind::Environment),
        (400, "KMSInvalidStateException", KeyFault::NotReady, Kind::Environment),
        (500, "KeyUnavailableException", KeyFault::NotReady, Kind::Environment),
        (500, "KMSInternalException", KeyFault::Unreachable, Kind::Transient),
        (500, "DependencyTimeoutException", KeyFault::Unreachable, Kind::Transient),
        (400, "UnrecognizedClientException", KeyFault::Denied, Kind::Environment),
        (400, "SomethingNew", KeyFault::Unreachable, Kind::Transient),
    ] {
        let config = aws_sdk_kms::config::Builder::from(&Emulator::get().sdk_config().await);
        let key = KmsKey::from_config(config.interceptor(Says(status, code)), arn.clone());
        let error = key.decrypt(b"sealed", OWNER).await.unwrap_err();
        assert_eq!((error.fault, error.kind()), (expected, kind), "{code}: {error}");
        assert!(error.reason.contains(code) && error.reason.contains("said so"), "{error}");
    }
}

#[tokio::test]
async fn a_kms_that_does_not_answer_is_waited_for_no_longer_than_the_limit() {
    let arn = new_key().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    let at = |url: String| async move { Emulator::get().sdk_config().await.into_builder().endpoint_url(url).build() };
    let start = Instant::now();
    let key = KmsKey::new(&at(format!("http://{address}")).await, arn.clone());
    assert_eq!(fault(key.decrypt(b"sealed", OWNER).await), KeyFault::Unreachable);
    assert!(start.elapsed() < KMS_TIMEOUT + Duration::from_secs(2), "{:?}", start.elapsed());
    silent.abort();
    let _ = silent.await;
    let nobody = KmsKey::new(&at(format!("http://{address}")).await, arn);
    assert_eq!(fault(nobody.encrypt(b"secret", OWNER).await), KeyFault::Unreachable);
}
