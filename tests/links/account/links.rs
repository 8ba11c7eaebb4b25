//! Links carry the account between regions.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use gitferry_account::{AccountError, AccountRepository, CommitError, Follower, Staleness};
use gitferry_engine::region::RegionError;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::faulty::{Sites, assert_equal, assert_sound, link};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::world::World;

use super::{all, ann, create, edit, open, set};
use crate::faults::histories::deliver_all;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_has_the_same_documents_and_refuses_changes() {
    let sites = Sites::new(&["us", "eu"]);
    let (us, eu) = (sites.region("us"), sites.region("eu"));
    let account = create(&us).await;
    assert!(matches!(AccountRepository::open(&eu).await, Err(AccountError::Absent { .. })));
    let follower = Follower::new(eu.clone());
    for step in 0..3 {
        let written = set(&account, "users/ann.json", Some(&step.to_string())).await;
        assert!(deliver_all(&link(us.clone(), eu.clone())).await);
        follower.refresh().await.unwrap();
        let seen = follower.subscribe();
        let followed = seen.borrow();
        let read = followed.documents().unwrap();
        assert_eq!((all(read), read.frontier()), (all(&written), written.frontier()));
    }
    let replica = AccountRepository::open(&eu).await.unwrap();
    let change = edit("m", &[("users/eve.json", Some("1"))]);
    let error = replica.commit(&ann(), |_| Ok::<_, Infallible>(change.clone())).await.unwrap_err();
    assert!(matches!(&error, CommitError::Account(AccountError::Region(RegionError::Replica { .. }))), "{error}");
    assert!(error.to_string().contains("it is written in us"), "{error}");
    assert_equal(&us, &eu).await;
    assert_sound(&eu).await;
}

fn regions(world: &World, link: &str) {
    world.configure(&["a", "b", "c"], link);
}

fn repositories(world: &World, region: &str) -> Vec<String> {
    let listed = world.json(&["repo", "list", "--region", region]);
    let listed = listed["repositories"].as_array().unwrap().iter();
    listed.map(|repository| repository["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_globs_of_a_link_do_not_decide_on_the_account() {
    let world = World::with(&["a", "b", "c"], "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let account = runtime.block_on(create(&open("a", &world.path("a"))));
    let link = |name: &str, ends: [&str; 2], more: &str| {
        let [source, target] = ends;
        format!("[links.{name}]\nsource = \"{source}\"\ntarget = \"{target}\"\n{more}\n")
    };
    let team = "repositories = [\"team/*\"]";
    regions(&world, &link("ab", ["a", "b"], &format!("{team}\naccount = false")));
    world.ok(&["replicate", "ab"]);
    assert!(repositories(&world, "b").is_empty());
    let refused = world.run(&["replicate", "ab", ACCOUNT]);
    assert!(!refused.status.success() && refused.stderr.contains(ACCOUNT), "{refused:?}");
    regions(&world, &link("ab", ["a", "b"], team));
    world.ok(&["replicate", "ab"]);
    assert_eq!(repositories(&world, "b"), [ACCOUNT]);
    // A link that carried it and no longer does leaves the replica as it is.
    runtime.block_on(set(&account, "users/eve.json", Some("1")));
    let changes = || world.json(&["repo", "show", ACCOUNT, "--region", "b"])["frontier"]["seq"].clone();
    regions(&world, &link("ab", ["a", "b"], "account = false"));
    world.ok(&["replicate", "ab"]);
    assert_eq!(changes(), 1);
    // Two links to the same target: the one that delivered the account goes on, and the other one leaves it alone.
    let two = [
        link("ab", ["a", "b"], team),
        link("ops", ["a", "b"], "repositories = [\"ops/*\"]"),
        link("ac", ["a", "c"], "repositories = [\"none\"]"),
        link("cb", ["c", "b"], "repositories = [\"none\"]"),
    ];
    regions(&world, &two.concat());
    for name in ["ac", "cb", "ops", "ab"] {
        world.ok(&["replicate", name]);
        world.ok(&["status", name]);
    }
    assert_eq!(changes(), 2);
    assert_eq!(world.json(&["repo", "show", ACCOUNT, "--region", "c"])["frontier"]["seq"], 2);
    // The one that delivered it is told to stop: another one takes over.
    runtime.block_on(set(&account, "users/joe.json", Some("1")));
    let stopped = [link("ab", ["a", "b"], "account = false"), two[2].clone(), two[3].clone()];
    regions(&world, &stopped.concat());
    for name in ["ac", "ab", "cb"] {
        world.ok(&["replicate", name]);
        world.ok(&["status", name]);
    }
    assert_eq!(changes(), 3);
}

/// A region that is detached has no account, and keeps the replica's ledger: a link gives the account back.
#[test]
fn a_region_is_detached_from_the_account_of_another_one_and_attached_again() {
    let world = World::with(&["a", "b"], "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let account = runtime.block_on(create(&open("a", &world.path("a"))));
    let configure = |more: &str| {
        let link = format!("[links.ab]\nsource = \"a\"\ntarget = \"b\"\n{more}\n");
        world.configure(&["a", "b"], &link);
    };
    configure("");
    world.ok(&["replicate", "ab"]);
    let follower = Follower::new(open("b", &world.path("b")));
    runtime.block_on(follower.refresh()).unwrap();
    let seen = follower.subscribe();
    assert_eq!(seen.borrow().staleness(), Staleness::Current);
    let detach = |region: &str, more: &[&str]| world.run(&[&["iam", "detach", "--region", region], more].concat());
    let refused = detach("b", &["--yes"]);
    assert!(refused.stderr.contains("links.ab brings the account of a to b"), "{refused:?}");
    configure("account = false");
    let refused = detach("b", &[]);
    assert!(!refused.status.success() && refused.stderr.contains("--yes"), "{refused:?}");
    let founder = detach("a", &["--yes"]);
    assert!(!founder.status.success() && founder.stderr.contains("was founded in a"), "{founder:?}");
    assert_eq!(repositories(&world, "b"), [ACCOUNT]);
    let detached = detach("b", &["--yes", "--json"]);
    assert!(detached.status.success() && detached.stdout.contains("\"account_of\":\"a\""), "{detached:?}");
    assert!(!detach("b", &["--yes"]).status.success());
    // What was read before counts no longer, without the wait for other troubles.
    let error = runtime.block_on(follower.refresh()).unwrap_err();
    assert!(matches!(error, AccountError::Detached { .. }), "{error}");
    assert!(matches!(seen.borrow().staleness(), Staleness::Stale { age: None, .. }));
    let absent = runtime.block_on(AccountRepository::open(&open("b", &world.path("b"))));
    assert!(matches!(absent, Err(AccountError::Absent { .. })));
    // No pass of a link that leaves the account out attaches it.
    world.ok(&["replicate", "ab"]);
    assert!(runtime.block_on(follower.refresh()).is_err());
    runtime.block_on(set(&account, "users/eve.json", Some("1")));
    configure("");
    world.ok(&["replicate", "ab"]);
    runtime.block_on(follower.refresh()).unwrap();
    assert_eq!(seen.borrow().staleness(), Staleness::Current);
    assert_eq!(seen.borrow().documents().unwrap().frontier().seq, 2);
    world.ok(&["verify", "ab", "--deep"]);
}

#[test]
fn no_link_with_a_remote_carries_the_account() {
    let world = World::with(&["a"], "");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create(&open("a", &world.path("a"))));
    let bare = GitRepo::init(world.path("remote/gitferry/account.git"), &[]);
    let backend = Backend::serve(&world.path("remote"));
    let remote = format!("[remotes.r]\nurl = \"http://{}/{{name}}.git\"\n", backend.address);
    let link = |more: &str| format!("{remote}[links.ar]\nsource = \"a\"\ntarget = \"r\"\n{more}\n");
    world.configure(&["a"], &link("repositories = [\"gitferry/*\"]"));
    world.ok(&["replicate", "ar"]);
    assert!(!world.run(&["replicate", "ar", ACCOUNT]).status.success());
    assert!(bare.refs().is_empty() && backend.requests().is_empty());
    for (more, reason) in [
        ("repositories = [\"gitferry/account\"]", "holds the account of a region"),
        ("account = true", "only for a link between regions"),
    ] {
        std::fs::write(
            world.path("gitferry.toml"),
            format!("[regions.a]\nobjects = \"file:a/objects\"\ntable = \"sqlite:a/table.db\"\n{}", link(more)),
        )
        .unwrap();
        let run = world.ends(2, &["status"]);
        assert!(run.stderr.contains(reason), "{}", run.stderr);
    }
}

/// `gitferry up`: a worker delivers a change of the account like any other, and no client of Git reaches it.
#[test]
fn a_worker_delivers_changes_and_hosts_show_nothing() {
    let pair = Pair::open();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let region = |at: usize| open(REGIONS[at], &pair.path("data").join(REGIONS[at]));
    let (us, eu) = (region(US), region(EU));
    let account = runtime.block_on(create(&us));
    let started = Instant::now();
    let follower = Follower::new(eu);
    let mut seen = follower.subscribe();
    let arrives = runtime.block_on(async {
        loop {
            let _ = follower.refresh().await;
            if seen.borrow_and_update().documents().is_some() {
                return started.elapsed();
            }
            assert!(started.elapsed() < Duration::from_secs(60), "the account does not arrive");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    eprintln!("a new account arrives after {arrives:?}");
    let id = account.id().to_string();
    let repo = GitRepo::with_history(pair.path("repo"), &[]);
    for at in [US, EU] {
        for name in [ACCOUNT, "gitferry/account.git", "v1/repos/gitferry/account", "gitferry%2Faccount", &id] {
            let url = pair.url(at, name);
            let fetched = repo.try_git(&["ls-remote", &url]);
            assert!(!fetched.status.success(), "{url} can be fetched");
            let pushed = repo.try_git(&["push", "-q", &url, "main:refs/heads/eve"]);
            assert!(!pushed.status.success(), "{url} takes pushes");
            let said = String::from_utf8_lossy(&fetched.stderr);
            assert!(said.contains("403") || said.contains("not found") || said.contains("404"), "{said}");
        }
        let request =
            |line: &str| pair.raw(at, &format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        for path in [ACCOUNT, &id] {
            for line in [format!("GET /{path}/info/frontier"), format!("PUT /{path}/info/head")] {
                let answer = request(&line);
                let status = answer.lines().next().unwrap().to_owned();
                assert!(status.contains(" 403") || status.contains(" 404"), "{line}: {status}");
            }
        }
    }
    assert_eq!(runtime.block_on(account.read()).unwrap().frontier().seq, 1);
}
