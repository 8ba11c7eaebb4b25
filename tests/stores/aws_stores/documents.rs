//! Documents come back as they went in, whatever DynamoDB makes of numbers.

use gitferry_store::table::{Action, Condition, Key, MAX_DOCUMENT_DEPTH, Table, TableError, Write};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::aws_stores::table;

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(Value::from),
        any::<i8>().prop_map(|n| Value::from(f64::from(n))),
        (-400..400i32).prop_map(|n| Value::from(10f64.powi(n)).as_f64().map_or(Value::Null, Value::from)),
        any::<String>().prop_map(Value::from),
    ]
}

fn document() -> impl Strategy<Value = Value> {
    let value = leaf().prop_recursive(5, 40, 6, |inner| {
        let object = btree_map(".{1,8}", inner.clone(), 0..6).prop_map(|members| json!(members));
        prop_oneof![vec(inner, 0..6).prop_map(Value::from), object]
    });
    btree_map(".{1,8}", value, 0..6).prop_map(|members| json!(members))
}

#[test]
fn every_document_comes_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (table, _proxy) = runtime.block_on(table());
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(documents in vec(document(), 1..20))| {
        runtime.block_on(async {
            let key = |i: usize| Key::new("documents", i.to_string());
            // Absent: a put. Any: an update. Both carry documents in their own way.
            let keys: Vec<Key> = (0..documents.len()).map(key).collect();
            let put = |i: usize, condition| Write::put(key(i), condition, documents[i].clone());
            let deletes = keys.iter().map(|key| Write::delete(key.clone(), Condition::Any)).collect();
            table.transact(deletes).await.unwrap();
            table.transact((0..keys.len()).map(|i| put(i, Condition::Absent)).collect()).await.unwrap();
            same(&table, &keys, &documents, 1).await;
            table.transact((0..keys.len()).map(|i| put(i, Condition::Any)).collect()).await.unwrap();
            same(&table, &keys, &documents, 2).await;
        });
    });
}

async fn same(table: &dyn Table, keys: &[Key], documents: &[Value], revision: u64) {
    for (item, document) in table.get_many(keys).await.unwrap().into_iter().zip(documents) {
        let item = item.unwrap();
        assert_eq!((&item.document, item.revision), (document, revision));
        // Equality does not tell 0.0 from -0.0.
        assert_eq!(item.document.to_string(), document.to_string());
    }
}

#[tokio::test]
async fn numbers_at_the_edges() {
    let (table, _proxy) = table().await;
    let document = json!({
        "whole": [0, 1, -1, u64::MAX, i64::MIN, i64::MAX, 9_007_199_254_740_993u64],
        "float": [0.0, -0.0, 1.0, -1.0, 1.5, 0.1, 1e-7, 1e21, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e-130, 1.1e-130, 9.9e125],
        "empty": ["", [], {}, null],
    });
    let key = Key::new("numbers", "-");
    table.transact(vec![Write::put(key.clone(), Condition::Any, document.clone())]).await.unwrap();
    let found = table.get(&key).await.unwrap().unwrap().document;
    assert_eq!(found.to_string(), document.to_string());
}

/// What DynamoDB refuses is refused before it is asked, on every table alike.
#[tokio::test]
async fn what_no_table_takes() {
    let (remote, proxy) = table().await;
    let dir = tempfile::tempdir().unwrap();
    let embedded = gitferry_store::table::SqliteTable::open(dir.path().join("table.db"), "test").unwrap();
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({ "n": inner }));
    let put = |document| Write {
        key: Key::new("p", "s"),
        condition: Condition::Any,
        action: Action::Put { document, bytes: None },
    };
    // DynamoDB counts more for the zeros of a list than JSON text has characters.
    let zeros = json!({ "zeros": vec![0; 150_000] });
    assert!(zeros.to_string().len() < 350_000);
    for table in [&remote as &dyn Table, &embedded] {
        table.transact(vec![put(nested(MAX_DOCUMENT_DEPTH))]).await.unwrap();
        for bad in [nested(MAX_DOCUMENT_DEPTH + 1), json!({ "a": { "": 1 } }), zeros.clone()] {
            proxy.requests();
            let result = table.transact(vec![put(bad)]).await;
            assert!(matches!(result, Err(TableError::Invalid { .. })), "{result:?}");
            assert!(proxy.requests().is_empty());
        }
    }
}
