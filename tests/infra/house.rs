//! The rooms of `src/` enter each other as ARCHITECTURE.md says.

use std::collections::{BTreeMap, BTreeSet};
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

/// The rooms as cargo knows them, each with those that its product builds need.
fn built() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let room = |package: &str| match package {
        "gitferry" => Some("cli".to_owned()),
        _ => package.strip_prefix("gitferry-").map(|room| room.replace('-', "_")),
    };
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
