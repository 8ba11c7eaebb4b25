//! What lies on disk behind a region: looked at, damaged, and put back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gitferry_test_support::world::World;

/// Everything that a region holds: rows by key (statistics and uploads left out) and files, each with their content.
pub fn state(world: &World, region: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    if !world.path(region).join("table.db").exists() {
        return all;
    }
    let select =
        "SELECT pk, sk, revision, document, bytes FROM item WHERE pk NOT LIKE 'link/%' AND sk NOT LIKE 'staging/%'";
    let connection = table(world, region);
    let mut statement = connection.prepare(select).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let text = |column| row.get::<_, String>(column).unwrap();
        let mut content = format!("{} {}", row.get::<_, i64>(2).unwrap(), text(3)).into_bytes();
        content.extend(row.get::<_, Option<Vec<u8>>>(4).unwrap().unwrap_or_default());
        all.insert(format!("{} {}", text(0), text(1)), content);
    }
    // A large change lies under the hash of its bytes: one that no head names says nothing.
    let objects = files(&world.path(region).join("objects/repositories"));
    for file in objects.into_iter().filter(|file| !file.to_string_lossy().contains("/changes/")) {
        all.insert(file.display().to_string(), std::fs::read(&file).unwrap());
    }
    all
}

/// Asserts that two states are the same, and names what differs.
pub fn assert_same(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) {
    let keys = before.keys().chain(after.keys());
    let differs: Vec<&String> = keys.filter(|key| before.get(*key) != after.get(*key)).collect();
    assert!(differs.is_empty(), "not as it was: {differs:#?}");
}

/// All files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The only file of a region's store whose path has this in it and this at its end.
pub fn file(world: &World, region: &str, part: &str, end: &str) -> PathBuf {
    let all = files(&world.path(region).join("objects/repositories"));
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut found = all.iter().filter(|path| text(path).contains(part) && text(path).ends_with(end));
    let first = found.next().unwrap_or_else(|| panic!("no {part} in {all:#?}"));
    assert!(found.next().is_none(), "more than one {part} in {all:#?}");
    first.clone()
}

/// The table of a region.
pub fn table(world: &World, region: &str) -> rusqlite::Connection {
    rusqlite::Connection::open(world.path(region).join("table.db")).unwrap()
}

/// Changes exactly `rows` rows of a region's table.
pub fn sql(world: &World, region: &str, rows: usize, text: &str) {
    assert_eq!(table(world, region).execute(text, []).unwrap(), rows, "{text}");
}

/// Replaces a file, which may be read-only, by what `change` makes of its bytes; `None` deletes it. Dropped,
/// it puts the file back.
pub fn damage(path: &Path, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) -> Damage {
    let before = std::fs::read(path).unwrap();
    let after = change(before.clone());
    assert_ne!(after.as_ref(), Some(&before), "not damaged");
    let damage = Damage { path: path.to_owned(), before };
    damage.write(after);
    damage
}

/// A damaged file.
pub struct Damage {
    path: PathBuf,
    before: Vec<u8>,
}

impl Damage {
    fn write(&self, bytes: Option<Vec<u8>>) {
        std::fs::remove_file(&self.path).ok();
        if let Some(bytes) = bytes {
            std::fs::write(&self.path, bytes).unwrap();
        }
    }
}

impl Drop for Damage {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.before);
        self.write(Some(before));
    }
}

/// The first half of some bytes.
pub fn half(bytes: Vec<u8>) -> Option<Vec<u8>> {
    Some(bytes[..bytes.len() / 2].to_vec())
}

/// One bit is another, in the byte at this share (of 1,000) of the whole.
pub fn flip(per_mille: usize) -> impl FnOnce(Vec<u8>) -> Option<Vec<u8>> {
    move |mut bytes| {
        let at = (bytes.len() - 1) * per_mille / 1_000;
        bytes[at] ^= 0x10;
        Some(bytes)
    }
}

/// Nothing is left.
pub fn gone(_: Vec<u8>) -> Option<Vec<u8>> {
    None
}
