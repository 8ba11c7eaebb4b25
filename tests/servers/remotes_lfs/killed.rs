//! A pass that dies around the LFS objects that it moves: no ref has moved, and the next one completes.

use serde_json::{Value, json};

use crate::remotes_lfs::git::GitRepo;
use crate::remotes_lfs::hosts::Hosts;
use gitferry_test_support::lfs_work::{Work, oid_of, stored, with_pointer};
use gitferry_test_support::pair::{EU, US};

/// After one object of some, after all, and after that was noted.
const POINTS: [&str; 3] = ["lfs-stored", "lfs-moved", "lfs-settled"];
/// Objects that each pass moves.
const OBJECTS: usize = 12;

/// What the target of a link shows.
fn refs(hosts: &Hosts, link: &str) -> String {
    if link != "pull" {
        return hosts.refs(EU);
    }
    let to = hosts.fresh("exported");
    let exported = hosts.run(&["export", "app", "--region", "here", "--to", to.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", exported.stderr);
    GitRepo::at(to).git(&["for-each-ref"])
}

/// The region has all that its changes name.
fn verified(hosts: &Hosts) -> Value {
    let told = hosts.run(&["verify", "app", "--region", "here", "--deep", "--json"]).json();
    json!([told["ok"], told["repositories"][0]["lfs_objects"]])
}

fn dies_anywhere_on(link: &str) {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    for (round, point) in POINTS.into_iter().enumerate() {
        for n in 0..OBJECTS {
            std::fs::write(work.path.join(format!("{n}.bin")), format!("object {n} of round {round}")).unwrap();
        }
        work.commit("file", point.as_bytes());
        work.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
        if link == "push" {
            hosts.pass("pull");
        }
        let before = if round == 0 { String::new() } else { refs(&hosts, link) };
        hosts.dies(link, point);
        assert_eq!(refs(&hosts, link), before, "{link}, {point}");
        let carried = hosts.pass(link);
        let moved = carried["lfs_objects"].as_u64().unwrap();
        assert_eq!(carried["created"].as_u64().unwrap() + carried["updated"].as_u64().unwrap(), 1, "{carried}");
        // What was there already does not move again.
        let at_most = if point == "lfs-stored" { OBJECTS as u64 - 1 } else { 0 };
        assert!(moved <= at_most, "{link}, {point}: {carried}");
        if link == "pull" {
            assert_eq!(verified(&hosts), json!([true, OBJECTS * (round + 1)]));
            continue;
        }
        let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
        assert_eq!(clone.read("file"), point.as_bytes());
        assert!((0..OBJECTS).all(|n| clone.read(&format!("{n}.bin")) == work.read(&format!("{n}.bin"))));
    }
}

#[test]
fn from_server_to_server() {
    dies_anywhere_on("cc");
}

#[test]
fn from_a_server_into_a_region() {
    dies_anywhere_on("pull");
}

#[test]
fn out_of_a_region_to_a_server() {
    dies_anywhere_on("push");
}

/// A pointer that a region has without its object: the change that names the object is made up for.
#[test]
fn what_a_pointer_waits_for_is_named_by_the_next_pass() {
    for point in POINTS {
        let hosts = Hosts::start("[[push_policies]]\nlfs_missing = \"allow\"\n");
        hosts.link("");
        let repo = with_pointer(&hosts.pair.path("src.git"), b"came late");
        repo.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
        hosts.pass("pull");
        hosts.link("lfs = \"copy\"");
        let oid = oid_of(b"came late");
        let put = format!(
            "PUT /app/info/lfs/objects/{oid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\ncame late"
        );
        assert!(hosts.pair.raw(US, &put).starts_with("HTTP/1.1 200"));
        let before = refs(&hosts, "pull");
        hosts.dies("pull", point);
        assert!(stored(&hosts.pair.path("here"), &oid).is_some());
        assert_eq!(refs(&hosts, "pull"), before);
        // Nothing is left to be moved.
        assert_eq!(hosts.pass("pull")["lfs_objects"].as_u64().unwrap_or(0), 0, "{point}");
        assert_eq!(verified(&hosts), json!([true, 1]), "{point}");
        assert_eq!(hosts.pass("push")["lfs_objects"], 1, "{point}");
    }
}
