//! Every answer of DynamoDB, and none, as an error that says what to do.

use std::net::{Ipv4Addr, TcpListener};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use gitferry_base::{Kind, metrics};
use gitferry_store::table::{Condition, DynamoTable, Key, Query, Table, TableError, Write};
use serde_json::json;

use crate::aws_stores::{open, table};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::prometheus::Page;
use gitferry_test_support::proxy::{Proxy, refusal};

fn key() -> Key {
    Key::new("p", "s")
}

fn write(condition: Condition) -> Vec<Write> {
    vec![Write::put(key(), condition, json!({}))]
}

/// How each of the calls fails.
async fn failures(table: &dyn Table) -> Vec<TableError> {
    let keys = [key(), Key::new("p", "t")];
    vec![
        table.get(&key()).await.unwrap_err(),
        table.get_many(&keys).await.unwrap_err(),
        table.query(&Query::prefix("p", "")).await.unwrap_err(),
        table.transact(write(Condition::Any)).await.unwrap_err(),
        table.transact(write(Condition::Absent)).await.unwrap_err(),
        table.transact(vec![Write::delete(key(), Condition::Any)]).await.unwrap_err(),
    ]
}

#[tokio::test]
async fn a_table_that_is_not_there_is_named() {
    let proxy = Proxy::start(Emulator::get().endpoint()).await;
    let table = open("no-such-table", &proxy).await;
    for error in failures(&table).await {
        assert_eq!(error.kind(), Kind::Environment, "{error}");
        let text = error.to_string();
        assert!(text.contains("dynamodb://no-such-table of test") && text.contains("no such table"), "{text}");
    }
}

#[tokio::test]
async fn refusals_are_sorted() {
    let (table, proxy) = table().await;
    let cases = [
        (400, "AccessDeniedException", Kind::Environment, "check the credentials"),
        (400, "UnrecognizedClientException", Kind::Environment, "check the credentials"),
        (400, "InvalidSignatureException", Kind::Environment, "check the credentials"),
        (400, "ExpiredTokenException", Kind::Transient, "ExpiredTokenException"),
        (400, "ValidationException", Kind::Internal, "told to say"),
        (400, "SomethingNewException", Kind::Environment, "SomethingNewException"),
    ];
    for (status, code, kind, says) in cases {
        for (operation, condition) in [("UpdateItem", Condition::Any), ("TransactWriteItems", Condition::Absent)] {
            proxy.spoil(operation, refusal(status, code));
            let error = table.transact(write(condition)).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{code}: {error}");
            assert!(error.to_string().contains(says), "{code}: {error}");
            assert!(!matches!(error, TableError::Unavailable { ambiguous: true, .. }), "{code}: {error:?}");
        }
        assert!(table.get(&key()).await.unwrap().is_none(), "{code}");
    }
}

/// What is refused for now is asked again, and only what may have happened is called ambiguous.
#[tokio::test]
async fn what_fails_for_now() {
    let (table, proxy) = table().await;
    let cases = [
        (400, "ProvisionedThroughputExceededException", false),
        (400, "ThrottlingException", false),
        (400, "RequestLimitExceeded", false),
        (500, "InternalServerError", true),
        (503, "ServiceUnavailable", true),
    ];
    for (status, code, may_have_happened) in cases {
        for (operation, is_write) in [("UpdateItem", true), ("Query", false)] {
            (0..gitferry_store::aws::MAX_REQUEST_ATTEMPTS).for_each(|_| proxy.spoil(operation, refusal(status, code)));
            proxy.requests();
            let error = match is_write {
                true => table.transact(write(Condition::Any)).await.unwrap_err(),
                false => table.query(&Query::prefix("p", "")).await.map(drop).unwrap_err(),
            };
            assert_eq!(proxy.requests().len(), gitferry_store::aws::MAX_REQUEST_ATTEMPTS as usize, "{code}");
            match error {
                TableError::Unavailable { ambiguous, .. } => {
                    assert_eq!(ambiguous, is_write && may_have_happened, "{code}")
                }
                error => panic!("{code}: {error:?}"),
            }
        }
        // Once is not enough to be told of.
        proxy.spoil("UpdateItem", refusal(status, code));
        table.transact(write(Condition::Any)).await.unwrap();
    }
}

/// Each attempt is in the metrics of the process, with which other tests share it.
#[tokio::test]
async fn attempts_and_retries_are_counted() {
    let (table, proxy) = table().await;
    let counts = || {
        let page = Page::read(&metrics::process().page());
        let of = |name: &str, labels: &[(&str, &str)]| {
            page.sum(&format!("gitferry_aws_{name}_total"), &[&[("service", "dynamodb")], labels].concat())
        };
        [of("attempts", &[("outcome", "2xx")]), of("attempts", &[("outcome", "5xx")]), of("retries", &[])]
    };
    table.get(&key()).await.unwrap();
    let before = counts();
    (0..2).for_each(|_| proxy.spoil("UpdateItem", refusal(503, "ServiceUnavailable")));
    table.transact(write(Condition::Any)).await.unwrap();
    let after = counts();
    let more: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert!(more[0] >= 1.0 && more[1] >= 2.0 && more[2] >= 2.0, "{more:?}");
}

/// Nobody there: nothing can have happened.
#[tokio::test]
async fn nobody_listens() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let config = Emulator::get().sdk_config().await.into_builder().endpoint_url(format!("http://127.0.0.1:{port}"));
    let table = DynamoTable::open(&config.build(), "table", "test");
    for error in failures(&table).await {
        assert!(matches!(error, TableError::Unavailable { ambiguous: false, .. }), "{error:?}");
    }
}

/// Credentials that there are none of, and a provider that fails for now.
#[derive(Clone, Copy, Debug)]
enum Provider {
    None,
    Down,
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(match self {
            Provider::None => CredentialsError::not_loaded("nobody knows any"),
            Provider::Down => CredentialsError::provider_error("the role's service is down"),
        }))
    }
}

#[tokio::test]
async fn without_credentials() {
    let cases = [(Provider::None, Kind::Environment, "nobody knows any"), (Provider::Down, Kind::Transient, "is down")];
    for (provider, kind, says) in cases {
        let config = Emulator::get().sdk_config().await.into_builder();
        let provider = aws_sdk_dynamodb::config::SharedCredentialsProvider::new(provider);
        let table = DynamoTable::open(&config.credentials_provider(provider).build(), "table", "test");
        for error in failures(&table).await {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!matches!(error, TableError::Unavailable { ambiguous: true, .. }), "{error:?}");
        }
    }
}
