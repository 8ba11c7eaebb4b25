//! A region at one end: what a Git server has becomes one change, and what a region has reaches a Git server.

use std::path::Path;
use std::sync::Arc;

use gitferry_config::{Deletions, Divergence};
use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_engine::region::server::RegionServer;
use gitferry_git::client::Server;
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::Version;
use gitferry_remote::PushLimits;
use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::ends::{End, EndHeadSetter};
use gitferry_replication::mirror::pass;
use gitferry_replication::mirror::policy::RefPolicy;
use gitferry_replication::mirror::report::MirrorOutcome;
use gitferry_replication::mirror::task::MirrorTask;
use gitferry_replication::progress::Progress;
use gitferry_test_support::faults::Faults;
use gitferry_test_support::objects::FaultyStore;
use tokio::runtime::Runtime;

use crate::remotes::git::GitRepo;
use crate::remotes::place::{Api, limits, policy, refs};
use gitferry_test_support::scripted_server::{Damage, GitServer};

const NAME: &str = "team/app";

/// A region with one repository, and one of plain Git.
struct World {
    dir: tempfile::TempDir,
    runtime: Runtime,
    region: Region,
    git: GitRepo,
}

impl World {
    fn new(format: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let region = Region::open_embedded("here", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
        let git = GitRepo::with_history(dir.path().join("git"), &[&format!("--object-format={format}")]);
        World { dir, runtime, region, git }
    }

    fn make(&self, format: gix::hash::Kind) {
        self.runtime.block_on(self.region.repositories().create(NAME, format, "tests")).unwrap();
    }

    fn server(&self) -> RegionServer {
        let item = self.runtime.block_on(self.region.repositories().get(NAME)).unwrap();
        RegionServer::new(&self.region, item.id, NAME, self.runtime.handle(), "link tests")
    }

    fn seq(&self) -> u64 {
        self.runtime.block_on(self.region.repositories().get(NAME)).unwrap().head.frontier.seq
    }

    fn import(&self) {
        let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
        self.runtime.block_on(self.region.importer().import(&self.git.path, NAME, &options, Arc::default())).unwrap();
    }

    /// What the region holds, as plain Git sees it.
    fn exported(&self) -> GitRepo {
        let to = tempfile::tempdir_in(self.dir.path()).unwrap().keep().join("out");
        self.runtime.block_on(self.region.exporter().export(NAME, &to)).unwrap();
        let item = self.runtime.block_on(self.region.repositories().get(NAME)).unwrap();
        let verified = self.runtime.block_on(self.region.verifier().verify(&item, true, Arc::default())).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        GitRepo::at(to)
    }

    /// One pass from Git into the region.
    fn pull(&self, policy: &RefPolicy) -> Result<MirrorOutcome, MirrorError> {
        self.pull_from(&GitServer::new(&self.git, Version::V2, true), policy)
    }

    fn pull_from(&self, source: &dyn Server, policy: &RefPolicy) -> Result<MirrorOutcome, MirrorError> {
        let target = self.server();
        let heads = EndHeadSetter { end: End::Region(target.clone()), runtime: self.runtime.handle().clone() };
        let mut carried = MirrorOutcome::default();
        let limits = PushLimits::none();
        pass::run(&task(policy, &limits, &heads), source, &target, &mut carried).map(|_| carried)
    }

    /// One pass from the region to a Git repository.
    fn push(&self, to: &GitRepo, policy: &RefPolicy) -> Result<MirrorOutcome, MirrorError> {
        let target = GitServer::new(to, Version::V2, true);
        let mut carried = MirrorOutcome::default();
        pass::run(&task(policy, &limits(50_000), &Api(Some(to))), &self.server(), &target, &mut carried)
            .map(|_| carried)
    }

    fn bare(&self, name: &str, format: &str) -> GitRepo {
        let repo = GitRepo::init(self.dir.path().join(name), &[&format!("--object-format={format}")]);
        repo.git(&["config", "receive.fsckObjects", "true"]);
        repo
    }
}

fn task<'t>(
    policy: &'t RefPolicy,
    limits: &'t PushLimits,
    heads: &'t dyn gitferry_replication::mirror::ends::HeadSetter,
) -> MirrorTask<'t> {
    static PROGRESS: std::sync::LazyLock<Progress> = std::sync::LazyLock::new(Progress::default);
    static LARGE_PUSH_FAILURES: std::sync::LazyLock<gitferry_replication::mirror::push::LargePushFailures> =
        std::sync::LazyLock::new(Default::default);
    MirrorTask {
        policy,
        limits,
        heads,
        checkpoint: None,
        allow_empty: false,
        progress: &PROGRESS,
        lfs: None,
        detour: None,
        large_push_failures: &LARGE_PUSH_FAILURES,
        fence: None,
    }
}

fn assert_same(one: &GitRepo, other: &GitRepo) {
    assert_eq!(refs(one), refs(other));
    assert_eq!(one.reachable(), other.reachable());
    assert_eq!(one.head(), other.head());
    assert_eq!(other.fsck().0, Some(0), "{:?}", other.fsck());
}

#[test]
fn a_pass_into_a_region_is_one_change() {
    for (text, format) in [("sha1", gix::hash::Kind::Sha1), ("sha256", gix::hash::Kind::Sha256)] {
        let world = World::new(text);
        world.make(format);
        let before = world.seq();
        let carried = world.pull(&RefPolicy::default()).unwrap();
        assert_eq!((world.seq() - before, carried.packs), (1, 1));
        assert_same(&world.git, &world.exported());
        // Forced, deleted, made, moved, and another HEAD: all at once.
        world.git.git(&["update-ref", "refs/heads/topic/deep/er", "refs/heads/side"]);
        world.git.git(&["update-ref", "refs/heads/next", "refs/heads/main"]);
        world.git.git(&["symbolic-ref", "HEAD", "refs/heads/next"]);
        world.git.git(&["update-ref", "-d", "refs/heads/main"]);
        world.git.git(&["tag", "-d", "light"]);
        world.git.commit("next", "new", "new\n");
        let before = world.seq();
        let carried = world.pull(&RefPolicy::default()).unwrap();
        assert_eq!((carried.created, carried.updated, carried.deleted), (1, 1, 2), "{carried:?}");
        assert_eq!(world.seq() - before, 1);
        assert_same(&world.git, &world.exported());
        let before = world.seq();
        assert!(world.pull(&RefPolicy::default()).unwrap().is_nothing());
        assert_eq!(world.seq(), before);
    }
}

#[test]
fn head_alone_moves_too() {
    let world = World::new("sha1");
    world.make(gix::hash::Kind::Sha1);
    world.pull(&RefPolicy::default()).unwrap();
    world.git.git(&["symbolic-ref", "HEAD", "refs/heads/side"]);
    let before = world.seq();
    world.pull(&RefPolicy::default()).unwrap();
    assert_eq!(world.seq() - before, 1);
    assert_same(&world.git, &world.exported());
}

#[test]
fn what_was_pushed_to_the_region_is_kept() {
    let world = World::new("sha1");
    world.make(gix::hash::Kind::Sha1);
    world.pull(&RefPolicy::default()).unwrap();
    // Somebody works in the region.
    let theirs = world.exported();
    let own = theirs.commit("main", "own", "own\n");
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "them".into() };
    world.runtime.block_on(world.region.importer().import(&theirs.path, NAME, &options, Arc::default())).unwrap();
    world.git.commit("main", "new", "new\n");
    let refuse = policy(&[], &[], Deletions::Mirror, Divergence::Refuse);
    world.pull(&refuse).unwrap();
    assert_eq!(refs(&world.exported())["refs/heads/main"], own);
    let carried = world.pull(&RefPolicy::default()).unwrap();
    assert_eq!(carried.preserved, 1);
    let after = refs(&world.exported());
    assert_eq!(after["refs/heads/main"], refs(&world.git)["refs/heads/main"]);
    assert_eq!(after[&format!("refs/gitferry/diverged/heads/main/{}", &own[..12])], own);
    // And it stays: neither deleted nor kept again.
    assert!(world.pull(&RefPolicy::default()).unwrap().is_nothing());
    assert_eq!(refs(&world.exported()), after);
}

#[test]
fn a_source_that_breaks_off_leaves_the_region_as_it_was() {
    let world = World::new("sha1");
    world.make(gix::hash::Kind::Sha1);
    let before = world.seq();
    for damage in [Damage::Cut, Damage::Flip(1), Damage::Noise(3)] {
        let mut source = GitServer::new(&world.git, Version::V2, true);
        source.damage = Some((3_000, damage));
        world.pull_from(&source, &RefPolicy::default()).unwrap_err();
        assert_eq!(world.seq(), before, "{damage:?}");
    }
    world.pull(&RefPolicy::default()).unwrap();
    assert_same(&world.git, &world.exported());
}

#[test]
fn objects_that_git_would_complain_about_are_mirrored_as_they_are() {
    let world = World::new("sha1");
    world.make(gix::hash::Kind::Sha1);
    let tree = world.git.git(&["rev-parse", "main^{tree}"]);
    let odd = format!("tree {tree}\nauthor No Mail <> 1 +0000\ncommitter  <a@b 1 +0000\n\nodd\n");
    let id = world.git.feed(&["hash-object", "-t", "commit", "--literally", "-w", "--stdin"], odd.as_bytes());
    world.git.git(&["update-ref", "refs/heads/odd", String::from_utf8(id).unwrap().trim()]);
    world.pull(&RefPolicy::default()).unwrap();
    assert_eq!(refs(&world.exported()), refs(&world.git));
}

#[test]
fn a_region_reaches_a_git_server() {
    for format in ["sha1", "sha256"] {
        let world = World::new(format);
        world.import();
        let target = world.bare("target", format);
        let carried = world.push(&target, &RefPolicy::default()).unwrap();
        assert_eq!(carried.packs, 1);
        assert_same(&world.git, &target);
        world.git.commit("main", "new", "new\n");
        world.git.git(&["update-ref", "-d", "refs/tags/light"]);
        world.git.git(&["symbolic-ref", "HEAD", "refs/heads/side"]);
        world.import();
        let carried = world.push(&target, &RefPolicy::default()).unwrap();
        assert_eq!((carried.updated, carried.deleted), (1, 1));
        assert!(carried.objects <= 3, "only what is new: {carried:?}");
        assert_same(&world.git, &target);
        assert!(world.push(&target, &RefPolicy::default()).unwrap().is_nothing());
    }
}

#[test]
fn what_the_region_itself_has_let_go_of_is_not_kept_at_the_target() {
    let world = World::new("sha1");
    let blob = world.git.feed(&["hash-object", "-w", "--stdin"], b"a ref may name it");
    world.git.git(&["update-ref", "refs/tags/blob", String::from_utf8(blob).unwrap().trim()]);
    world.import();
    let target = world.bare("target", "sha1");
    world.push(&target, &RefPolicy::default()).unwrap();
    // Without a checkpoint, and with a ref that somebody else has made.
    world.git.git(&["update-ref", "refs/heads/main", "main~2"]);
    world.git.git(&["tag", "-d", "blob"]);
    world.git.git(&["branch", "-D", "side"]);
    world.import();
    let own = target.commit("own", "own", "made here\n");
    let carried = world.push(&target, &RefPolicy::default()).unwrap();
    assert_eq!((carried.updated, carried.deleted, carried.preserved), (1, 3, 1), "{carried:?}");
    let there = refs(&target);
    assert_eq!(there.len(), refs(&world.git).len() + 1);
    assert!(there.values().any(|id| *id == own));
}

#[test]
fn a_region_that_fails_for_now_is_no_refusal() {
    let world = World::new("sha1");
    world.make(gix::hash::Kind::Sha1);
    let faults = Arc::new(Faults::random(1, 1));
    let objects = FaultyStore::new(world.region.shared_objects().clone(), faults);
    let failing = world.region.with_objects(Arc::new(objects));
    let item = world.runtime.block_on(world.region.repositories().get(NAME)).unwrap();
    let target = RegionServer::new(&failing, item.id, NAME, world.runtime.handle(), "link tests");
    let heads = EndHeadSetter { end: End::Region(target.clone()), runtime: world.runtime.handle().clone() };
    let (limits, policy, mut carried) = (PushLimits::none(), RefPolicy::default(), MirrorOutcome::default());
    let source = GitServer::new(&world.git, Version::V2, true);
    let error = pass::run(&task(&policy, &limits, &heads), &source, &target, &mut carried).unwrap_err();
    assert!(error.kind().is_retryable(), "{error}");
    assert_eq!(carried.refused, 0);
    // The next one completes.
    world.pull(&policy).unwrap();
    assert_same(&world.git, &world.exported());
}

#[test]
fn nothing_outside_the_filter_leaks() {
    let world = World::new("sha1");
    let secret = world.git.commit("secret", "key", "do not tell\n");
    let blob = world.git.git(&["rev-parse", "secret:key"]);
    let gone = world.git.commit("gone", "old", "once\n");
    world.import();
    world.git.git(&["branch", "-D", "gone"]);
    world.git.commit("main", "new", "new\n");
    world.import();
    let target = world.bare("target", "sha1");
    let some = policy(&["refs/heads/*", "^refs/heads/secret"], &[], Deletions::Mirror, Divergence::Preserve);
    world.push(&target, &some).unwrap();
    for id in [&secret, &blob, &gone] {
        assert!(!target.try_git(&["cat-file", "-e", id]).status.success(), "{id} is at the target");
    }
    assert_eq!(target.objects(), target.reachable());
    assert!(Path::new(&target.path).exists() && target.fsck().0 == Some(0));
}

#[test]
fn what_is_not_there_can_be_looked_at() {
    let world = World::new("sha1");
    let absent = RegionServer::absent(&world.region, gix::hash::Kind::Sha1, NAME, world.runtime.handle(), "link tests");
    let receive = gitferry_git::client::ReceivePack::open(&absent).unwrap();
    assert!(receive.refs().refs.is_empty());
    assert!(world.runtime.block_on(world.region.repositories().find(NAME)).unwrap().is_none());
}
