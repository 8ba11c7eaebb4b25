//! A written state as lines of text, by format: equal for two states that the same steps have written in the same
//! formats. A member that is renamed, added or left out, another type, another key or another size is another line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::stand_ins::StandIns;
use super::{AP, EU, US};

/// Files of a state beside those of the world.
pub const ITEMS: &str = "items.jsonl";
pub const OBJECTS: &str = "objects.jsonl";
pub const UPLOADS: &str = "uploads.jsonl";
pub const EVENTS: &str = "events.jsonl";
pub const OUTPUTS: &str = "outputs.jsonl";
pub const MANIFEST: &str = "manifest.json";
/// Refs of all repositories at their sources: name of the repository, value, name of the ref.
pub const REFS: &str = "refs.txt";

/// A state on disk.
#[derive(Clone, Debug)]
pub struct State {
    /// Folder with the stores on the file system, the Git servers' repositories and an export.
    pub world: PathBuf,
    /// Folder with what was read from other services.
    pub dump: PathBuf,
}

/// Lines by format.
pub type Lines = BTreeMap<&'static str, Vec<String>>;

/// A row of a table in SQLite, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RawRow {
    pub pk: String,
    pub sk: String,
    pub document: Value,
    pub bytes: Option<Vec<u8>>,
}

impl State {
    /// Path of a SQLite table; that of the link `cc` lies beside the regions.
    pub fn table(&self, owner: &str) -> PathBuf {
        if owner == "cc" { self.world.join("cc.db") } else { self.world.join(owner).join("table.db") }
    }

    /// The values of a file with one JSON value a line.
    pub fn values(&self, file: &str) -> Vec<Value> {
        let path = self.dump.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The state as lines. `differing`: more texts with their stand-ins, such as the names of a bucket and a table.
    pub fn lines(&self, differing: &StandIns) -> Lines {
        let mut stand_ins = differing.clone();
        for (id, name) in self.repositories() {
            stand_ins.add(id, format!("<{name}>"));
        }
        for upload in self.values(UPLOADS) {
            stand_ins.add(upload["upload_id"].as_str().unwrap(), "<upload>");
        }
        let names = &stand_ins;
        let json_lines = |file: &str| self.values(file).iter().map(|value| names.json(value).to_string()).collect();
        let mut lines = Lines::new();
        lines.insert("SQLite file", self.sqlite_files());
        lines.insert("rows in SQLite", self.sqlite_lines(names));
        lines.insert("rows in DynamoDB", self.dynamo_lines(names));
        lines.insert("objects on the file system", self.file_lines(names));
        lines.insert("objects in S3", self.s3_lines(names));
        lines.insert("uploads in S3", json_lines(UPLOADS));
        lines.insert("events", json_lines(EVENTS));
        lines.insert("output of --json", json_lines(OUTPUTS));
        lines.insert("manifest of a backup", json_lines(MANIFEST));
        lines.insert("export", self.export_lines(names));
        lines.values_mut().for_each(|lines| lines.sort());
        lines
    }

    /// Ids of all repositories with their names.
    fn repositories(&self) -> BTreeMap<String, String> {
        let rows = sqlite_rows(&self.table(US));
        let heads = rows.into_iter().filter(|row| row.sk == "head");
        heads.map(|row| (row.pk["repository/".len()..].into(), row.document["name"].as_str().unwrap().into())).collect()
    }

    fn sqlite_files(&self) -> Vec<String> {
        [US, AP, "cc"].map(|owner| format!("{owner}: {}", sqlite_file(&self.table(owner)))).to_vec()
    }

    fn sqlite_lines(&self, names: &StandIns) -> Vec<String> {
        let mut lines = Vec::new();
        for owner in [US, AP, "cc"] {
            for row in sqlite_rows(&self.table(owner)) {
                let bytes = row.bytes.map_or(String::new(), |bytes| format!(" {}", body(names, &bytes)));
                let document = names.json(&row.document);
                lines.push(format!("{owner} {} {} {document}{bytes}", partition(names, &row.pk), names.text(&row.sk)));
            }
        }
        lines
    }

    fn dynamo_lines(&self, names: &StandIns) -> Vec<String> {
        let line = |mut item: Value| {
            item["pk"]["S"] = partition(names, item["pk"]["S"].as_str().unwrap()).into();
            if let Some(bytes) = item.get("bytes") {
                let bytes = STANDARD.decode(bytes["B"].as_str().unwrap()).unwrap();
                item["bytes"]["B"] = body(names, &bytes).into();
            }
            names.json(&item).to_string()
        };
        self.values(ITEMS).into_iter().map(line).collect()
    }

    fn file_lines(&self, names: &StandIns) -> Vec<String> {
        let mut lines = Vec::new();
        for region in [US, AP] {
            let root = self.world.join(region).join("objects");
            for path in files(&root) {
                let key = path.strip_prefix(&root).unwrap().to_str().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                lines.push(format!("{region} {} {}", object_key(names, key), content(names, key, &bytes)));
            }
        }
        lines
    }

    /// Attributes of the objects, and their content from the folder of the region in the world.
    fn s3_lines(&self, names: &StandIns) -> Vec<String> {
        let root = self.world.join(EU);
        let line = |mut object: Value| {
            let key = object["key"].as_str().unwrap().to_owned();
            let bytes = std::fs::read(root.join(&key)).unwrap();
            object["key"] = object_key(names, &key).into();
            if !object["crc64nvme"].is_null() {
                object["crc64nvme"] = "<crc64>".into();
            }
            format!("{} {}", names.json(&object), content(names, &key, &bytes))
        };
        self.values(OBJECTS).into_iter().map(line).collect()
    }

    fn export_lines(&self, names: &StandIns) -> Vec<String> {
        let root = self.world.join("export");
        let line = |path: PathBuf| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let bytes = std::fs::read(&path).unwrap();
            match std::str::from_utf8(&bytes) {
                Ok(text) => format!("{} {:?}", names.text(&name), names.text(text)),
                Err(_) => format!("{} {} bytes", names.text(&name), bytes.len()),
            }
        };
        files(&root).into_iter().map(line).collect()
    }
}

/// A partition key. The shard of a repository depends on its id.
fn partition(names: &StandIns, pk: &str) -> String {
    match pk.split_once('/') {
        Some((kind @ ("repositories" | "claims" | "outbox"), shard)) => format!("{kind}/<{} digits>", shard.len()),
        _ => names.text(pk),
    }
}

/// The key of an object. Marks are numbered by the processes that have written.
fn object_key(names: &StandIns, key: &str) -> String {
    match key.rsplit_once("marks/") {
        Some((before, mark)) => format!("{before}marks/<{} digits>", mark.len()),
        None => names.text(key),
    }
}

/// Bytes of a row: the text of a change.
fn body(names: &StandIns, bytes: &[u8]) -> String {
    format!("{} bytes {:?}", bytes.len(), names.change(std::str::from_utf8(bytes).unwrap()))
}

/// The size of an object and, if it is a small text, the text. Packs and LFS objects have their hashes in their keys.
fn content(names: &StandIns, key: &str, bytes: &[u8]) -> String {
    let is_text = key.ends_with("identity") || key.ends_with(".parts") || key.contains("/changes/");
    let text = if is_text { names.change(std::str::from_utf8(bytes).unwrap()) } else { String::new() };
    let mut lines: Vec<&str> = text.lines().take(20).collect();
    if key.ends_with(".parts") {
        // Parts are written in the order in which they end.
        lines.sort_unstable();
    }
    let shown = lines.join("\n");
    // Documents of JSON are compared as such.
    let shown = serde_json::from_slice(bytes).map_or(shown, |value: Value| names.json(&value).to_string());
    format!("{} bytes {shown:?}", bytes.len())
}

/// All files below a folder.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// All rows of a table in SQLite, as they are stored.
pub fn sqlite_rows(path: &Path) -> Vec<RawRow> {
    let table = Connection::open(path).unwrap();
    let mut select = table.prepare("SELECT pk, sk, document, bytes FROM item ORDER BY pk, sk").unwrap();
    let rows = select.query_map([], |row| {
        let document: String = row.get(2)?;
        let document = serde_json::from_str(&document).unwrap();
        Ok(RawRow { pk: row.get(0)?, sk: row.get(1)?, document, bytes: row.get(3)? })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// Schema and settings of a table in SQLite.
fn sqlite_file(path: &Path) -> Value {
    let table = Connection::open(path).unwrap();
    let number = |name: &str| table.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    let text = |name: &str| table.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
    let mut select = table.prepare("SELECT sql FROM sqlite_schema").unwrap();
    let schema: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    json!({
        "schema": schema,
        "user_version": number("user_version"),
        "application_id": number("application_id"),
        "page_size": number("page_size"),
        "encoding": text("encoding"),
        "journal_mode": text("journal_mode"),
    })
}
