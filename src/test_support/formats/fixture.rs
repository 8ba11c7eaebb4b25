//! The state as an older build wrote it: `tests/fixtures/stores-2`; `tests/fixtures/README.md` says how.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use gitferry_base::clock::{Clock as _, SystemClock};
use rusqlite::Connection;
use serde_json::Value;

use super::scenario::{Place, Written};
use super::stand_ins::StandIns;
use super::state::{self, State, sqlite_rows};
use super::{AP, EU, US, aws, sources};
use crate::waiting::block_on;

/// Folders and files of the world that are kept.
const KEPT: [&str; 7] = [US, EU, AP, "cc.db", "copy", "export", "sources"];
const WORLD: &str = "world.tar.gz";

/// The folder of the fixture.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/stores-2")
}

/// The archive of the repositories that the scenario imports.
pub fn sources() -> PathBuf {
    folder().join("sources.tar.gz")
}

/// Writes a state into a folder, as a fixture.
pub fn keep(written: &Written, folder: &Path) {
    for owner in [US, AP, "cc"] {
        let table = Connection::open(written.state.table(owner)).unwrap();
        table.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    sources::pack(&folder.join(WORLD), &written.state.world, &KEPT);
    for entry in std::fs::read_dir(&written.state.dump).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    // Its own names, for those who compare.
    let eu = &written.place.eu;
    let dir = written.state.world.to_str().unwrap().trim_end_matches('/');
    let names = serde_json::json!({ "<bucket>": eu.bucket, "<table>": eu.table, "<dir>": dir });
    std::fs::write(folder.join("names.json"), format!("{names}\n")).unwrap();
}

/// The state of the fixture in a folder, and what differs in it.
pub fn unpack(to: &Path) -> (State, StandIns) {
    unpack_from(&folder(), to)
}

/// The state that [`keep`] has written into a folder.
pub fn unpack_from(folder: &Path, to: &Path) -> (State, StandIns) {
    sources::unpack(&folder.join(WORLD), to);
    let names: HashMap<String, String> =
        serde_json::from_slice(&std::fs::read(folder.join("names.json")).unwrap()).unwrap();
    let mut stand_ins = StandIns::default();
    names.into_iter().for_each(|(stand_in, text)| stand_ins.add(text, stand_in));
    (State { world: to.into(), dump: folder.into() }, stand_ins)
}

/// Opens the fixture: stores on the file system and in SQLite in a world, those of AWS in the emulator.
///
/// Uploads are resumed within half a recovery window only, and S3 numbers them anew: their rows get the time of now and
/// the ids of now.
pub fn open() -> Place {
    let place = Place::new();
    let (state, _) = unpack(&place.world.path(""));
    let now = SystemClock.now().to_string();
    renew_on_disk(&state, &now);
    block_on(async {
        let mut items = state.values(state::ITEMS);
        aws::put_objects(&place.eu, &state.values(state::OBJECTS), &place.world.path(EU)).await;
        for upload in state.values(state::UPLOADS) {
            // An LFS object, which has the same key in every region.
            let held = place.world.path(US).join("objects").join(upload["key"].as_str().unwrap());
            let id = aws::put_upload(&place.eu, &upload, &std::fs::read(held).unwrap()).await;
            items.iter_mut().for_each(|item| renew(item, upload["upload_id"].as_str().unwrap(), &id, &now));
        }
        aws::put_items(&place.eu, &items).await;
    });
    std::fs::remove_dir_all(place.world.path(EU)).unwrap();
    place
}

/// Renews the row of the one upload on the file system, and the time in the name of its pack.
fn renew_on_disk(state: &State, now: &str) {
    let rows = sqlite_rows(&state.table(AP)).into_iter().filter(|row| row.sk.starts_with("staging/"));
    let [row] = &rows.collect::<Vec<_>>()[..] else { panic!("one upload was cut off in {AP}") };
    let nonce = &row.sk["staging/".len()..];
    let fresh = SystemClock.new_id().simple().to_string();
    let table = Connection::open(state.table(AP)).unwrap();
    let renew = "UPDATE item SET sk = replace(sk, ?1, ?2), document = \
                 json_set(replace(document, ?1, ?2), '$.started', ?3) WHERE pk = ?4 AND sk = ?5";
    assert_eq!(table.execute(renew, [nonce, &fresh, now, &row.pk, &row.sk]).unwrap(), 1);
    for entry in std::fs::read_dir(state.world.join(AP).join("objects/.staging")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "parts") {
            let list = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, list.replace(nonce, &fresh)).unwrap();
        }
    }
}

/// Renews the row of an upload in S3.
fn renew(item: &mut Value, was: &str, id: &str, now: &str) {
    if !item["sk"]["S"].as_str().unwrap().starts_with("staging/") {
        return;
    }
    let row = &mut item["document"]["M"];
    if row["pack_upload"]["S"] == was {
        row["pack_upload"]["S"] = id.into();
        row["started"]["S"] = now.into();
    }
}

/// The refs of a repository at its source, as `git for-each-ref` lists them. Those of `many` are the short ones.
pub fn refs(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(state::REFS)).unwrap();
    let of = text.lines().filter_map(|line| line.split_once(' ').filter(|(of, _)| *of == name));
    of.map(|(_, line)| line.to_owned()).collect()
}
