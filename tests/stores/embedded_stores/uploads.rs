//! Uploads that lose parts, and objects that nobody may change.

use super::*;

/// Stores two full parts and a short one, and lets go of the upload.
async fn half_uploaded(dir: &Path) -> (Upload, PathBuf, Bytes) {
    let bytes = made_up(2, 2 * PART_BYTES + 100);
    let store = store_in(dir);
    let upload = store.begin("x").await.unwrap();
    for number in 0..3 {
        store.put_part(&upload, number, part_of(&bytes, number)).await.unwrap();
    }
    let staged = store.spool_dir().unwrap().join(&upload.token);
    (upload, staged, bytes)
}

fn numbers(parts: &[Part]) -> Vec<u32> {
    parts.iter().map(|part| part.number).collect()
}

#[tokio::test]
async fn parts_lost_with_the_power_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let file = OpenOptions::new().write(true).open(&staged).unwrap();
    file.set_len(PART_BYTES + 5).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0]);
    // As long as it should be, but with zeros that never reached the disk.
    file.set_len(bytes.len() as u64).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0]);
    file.write_all_at(&bytes[PART_BYTES as usize..], PART_BYTES).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
    // One flipped bit; complete looks by itself when nobody has asked for the parts.
    let good = store_in(dir.path()).parts(&upload).await.unwrap();
    file.write_all_at(&[bytes[77] ^ 1], 77).unwrap();
    let store = store_in(dir.path());
    let result = store.complete(&upload, &good, bytes.len() as u64, Crc64::of(&bytes)).await;
    assert!(matches!(result, Err(ObjectError::Corrupt { .. })), "{result:?}");
    assert_eq!(store.head("x").await.unwrap(), None);
    assert_eq!(numbers(&store.parts(&upload).await.unwrap()), [1, 2]);
    store.put_part(&upload, 0, part_of(&bytes, 0)).await.unwrap();
    let parts = store.parts(&upload).await.unwrap();
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(store.local_path("x").unwrap()).unwrap(), bytes);
}

#[tokio::test]
async fn damaged_lists_of_parts_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, _) = half_uploaded(dir.path()).await;
    let list = staged.with_extension("parts");
    let whole = fs::read(&list).unwrap();
    let mut noise = whole.clone();
    noise.extend_from_slice(
        b"00000003 0000\xff\n\n99999999 00000001 0000000000000000\n00000000 ffffffff 0000000000000000\n",
    );
    fs::write(&list, &noise).unwrap();
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
    // Cut anywhere: never more than what is intact, never an error but "gone".
    for cut in 0..whole.len() {
        fs::write(&list, &whole[..cut]).unwrap();
        match store_in(dir.path()).parts(&upload).await {
            Ok(parts) => assert!(parts.len() <= 3),
            Err(error) => assert_eq!(error.kind(), Kind::Missing, "{error}"),
        }
    }
    fs::remove_file(&list).unwrap();
    let store = store_in(dir.path());
    assert_eq!(store.parts(&upload).await.unwrap_err().kind(), Kind::Missing);
    store.abort(&upload).await.unwrap();
    assert!(!staged.exists());
}

#[tokio::test]
async fn a_torn_line_does_not_swallow_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let list = staged.with_extension("parts");
    let whole = fs::read(&list).unwrap();
    fs::write(&list, &whole[..whole.len() - 10]).unwrap();
    let store = store_in(dir.path());
    assert_eq!(numbers(&store.parts(&upload).await.unwrap()), [0, 1]);
    store.put_part(&upload, 2, part_of(&bytes, 2)).await.unwrap();
    drop(store);
    assert_eq!(numbers(&store_in(dir.path()).parts(&upload).await.unwrap()), [0, 1, 2]);
}

#[tokio::test]
async fn a_death_while_completing_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, staged, bytes) = half_uploaded(dir.path()).await;
    let store = store_in(dir.path());
    let parts = store.parts(&upload).await.unwrap();
    drop(store);
    // As a link without removal leaves it, where renames cannot refuse to replace.
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o444)).unwrap();
    fs::hard_link(&staged, dir.path().join("objects/x")).unwrap();
    let store = store_in(dir.path());
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert!(!staged.exists());
    assert_eq!(fs::metadata(store.local_path("x").unwrap()).unwrap().nlink(), 1);
}

#[tokio::test]
async fn parts_come_straight_from_another_embedded_store() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = Arc::new(store_in(from.path()));
    let target = Arc::new(store_in(to.path()));
    let bytes = made_up(3, PART_BYTES + 700_001);
    source.put("a/object", bytes.clone()).await.unwrap();
    let upload = target.begin("b/object").await.unwrap();
    let mut parts = Vec::new();
    for number in [1, 0] {
        let part = part_of(&bytes, number);
        let size = part.len() as u64;
        let stored = target.put_part_from(&upload, number, size, &*source, "a/object").await.unwrap().unwrap();
        assert_eq!(stored, Part { number, size, crc64: Crc64::of(&part), tag: String::new() });
        parts.insert(0, stored);
    }
    // What the source does not have does not become a part, and takes back what was there.
    for (size, key) in [(PART_BYTES, "a/object"), (1, "a/other")] {
        assert_eq!(target.put_part_from(&upload, 1, size, &*source, key).await.unwrap(), None);
    }
    assert_eq!(numbers(&target.parts(&upload).await.unwrap()), [0]);
    let error = target.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let last = part_of(&bytes, 1).len() as u64;
    target.put_part_from(&upload, 1, last, &*source, "a/object").await.unwrap().unwrap();
    target.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(fs::read(to.path().join("objects/b/object")).unwrap(), bytes);
    assert_ne!(
        fs::metadata(to.path().join("objects/b/object")).unwrap().ino(),
        fs::metadata(from.path().join("objects/a/object")).unwrap().ino()
    );
    // Nothing passes a decorator by, on either side.
    let metered = MeteredStore::new(source.clone(), Arc::new(Meter::default()));
    let delayed = DelayedStore::new(target.clone(), Duration::ZERO);
    let other = target.begin("b/other").await.unwrap();
    assert_eq!(target.put_part_from(&other, 0, 1, &metered, "a/object").await.unwrap(), None);
    assert_eq!(delayed.put_part_from(&other, 0, 1, &*source, "a/object").await.unwrap(), None);
}

#[tokio::test]
async fn tokens_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    store.put("victim", Bytes::from_static(b"1")).await.unwrap();
    for token in ["", "..", "../victim", "/etc/passwd", "put-x", "0192F0C0-0000-7000-8000-000000000000"] {
        let upload = Upload { key: "x".to_owned(), token: token.to_owned() };
        let results = [
            store.parts(&upload).await.map(drop),
            store.put_part(&upload, 0, Bytes::from_static(b"x")).await.map(drop),
            store.abort(&upload).await,
        ];
        for result in results {
            assert!(matches!(result, Err(ObjectError::Invalid { .. })), "{token:?}: {result:?}");
        }
    }
    assert_eq!(store.get("victim", 0..10).await.unwrap(), b"1"[..]);
}

#[tokio::test]
async fn objects_are_read_only_and_staging_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    let (upload, ..) = half_uploaded(dir.path()).await;
    let store = store_in(dir.path());
    let parts = store.parts(&upload).await.unwrap();
    let bytes = made_up(2, 2 * PART_BYTES + 100);
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    store.put("a/b", Bytes::from_static(b"1")).await.unwrap();
    assert!(store.put("a/b", Bytes::from_static(b"1")).await.is_err());
    for key in ["x", "a/b"] {
        let mode = fs::metadata(store.local_path(key).unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o444, "{key}");
    }
    assert_eq!(fs::read_dir(store.spool_dir().unwrap()).unwrap().count(), 0);
    // What a killed process leaves goes when it is old, and what is in use stays.
    let kept = store.begin("kept").await.unwrap();
    fs::write(store.spool_dir().unwrap().join("put-left"), "left").unwrap();
    fs::create_dir_all(store.spool_dir().unwrap().join("folder/within")).unwrap();
    fs::write(store.spool_dir().unwrap().join("folder/within/file"), "left").unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(store.remove_stale(hour, jiff::Timestamp::UNIX_EPOCH).await.unwrap(), 0);
    assert_eq!(store.remove_stale(Duration::ZERO, jiff::Timestamp::MAX).await.unwrap(), 2);
    assert!(store.parts(&kept).await.unwrap().is_empty());
    // A key that is a folder, and one below an object.
    assert!(matches!(store.put("a", Bytes::new()).await, Err(ObjectError::Invalid { .. })));
    assert!(matches!(store.put("a/b/c", Bytes::new()).await, Err(ObjectError::Invalid { .. })));
    store.delete("a/b").await.unwrap();
    assert!(!dir.path().join("objects/a").exists());
}
