//! Tables that are damaged, or not what they should be.

use super::*;

fn corrupt<T: std::fmt::Debug>(result: Result<T, TableError>) {
    assert!(matches!(result, Err(TableError::Corrupt { .. })), "{result:?}");
}

#[tokio::test]
async fn damaged_tables_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text.db");
    fs::write(&path, "this is not a database, but it is long enough to be looked at. ".repeat(20)).unwrap();
    corrupt(SqliteTable::open(&path, "test"));

    let path = dir.path().join("damaged.db");
    let table = SqliteTable::open(&path, "test").unwrap();
    for i in 0..200 {
        table
            .transact(vec![Write::put(key(&format!("{i}")), Condition::Any, json!({"t": "x".repeat(500)}))])
            .await
            .unwrap();
    }
    drop(table);
    let checkpoint = rusqlite::Connection::open(&path).unwrap();
    checkpoint.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(checkpoint);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    // All pages but the first, which holds the schema.
    file.write_all_at(&vec![0xa5; file.metadata().unwrap().len() as usize - 4096], 4096).unwrap();
    let table = SqliteTable::open(&path, "test").unwrap();
    corrupt(table.query(&Query::prefix("p", "")).await);
    corrupt(table.get(&key("1")).await);
    corrupt(table.transact(put("1", 1)).await);
}

#[tokio::test]
async fn rows_that_cannot_be_right_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_in(dir.path());
    table.transact(put("good", 1)).await.unwrap();
    let tamper = rusqlite::Connection::open(table.path()).unwrap();
    let rows = [
        ("json", "1", "'{'"),
        ("array", "1", "'[]'"),
        ("zero", "0", "'{}'"),
        ("minus", "-1", "'{}'"),
        ("most", "9223372036854775807", "'{}'"),
        ("type", "'text'", "'{}'"),
        ("blob", "1", "x'00ff'"),
    ];
    for (sk, revision, document) in rows {
        let row = format!("INSERT INTO item VALUES ('p', '{sk}', {revision}, {document}, NULL)");
        tamper.execute_batch(&row).unwrap();
        corrupt(table.get(&key(sk)).await);
    }
    // A put over a row without a next revision would leave the row's revision as it is.
    corrupt(table.transact(put("most", 1)).await);
    assert!(table.get(&key("good")).await.unwrap().is_some());
    // Each fails alone, also where a page ends with one or begins behind it.
    for limit in [1, 2, 3, 100] {
        let (mut query, mut good, mut bad) = (Query { limit, ..Query::prefix("p", "") }, Vec::new(), Vec::new());
        loop {
            let page = table.query(&query).await.unwrap();
            query.after = page.next.clone();
            for row in page.rows {
                match row {
                    Ok(item) => good.push(item.key.sk),
                    Err(row) => {
                        assert_eq!(row.error.kind(), Kind::Corrupt);
                        bad.push(row.key.sk);
                    }
                }
            }
            if query.after.is_none() {
                break;
            }
        }
        assert_eq!(good, ["good"], "{limit}");
        assert_eq!(bad, ["array", "blob", "json", "minus", "most", "type", "zero"], "{limit}");
    }
    corrupt(table.query(&Query::prefix("p", "")).await.unwrap().whole());
}

#[tokio::test]
async fn other_schemas_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer.db");
    drop(SqliteTable::open(&path, "test").unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteTable::open(&path, "test").unwrap_err();
    assert_eq!(error.kind(), Kind::Environment);
    assert!(error.to_string().contains("newer gitferry (schema 99"), "{error}");

    let path = dir.path().join("foreign.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = SqliteTable::open(&path, "test").unwrap_err();
    assert!(matches!(&error, TableError::Environment { reason, .. } if reason.contains("another program")), "{error}");
    let tables: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1, "nothing was changed");

    let error = SqliteTable::open(dir.path(), "test").unwrap_err();
    assert_eq!(error.kind(), Kind::Environment, "{error}");
}

#[tokio::test]
async fn documents_of_a_newer_format_stop_their_reader() {
    let dir = tempfile::tempdir().unwrap();
    let table = table_in(dir.path());
    table.transact(put("1", 1)).await.unwrap();
    assert_eq!(table.get(&key("1")).await.unwrap().unwrap().document, json!({ "n": 1 }), "the version is not shown");
    let newer = "UPDATE item SET document = json_set(document, '$.version', 99)";
    rusqlite::Connection::open(table.path()).unwrap().execute_batch(newer).unwrap();
    for error in [
        table.get(&key("1")).await.map(drop).unwrap_err(),
        table.query(&Query::prefix("p", "")).await.unwrap().whole().map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, TableError::Newer { format: 99, .. }) && error.kind() == Kind::Refused, "{error}");
        assert!(error.to_string().contains("newer gitferry (format 99, this build reads up to"), "{error}");
    }
    // Of the build before there were versions.
    let older = "UPDATE item SET document = json_remove(document, '$.version')";
    rusqlite::Connection::open(table.path()).unwrap().execute_batch(older).unwrap();
    assert_eq!(table.get(&key("1")).await.unwrap().unwrap().document, json!({ "n": 1 }));
    // What an older build would lose by rewriting it.
    table.transact(vec![Write::put(key("3"), Condition::Any, json!({ "metadata": {} }))]).await.unwrap();
    let format = "SELECT json_extract(document, '$.version') FROM item WHERE sk = '3'";
    let connection = rusqlite::Connection::open(table.path()).unwrap();
    assert_eq!(connection.query_row(format, [], |row| row.get::<_, i64>(0)).unwrap(), 3);
    assert_eq!(table.get(&key("3")).await.unwrap().unwrap().document, json!({ "metadata": {} }));
    let own = vec![Write::put(key("2"), Condition::Any, json!({ "version": 1 }))];
    assert!(matches!(table.transact(own).await, Err(TableError::Invalid { .. })));
}

#[tokio::test]
async fn a_table_at_rest_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("table.db"), dir.path().join("copy.db"));
    for n in 1..=3 {
        let table = SqliteTable::open(&path, "test").unwrap();
        table.transact(put(&n.to_string(), n)).await.unwrap();
        drop(table);
        assert_eq!(fs::metadata(dir.path().join("table.db-wal")).map_or(0, |log| log.len()), 0);
        fs::copy(&path, &copy).unwrap();
        let copied = SqliteTable::open_existing(&copy, "test").unwrap();
        assert_eq!(copied.query(&Query::prefix("p", "")).await.unwrap().rows.len() as u64, n);
    }
}

#[tokio::test]
async fn opening_what_is_there_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (gone, empty) = (dir.path().join("gone/table.db"), dir.path().join("empty.db"));
    fs::write(&empty, "").unwrap();
    for path in [&gone, &empty] {
        let error = SqliteTable::open_existing(path, "test").unwrap_err();
        assert_eq!(error.kind(), Kind::Environment, "{error}");
    }
    let error = FilesystemStore::open_existing(dir.path().join("objects"), "test").unwrap_err();
    assert!(!dir.path().join("gone").exists() && !dir.path().join("objects").exists(), "{error}");
    assert_eq!(fs::metadata(&empty).unwrap().len(), 0);
    // One that vanishes under a process is not made anew by its next connection.
    let table = Arc::new(table_in(dir.path()));
    table.transact(put("1", 1)).await.unwrap();
    let path = table.path().to_owned();
    for file in [path.clone(), path.with_extension("db-wal"), path.with_extension("db-shm")] {
        let _ = fs::remove_file(file);
    }
    let reading = (0..40).map(|_| {
        tokio::spawn({
            let table = table.clone();
            async move { drop(table.get(&key("1")).await) }
        })
    });
    futures::future::join_all(reading).await;
    assert!(!path.exists(), "the table was made anew");
}
