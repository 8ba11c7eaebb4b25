//! Rows that change after the chain was read.

use uuid::Uuid;

use super::*;
use gitferry_store::table::SqliteTable;

const ID: RepositoryId = RepositoryId(Uuid::from_u128(1));

fn facts(size: u64) -> ChangeFacts {
    ChangeFacts {
        seq: 1,
        prev: ChangeHash::ZERO,
        epoch: 1,
        time: Timestamp::UNIX_EPOCH,
        size,
        edits: 0,
        packs: 0,
        pack_bytes: 0,
        lfs_bytes: 0,
        object: None,
    }
}

#[tokio::test]
async fn bytes_that_are_read_again_are_those_of_the_change() {
    let dir = tempfile::tempdir().unwrap();
    let table = SqliteTable::open(dir.path().join("table.db"), "t").unwrap();
    let bytes = Bytes::from_static(b"the bytes of a change");
    let row = ChangeRow { hash: ChangeHash::of(&bytes), facts: facts(bytes.len() as u64), inline: None };
    let key = keys::change(ID, 1, row.hash);
    let write = row_write(ID, row.hash, &row.facts, Some(bytes.clone()));
    let document = serde_json::to_value(&row.facts).unwrap();
    table.transact(vec![write]).await.unwrap();
    assert_eq!(read_inline(&table, ID, &row).await.unwrap(), bytes);
    let altered = Bytes::from_static(b"the bytes of a chance");
    for damage in [
        Write::put_bytes(key.clone(), Condition::Any, document.clone(), altered),
        Write::put_bytes(key.clone(), Condition::Any, document.clone(), Bytes::new()),
        Write::put(key.clone(), Condition::Any, document),
        Write::delete(key, Condition::Any),
    ] {
        let what = format!("{damage:?}");
        table.transact(vec![damage]).await.unwrap();
        let error = read_inline(&table, ID, &row).await.unwrap_err();
        assert!(matches!(error, LedgerError::Corrupt(_)), "{what}: {error}");
    }
}

#[test]
#[should_panic(expected = "holds all bytes")]
fn no_row_is_written_without_its_bytes() {
    row_write(ID, ChangeHash::ZERO, &facts(7), None);
}

#[test]
#[should_panic(expected = "holds all bytes")]
fn no_row_is_written_with_a_part_of_its_bytes() {
    row_write(ID, ChangeHash::ZERO, &facts(7), Some(Bytes::from_static(b"half")));
}
