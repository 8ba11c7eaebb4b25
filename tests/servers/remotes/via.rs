//! Through a region, where the source alone cannot serve a target.

use std::sync::Arc;

use gitferry_engine::region::Region;
use gitferry_engine::region::import::ImportOptions;
use gitferry_git::client::Server;
use gitferry_git::local::RefPatterns;
use gitferry_git::protocol::Version;
use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::object_source::ObjectSource;
use gitferry_replication::mirror::report::MirrorOutcome;
use gitferry_replication::mirror::via::{Detour, Taken, Via};
use gitferry_replication::progress::Progress;
use gix::ObjectId;
use gix::bstr::ByteSlice;
use tokio::runtime::Runtime;

use crate::remotes::git::{GitRepo, noise};
use crate::remotes::place::{Place, refs};
use gitferry_test_support::scripted_server::GitServer;

const NAME: &str = "team/app";

/// A region beside source and target.
struct Way {
    place: Place,
    dir: tempfile::TempDir,
    runtime: Runtime,
    region: Region,
}

impl Way {
    fn new(place: Place) -> Way {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let region = Region::open_embedded("between", &dir.path().join("objects"), &dir.path().join("table.db"));
        Way { place, dir, runtime, region: region.unwrap() }
    }

    /// One pass over servers that speak this version, which may go through the region.
    fn pass(&self, version: Version, bytes_per_push: Option<u64>) -> Result<MirrorOutcome, MirrorError> {
        let mut pass = self.place.pass().over(version, true);
        pass.target = Box::new(GitServer::new(&self.place.target, Version::V2, true));
        pass.limits.bytes_per_push = bytes_per_push;
        let via = self.via();
        pass.detour = Some(&via);
        let mut carried = MirrorOutcome::default();
        pass.run(&mut carried).map(|_| carried)
    }

    fn via(&self) -> Via {
        Via::new(&self.region, NAME, "cc", &Arc::new(Progress::default()), self.runtime.handle())
    }

    /// What is kept in the region when a pass has ended.
    fn assert_region_is_clean(&self, refs_left: usize) {
        let item = self.runtime.block_on(self.region.repositories().get(NAME)).unwrap();
        let verified = self.runtime.block_on(self.region.verifier().verify(&item, true, Arc::default())).unwrap();
        assert!(verified.findings.is_empty(), "{:?}", verified.findings);
        let to = tempfile::tempdir_in(self.dir.path()).unwrap().keep().join("out");
        self.runtime.block_on(self.region.exporter().export(NAME, &to)).unwrap();
        assert_eq!(refs(&GitRepo::at(to)).len(), refs_left);
    }
}

/// A way on which gitferry dies when all is there.
struct Dies<'v>(&'v Via);

impl Detour for Dies<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn take(
        &self,
        source: &mut dyn ObjectSource,
        wants: &[ObjectId],
        target: &dyn Server,
        tips: &[ObjectId],
    ) -> Result<Taken<'_>, MirrorError> {
        self.0.take(source, wants, target, tips)?;
        Err(MirrorError::Internal("it died".into()))
    }

    fn leave(&self) -> Result<(), MirrorError> {
        self.0.leave()
    }
}

/// A target with the source's files and another history of them, as after an author's name was mended everywhere.
fn rewritten() -> Place {
    let place = Place::empty();
    for n in 0..12 {
        place.source.commit_bytes("main", &format!("file{n}"), &noise(n, 50_000));
    }
    place.source.git(&["tag", "v1", "main~3"]);
    place.sync();
    let stream = place.source.feed(&["fast-export", "--all"], b"");
    place.source.feed(&["fast-import", "--force", "--quiet"], &stream.replace("<c@example.com>", "<d@example.com>"));
    place.source.git(&["reflog", "expire", "--expire=now", "--all"]);
    place.source.git(&["gc", "-q", "--prune=now"]);
    place
}

#[test]
fn a_history_that_was_written_anew_sends_only_what_the_target_lacks() {
    let without = rewritten();
    let everything = without.pass().ok().0;
    assert!(everything.bytes > 500_000, "{everything:?}");
    for version in [Version::V0, Version::V2] {
        let way = Way::new(rewritten());
        let carried = way.pass(version, None).unwrap();
        assert!(carried.bytes < 20_000, "{carried:?}");
        assert!(carried.bytes_via > 500_000, "{carried:?}");
        assert!(carried.remarks.iter().any(|remark| remark.contains("region between")), "{carried:?}");
        // Both old tips are kept, and the refs are the source's.
        assert_eq!((carried.updated, carried.preserved), (2, 2), "{carried:?}");
        let there = refs(&way.place.target);
        assert!(refs(&way.place.source).iter().all(|(name, id)| there.get(name) == Some(id)));
        way.place.assert_sound();
        way.assert_region_is_clean(0);
        // What comes after goes straight through.
        way.place.source.commit("main", "new", "new\n");
        let carried = way.pass(version, None).unwrap();
        assert_eq!((carried.updated, carried.bytes_via, carried.remarks.len()), (1, 0, 0), "{carried:?}");
    }
}

#[test]
fn a_region_that_has_the_repository_already_is_brought_only_the_rest() {
    let way = Way::new(rewritten());
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
    way.runtime.block_on(way.region.importer().import(&way.place.source.path, NAME, &options, Arc::default())).unwrap();
    let carried = way.pass(Version::V2, None).unwrap();
    // The target's history comes without the files that are there, as far as Git knows that.
    assert!(carried.bytes < 20_000, "{carried:?}");
    way.place.assert_sound();
    way.assert_region_is_clean(refs(&way.place.source).len());
}

#[test]
fn a_source_that_gives_no_parts_is_parted_in_the_region() {
    let place = Place::empty();
    for n in 0..40 {
        place.source.commit_bytes("main", &format!("file{n}"), &noise(n, 20_000));
    }
    let limit = Some(200_000);
    // Without a region there is no way.
    let mut pass = place.pass().over(Version::V0, true);
    pass.limits.bytes_per_push = limit;
    let error = pass.fails();
    assert!(matches!(error, MirrorError::CannotSplit { .. }), "{error}");
    assert!(refs(&place.target).is_empty());
    drop(pass);
    let way = Way::new(place);
    let carried = way.pass(Version::V0, limit).unwrap();
    assert!(carried.packs > 4, "{carried:?}");
    assert!(carried.remarks.iter().any(|remark| remark.contains("region between")), "{carried:?}");
    way.place.assert_mirrored();
    way.assert_region_is_clean(0);
}

#[test]
fn what_a_pass_that_died_has_brought_serves_the_next() {
    let way = Way::new(rewritten());
    let mut pass = way.place.pass();
    let via = way.via();
    let dies = Dies(&via);
    pass.detour = Some(&dies);
    pass.fails();
    drop(pass);
    let carried = way.pass(Version::V2, None).unwrap();
    assert_eq!(carried.bytes_via, 0, "all was there: {carried:?}");
    assert!(carried.bytes < 20_000, "{carried:?}");
    way.assert_region_is_clean(0);
}
