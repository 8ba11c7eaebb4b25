//! A history that is too large for one push, to gitferry's host.

use serde_json::Value;

use crate::remotes_servers::git::noise;
use crate::remotes_servers::server::{Make, NAME, Server};
use gitferry_test_support::world::World;

struct Link {
    world: World,
    source: Server,
    target: Server,
}

impl Link {
    /// A history of 25 commits with 20 KB each, and a target that takes 100 KB at a time.
    fn new(target: Make) -> Link {
        let world = World::with(&[], "");
        let source = Server::start(Make::Backend, world.path("source"));
        for n in 0..25 {
            source.work.commit_bytes("trunk", &format!("file{n}"), &noise(n, 20_000));
        }
        source.work.git(&["branch", "unchanged", "trunk~15"]);
        source.work.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
        let target = Server::start(target, world.path("target"));
        let limits = "limits = { bytes_per_push = \"100 KB\" }\n";
        let link = format!("[links.cc]\nsource = \"from\"\ntarget = \"to\"\nrepositories = [\"{NAME}\"]\n");
        world.configure(&[], &[source.lines("from"), target.lines("to"), limits.into(), link].concat());
        Link { world, source, target }
    }

    /// A pass after which the target has the source's refs, and no slices. What it carried.
    fn pass(&self) -> Value {
        let carried = self.world.json(&["replicate", "cc"])["reports"][0]["carried"].clone();
        assert_eq!(self.target.refs(), self.source.refs(), "{carried}");
        assert_eq!(self.target.head(), "refs/heads/trunk");
        let all = self.target.exported().unwrap();
        assert!(!all.git(&["for-each-ref"]).contains("refs/gitferry/"), "{carried}");
        carried
    }
}

#[test]
fn a_first_copy_goes_in_slices() {
    let link = Link::new(Make::Gitferry);
    let carried = link.pass();
    assert!(carried["remarks"][0].as_str().unwrap().contains("slices"), "{carried}");
    assert!(carried["packs"].as_u64().unwrap() >= 5, "{carried}");
    assert!(carried["bytes"].as_u64().unwrap() < 600_000, "everything goes once: {carried}");
}

#[test]
fn slices_that_were_left_are_used_and_deleted() {
    let link = Link::new(Make::Gitferry);
    let work = &link.source.work;
    for back in [21, 18, 15, 12, 9, 6, 3] {
        let id = work.git(&["rev-parse", &format!("trunk~{back}")]);
        link.target.push(work, &[&format!("{id}:refs/gitferry/slices/{id}")]);
    }
    let carried = link.pass();
    assert!(carried["bytes"].as_u64().unwrap() < 100_000, "only what was missing: {carried}");
}

#[test]
fn a_host_that_is_not_for_links_says_what_it_refuses() {
    let link = Link::new(Make::Closed);
    let run = link.world.ends(2, &["replicate", "cc", "--json"]);
    let error = run.json()["reports"][0]["error"].to_string();
    assert!(error.contains("cannot go in slices: refs/gitferry/ is reserved"), "{error}");
    assert!(link.target.refs().is_empty());
}
