//! The conformance suite of tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use gitferry_base::Kind;
use gitferry_store::table::limits::{MAX_PK_BYTES, MAX_SK_BYTES, item_bytes};
use gitferry_store::table::{
    Action, Condition, Item, Key, MAX_GET_KEYS, MAX_ITEM_BYTES, MAX_PAGE_BYTES, MAX_REVISION, MAX_TRANSACTION_BYTES,
    MAX_TRANSACTION_ITEMS, Query, Table, TableError, Write,
};
use serde_json::{Value, json};

use crate::conformance::TableFactory;

fn key(sk: impl Into<String>) -> Key {
    Key::new("p", sk)
}

async fn put(table: &dyn Table, sk: &str, document: Value) {
    table.transact(vec![Write::put(key(sk), Condition::Any, document)]).await.unwrap();
}

fn assert_invalid<T: std::fmt::Debug>(result: Result<T, TableError>) {
    assert!(matches!(result, Err(TableError::Invalid { .. })), "{result:?}");
}

fn failed_of(result: Result<(), TableError>) -> Vec<bool> {
    match result {
        Err(TableError::ConditionFailed { failed, keys, .. }) => {
            assert_eq!(keys.len(), failed.len());
            failed
        }
        other => panic!("expected a failed condition: {other:?}"),
    }
}

async fn read_all(table: &dyn Table, query: &Query) -> (Vec<Item>, usize) {
    let mut query = query.clone();
    let (mut items, mut pages) = (Vec::new(), 0);
    loop {
        let page = table.query(&query).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        assert!(page.next.is_none() || !page.rows.is_empty(), "an empty page that goes on");
        let next = page.next.clone();
        items.extend(page.whole().unwrap());
        pages += 1;
        match next {
            Some(next) => query.after = Some(next),
            None => return (items, pages),
        }
    }
}

fn sort_keys(items: &[Item]) -> Vec<&str> {
    items.iter().map(|i| i.key.sk.as_str()).collect()
}

/// A put whose item weighs exactly `weight`.
fn put_of_weight(sk: &str, weight: usize) -> Write {
    let document = json!({"a": 1});
    let rest = weight - item_bytes(&key(sk), document.to_string().len(), 0);
    Write::put_bytes(key(sk), Condition::Any, document, Bytes::from(vec![7; rest]))
}

pub async fn what_is_written_is_read(factory: &dyn TableFactory) {
    let table = factory.handle();
    let document =
        json!({"text": "ä \u{0} \u{1F600} \"", "n": -1, "big": u64::MAX, "f": 1.5, "null": null, "l": [1, {}]});
    let bytes = Bytes::from((0..=255u8).collect::<Vec<_>>());
    let writes = vec![
        Write::put(key("without"), Condition::Absent, document.clone()),
        Write::put_bytes(key("with"), Condition::Absent, json!({}), bytes.clone()),
        Write::put_bytes(key("empty"), Condition::Absent, json!({}), Bytes::new()),
    ];
    table.transact(writes).await.unwrap();
    let other = factory.handle();
    let item = other.get(&key("without")).await.unwrap().unwrap();
    assert_eq!(item, Item { key: key("without"), revision: 1, document, bytes: None });
    assert_eq!(other.get(&key("with")).await.unwrap().unwrap().bytes, Some(bytes));
    assert_eq!(other.get(&key("empty")).await.unwrap().unwrap().bytes, Some(Bytes::new()));
    // A put replaces all of it.
    put(&*table, "with", json!({"b": 2})).await;
    let item = other.get(&key("with")).await.unwrap().unwrap();
    assert_eq!((item.revision, item.document, item.bytes), (2, json!({"b": 2}), None));
    // Another partition is another world.
    assert_eq!(other.get(&Key::new("q", "with")).await.unwrap(), None);
}

pub async fn get_many_keeps_the_order(factory: &dyn TableFactory) {
    let table = factory.handle();
    for sk in ["a", "b", "c"] {
        put(&*table, sk, json!({"sk": sk})).await;
    }
    let keys: Vec<Key> = ["c", "missing", "a", "c"].into_iter().map(key).collect();
    let found = table.get_many(&keys).await.unwrap();
    let found: Vec<Option<&str>> = found.iter().map(|i| i.as_ref().map(|i| i.key.sk.as_str())).collect();
    assert_eq!(found, [Some("c"), None, Some("a"), Some("c")]);
    assert_eq!(table.get_many(&[]).await.unwrap(), []);
    let most: Vec<Key> = (0..MAX_GET_KEYS).map(|i| key(format!("k{i}"))).collect();
    assert_eq!(table.get_many(&most).await.unwrap().len(), MAX_GET_KEYS);
    let more: Vec<Key> = (0..=MAX_GET_KEYS).map(|i| key(format!("k{i}"))).collect();
    assert_invalid(table.get_many(&more).await);
}

pub async fn every_condition_with_every_action(factory: &dyn TableFactory) {
    let table = factory.handle();
    let conditions =
        [Condition::Any, Condition::Absent, Condition::Present, Condition::Revision(2), Condition::Revision(3)];
    let actions = [Action::Put { document: json!({"new": true}), bytes: None }, Action::Delete, Action::Check];
    for exists in [false, true] {
        for condition in conditions {
            for action in &actions {
                table.transact(vec![Write::delete(key("x"), Condition::Any)]).await.unwrap();
                if exists {
                    put(&*table, "x", json!({"old": 1})).await;
                    put(&*table, "x", json!({"old": 2})).await;
                }
                let before = table.get(&key("x")).await.unwrap();
                let holds = match condition {
                    Condition::Any => true,
                    Condition::Absent => !exists,
                    Condition::Present => exists,
                    Condition::Revision(revision) => exists && revision == 2,
                };
                let write = Write { key: key("x"), condition, action: action.clone() };
                let result = table.transact(vec![write]).await;
                let after = table.get(&key("x")).await.unwrap();
                let what = format!("{exists} {condition:?} {action:?}");
                if !holds {
                    assert_eq!(failed_of(result), [true], "{what}");
                    assert_eq!(after, before, "{what}");
                    continue;
                }
                result.unwrap_or_else(|e| panic!("{what}: {e}"));
                match action {
                    Action::Check => assert_eq!(after, before, "{what}"),
                    Action::Delete => assert_eq!(after, None, "{what}"),
                    Action::Put { document, .. } => {
                        let after = after.unwrap();
                        assert_eq!((&after.document, after.revision), (document, if exists { 3 } else { 1 }), "{what}");
                    }
                }
            }
        }
    }
}

pub async fn no_put_reaches_a_revision_without_a_successor(factory: &dyn TableFactory) {
    let table = factory.handle();
    put(&*table, "x", json!({})).await;
    for revision in [MAX_REVISION, MAX_REVISION + 1, u64::MAX] {
        assert_invalid(table.transact(vec![Write::put(key("x"), Condition::Revision(revision), json!({}))]).await);
        let delete = Write::delete(key("x"), Condition::Revision(revision));
        assert_eq!(failed_of(table.transact(vec![delete]).await), [true]);
    }
    let write = Write::put(key("x"), Condition::Revision(MAX_REVISION - 1), json!({}));
    assert_eq!(failed_of(table.transact(vec![write]).await), [true]);
}

pub async fn revisions_start_again_after_a_delete(factory: &dyn TableFactory) {
    let table = factory.handle();
    for expected in 1..=3 {
        put(&*table, "x", json!({})).await;
        assert_eq!(table.get(&key("x")).await.unwrap().unwrap().revision, expected);
    }
    table.transact(vec![Write::delete(key("x"), Condition::Revision(3))]).await.unwrap();
    table.transact(vec![Write::delete(key("x"), Condition::Absent)]).await.unwrap();
    put(&*table, "x", json!({})).await;
    assert_eq!(table.get(&key("x")).await.unwrap().unwrap().revision, 1);
    // A revision of the former life is not one of this.
    assert_eq!(failed_of(table.transact(vec![Write::check(key("x"), Condition::Revision(3))]).await), [true]);
}

pub async fn all_or_nothing_and_who_failed(factory: &dyn TableFactory) {
    let table = factory.handle();
    put(&*table, "there", json!({"n": 1})).await;
    put(&*table, "gone", json!({"n": 1})).await;
    put(&*table, "kept", json!({"n": 1})).await;
    let result = table
        .transact(vec![
            Write::put(key("new"), Condition::Absent, json!({})),
            Write::put(key("there"), Condition::Absent, json!({"n": 2})),
            Write::delete(key("gone"), Condition::Revision(1)),
            Write::check(key("missing"), Condition::Present),
            Write::check(key("kept"), Condition::Revision(1)),
        ])
        .await;
    assert_eq!(result.as_ref().unwrap_err().kind(), Kind::Conflict);
    let text = result.as_ref().unwrap_err().to_string();
    assert!(text.contains("p there") && text.contains("p missing") && !text.contains("p new"), "{text}");
    assert_eq!(failed_of(result), [false, true, false, true, false]);
    assert_eq!(table.get(&key("new")).await.unwrap(), None);
    assert_eq!(table.get(&key("there")).await.unwrap().unwrap().document, json!({"n": 1}));
    assert_eq!(table.get(&key("gone")).await.unwrap().unwrap().revision, 1);
}

pub async fn limits_of_a_transaction(factory: &dyn TableFactory) {
    let table = factory.handle();
    let puts = |n: usize| (0..n).map(|i| Write::put(key(format!("k{i:03}")), Condition::Absent, json!({}))).collect();
    assert_invalid(table.transact(Vec::new()).await);
    assert_invalid(table.transact(puts(MAX_TRANSACTION_ITEMS + 1)).await);
    assert_eq!(read_all(&*table, &Query::prefix("p", "")).await.0, []);
    table.transact(puts(MAX_TRANSACTION_ITEMS)).await.unwrap();
    assert_eq!(read_all(&*table, &Query::prefix("p", "")).await.0.len(), MAX_TRANSACTION_ITEMS);
    let twice = vec![Write::put(key("a"), Condition::Any, json!({})), Write::check(key("a"), Condition::Any)];
    assert_invalid(table.transact(twice).await);
    let other_partition = vec![
        Write::put(key("a"), Condition::Any, json!({})),
        Write::put(Key::new("q", "a"), Condition::Any, json!({})),
    ];
    table.transact(other_partition).await.unwrap();
}

pub async fn limits_of_an_item(factory: &dyn TableFactory) {
    let table = factory.handle();
    table.transact(vec![put_of_weight("most", MAX_ITEM_BYTES)]).await.unwrap();
    assert_invalid(table.transact(vec![put_of_weight("more", MAX_ITEM_BYTES + 1)]).await);
    let found = table.get_many(&[key("most"), key("more")]).await.unwrap();
    assert!(found[0].is_some() && found[1].is_none());
    let filler = "x".repeat(MAX_ITEM_BYTES - item_bytes(&key("text"), json!({"t": ""}).to_string().len(), 0));
    let write = |text: String| vec![Write::put(key("text"), Condition::Any, json!({ "t": text }))];
    table.transact(write(filler.clone())).await.unwrap();
    assert_invalid(table.transact(write(filler + "x")).await);
    for document in [json!(null), json!([]), json!("text"), json!(1)] {
        assert_invalid(table.transact(vec![Write::put(key("x"), Condition::Any, document)]).await);
    }
}

pub async fn limits_of_all_bytes(factory: &dyn TableFactory) {
    let table = factory.handle();
    let mut writes: Vec<Write> = (0..10).map(|i| put_of_weight(&format!("k{i}"), MAX_ITEM_BYTES)).collect();
    let rest = MAX_TRANSACTION_BYTES - 10 * MAX_ITEM_BYTES;
    writes.push(put_of_weight("rest", rest + 1));
    assert_invalid(table.transact(writes.clone()).await);
    assert_eq!(table.get(&key("k0")).await.unwrap(), None);
    *writes.last_mut().unwrap() = put_of_weight("rest", rest);
    table.transact(writes).await.unwrap();
    assert_eq!(table.get(&key("k9")).await.unwrap().unwrap().revision, 1);
}

pub async fn keys_that_are_refused(factory: &dyn TableFactory) {
    let table = factory.handle();
    let good = [Key::new("p".repeat(MAX_PK_BYTES), "s".repeat(MAX_SK_BYTES)), Key::new("ä/ \u{1F600}", "\u{1}")];
    for key in good {
        table.transact(vec![Write::put(key.clone(), Condition::Absent, json!({}))]).await.unwrap();
        assert!(table.get(&key).await.unwrap().is_some());
    }
    let bad = [
        Key::new("", "s"),
        Key::new("p", ""),
        Key::new("p".repeat(MAX_PK_BYTES + 1), "s"),
        Key::new("p", "s".repeat(MAX_SK_BYTES + 1)),
        Key::new("p", "s\u{10FFFF}"),
    ];
    for key in bad {
        assert_invalid(table.get(&key).await);
        assert_invalid(table.transact(vec![Write::put(key.clone(), Condition::Any, json!({}))]).await);
        assert_invalid(table.transact(vec![Write::check(key, Condition::Absent)]).await);
    }
    assert_invalid(table.query(&Query::prefix("", "a")).await);
    assert_invalid(table.query(&Query { limit: 0, ..Query::prefix("p", "a") }).await);
}

pub async fn ranges_and_prefixes(factory: &dyn TableFactory) {
    let table = factory.handle();
    let names = ["a", "a/", "a/1", "a/10", "a/2", "a0", "b", "ä", "z", "\u{FFFD}", "\u{1F600}"];
    for sk in names {
        put(&*table, sk, json!({})).await;
    }
    table.transact(vec![Write::put(Key::new("q", "a/1"), Condition::Any, json!({}))]).await.unwrap();
    let cases: [(Query, &[&str]); 8] = [
        (Query::prefix("p", "a/"), &["a/", "a/1", "a/10", "a/2"]),
        (Query::prefix("p", "a"), &["a", "a/", "a/1", "a/10", "a/2", "a0"]),
        (Query::prefix("p", "c"), &[]),
        (Query::prefix("r", ""), &[]),
        (Query::range("p", "a/1", "a/2"), &["a/1", "a/10", "a/2"]),
        (Query::range("p", "a/11", "a1"), &["a/2", "a0"]),
        (Query::range("p", "b", "a"), &[]),
        // By bytes of UTF-8: not by UTF-16 units, which would swap the last two.
        (Query::range("p", "b", "\u{1F601}"), &["b", "z", "ä", "\u{FFFD}", "\u{1F600}"]),
    ];
    for (query, expected) in cases {
        for limit in [1, 2, 3, 1_000, 5_000] {
            let up = Query { limit, ..query.clone() };
            let down = Query { descending: true, ..up.clone() };
            let (items, pages) = read_all(&*table, &up).await;
            assert_eq!(sort_keys(&items), expected, "{up:?}");
            // A store may notice only with an empty page that it is at the end.
            let fewest = expected.len().div_ceil(limit).max(1);
            assert!(pages == fewest || pages == fewest + 1, "{up:?}: {pages} pages");
            let (mut items, _) = read_all(&*table, &down).await;
            items.reverse();
            assert_eq!(sort_keys(&items), expected, "{down:?}");
        }
    }
}

pub async fn pages_are_cut_by_bytes(factory: &dyn TableFactory) {
    let table = factory.handle();
    for chunk in [["a", "b"], ["c", "d"], ["e", "f"]] {
        table.transact(chunk.map(|sk| put_of_weight(sk, MAX_ITEM_BYTES)).to_vec()).await.unwrap();
    }
    for descending in [false, true] {
        let query = Query { descending, ..Query::prefix("p", "") };
        let page = table.query(&query).await.unwrap();
        // At most the item that crosses the line is over it.
        let most = MAX_PAGE_BYTES / MAX_ITEM_BYTES + 1;
        assert!((1..=most).contains(&page.rows.len()) && page.next.is_some(), "{}", page.rows.len());
        let (items, _) = read_all(&*table, &query).await;
        assert_eq!(items.len(), 6);
    }
}

pub async fn reading_on_behind_a_page(factory: &dyn TableFactory) {
    let table = factory.handle();
    for sk in ["a", "b"] {
        put(&*table, sk, json!({})).await;
    }
    let page = table.query(&Query { limit: 2, ..Query::prefix("p", "") }).await.unwrap();
    assert_eq!(page.rows.len(), 2);
    if let Some(next) = page.next {
        let page = table.query(&Query { after: Some(next), ..Query::prefix("p", "") }).await.unwrap();
        assert!(page.rows.is_empty() && page.next.is_none(), "{page:?}");
    }
    let page = table.query(&Query { limit: 1, ..Query::prefix("p", "") }).await.unwrap();
    assert_eq!((page.rows.len(), page.next.as_deref()), (1, Some("a")));
    // What follows is read from the state of that time; the key to go on from may be gone.
    table.transact(vec![Write::delete(key("a"), Condition::Present)]).await.unwrap();
    let page = table.query(&Query { after: Some("a".into()), ..Query::prefix("p", "") }).await.unwrap();
    assert_eq!(sort_keys(&page.whole().unwrap()), ["b"]);
}

pub async fn one_creator_wins(factory: &dyn TableFactory) {
    let mut tasks = Vec::new();
    for i in 0..16 {
        let table = factory.handle();
        tasks.push(tokio::spawn(async move {
            (i, table.transact(vec![Write::put(key("x"), Condition::Absent, json!({ "by": i }))]).await)
        }));
    }
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (i, Ok(())) => winners.push(i),
            (_, Err(error)) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
        }
    }
    assert_eq!(winners.len(), 1);
    let item = factory.handle().get(&key("x")).await.unwrap().unwrap();
    assert_eq!((item.document, item.revision), (json!({ "by": winners[0] }), 1));
}

/// Adds 1 to the number at `sk` by compare-and-set until it succeeds.
async fn increment(table: &dyn Table, sk: &str) {
    loop {
        let found = table.get(&key(sk)).await.unwrap();
        let condition = found.as_ref().map_or(Condition::Absent, |item| Condition::Revision(item.revision));
        let n = found.map_or(0, |item| item.document["n"].as_u64().unwrap());
        match table.transact(vec![Write::put(key(sk), condition, json!({ "n": n + 1 }))]).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
        }
    }
}

pub async fn counters_lose_nothing(factory: &dyn TableFactory) {
    const TASKS: usize = 8;
    const INCREMENTS: usize = 25;
    let shared = factory.handle();
    let mut tasks = Vec::new();
    for i in 0..TASKS {
        let table = if i % 2 == 0 { Arc::clone(&shared) } else { factory.handle() };
        tasks.push(tokio::spawn(async move {
            for _ in 0..INCREMENTS {
                increment(&*table, "counter").await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let item = shared.get(&key("counter")).await.unwrap().unwrap();
    let total = TASKS * INCREMENTS;
    assert_eq!((item.document, item.revision), (json!({ "n": total }), total as u64));
}

pub async fn readers_never_see_half_a_transaction(factory: &dyn TableFactory) {
    let keys: Vec<Key> = (0..5).map(|i| key(format!("k{i}"))).collect();
    let write = |table: Arc<dyn Table>, round: u64, keys: Vec<Key>| async move {
        let put = |key: Key| Write::put(key, Condition::Any, json!({ "round": round }));
        table.transact(keys.into_iter().map(put).collect()).await.unwrap();
    };
    let table = factory.handle();
    write(Arc::clone(&table), 0, keys.clone()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut readers = Vec::new();
    for _ in 0..3 {
        let (table, keys, stopped) = (factory.handle(), keys.clone(), stopped.clone());
        readers.push(tokio::spawn(async move {
            let mut seen = BTreeMap::new();
            while !*stopped.borrow() {
                let items = table.get_many(&keys).await.unwrap();
                let rounds: Vec<Value> = items.into_iter().map(|i| i.unwrap().document["round"].clone()).collect();
                assert!(rounds.iter().all(|r| *r == rounds[0]), "{rounds:?}");
                *seen.entry(rounds[0].as_u64().unwrap()).or_insert(0) += 1;
            }
            seen.len()
        }));
    }
    for round in 1..=100 {
        write(Arc::clone(&table), round, keys.clone()).await;
    }
    stop.send(true).unwrap();
    let mut seen = 0;
    for reader in readers {
        seen += reader.await.unwrap();
    }
    assert!(seen > 3, "the readers never saw a change; this test proves nothing");
}

/// All tests of this suite, for one implementation.
#[macro_export]
macro_rules! table_suite {
    ($name:ident, $factory:expr) => {
        $crate::table_suite!(@each $name, $factory,
            what_is_written_is_read,
            get_many_keeps_the_order,
            every_condition_with_every_action,
            no_put_reaches_a_revision_without_a_successor,
            revisions_start_again_after_a_delete,
            all_or_nothing_and_who_failed,
            limits_of_a_transaction,
            limits_of_an_item,
            limits_of_all_bytes,
            keys_that_are_refused,
            ranges_and_prefixes,
            pages_are_cut_by_bytes,
            reading_on_behind_a_page,
            one_creator_wins,
            counters_lose_nothing,
            readers_never_see_half_a_transaction,
        );
    };
    (@each $name:ident, $factory:expr, $($test:ident,)*) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    $crate::conformance::table::$test(&$factory).await;
                }
            )*
        }
    };
}
