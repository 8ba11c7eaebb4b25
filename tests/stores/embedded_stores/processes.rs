//! Several processes on one store, some of which die.

use super::*;

const INCREMENTS: u64 = 40;

#[tokio::test]
#[ignore = "run by processes_share_a_counter"]
async fn child_counter() {
    let Some(dir) = child_dir("child_counter") else { return };
    let table = table_in(&dir);
    for _ in 0..INCREMENTS {
        loop {
            let found = table.get(&key("counter")).await.unwrap();
            let condition = found.as_ref().map_or(Condition::Absent, |item| Condition::Revision(item.revision));
            let n = found.map_or(0, |item| item.document["n"].as_u64().unwrap());
            match table.transact(vec![Write::put(key("counter"), condition, json!({ "n": n + 1 }))]).await {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn processes_share_a_counter() {
    let dir = tempfile::tempdir().unwrap();
    // They race for creating the file as well.
    let children: Vec<Child> = (0..4).map(|_| spawn("child_counter", dir.path())).collect();
    let count = children.len() as u64;
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let item = table_in(dir.path()).get(&key("counter")).await.unwrap().unwrap();
    assert_eq!((item.document, item.revision), (json!({ "n": count * INCREMENTS }), count * INCREMENTS));
}

/// A table is created by the first of those that open it, whatever the others have seen of it by then.
#[test]
fn a_table_is_opened_by_many_while_it_is_created() {
    const OPENERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let path = dir.path().join(round.to_string()).join("table.db");
        let barrier = Barrier::new(OPENERS);
        thread::scope(|scope| {
            for _ in 0..OPENERS {
                scope.spawn(|| {
                    barrier.wait();
                    SqliteTable::open(&path, "t").unwrap();
                });
            }
        });
    }
}

#[tokio::test]
#[ignore = "run by an_upload_outlives_its_process"]
async fn child_upload() {
    let Some(dir) = child_dir("child_upload") else { return };
    let store = store_in(&dir);
    let bytes = made_up(1, 2 * PART_BYTES + 10);
    let upload = store.begin("packs/x.pack").await.unwrap();
    for number in [0, 2] {
        store.put_part(&upload, number, part_of(&bytes, number)).await.unwrap();
    }
    fs::write(dir.join("token.new"), &upload.token).unwrap();
    fs::rename(dir.join("token.new"), dir.join("token")).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_upload_outlives_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = spawn("child_upload", dir.path());
    wait_for(&dir.path().join("token")).await;
    let token = fs::read_to_string(dir.path().join("token")).unwrap();
    let upload = Upload { key: "packs/x.pack".to_owned(), token };
    let store = store_in(dir.path());
    // While the other one lives, it is its upload.
    let busy = [store.parts(&upload).await.map(drop), store.abort(&upload).await];
    assert_eq!(store.remove_stale(Duration::ZERO, jiff::Timestamp::MAX).await.unwrap(), 0);
    for result in busy {
        assert!(matches!(result, Err(ObjectError::Unavailable { ambiguous: false, .. })), "{result:?}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let held = store.parts(&upload).await.unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [0, 2]);
    let bytes = made_up(1, 2 * PART_BYTES + 10);
    store.put_part(&upload, 1, part_of(&bytes, 1)).await.unwrap();
    let parts = store.parts(&upload).await.unwrap();
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("packs/x.pack").unwrap()).unwrap(), bytes);
}

#[tokio::test]
#[ignore = "run by a_killed_writer_leaves_whole_transactions"]
async fn child_writer() {
    let Some(dir) = child_dir("child_writer") else { return };
    let table = table_in(&dir);
    for n in 1.. {
        let writes = (0..5).flat_map(|i| put(&format!("k{i}"), n)).collect();
        table.transact(writes).await.unwrap();
        if n == 5 {
            fs::write(dir.join("started"), "").unwrap();
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let _ = fs::remove_file(dir.path().join("started"));
        let mut child = spawn("child_writer", dir.path());
        wait_for(&dir.path().join("started")).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let table = table_in(dir.path());
        let items = table.query(&Query::prefix("p", "k")).await.unwrap().whole().unwrap();
        assert_eq!(items.len(), 5);
        assert!(items.iter().all(|item| item.document == items[0].document), "{items:?}");
        assert!(items[0].revision > last);
        last = items[0].revision;
        table.transact(put("after", last)).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_in(dir.path());
    table.transact(put("x", 1)).await.unwrap();
    let other = rusqlite::Connection::open(table.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (release, released) = std::sync::mpsc::channel();
    let holder = thread::spawn(move || {
        released.recv().unwrap();
        other.execute_batch("ROLLBACK").unwrap();
    });
    let writing = tokio::spawn({
        let table = Arc::new(table);
        let writer = Arc::clone(&table);
        async move {
            let write = tokio::spawn(async move { writer.transact(put("x", 2)).await });
            // Reads go on meanwhile.
            assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));
            release.send(()).unwrap();
            write.await.unwrap().unwrap();
            assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 2}));
        }
    });
    writing.await.unwrap();
    holder.join().unwrap();
}
