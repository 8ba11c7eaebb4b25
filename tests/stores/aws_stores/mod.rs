//! Regions on AWS: what the stores answer when things go wrong, what they cost, and whether they may be trusted.

mod answers;
mod changes;
mod commands;
mod documents;
mod kms;
mod probes;
mod requests;

use gitferry_store::table::DynamoTable;

use gitferry_test_support::aws::Emulator;
use gitferry_test_support::proxy::Proxy;

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
