//! Regions on AWS: what the stores answer when things go wrong, what they cost, and whether they may be trusted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/aws.rs"]
mod aws;
#[path = "../support/aws_region.rs"]
mod aws_region;
#[path = "../support/faulty.rs"]
mod faulty;
#[path = "../support/proxy.rs"]
mod proxy;
#[allow(dead_code)]
#[path = "../events/samples.rs"]
mod samples;
#[path = "../support/mod.rs"]
mod support;

mod answers;
mod changes;
mod commands;
mod documents;
mod probes;
mod requests;

use gitferry::table::DynamoTable;

use aws::Emulator;
use proxy::Proxy;

/// A new table, and a proxy before it.
async fn table() -> (DynamoTable, Proxy) {
    let emulator = Emulator::get();
    let proxy = Proxy::start(emulator.endpoint()).await;
    let name = emulator.table().await;
    (open(&name, &proxy).await, proxy)
}

/// Another handle of a table behind a proxy.
async fn open(name: &str, proxy: &Proxy) -> DynamoTable {
    let config = Emulator::get().sdk_config().await.into_builder().endpoint_url(&proxy.endpoint).build();
    DynamoTable::open(&config, name, "test")
}
