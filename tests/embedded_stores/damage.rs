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
        ("type", "'text'", "'{}'"),
        ("blob", "1", "x'00ff'"),
    ];
    for (sk, revision, document) in rows {
        let row = format!("INSERT INTO item VALUES ('p', '{sk}', {revision}, {document}, NULL)");
        tamper.execute_batch(&row).unwrap();
        corrupt(table.get(&key(sk)).await);
    }
    assert!(table.get(&key("good")).await.unwrap().is_some());
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
