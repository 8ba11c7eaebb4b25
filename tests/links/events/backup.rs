//! `gitferry backup`: exit codes and the manifest.

use gitferry_service::worker::backup::check_seal;
use serde_json::Value;

use crate::events::place::Place;
use gitferry_test_support::world::{LINK, SOURCE, TARGET};

fn manifest(place: &Place) -> Value {
    check_seal(&std::fs::read_to_string(place.world.path("manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_backup_that_is_up_to_date() {
    let place = Place::new("");
    place.world.ok(&["backup", LINK, "--max-age", "1h", "--out", "manifest.json", "--deep"]);
    let manifest = manifest(&place);
    assert_eq!((&manifest["ok"], &manifest["link"], &manifest["deep"]), (&true.into(), &LINK.into(), &true.into()));
    assert_eq!((&manifest["source"], &manifest["target"]), (&SOURCE.into(), &TARGET.into()));
    assert_eq!(manifest["recovery_point_seconds"], 0.0);
    let app = &manifest["repositories"][0];
    assert_eq!(
        (&app["repository"], &app["verified"], &app["standing"]),
        (&"app".into(), &true.into(), &"equal".into())
    );
    assert_eq!(app["frontier"]["hash"], place.world.show("app", TARGET)["frontier"]["hash"]);
    place.world.ok(&["backup", "--check", "manifest.json"]);
    // The manifest is one line of JSON on standard output, too.
    let printed = place.world.ok(&["backup", LINK, "--max-age", "1h"]);
    let mut shallow = check_seal(&printed).unwrap()["repositories"].clone();
    // Sound as far as that went: each says what was looked at.
    assert_eq!((&shallow[0]["verified"], &shallow[0]["proof"]), (&true.into(), &"presence".into()));
    assert_eq!(manifest["repositories"][0]["proof"], "deep");
    shallow[0]["proof"] = "deep".into();
    assert_eq!(shallow, manifest["repositories"]);
    let said = place.world.ok(&["backup", LINK, "--max-age", "1h", "--out", "manifest.json"]);
    assert!(said.contains("NOT checked: their bytes (--deep reads them)"), "{said}");
    let said = place.world.ok(&["backup", LINK, "--max-age", "1h", "--out", "manifest.json", "--deep"]);
    assert!(!said.contains("NOT checked"), "{said}");
}

#[test]
fn a_manifest_that_was_changed() {
    let place = Place::new("");
    place.world.ok(&["backup", LINK, "--max-age", "1h", "--out", "manifest.json"]);
    let file = place.world.path("manifest.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("equal", "equaI", 1)).unwrap();
    place.world.ends(1, &["backup", "--check", "manifest.json"]).says(&["was changed"]);
    place.world.ends(2, &["backup", "--max-age", "1h"]);
    place.world.ends(2, &["backup", LINK, "--max-age", "soon"]);
}

/// A pack that is gone from the source cannot be replicated, and the change that needs it gets older.
fn lose_a_pack(place: &Place) {
    place.world.ok(&["replicate", LINK]);
    place.commit("never arrives");
    let packs = place.world.pack_files(SOURCE);
    let held: Vec<_> = place.world.pack_files(TARGET).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    let trailer = |name: &std::ffi::OsStr| name.to_str().unwrap()[..45].to_owned();
    for pack in packs {
        if held.iter().all(|name| trailer(name) != trailer(pack.file_name().unwrap())) {
            std::fs::remove_file(pack).unwrap();
        }
    }
}

#[test]
fn a_recovery_point_that_is_too_old() {
    let place = Place::new("");
    lose_a_pack(&place);
    let args = ["backup", LINK, "--out", "manifest.json", "--json", "--max-age"];
    let run = place.world.ends(1, &[&args[..], &["0s"]].concat());
    let printed = run.json();
    assert_eq!(printed["ok"], false);
    assert!(printed["recovery_point_seconds"].as_f64().unwrap() > 0.0);
    // What is there is verified all the same.
    let app = &printed["repositories"][0];
    assert_eq!((&app["standing"], &app["verified"]), (&"behind".into(), &true.into()));
    assert_ne!(app["frontier"]["hash"], app["source"]["hash"]);
    assert_eq!(manifest(&place)["findings"], printed["findings"]);
    // Within its age it is still a failure, but not one of the recovery point.
    place.world.ends(3, &[&args[..], &["1h"]].concat());
    assert_eq!(manifest(&place)["ok"], false);
}

#[test]
fn a_target_that_is_damaged() {
    let place = Place::new("");
    place.world.ok(&["replicate", LINK]);
    for pack in place.world.pack_files(TARGET) {
        std::fs::remove_file(pack).unwrap();
    }
    place.world.ends(1, &["backup", LINK, "--max-age", "1h", "--out", "manifest.json"]);
    let manifest = manifest(&place);
    assert_eq!(manifest["repositories"][0]["verified"], false);
    assert!(!manifest["findings"].as_array().unwrap().is_empty());
}
