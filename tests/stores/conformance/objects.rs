//! The conformance suite of object stores.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use gitferry_base::Kind;
use gitferry_store::objects::parts::MAX_PARTS;
use gitferry_store::objects::{
    Crc64, MAX_LIST_KEYS, MAX_PUT_BYTES, ObjectError, ObjectStore, PART_BYTES, Part, Upload,
};

use crate::conformance::StoreFactory;

/// Bytes that differ from place to place and from seed to seed.
fn made_up(seed: u64, size: u64) -> Bytes {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = size.div_ceil(8);
    let mut bytes: Vec<u8> = (0..words)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state ^ (state >> 29)).to_le_bytes()
        })
        .collect();
    bytes.truncate(size as usize);
    Bytes::from(bytes)
}

fn part_of(bytes: &Bytes, number: u32) -> Bytes {
    let from = u64::from(number) * PART_BYTES;
    bytes.slice(from as usize..(from + PART_BYTES).min(bytes.len() as u64) as usize)
}

fn count_of(bytes: &Bytes) -> u32 {
    (bytes.len() as u64).div_ceil(PART_BYTES) as u32
}

async fn send(store: &dyn ObjectStore, upload: &Upload, bytes: &Bytes) -> Vec<Part> {
    let mut parts = Vec::new();
    for number in 0..count_of(bytes) {
        parts.push(store.put_part(upload, number, part_of(bytes, number)).await.unwrap());
    }
    parts
}

async fn read(store: &dyn ObjectStore, key: &str) -> Vec<u8> {
    let size = store.head(key).await.unwrap().unwrap().size;
    let mut all = Vec::new();
    while (all.len() as u64) < size {
        let from = all.len() as u64;
        all.extend_from_slice(&store.get(key, from..from + PART_BYTES).await.unwrap());
    }
    all
}

fn kind<T: std::fmt::Debug>(result: Result<T, ObjectError>) -> Kind {
    result.unwrap_err().kind()
}

pub async fn what_is_put_is_read(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let bytes = made_up(1, 100_000);
    let meta = store.put("a/b/c.pack", bytes.clone()).await.unwrap();
    assert_eq!((meta.key.as_str(), meta.size), ("a/b/c.pack", 100_000));
    let other = factory.handle();
    let found = other.head("a/b/c.pack").await.unwrap().unwrap();
    assert_eq!((found.key.as_str(), found.size), ("a/b/c.pack", 100_000));
    assert!(found.crc64.is_none_or(|crc| crc == Crc64::of(&bytes)));
    assert_eq!(read(&*other, "a/b/c.pack").await, bytes);
    for absent in ["a/b/c.pac", "a/b/c.pack2", "a/b", "a", "b", "a/b/c.pack/d"] {
        assert_eq!(other.head(absent).await.unwrap(), None, "{absent}");
        assert_eq!(kind(other.get(absent, 0..1).await), Kind::Missing, "{absent}");
    }
}

pub async fn the_first_put_stays(factory: &dyn StoreFactory) {
    let store = factory.handle();
    store.put("x", Bytes::from_static(b"first")).await.unwrap();
    let second = store.put("x", Bytes::from_static(b"second")).await;
    assert!(matches!(second, Err(ObjectError::Exists { ref key, .. }) if key == "x"), "{second:?}");
    assert_eq!(read(&*store, "x").await, b"first");
    store.delete("x").await.unwrap();
    store.put("x", Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(read(&*store, "x").await, b"second");
}

pub async fn one_put_wins(factory: &dyn StoreFactory) {
    for round in 0..10 {
        // A new folder each time: making it is part of the race.
        let key = format!("race/{round}/x");
        let mut tasks = Vec::new();
        for i in 0..12u64 {
            let (store, key) = (factory.handle(), key.clone());
            tasks.push(tokio::spawn(async move { (i, store.put(&key, made_up(i, 50_000)).await) }));
        }
        let mut winners = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (i, Ok(_)) => winners.push(i),
                (_, Err(error)) => assert!(matches!(error, ObjectError::Exists { .. }), "{error}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        assert_eq!(read(&*factory.handle(), &key).await, made_up(winners[0], 50_000));
    }
}

pub async fn files_are_taken_over(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let elsewhere = tempfile::tempdir().unwrap();
    let folders = [store.spool_dir(), Some(elsewhere.path().to_owned())];
    for (i, folder) in folders.into_iter().flatten().enumerate() {
        let bytes = made_up(i as u64, 300_000);
        let spool = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
            file.write_all(bytes).unwrap();
            file.into_temp_path()
        };
        let file = spool(&bytes);
        let path = file.to_path_buf();
        let key = format!("packs/{i}.pack");
        let meta = store.put_file(&key, file).await.unwrap();
        assert_eq!((meta.key.as_str(), meta.size), (key.as_str(), 300_000));
        assert_eq!(read(&*store, &key).await, bytes);
        assert!(!path.exists(), "the file is the store's from now on");
        let second = spool(b"second");
        let path = second.to_path_buf();
        assert!(matches!(store.put_file(&key, second).await, Err(ObjectError::Exists { .. })));
        assert_eq!(read(&*store, &key).await, bytes);
        assert!(!path.exists());
    }
}

pub async fn ranges(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let bytes = made_up(3, 10_000);
    store.put("x", bytes.clone()).await.unwrap();
    store.put("empty", Bytes::new()).await.unwrap();
    for (from, to) in [(0, 10_000), (0, 1), (9_999, 10_000), (5, 5), (10, 20_000), (9_999, 10_001)] {
        let expected = bytes.slice(from..to.min(10_000));
        assert_eq!(store.get("x", from as u64..to as u64).await.unwrap(), expected, "{from}..{to}");
    }
    for (from, to) in [(10_000, 10_001), (10_001, 20_000), (u64::MAX - 1, u64::MAX), (10_000, 10_000)] {
        assert_eq!(store.get("x", from..to).await.unwrap(), Bytes::new(), "{from}..{to}");
    }
    assert_eq!(store.get("empty", 0..10).await.unwrap(), Bytes::new());
    assert_eq!(store.get("empty", 0..0).await.unwrap(), Bytes::new());
    assert_eq!(store.head("empty").await.unwrap().unwrap().size, 0);
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = store.get("x", 2..1).await;
    assert!(matches!(backwards, Err(ObjectError::Invalid { .. })));
    assert!(matches!(store.get("x", 0..MAX_PUT_BYTES + 1).await, Err(ObjectError::Invalid { .. })));
    assert_eq!(store.get("x", 0..MAX_PUT_BYTES).await.unwrap(), bytes);
}

pub async fn the_largest_put(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let more = Bytes::from(vec![1; MAX_PUT_BYTES as usize + 1]);
    assert!(matches!(store.put("x", more.clone()).await, Err(ObjectError::Invalid { .. })));
    assert_eq!(store.head("x").await.unwrap(), None);
    store.put("x", more.slice(1..)).await.unwrap();
    assert_eq!(store.get("x", 0..MAX_PUT_BYTES).await.unwrap(), more.slice(1..));
}

pub async fn keys(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let segment = "s".repeat(255);
    let good = [
        format!("{segment}/{segment}"),
        format!("{}/x", ["a"; 255].join("/")),
        "A-Z_a.z09".to_owned(),
        "a..b/-/_".to_owned(),
        format!("{segment}/{}/t", "u".repeat(254)),
    ];
    assert_eq!(good[1].len(), 511);
    assert_eq!(good[4].len(), 512);
    for key in &good {
        store.put(key, Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(read(&*store, key).await, b"1", "{key}");
        store.delete(key).await.unwrap();
    }
    let too_long = format!("{segment}/{}/tt", "u".repeat(254));
    let long_segment = format!("a/{segment}s");
    let bad = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "a/../b",
        "a/./b",
        ".staging",
        ".staging/x",
        "a/.b",
        "a b",
        "a\\b",
        "a\0b",
        "a\nb",
        "ä",
        "a:b",
        "a*",
        too_long.as_str(),
        long_segment.as_str(),
    ];
    for key in bad {
        let upload = Upload { key: key.to_owned(), token: "x".to_owned() };
        let results = [
            store.put(key, Bytes::new()).await.map(drop),
            store.get(key, 0..1).await.map(drop),
            store.head(key).await.map(drop),
            store.delete(key).await,
            store.begin(key).await.map(drop),
            store.parts(&upload).await.map(drop),
        ];
        for result in results {
            assert!(matches!(result, Err(ObjectError::Invalid { .. })), "{key:?}: {result:?}");
        }
        assert_eq!(store.local_path(key), None, "{key:?}");
    }
    for prefix in ["/", "a//", "..", "../", ".staging/", "a/../", "a b", too_long.as_str()] {
        assert!(matches!(store.list(prefix, None, 10).await, Err(ObjectError::Invalid { .. })), "{prefix:?}");
    }
    assert!(matches!(store.list("", None, 0).await, Err(ObjectError::Invalid { .. })));
}

async fn list_all(store: &dyn ObjectStore, prefix: &str, limit: usize) -> Vec<String> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_deref(), limit).await.unwrap();
        assert!(page.objects.len() <= limit.min(MAX_LIST_KEYS));
        keys.extend(page.objects.into_iter().map(|object| object.key));
        match page.next {
            Some(next) => after = Some(next),
            None => return keys,
        }
    }
}

pub async fn listing(factory: &dyn StoreFactory) {
    let store = factory.handle();
    assert!(list_all(&*store, "", 10).await.is_empty());
    // `-` and `.` sort before `/`, digits and letters after it.
    let mut keys: Vec<String> =
        ["a-/1", "a.b", "a/-", "a/b", "a/b-c/x", "a/b.c", "a/c/d/e", "a/c/d/f", "a0", "aa/a", "b", "Z/z", "_"]
            .map(str::to_owned)
            .to_vec();
    keys.extend((0..25).map(|i| format!("many/{i}")));
    keys.extend((0..5).map(|i| format!("many/5.d/{i}")));
    for key in &keys {
        store.put(key, Bytes::from(key.clone())).await.unwrap();
    }
    // Unfinished uploads are not listed.
    let upload = store.begin("a/upload").await.unwrap();
    store.put_part(&upload, 0, Bytes::from_static(b"1")).await.unwrap();
    keys.sort();
    for prefix in ["", "a", "a/", "a/b", "a/c/", "a/c/d/e", "a/c/d/ee", "aa", "m", "many/1", "many/5", "x/y", "zz"] {
        let expected: Vec<&String> = keys.iter().filter(|key| key.starts_with(prefix)).collect();
        for limit in [1, 2, 3, 7, 1_000, 100_000] {
            assert_eq!(list_all(&*store, prefix, limit).await.iter().collect::<Vec<_>>(), expected, "{prefix} {limit}");
        }
        for after in ["", "a", "a-", "a/", "a/b-c", "a/c/d/e", "many/12", "many/5.d/2", "zzz", "\u{1F600}"] {
            let page = store.list(prefix, Some(after), 1_000).await.unwrap();
            let found: Vec<&str> = page.objects.iter().map(|o| o.key.as_str()).collect();
            let behind: Vec<&str> = expected.iter().map(|k| k.as_str()).filter(|key| *key > after).collect();
            assert_eq!(found, behind, "{prefix:?} after {after:?}");
        }
    }
    let page = store.list("a/b", None, 10).await.unwrap();
    assert!(page.objects.iter().all(|object| object.size == object.key.len() as u64));
}

pub async fn deleting(factory: &dyn StoreFactory) {
    let store = factory.handle();
    store.put("a/b/c", Bytes::from_static(b"1")).await.unwrap();
    store.put("a/d", Bytes::from_static(b"1")).await.unwrap();
    for absent in ["a/b", "a/b/x", "x", "a/b/c/d"] {
        store.delete(absent).await.unwrap();
    }
    store.delete("a/b/c").await.unwrap();
    store.delete("a/b/c").await.unwrap();
    assert_eq!(store.head("a/b/c").await.unwrap(), None);
    assert_eq!(list_all(&*store, "", 10).await, ["a/d"]);
    store.put("a/b", Bytes::from_static(b"2")).await.unwrap();
    assert_eq!(list_all(&*store, "", 10).await, ["a/b", "a/d"]);
}

pub async fn puts_and_deletes_in_one_folder(factory: &dyn StoreFactory) {
    let mut tasks = Vec::new();
    for i in 0..8 {
        let store = factory.handle();
        tasks.push(tokio::spawn(async move {
            for round in 0..25 {
                let key = format!("folder/sub/{i}-{round}");
                store.put(&key, Bytes::from(key.clone())).await.unwrap();
                assert_eq!(store.get(&key, 0..100).await.unwrap(), key.as_bytes());
                store.delete(&key).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(list_all(&*factory.handle(), "", 10).await.is_empty());
}

pub async fn uploads_of_every_size(factory: &dyn StoreFactory) {
    let store = factory.handle();
    for size in [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 12_345] {
        let bytes = made_up(size, size);
        let key = format!("up/{size}");
        let upload = store.begin(&key).await.unwrap();
        assert_eq!(upload.key, key);
        assert!(store.parts(&upload).await.unwrap().is_empty());
        let parts = send(&*store, &upload, &bytes).await;
        for part in &parts {
            let piece = part_of(&bytes, part.number);
            assert_eq!((part.size, part.crc64), (piece.len() as u64, Crc64::of(&piece)));
        }
        assert_eq!(store.parts(&upload).await.unwrap(), parts);
        assert_eq!(store.head(&key).await.unwrap(), None, "visible before it is complete");
        let meta = store.complete(&upload, &parts, size, Crc64::of(&bytes)).await.unwrap();
        assert_eq!((meta.key.as_str(), meta.size), (key.as_str(), size));
        assert_eq!(read(&*store, &key).await, bytes);
        assert_eq!(kind(store.parts(&upload).await), Kind::Missing);
        assert_eq!(kind(store.put_part(&upload, 0, Bytes::from_static(b"x")).await), Kind::Missing);
        store.abort(&upload).await.unwrap();
        assert_eq!(read(&*store, &key).await, bytes);
    }
}

pub async fn parts_in_any_order_at_once(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let bytes = made_up(5, 4 * PART_BYTES + 99);
    let upload = store.begin("x").await.unwrap();
    let mut tasks = Vec::new();
    for number in (0..count_of(&bytes)).rev() {
        let (store, upload, part) = (Arc::clone(&store), upload.clone(), part_of(&bytes, number));
        tasks.push(tokio::spawn(async move { store.put_part(&upload, number, part).await.unwrap() }));
    }
    let mut parts = Vec::new();
    for task in tasks {
        parts.push(task.await.unwrap());
    }
    parts.sort_by_key(|part| part.number);
    assert_eq!(store.parts(&upload).await.unwrap(), parts);
    store.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(read(&*store, "x").await, bytes);
}

pub async fn another_handle_goes_on(factory: &dyn StoreFactory) {
    let bytes = made_up(6, 2 * PART_BYTES + 7);
    let first = factory.handle();
    let upload = first.begin("x").await.unwrap();
    first.put_part(&upload, 2, part_of(&bytes, 2)).await.unwrap();
    first.put_part(&upload, 0, part_of(&bytes, 0)).await.unwrap();
    drop(first);
    let second = factory.handle();
    let held = second.parts(&upload).await.unwrap();
    assert_eq!(held.iter().map(|part| part.number).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(held[1].crc64, Crc64::of(&part_of(&bytes, 2)));
    second.put_part(&upload, 1, part_of(&bytes, 1)).await.unwrap();
    let parts = second.parts(&upload).await.unwrap();
    second.complete(&upload, &parts, bytes.len() as u64, Crc64::of(&bytes)).await.unwrap();
    assert_eq!(read(&*second, "x").await, bytes);
}

pub async fn a_part_is_replaced(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let (old, new) = (made_up(7, PART_BYTES), made_up(8, 1_000));
    let upload = store.begin("x").await.unwrap();
    let stale = store.put_part(&upload, 0, old.clone()).await.unwrap();
    let fresh = store.put_part(&upload, 0, new.clone()).await.unwrap();
    assert_eq!(store.parts(&upload).await.unwrap(), std::slice::from_ref(&fresh));
    assert_eq!(kind(store.complete(&upload, &[stale], PART_BYTES, Crc64::of(&old)).await), Kind::Corrupt);
    store.complete(&upload, &[fresh], 1_000, Crc64::of(&new)).await.unwrap();
    assert_eq!(read(&*store, "x").await, new);
}

pub async fn complete_refuses_what_does_not_add_up(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let bytes = made_up(9, 2 * PART_BYTES + 5);
    let (size, crc64) = (bytes.len() as u64, Crc64::of(&bytes));
    let upload = store.begin("x").await.unwrap();
    let parts = send(&*store, &upload, &bytes).await;
    let mut swapped = parts.clone();
    swapped.swap(0, 1);
    let mut invented = parts.clone();
    invented.push(Part { number: 3, size: 5, crc64: Crc64(1), tag: String::new() });
    let without_middle = [parts[0].clone(), parts[2].clone()];
    let refused: [(&str, &[Part], u64, Crc64); 8] = [
        ("wrong checksum", &parts, size, Crc64(crc64.0 ^ 1)),
        ("size too large", &parts, size + 1, crc64),
        ("size too small", &parts, size - 1, crc64),
        ("last part missing", &parts[..2], size, crc64),
        ("middle part missing", &without_middle, size, crc64),
        ("first part missing", &parts[1..], size, crc64),
        ("parts swapped", &swapped, size, crc64),
        ("a part that was never put", &invented, size + 5, crc64.followed_by(Crc64(1), 5)),
    ];
    for (what, parts, size, crc64) in refused {
        assert_eq!(kind(store.complete(&upload, parts, size, crc64).await), Kind::Corrupt, "{what}");
        assert_eq!(store.head("x").await.unwrap(), None, "{what}");
    }
    let short = store.begin("short").await.unwrap();
    let first = store.put_part(&short, 0, bytes.slice(..10)).await.unwrap();
    let second = store.put_part(&short, 1, bytes.slice(10..20)).await.unwrap();
    let result = store.complete(&short, &[first, second], 20, Crc64::of(&bytes[..20])).await;
    assert_eq!(kind(result), Kind::Corrupt, "a short part that is not the last");
    // Nothing is spoilt by it.
    store.complete(&upload, &parts, size, crc64).await.unwrap();
    assert_eq!(read(&*store, "x").await, bytes);
}

pub async fn parts_that_are_refused(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let upload = store.begin("x").await.unwrap();
    let too_large = Bytes::from(vec![0; PART_BYTES as usize + 1]);
    let results = [
        store.put_part(&upload, 0, too_large).await,
        store.put_part(&upload, 0, Bytes::new()).await,
        store.put_part(&upload, MAX_PARTS, Bytes::from_static(b"x")).await,
        store.put_part(&upload, u32::MAX, Bytes::from_static(b"x")).await,
    ];
    for result in results {
        assert!(matches!(result, Err(ObjectError::Invalid { .. })), "{result:?}");
    }
    assert!(store.parts(&upload).await.unwrap().is_empty());
}

pub async fn complete_on_a_taken_key(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let bytes = made_up(10, 1_000);
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let upload = store.begin("x").await.unwrap();
        let parts = send(&*store, &upload, &bytes).await;
        uploads.push((upload, parts));
    }
    store.put("x", Bytes::from_static(b"first")).await.unwrap();
    for (upload, parts) in &uploads {
        let result = store.complete(upload, parts, 1_000, Crc64::of(&bytes)).await;
        assert!(matches!(result, Err(ObjectError::Exists { .. })), "{result:?}");
        assert_eq!(read(&*store, "x").await, b"first");
    }
    for (upload, _) in &uploads {
        store.abort(upload).await.unwrap();
    }
    assert_eq!(read(&*store, "x").await, b"first");
}

pub async fn one_upload_wins(factory: &dyn StoreFactory) {
    let mut tasks = Vec::new();
    for i in 0..8u64 {
        let store = factory.handle();
        tasks.push(tokio::spawn(async move {
            let bytes = made_up(i, 20_000);
            let upload = store.begin("race/x").await.unwrap();
            let parts = send(&*store, &upload, &bytes).await;
            (i, store.complete(&upload, &parts, 20_000, Crc64::of(&bytes)).await)
        }));
    }
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (i, Ok(_)) => winners.push(i),
            (_, Err(error)) => assert!(matches!(error, ObjectError::Exists { .. }), "{error}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(read(&*factory.handle(), "race/x").await, made_up(winners[0], 20_000));
}

pub async fn aborting(factory: &dyn StoreFactory) {
    let store = factory.handle();
    let upload = store.begin("x").await.unwrap();
    let part = store.put_part(&upload, 0, Bytes::from_static(b"1")).await.unwrap();
    store.abort(&upload).await.unwrap();
    store.abort(&upload).await.unwrap();
    assert_eq!(kind(store.parts(&upload).await), Kind::Missing);
    assert_eq!(kind(store.put_part(&upload, 1, Bytes::from_static(b"1")).await), Kind::Missing);
    assert_eq!(kind(store.complete(&upload, &[part], 1, Crc64::of(b"1")).await), Kind::Missing);
    assert_eq!(store.head("x").await.unwrap(), None);
    assert!(list_all(&*store, "", 10).await.is_empty());
    // An upload belongs to its key.
    let upload = store.begin("x").await.unwrap();
    drop(store);
    let other = Upload { key: "y".to_owned(), ..upload };
    assert_eq!(kind(factory.handle().parts(&other).await), Kind::Missing);
}

/// All tests of this suite, for one implementation.
#[macro_export]
macro_rules! object_suite {
    ($name:ident, $factory:expr) => {
        $crate::object_suite!(@each $name, $factory,
            what_is_put_is_read,
            the_first_put_stays,
            one_put_wins,
            files_are_taken_over,
            ranges,
            the_largest_put,
            keys,
            listing,
            deleting,
            puts_and_deletes_in_one_folder,
            uploads_of_every_size,
            parts_in_any_order_at_once,
            another_handle_goes_on,
            a_part_is_replaced,
            complete_refuses_what_does_not_add_up,
            parts_that_are_refused,
            complete_on_a_taken_key,
            one_upload_wins,
            aborting,
        );
    };
    (@each $name:ident, $factory:expr, $($test:ident,)*) => {
        mod $name {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    $crate::conformance::objects::$test(&$factory).await;
                }
            )*
        }
    };
}
