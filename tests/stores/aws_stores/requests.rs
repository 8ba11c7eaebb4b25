//! What the ledger's steps cost in requests, and writes whose answers are lost.

use std::sync::Arc;

use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::heads::{read_head, read_heads};
use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_engine::region::push::{FreshStates, PushPolicy, PushProgress, Serving};
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::PacketReader;
use gitferry_git::receive_pack::PushRequest;
use gitferry_store::objects::FilesystemStore;
use gitferry_store::table::{Action, Condition, Key, Query, Table, TableError, Write};
use serde_json::json;

use crate::aws_stores::table;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::proxy::{Fault, Proxy, refusal};

/// What the SDK makes of one request, at most.
const ATTEMPTS: usize = gitferry_store::aws::MAX_REQUEST_ATTEMPTS as usize;

async fn region(dir: &tempfile::TempDir) -> (Region, Proxy) {
    let (table, proxy) = table().await;
    let objects = FilesystemStore::open(dir.path(), "test").unwrap();
    (Region::new("test", Arc::new(objects), Arc::new(table), SystemClock::shared()), proxy)
}

fn put(sk: &str, condition: Condition) -> Write {
    Write::put(Key::new("p", sk), condition, json!({ "sk": sk }))
}

#[tokio::test]
async fn a_commit_is_one_transaction_and_a_head_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let (region, proxy) = region(&dir).await;
    let item = region.repositories().create("one", gix::hash::Kind::Sha1, "tester").await.unwrap();
    let other = region.repositories().create("two", gix::hash::Kind::Sha1, "tester").await.unwrap();
    proxy.requests();
    assert_eq!(read_head(region.table(), item.id).await.unwrap().unwrap().head, item.head);
    assert_eq!(proxy.operations(), ["GetItem"]);
    let heads = read_heads(region.table(), &[item.id, other.id, item.id]).await.unwrap();
    assert_eq!(heads.iter().flatten().count(), 3);
    assert_eq!(proxy.operations(), ["TransactGetItems"]);
    region.repositories().rename("one", "three", "tester").await.unwrap();
    let writes: Vec<String> = proxy.operations().into_iter().filter(|operation| !operation.contains("Get")).collect();
    assert_eq!(writes, ["TransactWriteItems"]);
}

/// A single write without a condition costs half; a condition costs a transaction.
#[tokio::test]
async fn what_each_write_is() {
    let (table, proxy) = table().await;
    let delete = |condition| Write::delete(Key::new("p", "x"), condition);
    let check = |condition| Write::check(Key::new("p", "x"), condition);
    let cases: [(Vec<Write>, &[&str]); 6] = [
        (vec![put("x", Condition::Any)], &["UpdateItem"]),
        (vec![put("x", Condition::Present)], &["TransactWriteItems"]),
        (vec![check(Condition::Revision(2))], &["TransactWriteItems"]),
        (vec![check(Condition::Any)], &[]),
        (vec![check(Condition::Any), put("y", Condition::Any)], &["UpdateItem"]),
        (vec![delete(Condition::Any)], &["DeleteItem"]),
    ];
    for (writes, expected) in cases {
        table.transact(writes.clone()).await.unwrap();
        assert_eq!(proxy.operations(), expected, "{writes:?}");
    }
}

/// Which condition failed, with checks of nothing in between that are never sent.
#[tokio::test]
async fn failed_conditions_keep_their_places() {
    let (table, _proxy) = table().await;
    let writes = vec![
        Write::check(Key::new("p", "a"), Condition::Any),
        put("b", Condition::Present),
        Write::check(Key::new("p", "c"), Condition::Any),
        put("d", Condition::Absent),
    ];
    match table.transact(writes).await {
        Err(TableError::ConditionFailed { failed, keys, .. }) => {
            assert_eq!(failed, [false, true, false, false]);
            assert_eq!(keys.len(), 4);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lost_answer_is_found_by_its_token() {
    let (table, proxy) = table().await;
    proxy.spoil("TransactWriteItems", Fault::LoseAnswer);
    table.transact(vec![put("x", Condition::Absent)]).await.unwrap();
    let requests = proxy.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(table.get(&Key::new("p", "x")).await.unwrap().unwrap().revision, 1);
    // Not even what would have no condition to stop it is done twice.
    proxy.spoil("TransactWriteItems", Fault::LoseAnswer);
    table.transact(vec![put("x", Condition::Any), put("y", Condition::Any)]).await.unwrap();
    assert_eq!(table.get(&Key::new("p", "x")).await.unwrap().unwrap().revision, 2);
}

#[tokio::test]
async fn a_write_that_may_have_happened_is_called_so() {
    let (table, proxy) = table().await;
    (0..ATTEMPTS).for_each(|_| proxy.spoil("TransactWriteItems", Fault::LoseAnswer));
    let result = table.transact(vec![put("x", Condition::Absent)]).await;
    assert!(matches!(result, Err(TableError::Unavailable { ambiguous: true, .. })), "{result:?}");
    assert!(table.get(&Key::new("p", "x")).await.unwrap().is_some());
    // Every attempt after the first is refused; the first one was not.
    for code in ["ThrottlingException", "AccessDeniedException", "ValidationException"] {
        proxy.spoil("TransactWriteItems", Fault::LoseAnswer);
        (1..ATTEMPTS).for_each(|_| proxy.spoil("TransactWriteItems", refusal(400, code)));
        let result = table.transact(vec![put(code, Condition::Absent)]).await;
        assert!(matches!(result, Err(TableError::Unavailable { ambiguous: true, .. })), "{code}: {result:?}");
        assert!(table.get(&Key::new("p", code)).await.unwrap().is_some(), "{code}");
        // What was not asked for belongs to no later test.
        while proxy_is_armed(&table, &proxy).await {}
    }
}

/// Uses up one fault that is left over.
async fn proxy_is_armed(table: &dyn Table, proxy: &Proxy) -> bool {
    proxy.requests();
    let check = Write::check(Key::new("p", "nothing"), Condition::Absent);
    let result = table.transact(vec![check]).await;
    result.is_err() || proxy.requests().len() > 1
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_finds_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (region, proxy) = region(&dir).await;
    region.repositories().create("app", gix::hash::Kind::Sha1, "tester").await.unwrap();
    proxy.spoil("TransactWriteItems", Fault::LoseAnswer);
    (1..ATTEMPTS).for_each(|_| proxy.spoil("TransactWriteItems", refusal(500, "InternalServerError")));
    let renamed = region.repositories().rename("app", "new", "tester").await.unwrap();
    assert_eq!(region.repositories().get("new").await.unwrap().head, renamed.head);
    assert_eq!(renamed.head.frontier.seq, 2);
    let changes = region.table().query(&Query::prefix(format!("repository/{}", renamed.id), "change/")).await.unwrap();
    assert_eq!(changes.rows.len(), 2);
}

/// Another transaction is at work on the same item: waited for, with a token of its own.
#[tokio::test]
async fn conflicts_are_waited_for() {
    let (table, proxy) = table().await;
    let conflict = || {
        let body = json!({
            "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
            "message": "Transaction cancelled",
            "CancellationReasons": [{ "Code": "None" }, { "Code": "TransactionConflict", "Message": "is ongoing" }],
        });
        Fault::Answer(400, body.to_string())
    };
    proxy.spoil("TransactWriteItems", conflict());
    table.transact(vec![put("x", Condition::Absent), put("y", Condition::Absent)]).await.unwrap();
    let tokens: Vec<String> = proxy.requests().iter().map(|request| token(&request.body)).collect();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
    proxy.spoil("TransactGetItems", conflict());
    let keys = [Key::new("p", "x"), Key::new("p", "y")];
    assert!(table.get_many(&keys).await.unwrap().iter().all(Option::is_some));
    // Not for ever.
    (0..gitferry_base::retry::MAX_ATTEMPTS).for_each(|_| proxy.spoil("TransactWriteItems", conflict()));
    let result = table.transact(vec![put("x", Condition::Any), put("z", Condition::Any)]).await;
    assert!(matches!(result, Err(TableError::Unavailable { ambiguous: false, .. })), "{result:?}");
    assert!(table.get(&Key::new("p", "z")).await.unwrap().is_none());
}

fn token(body: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["ClientRequestToken"].as_str().unwrap().to_owned()
}

/// The attribute that DynamoDB's TTL is told to look at.
#[tokio::test]
async fn an_expiry_is_an_attribute_of_its_own() {
    let (table, proxy) = table().await;
    let key = Key::new("lease/l", "r");
    let with = json!({ "holder": "h", "expires": 1_900_000_000u64 });
    let actions = |document: serde_json::Value| {
        [Condition::Any, Condition::Absent].map(|condition| Write {
            key: key.clone(),
            condition,
            action: Action::Put { document: document.clone(), bytes: None },
        })
    };
    let [any, absent] = actions(with.clone());
    proxy.requests();
    table.transact(vec![absent]).await.unwrap();
    assert!(proxy.requests()[0].body.contains(r#""expires":{"N":"1900000000"}"#));
    assert_eq!(table.get(&key).await.unwrap().unwrap().document, with);
    proxy.requests();
    table.transact(vec![any]).await.unwrap();
    assert!(proxy.requests()[0].body.contains(r##""#expires":"expires""##));
    let [any, _] = actions(json!({ "holder": "h" }));
    proxy.requests();
    table.transact(vec![any]).await.unwrap();
    assert!(proxy.requests()[0].body.contains("REMOVE #bytes, #expires"));
}

/// Pushes the newest commit of a repository, which grows from what the region has.
async fn push(region: &Region, repo: &GitRepo, old: &str) {
    let (item, new) = (region.repositories().get("app").await.unwrap(), repo.git(&["rev-parse", "main"]));
    let pack = repo.feed(&["pack-objects", "-q", "--stdout", "--revs"], format!("{new}\n^{old}\n").as_bytes());
    let command = format!("{old} {new} refs/heads/main\0report-status");
    let head = format!("{:04x}{command}0000", command.len() + 4).into_bytes();
    let (region, runtime) = (region.clone(), tokio::runtime::Handle::current());
    let pushed = tokio::task::spawn_blocking(move || {
        let request = PushRequest::read(&mut PacketReader::new(&head[..]), gix::hash::Kind::Sha1).unwrap().unwrap();
        let (policy, states) =
            (PushPolicy::default(), FreshStates { region: region.clone(), id: item.id, hidden: None, mirror: false });
        let serving = Serving { region: &region, runtime: &runtime, policy: &policy, actor: "me", request: &request };
        serving.push(&states, &mut &pack[..], &PushProgress::default()).unwrap()
    });
    assert!(pushed.await.unwrap().item.is_some());
}

/// Manifest and claims are read together by whatever brings a pack.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_and_a_push_read_manifest_and_claims_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (region, proxy) = region(&dir).await;
    let repo = GitRepo::init(dir.path().join("app.git"), &[]);
    let options = ImportOptions { patterns: RefPatterns::default(), allow_empty: false, actor: "me".into() };
    for content in ["one", "two"] {
        repo.commit("main", "file", content);
        proxy.requests();
        region.importer().import(&repo.path, "app", &options, Default::default()).await.unwrap();
        assert_eq!(asked_of_claims(&proxy), ["TransactGetItems", "TransactWriteItems"], "import");
    }
    for content in ["three", "four"] {
        let old = repo.git(&["rev-parse", "main"]);
        repo.commit("main", "file", content);
        push(&region, &repo, &old).await;
        assert_eq!(asked_of_claims(&proxy), ["TransactGetItems", "TransactWriteItems"], "push");
    }
}

fn asked_of_claims(proxy: &Proxy) -> Vec<String> {
    let requests = proxy.requests().into_iter();
    requests.filter(|request| request.body.contains("claims/")).map(|request| request.operation).collect()
}
