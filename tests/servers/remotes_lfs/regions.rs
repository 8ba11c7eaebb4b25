//! Into a region, and out of it.

use serde_json::json;

use crate::remotes_lfs::git::noise;
use crate::remotes_lfs::hosts::Hosts;
use gitferry_test_support::lfs_work::{Work, oid_of, stored, with_pointer};
use gitferry_test_support::pair::{EU, US};

#[test]
fn a_region_takes_objects_in_and_gives_them_on() {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    let content = noise(1, (9 << 20) + 5);
    work.commit("large.bin", &content);
    work.commit("small.bin", b"small");
    work.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
    assert_eq!(hosts.pass("pull")["lfs_objects"], 2);
    // The change names them, so that they are a part of what replicates and is verified.
    let verified = hosts.run(&["verify", "app", "--region", "here", "--deep", "--json"]).json();
    assert_eq!(json!([verified["ok"], verified["repositories"][0]["lfs_objects"]]), json!([true, 2]), "{verified}");
    assert_eq!(hosts.pass("push")["lfs_objects"], 2);
    let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
    assert!(clone.read("large.bin") == content && clone.read("small.bin") == b"small");
    work.commit("small.bin", b"smaller");
    work.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
    assert_eq!(hosts.pass("pull")["lfs_objects"], 1);
    assert_eq!(hosts.pass("push")["lfs_objects"], 1);
    clone.git(&["pull", "-q"]);
    assert_eq!(clone.read("small.bin"), b"smaller");
}

#[test]
fn a_region_without_an_object_refuses_to_give_its_pointer() {
    let hosts = Hosts::start("[[push_policies]]\nlfs_missing = \"allow\"\n");
    hosts.link("");
    let repo = with_pointer(&hosts.pair.path("src.git"), b"came late");
    repo.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
    // Only the pointer.
    assert_eq!(hosts.pass("pull")["lfs_objects"], 0);
    hosts.link("lfs = \"copy\"");
    let oid = oid_of(b"came late");
    hosts.fails("push", 2, &[&oid, "here does not have an LFS object"]);
    assert_eq!(hosts.refs(EU), "");
    hosts.fails("pull", 2, &[&oid, "does not have an LFS object"]);
    // It comes to the source after all; the region's ledger names it in a change of its own.
    let put = format!(
        "PUT /app/info/lfs/objects/{oid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 9\r\n\r\ncame late"
    );
    let answer = hosts.pair.raw(US, &put);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let carried = hosts.pass("pull");
    assert_eq!(json!([carried["updated"], carried["lfs_objects"]]), json!([0, 1]));
    let verified = hosts.run(&["verify", "app", "--region", "here", "--json"]).json();
    assert_eq!(json!([verified["ok"], verified["repositories"][0]["lfs_objects"]]), json!([true, 1]), "{verified}");
    assert_eq!(hosts.pass("push")["lfs_objects"], 1);
    assert!(stored(&hosts.region(EU), &oid).is_some());
}
