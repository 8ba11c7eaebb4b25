//! Stores that an older build filled, read by the drivers of this one: see `tests/links/formats`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_store::objects::Crc64;
use gitferry_store::table::{Key, SqliteTable, Table};
use gitferry_test_support::formats::state::{self, State, sqlite_rows};
use gitferry_test_support::formats::{AP, US, fixture};
use gitferry_test_support::waiting::block_on;
use serde_json::Value;

/// A document as the table hands it out: without the version that the table itself keeps in it.
fn without_version(document: &Value) -> Value {
    let mut document = document.clone();
    let version = document.as_object_mut().unwrap().remove("version");
    assert!(version.is_some_and(|version| version.is_u64()), "{document}");
    document
}

#[test]
fn rows_are_read_as_they_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = fixture::unpack(dir.path());
    for owner in [US, AP, "cc"] {
        let stored = sqlite_rows(&state.table(owner));
        assert!(stored.len() > 3, "{owner}");
        let table = SqliteTable::open_existing(state.table(owner), owner).unwrap();
        block_on(async {
            for row in stored {
                let item = table.get(&Key::new(&row.pk, &row.sk)).await.unwrap().unwrap();
                assert_eq!(item.document, without_version(&row.document), "{}", item.key);
                assert_eq!(item.bytes.map(|bytes| bytes.to_vec()), row.bytes, "{}", item.key);
            }
        });
    }
}

#[test]
fn items_are_read_as_they_are_stored() {
    let place = fixture::open();
    let state = State { world: fixture::folder(), dump: fixture::folder() };
    let items = state.values(state::ITEMS);
    assert!(items.len() > 20);
    block_on(async {
        let region = place.aws().await;
        for stored in &items {
            let text = |name: &str| stored[name]["S"].as_str().unwrap().to_owned();
            let item = region.table().get(&Key::new(text("pk"), text("sk"))).await.unwrap().unwrap();
            let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            let mut members = names(&stored["document"]["M"]);
            members.retain(|name| name != "version");
            assert_eq!(names(&item.document), members, "{}", item.key);
            assert_eq!(item.revision.to_string(), stored["revision"]["N"].as_str().unwrap(), "{}", item.key);
            let bytes = stored.get("bytes").map(|bytes| STANDARD.decode(bytes["B"].as_str().unwrap()).unwrap());
            assert_eq!(item.bytes.map(|bytes| bytes.to_vec()), bytes, "{}", item.key);
        }
    });
}

#[test]
fn objects_are_read_as_they_are_stored() {
    let place = fixture::open();
    let state = State { world: fixture::folder(), dump: fixture::folder() };
    let objects = state.values(state::OBJECTS);
    assert!(objects.len() > 10);
    block_on(async {
        let region = place.aws().await;
        for stored in &objects {
            let key = stored["key"].as_str().unwrap();
            let meta = region.objects().head(key).await.unwrap().unwrap();
            assert_eq!(Some(meta.size), stored["size"].as_u64(), "{key}");
            let bytes = region.objects().get(key, 0..meta.size).await.unwrap();
            let crc64 = Crc64::of(&bytes);
            assert!(meta.crc64.is_none_or(|recorded| recorded == crc64), "{key}");
            let recorded = stored["crc64nvme"].as_str().unwrap();
            // The emulator records of an upload in parts the checksum of their checksums: `…-2`.
            if !recorded.contains('-') {
                assert_eq!(STANDARD.encode(crc64.0.to_be_bytes()), recorded, "{key}");
            }
        }
    });
}
