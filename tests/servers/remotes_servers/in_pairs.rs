//! Every make of server as a source and as a target: a first copy, and all that may come after.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::remotes_servers::server::{Make, NAME, Server};
use gitferry_test_support::world::World;

/// A link from one server to another.
struct Link {
    world: World,
    source: Server,
    target: Server,
}

/// What a pass did to how many refs; what `explain` said that it would do.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    created: u64,
    /// Forced ones as well.
    updated: u64,
    deleted: u64,
    preserved: u64,
}

fn counts(created: u64, updated: u64, deleted: u64, preserved: u64) -> Counts {
    Counts { created, updated, deleted, preserved }
}

impl Link {
    fn new(source: Make, target: Make) -> Link {
        let world = World::with(&[], "");
        let source = Server::start(source, world.path("source"));
        let target = Server::start(target, world.path("target"));
        let link = Link { world, source, target };
        link.configure("");
        link
    }

    fn configure(&self, more: &str) {
        let link = format!("[links.cc]\nsource = \"from\"\ntarget = \"to\"\nrepositories = [\"{NAME}\"]\n{more}");
        self.world.configure(&[], &[self.source.lines("from"), self.target.lines("to"), link].concat());
    }

    /// One pass, which does what was explained before, and leaves the target with the source's refs and what was kept.
    /// What it did, and its report.
    fn pass(&self) -> (Counts, Value) {
        self.source.publish();
        let before = self.target.refs();
        let told = self.world.json(&["explain", "cc", NAME]);
        assert_eq!(self.target.refs(), before, "explaining changes nothing");
        let summary = self.world.json(&["replicate", "cc"]);
        let carried = summary["reports"][0]["carried"].clone();
        let of = |value: &Value, what: &str| value[what].as_u64().unwrap_or_else(|| panic!("{what}: {value}"));
        let done = counts(
            of(&carried, "created"),
            of(&carried, "updated"),
            of(&carried, "deleted"),
            of(&carried, "preserved"),
        );
        let explained = counts(
            of(&told, "create"),
            of(&told, "update") + of(&told, "force"),
            of(&told, "delete"),
            of(&told, "preserve"),
        );
        let pending = carried["notes"]["refs"]
            .as_array()
            .map_or(0, |refs| refs.iter().filter(|note| note["outcome"] == "pending").count() as u64);
        assert_eq!(explained, Counts { deleted: done.deleted + pending, ..done }, "{told}\n{carried}");
        self.assert_steps(&told, &before, pending > 0);
        (counts(explained.created, explained.updated, explained.deleted - pending, explained.preserved), carried)
    }

    /// Each ref is what was explained; what was not mentioned is as it was.
    fn assert_steps(&self, told: &Value, before: &BTreeMap<String, String>, pending: bool) {
        let mut expected = before.clone();
        for step in told["refs"].as_array().unwrap() {
            let name = step["name"].as_str().unwrap().to_owned();
            match step["new"].as_str() {
                Some(new) => drop(expected.insert(name, new.into())),
                None if pending => {}
                None => drop(expected.remove(&name)),
            }
        }
        assert_eq!(self.target.refs(), expected, "{told}");
    }

    /// The target has the source's refs, and beside them only these.
    fn assert_mirrored(&self, kept: &[String]) {
        let mut expected = self.source.refs();
        let kept = kept.iter().map(|line| line.split_once(' ').unwrap());
        expected.extend(kept.map(|(name, id)| (name.to_owned(), id.to_owned())));
        assert_eq!(self.target.refs(), expected);
        let (source, target) = (self.source.work.reachable(), self.target.work.reachable());
        assert!(target.is_superset(&source), "objects are missing at the target");
    }

    /// All that may happen to a repository, one after the other.
    fn run(&self) {
        self.first_copy();
        self.more_commits();
        let mut kept = Vec::new();
        self.divergence(&mut kept);
        self.deletion(&mut kept);
        self.head(&kept);
    }

    fn first_copy(&self) {
        let history = crate::remotes_servers::git::GitRepo::with_history(self.world.path("history"), &[]);
        history.git(&["push", "-q", "--mirror", self.source.work.path.to_str().unwrap()]);
        let refs = 7;
        let (done, carried) = self.pass();
        assert_eq!((done, carried["packs"].as_u64()), (counts(refs, 0, 0, 0), Some(1)), "{carried}");
        self.assert_mirrored(&[]);
        let again = self.world.json(&["replicate", "cc"]);
        assert_eq!(again["unchanged"], 1, "{again}");
    }

    fn more_commits(&self) {
        let work = &self.source.work;
        work.commit("main", "dir/file0", "changed\n");
        work.git(&["tag", "-am", "three", "v3", "main"]);
        work.git(&["notes", "add", "-m", "more", "main"]);
        let (done, carried) = self.pass();
        assert_eq!(done, counts(1, 2, 0, 0), "{carried}");
        assert!(carried["objects"].as_u64().unwrap() < 16, "only what is new: {carried}");
        self.assert_mirrored(&[]);
    }

    /// The source's history is rewritten, and somebody has worked at the target.
    fn divergence(&self, kept: &mut Vec<String>) {
        self.target.refresh();
        let own = self.target.work.commit("main", "own", "made here\n");
        self.target.publish();
        self.source.work.git(&["update-ref", "refs/heads/main", "main~2"]);
        self.source.work.commit("main", "other", "another way\n");
        if self.target.make == Make::Closed {
            return self.divergence_that_cannot_be_kept(&own);
        }
        let (done, carried) = self.pass();
        assert_eq!(done, counts(0, 1, 0, 1), "{carried}");
        let note = &carried["notes"]["refs"][0];
        assert!(note["name"] == "refs/heads/main" && note["outcome"] == "preserved", "{carried}");
        kept.push(kept_as("heads/main", &own));
        self.assert_mirrored(kept);
    }

    /// Where pushes may not write below `refs/gitferry/`, what was made there stays, and that is told.
    fn divergence_that_cannot_be_kept(&self, own: &str) {
        self.source.publish();
        let run = self.world.ends(1, &["replicate", "cc", "--json"]);
        let note = &run.json()["reports"][0]["carried"]["notes"]["refs"][0];
        assert!(note["name"] == "refs/heads/main" && note["outcome"] == "diverged", "{note}");
        assert!(note["reason"].as_str().unwrap().contains("could not be kept, so it stays"), "{note}");
        assert_eq!(self.target.refs()["refs/heads/main"], own);
        self.configure("divergence = \"force\"\n");
        let (done, carried) = self.pass();
        assert_eq!(done, counts(0, 1, 0, 0), "{carried}");
        self.assert_mirrored(&[]);
        self.configure("");
    }

    /// A branch is deleted whose tip the source still has.
    fn deletion(&self, kept: &mut [String]) {
        self.source.work.git(&["branch", "-D", "side"]);
        let (done, carried) = self.pass();
        assert_eq!(done, counts(0, 0, 1, 0), "{carried}");
        self.assert_mirrored(kept);
    }

    /// The source's main branch gets another name. No push can move HEAD: the old branch stays, and that is told.
    fn head(&self, kept: &[String]) {
        let work = &self.source.work;
        let tip = work.git(&["rev-parse", "main"]);
        work.git(&["branch", "-m", "main", "trunk"]);
        work.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]);
        let (done, carried) = self.pass();
        assert_eq!(done, counts(1, 0, 0, 0), "{carried}");
        assert_eq!(self.target.head(), "refs/heads/main");
        let note = &carried["notes"]["refs"][0];
        assert!(note["name"] == "refs/heads/main" && note["outcome"] == "pending", "{carried}");
        assert!(note["reason"].as_str().unwrap().contains("refs/heads/trunk"), "{carried}");
        self.assert_mirrored(&[kept, &[format!("refs/heads/main {tip}")]].concat());
    }
}

/// A ref that keeps what was made at the target, with its value.
fn kept_as(name: &str, id: &str) -> String {
    format!("refs/gitferry/diverged/{name}/{} {id}", &id[..12])
}

#[test]
fn git_and_dulwich() {
    Link::new(Make::Backend, Make::Dulwich).run();
    Link::new(Make::Dulwich, Make::Backend).run();
}

#[test]
fn dulwich_alone() {
    Link::new(Make::Dulwich, Make::Dulwich).run();
}

#[test]
fn git_over_http() {
    Link::new(Make::Backend, Make::Backend).run();
}

#[test]
fn git_over_ssh() {
    Link::new(Make::Ssh, Make::Ssh).run();
}

#[test]
fn git_over_ssh_in_version_0() {
    Link::new(Make::OldSsh, Make::OldSsh).run();
}

#[test]
fn http_and_ssh() {
    Link::new(Make::Backend, Make::Ssh).run();
    Link::new(Make::Ssh, Make::Backend).run();
}

#[test]
fn gitferrys_host_and_git() {
    Link::new(Make::Gitferry, Make::Backend).run();
    Link::new(Make::Backend, Make::Gitferry).run();
}

#[test]
fn a_host_that_is_not_for_links() {
    Link::new(Make::Backend, Make::Closed).run();
}

#[test]
fn gitferrys_host_and_dulwich() {
    Link::new(Make::Gitferry, Make::Dulwich).run();
    Link::new(Make::Dulwich, Make::Gitferry).run();
}

#[test]
fn gitferrys_host_and_ssh() {
    Link::new(Make::Gitferry, Make::Ssh).run();
    Link::new(Make::Ssh, Make::Gitferry).run();
}
