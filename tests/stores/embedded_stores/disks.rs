//! Full, read-only and other disks.

use super::*;

/// A small file system of its own, unmounted at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Mount(dir)),
            other => {
                eprintln!("SKIPPED: cannot mount a tmpfs here, so full and read-only disks go untested: {other:?}");
                None
            }
        }
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.0.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_harms_nothing() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = mount.0.path();
    let table = table_in(dir);
    table.transact(put("x", 1)).await.unwrap();
    let store = store_in(dir);
    let upload = store.begin("big").await.unwrap();
    let bytes = made_up(3, PART_BYTES);
    let first = store.put_part(&upload, 0, bytes.clone()).await.unwrap();
    let filler = dir.join("filler");
    // Fills what is left, to the last page.
    let _ = fs::write(&filler, vec![1; 32 << 20]);

    let told = |error: ObjectError| {
        assert!(matches!(&error, ObjectError::Environment { reason, .. } if reason.contains("make room")), "{error}");
    };
    told(store.put_part(&upload, 1, bytes.clone()).await.unwrap_err());
    told(store.put("small", made_up(4, 50_000)).await.unwrap_err());
    let mut refused = 0;
    for i in 0..100 {
        match table
            .transact(vec![Write::put(key(&format!("{i}")), Condition::Any, json!({"t": "x".repeat(50_000)}))])
            .await
        {
            Ok(()) => assert_eq!(refused, 0, "it went on by itself"),
            Err(error) => {
                assert!(matches!(&error, TableError::Environment { .. }), "{error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));

    fs::remove_file(&filler).unwrap();
    table.transact(put("x", 2)).await.unwrap();
    assert_eq!(store.head("small").await.unwrap(), None);
    store.put("small", made_up(4, 50_000)).await.unwrap();
    assert_eq!(store.parts(&upload).await.unwrap(), std::slice::from_ref(&first));
    store.complete(&upload, &[first], PART_BYTES, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("big").unwrap()).unwrap(), bytes);
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_read_only_disk_can_be_read() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = mount.0.path();
    let table = table_in(dir);
    table.transact(put("x", 1)).await.unwrap();
    let store = store_in(dir);
    store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
    drop((table, store));
    // With the log still there, and without it.
    for checkpointed in [false, true] {
        mount.remount("rw");
        if checkpointed {
            // Closing the last ordinary connection writes the log back and removes it.
            let connection = rusqlite::Connection::open(dir.join("deep/er/table.db")).unwrap();
            connection.query_row("SELECT count(*) FROM item", [], |_| Ok(())).unwrap();
            drop(connection);
            assert!(!dir.join("deep/er/table.db-wal").exists());
        }
        mount.remount("ro");
        let table = table_in(dir);
        assert_eq!(table.get(&key("x")).await.unwrap().unwrap().document, json!({"n": 1}));
        let error = table.transact(put("x", 2)).await.unwrap_err();
        assert!(matches!(&error, TableError::Environment { reason, .. } if reason.contains("read-only")), "{error}");
        let store = store_in(dir);
        assert_eq!(store.get("a/b", 0..10).await.unwrap(), b"1"[..]);
        assert_eq!(store.list("", None, 10).await.unwrap().objects.len(), 1);
        let errors =
            [store.put("c", Bytes::new()).await.map(drop), store.begin("c").await.map(drop), store.delete("a/b").await];
        for error in errors.map(Result::unwrap_err) {
            assert!(
                matches!(&error, ObjectError::Environment { reason, .. } if reason.contains("writable")),
                "{error}"
            );
        }
        assert_eq!(FilesystemStore::open(dir.join("new"), "test").unwrap_err().kind(), Kind::Environment);
        assert_eq!(SqliteTable::open(dir.join("new.db"), "test").unwrap_err().kind(), Kind::Environment);
    }
}

#[tokio::test]
async fn files_from_another_disk_are_copied() {
    let Some(mount) = Mount::new("size=24m") else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    let file = tempfile::NamedTempFile::new_in(mount.0.path()).unwrap();
    fs::write(file.path(), b"from afar").unwrap();
    let path = file.path().to_owned();
    assert_eq!(store.put_file("x", file.into_temp_path()).await.unwrap().size, 9);
    assert_eq!(store.get("x", 0..100).await.unwrap(), b"from afar"[..]);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
}
