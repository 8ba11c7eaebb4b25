//! Many at once: everybody who was told yes is in the chain, and nobody's work is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use gitferry_base::Kind;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::{Region, RegionError};

use crate::faults::pool::{LEVELS, Source};
use gitferry_test_support::faulty::{Sites, assert_equal, assert_sound, link, refs_of};

const WRITERS: usize = 20;
/// A writer that lost its bounded number of races tries again; nobody loses this often.
const MAX_TRIES: usize = 50;

/// Repeats what lost against others.
async fn insist<T, F: Future<Output = Result<T, RegionError>>>(mut attempt: impl FnMut() -> F) -> T {
    for _ in 0..MAX_TRIES {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{error}"),
        }
    }
    panic!("lost {MAX_TRIES} times");
}

/// Who made each change of a repository, oldest first.
async fn actors(region: &Region, item: &HeadItem) -> Vec<String> {
    let rows = region.reader().changes_above(item, 0).await.unwrap();
    let (log, id) = (region.log(), item.id);
    let read = move || rows.iter().map(|row| log.read(id, row, |_, _| {}).unwrap().actor).collect();
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// Twenty importers of different sources into one repository, of which some find it there or not.
async fn import_at_once(exists: bool) {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    if exists {
        us.repositories().create("app", gix::hash::Kind::Sha1, "creator").await.unwrap();
    }
    let tasks = (0..WRITERS).map(|writer| {
        let source = Source::with(
            sites.path(&format!("source{writer}")),
            writer % LEVELS + 1,
            &[(&format!("refs/heads/{writer}/a"), writer), (&format!("refs/heads/{writer}/b"), writer + 1)],
        );
        let us = us.clone();
        tokio::spawn(async move {
            let (pattern, actor) = (format!("refs/heads/{writer}/*"), format!("importer-{writer}"));
            let patterns = [pattern.as_str()];
            let imported = insist(|| source.import_as(&us, "app", &patterns, &actor)).await;
            assert!(imported.change.is_some(), "{imported:?}");
            source.refs
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut expected = std::collections::BTreeMap::new();
    for task in tasks {
        expected.extend(task.await.unwrap());
    }
    let item = us.repositories().get("app").await.unwrap();
    let mut refs = refs_of(&us, &item).await;
    refs.remove("HEAD");
    assert_eq!(refs, expected);
    let actors = actors(&us, &item).await;
    assert_eq!(actors.len(), WRITERS + usize::from(exists));
    assert_eq!(actors.iter().collect::<BTreeSet<_>>().len(), actors.len(), "{actors:?}");
    assert_sound(&us).await;
    assert_no_strays(&us).await;
    assert_eq!(us.repositories().list().await.unwrap().len(), 1);
}

/// No pack lies in the store that no manifest names: losers clean up behind themselves.
async fn assert_no_strays(region: &Region) {
    let mut named = BTreeSet::new();
    for item in region.repositories().heads().await.unwrap().items {
        for pack in region.reader().manifest(&item).await.unwrap().0.packs {
            named.insert(gitferry_engine::ledger::keys::index_of(&pack.key));
            named.insert(pack.key);
        }
    }
    let page = region.objects().list("repositories/", None, 1_000).await.unwrap();
    let there: BTreeSet<String> =
        page.objects.into_iter().map(|object| object.key).filter(|key| key.contains("/pack/")).collect();
    assert_eq!(there, named);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn importers_of_one_repository_all_get_in() {
    import_at_once(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn importers_of_a_repository_that_is_not_there_yet_all_get_in() {
    import_at_once(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn renames_and_imports_at_once_are_all_in_the_chain() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let id = us.repositories().create("app", gix::hash::Kind::Sha1, "creator").await.unwrap().id.to_string();
    let tasks = (0..WRITERS).map(|writer| {
        let (us, id) = (us.clone(), id.clone());
        let source = Source::with(sites.path(&format!("s{writer}")), 1, &[(&format!("refs/heads/{writer}"), writer)]);
        tokio::spawn(async move {
            let (actor, pattern) = (format!("writer-{writer}"), format!("refs/heads/{writer}"));
            let (name, patterns) = (format!("name-{writer}"), [pattern.as_str()]);
            match writer % 2 {
                0 => drop(insist(|| us.repositories().rename(&id, &name, &actor)).await),
                _ => drop(insist(|| source.import_as(&us, &id, &patterns, &actor)).await),
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        task.await.unwrap();
    }
    let item = us.repositories().get(&id).await.unwrap();
    assert_eq!(item.head.refs, WRITERS as u64 / 2);
    let actors = actors(&us, &item).await;
    assert_eq!(actors.iter().collect::<BTreeSet<_>>().len(), WRITERS + 1, "{actors:?}");
    assert_eq!(actors.len(), WRITERS + 1);
    // Exactly one name is taken: the last one.
    assert_eq!(us.repositories().get(&item.head.name).await.unwrap().id, item.id);
    for writer in (0..WRITERS).step_by(2).map(|writer| format!("name-{writer}")) {
        assert_eq!(us.repositories().find(&writer).await.unwrap().is_some(), writer == item.head.name);
    }
    assert_sound(&us).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_name_goes_to_one_repository() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let tasks = (0..WRITERS).map(|writer| {
        let us = us.clone();
        tokio::spawn(async move {
            us.repositories().create("app", gix::hash::Kind::Sha1, &format!("c{writer}")).await.is_ok()
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap());
    }
    assert_eq!((made, us.repositories().list().await.unwrap().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_over_one_link_at_once_deliver_once() {
    let sites = Sites::new(&["us", "eu"]);
    let us = sites.region("us");
    for repository in 0..3 {
        let mut source = Source::with(sites.path(&format!("s{repository}")), 2, &[("refs/heads/main", repository)]);
        source.import(&us, &format!("app{repository}")).await.unwrap();
        source.levels = 4;
        source.set("refs/heads/main", repository + 3);
        source.write();
        source.import(&us, &format!("app{repository}")).await.unwrap();
    }
    let tasks = (0..6u64).map(|worker| {
        // Each is slow in its own way, so that they meet everywhere.
        let us = sites.delayed("us", Duration::from_millis(worker * 3 % 7));
        let eu = sites.delayed("eu", Duration::from_millis(worker * 5 % 4));
        let link = gitferry_replication::link::Link { name: "dr".into(), ..link(us, eu) };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(link.pass(&[], 4)).unwrap())
    });
    let tasks: Vec<_> = tasks.collect();
    for task in tasks {
        let summary = task.await.unwrap();
        assert_eq!(summary.failed, 0, "{summary:#?}");
    }
    let eu = sites.region("eu");
    assert_equal(&us, &eu).await;
    assert_sound(&eu).await;
    assert_no_strays(&eu).await;
    for item in eu.repositories().heads().await.unwrap().items {
        assert_eq!(item.revision, 1, "delivered in one step, by one worker");
    }
}
