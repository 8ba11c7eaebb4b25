//! The rooms of `src/` enter each other as ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The rooms of the table from its top, each with those that it enters.
fn drawn() -> Vec<(String, BTreeSet<String>)> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `src/"));
    let room = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, enters] = cells[..] else { panic!("not three cells: {row}") };
        let name = name.split('`').nth(1).unwrap().trim_start_matches("src/").trim_end_matches('/');
        let enters = enters.split(", ").filter(|room| *room != "–").map(str::to_owned);
        (name.to_owned(), enters.collect())
    };
    rows.map(room).collect()
}

fn metadata() -> Value {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    serde_json::from_slice(&cargo.stdout).unwrap()
}

/// Room of a package; `None` for packages of others.
fn room(package: &str) -> Option<String> {
    match package {
        "gitferry" => Some("cli".to_owned()),
        _ => package.strip_prefix("gitferry-").map(|room| room.replace('-', "_")),
    }
}

/// The rooms as cargo knows them, each with those that its product builds need.
fn built() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let needed = package["dependencies"].as_array().unwrap().iter();
            let needed = needed.filter(|dependency| dependency["kind"].is_null());
            let enters = needed.filter_map(|dependency| room(dependency["name"].as_str().unwrap()));
            (room(package["name"].as_str().unwrap()).unwrap(), enters.collect())
        })
        .collect()
}

#[test]
fn rooms_enter_each_other_as_they_are_drawn() {
    let drawn = drawn();
    assert_eq!(drawn.iter().cloned().collect::<BTreeMap<_, _>>(), built());
}

#[test]
fn arrows_point_down() {
    let drawn = drawn();
    for (at, (room, enters)) in drawn.iter().enumerate() {
        let below: BTreeSet<String> = drawn[at + 1..].iter().map(|(room, _)| room.clone()).collect();
        // Decorators of stores are drawn beside the rooms of the product.
        assert!(room == "test_support" || enters.is_subset(&below), "{room} enters a room above it");
    }
    let products = drawn.iter().filter(|(room, _)| room != "test_support");
    for (room, enters) in products {
        assert!(!enters.contains("test_support"), "{room} needs test support");
    }
}

/// `cargo build` and `cargo test` at the root take these rooms: all of the product, and not test support, which
/// therefore has no unit tests.
#[test]
fn rooms_of_the_product_are_built_by_default() {
    let metadata = metadata();
    let default: BTreeSet<&str> =
        metadata["workspace_default_members"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    for package in metadata["packages"].as_array().unwrap() {
        let room = room(package["name"].as_str().unwrap()).unwrap();
        assert_eq!(default.contains(package["id"].as_str().unwrap()), room != "test_support", "{room}");
    }
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/test_support"))];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                assert!(!std::fs::read_to_string(&path).unwrap().contains("#[test]"), "{}", path.display());
            }
        }
    }
}

/// Rooms turn documentation tests off (`doctest = false`), as rustdoc takes seconds for each. So an example in Rust would
/// never run: it belongs into a test.
#[test]
fn documentation_has_no_examples_that_would_not_run() {
    let mut folders = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let docs = text.lines().map(str::trim_start).filter(|line| line.starts_with("//"));
                let fences = docs.filter_map(|line| line.trim_start_matches(['/', '!', ' ']).strip_prefix("```"));
                // Every other one closes.
                let rust = fences.step_by(2).find(|language| language.is_empty() || language.starts_with("rust"));
                assert_eq!(rust, None, "{}", path.display());
            }
        }
    }
}
