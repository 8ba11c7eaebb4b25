//! One link of a process whose region or server is gone: the others are worked on, and what is gone is named until it
//! is there again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::events::lambda::Function;
use crate::events::place::block_on;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::running::{Ends, Running};
use gitferry_test_support::samples;
use gitferry_test_support::waiting::wait;
use gitferry_test_support::world::{LINK, SOURCE, TARGET, World};

const LINKS: &str = "[links.dr]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\n\
                     [links.ap]\nsource = \"us-east-1\"\ntarget = \"ap\"\n";

fn frontier(world: &World, region: &str) -> Option<serde_json::Value> {
    let run = world.run(&["repo", "show", "app", "--region", region, "--json"]);
    run.status.success().then(|| run.json()["frontier"].clone())
}

fn is_synced(world: &World, target: &str) -> bool {
    frontier(world, target) == frontier(world, SOURCE)
}

/// Three regions, the table of one of which is no table.
fn with_a_dead_region(more: &str) -> (World, GitRepo) {
    kill_a_region(three_regions(more))
}

fn kill_a_region((world, repo): (World, GitRepo)) -> (World, GitRepo) {
    fs::rename(world.path("ap/table.db"), world.path("ap/kept.db")).unwrap();
    fs::write(world.path("ap/table.db"), "not a database, as on a bad disk").unwrap();
    repo.commit("main", "file", "two");
    world.import(&repo, "app");
    (world, repo)
}

/// Three regions in step, none of which has a log beside its table.
fn three_regions(more: &str) -> (World, GitRepo) {
    three_regions_linked(&format!("{LINKS}{more}"))
}

fn three_regions_linked(links: &str) -> (World, GitRepo) {
    let world = World::with(&[SOURCE, TARGET, "ap"], links);
    let repo = GitRepo::init(world.path("app.git"), &[]);
    repo.commit("main", "file", "one");
    world.import(&repo, "app");
    world.ok(&["replicate", "dr"]);
    world.ok(&["replicate", "ap"]);
    for file in ["table.db-wal", "table.db-shm"] {
        let _ = fs::remove_file(world.path("ap").join(file));
    }
    (world, repo)
}

fn mend(world: &World) {
    fs::remove_file(world.path("ap/table.db")).unwrap();
    fs::rename(world.path("ap/kept.db"), world.path("ap/table.db")).unwrap();
}

#[test]
fn a_region_that_does_not_open_keeps_no_link_from_being_shown_and_worked_on() {
    let (world, _) = with_a_dead_region("");
    let status = world.ends(3, &["status"]);
    assert!(status.stdout.contains("dr: us-east-1 → eu-west-1, 1 repository"), "{}", status.stdout);
    status.says(&["link ap", "table.db"]);
    world.ends(0, &["status", "dr"]);
    world.ends(3, &["status", "ap"]);
    let worker = Running::start(&world, &[], &["--outbox-every", "200ms"]);
    wait("the other link is worked on", || is_synced(&world, TARGET));
    let (code, body) = worker.get("/_ready");
    assert_eq!(code, 503, "{body}");
    assert!(body["not_ready"][0]["what"].as_str().unwrap().contains("link ap"), "{body}");
    assert_eq!(worker.get("/_health").0, 200);
    mend(&world);
    wait("the link is taken up", || is_synced(&world, "ap"));
    wait("the worker is ready", || worker.get("/_ready").0 == 200);
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn a_region_whose_disk_is_gone_keeps_no_link_from_being_worked_on() {
    let (world, repo) = three_regions("");
    fs::rename(world.path("ap"), world.path("gone")).unwrap();
    repo.commit("main", "file", "two");
    world.import(&repo, "app");
    let worker = Running::start(&world, &[], &["--outbox-every", "200ms"]);
    wait("the other link is worked on", || is_synced(&world, TARGET));
    let (code, body) = worker.get("/_ready");
    assert_eq!(code, 503, "{body}");
    assert!(!world.path("ap").exists(), "it was made anew");
    fs::rename(world.path("gone"), world.path("ap")).unwrap();
    wait("the link is taken up", || is_synced(&world, "ap"));
    assert_eq!(worker.stop().0, Some(0));
}

/// The function starts with the links that open; what is another link's fails, and comes again until it opens.
#[test]
fn a_function_serves_the_links_that_open_and_fails_what_is_of_the_others() {
    let link = |name: &str, target: &str| {
        let queue = format!("https://sqs.eu-west-1.amazonaws.com/123456789012/{name}");
        format!(
            "[links.{name}]\nsource = \"{SOURCE}\"\ntarget = \"{target}\"\nqueue = \"{queue}\"\ndead_letters = \"{queue}-dead\"\n"
        )
    };
    let (world, repo) = kill_a_region(three_regions_linked(&(link("dr", TARGET) + &link("ap", "ap"))));
    let event = || samples::gitferry_at(&world.show("app", SOURCE));
    let record = |id: &str, name: &str| {
        let arn = format!("arn:aws:sqs:eu-west-1:123456789012:{name}");
        json!({ "messageId": id, "receiptHandle": id, "body": event().to_string(), "eventSourceARN": arn })
    };
    let failed = |ids: &[&str]| json!({ "batchItemFailures": ids.iter().map(|id| json!({ "itemIdentifier": id })).collect::<Vec<_>>() });
    let schedule = json!({ "detail-type": "Scheduled Event", "source": "aws.events" });
    block_on(async {
        let mut function = Function::start(&world).await;
        let records = [record("a", "ap"), record("b", "dr"), record("c", "ap")];
        assert_eq!(function.invoke(json!({ "Records": records })).await, ("response".into(), failed(&["a", "c"])));
        assert!(is_synced(&world, TARGET));
        // A single event may be for the link that is not open: it comes again, and the others have it.
        repo.commit("main", "file", "three");
        world.import(&repo, "app");
        for asked in [event(), schedule.clone()] {
            let (what, answer) = function.invoke(asked).await;
            assert!(what == "error" && answer["errorMessage"].as_str().unwrap().contains("link ap"), "{answer}");
            assert!(is_synced(&world, TARGET));
        }
        mend(&world);
        assert_eq!(function.invoke(json!({ "Records": records })).await, ("response".into(), failed(&[])));
        assert!(is_synced(&world, "ap"));
        assert_eq!(function.invoke(schedule).await.0, "response");
    });
}

#[test]
fn up_serves_and_replicates_what_it_can() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let host = format!("[hosts.{SOURCE}]\nlisten = \"127.0.0.1:{port}\"\nauth = \"none\"\n");
    let (world, repo) = with_a_dead_region(&host);
    let log = fs::File::create(world.path("log")).unwrap();
    let mut command = world.command(&["--config", "gitferry.toml", "up"]);
    let _up = Ends(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    wait("the region is served", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream
            .write_all(
                b"GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer.starts_with(b"HTTP/1.1 200")
    });
    wait("the other region is kept in step", || is_synced(&world, TARGET));
    assert!(fs::read_to_string(world.path("log")).unwrap().contains("ap cannot be opened yet"));
    mend(&world);
    repo.commit("main", "file", "three");
    world.import(&repo, "app");
    wait("the region is taken up", || is_synced(&world, "ap") && is_synced(&world, TARGET));
}

/// A server that takes connections and never says a word.
struct Silent {
    address: std::net::SocketAddr,
    held: Arc<AtomicUsize>,
    _open: Arc<Mutex<Vec<TcpStream>>>,
}

fn silent() -> Silent {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (held, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (count, streams) = (held.clone(), open.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            streams.lock().unwrap().push(stream);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    Silent { address, held, _open: open }
}

/// Of a running worker: its target's disk, its source's objects and its target's table are lost one after the other.
#[test]
fn a_store_that_is_lost_while_a_worker_runs_makes_it_unready_until_it_is_back() {
    let (world, repo) = three_regions("");
    // What a sweep could not do, only the next one takes back.
    let worker = Running::start(&world, &[], &["--outbox-every", "200ms", "--sweep-every", "500ms"]);
    wait("the worker is ready", || worker.get("/_ready").0 == 200);
    let objects = world.path(SOURCE).join("objects");
    let table = world.path("ap/table.db");
    for (lost, made, words) in [
        (world.path("ap"), None, "region ap"),
        (objects.clone(), Some(objects), "object store lacks the identity"),
        (table.clone(), None, "region ap"),
    ] {
        fs::rename(&lost, world.path("gone")).unwrap();
        // A mount point without its disk.
        made.iter().for_each(|folder| fs::create_dir(folder).unwrap());
        wait("the worker is not ready", || {
            let (code, body) = worker.get("/_ready");
            code == 503 && body["not_ready"].to_string().contains(words)
        });
        made.iter().for_each(|folder| fs::remove_dir_all(folder).unwrap());
        assert!(!lost.exists(), "{} was made anew", lost.display());
        fs::rename(world.path("gone"), &lost).unwrap();
        wait("the worker is ready again", || worker.get("/_ready").0 == 200);
    }
    // Another file in the table's place: what is written to the old one would be lost.
    fs::copy(&table, world.path("copy.db")).unwrap();
    fs::rename(world.path("copy.db"), &table).unwrap();
    wait("the worker is not ready", || worker.get("/_ready").1.to_string().contains("another file"));
    repo.commit("main", "file", "two");
    world.import(&repo, "app");
    wait("the other link goes on", || is_synced(&world, TARGET));
    assert!(!is_synced(&world, "ap"));
    assert_eq!(worker.stop().0, Some(0));
}

#[test]
fn links_to_a_silent_server_share_its_slots_and_take_none_from_other_servers() {
    let silent = silent();
    let world = World::with(&[], "");
    let names = ["a", "b", "c", "d", "e", "f"];
    let repos = names.map(|name| GitRepo::with_history(world.path(&format!("good/{name}.git")), &[]));
    let good = Backend::serve(&world.path("good"));
    let links = format!(
        "[remotes.hub]\nurl = \"http://{0}/{{name}}.git\"\n[remotes.hub-too]\nurl = \"http://{0}/too/{{name}}\"\n\
         [remotes.good]\nurl = \"http://{1}/{{name}}.git\"\n\
         [links.one]\nsource = \"{SOURCE}\"\ntarget = \"hub\"\n\
         [links.two]\nsource = \"{SOURCE}\"\ntarget = \"hub-too\"\n\
         [links.three]\nsource = \"good\"\ntarget = \"hub\"\nrepositories = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n\
         [links.four]\nsource = \"good\"\ntarget = \"{TARGET}\"\nrepositories = [\"f\"]\n",
        silent.address, good.address
    );
    world.configure(&[SOURCE, TARGET], &links);
    names.iter().zip(&repos).for_each(|(name, repo)| _ = world.import(repo, name));
    let worker = Running::start(&world, &[], &["--jobs", "4", "--outbox-every", "200ms", "--sweep-every", "300ms"]);
    wait("the silent server holds all that it may", || silent.held.load(Ordering::SeqCst) >= 4);
    let tip = |region: &str| world.run(&["repo", "show", "f", "--region", region, "--json"]).stdout;
    let mut before = String::new();
    for content in ["two", "three", "four"] {
        repos[5].commit("main", "file", content);
        wait("the link between other servers goes on", || tip(TARGET) != before && tip(TARGET).contains("frontier"));
        before = tip(TARGET);
    }
    assert_eq!(silent.held.load(Ordering::SeqCst), 4, "three links share the slots of one server");
    worker.signal("KILL");
}

#[test]
fn a_silent_server_takes_no_slot_from_another_link() {
    let silent = silent();
    let links = format!(
        "[remotes.hub]\nurl = \"http://{}/{{name}}.git\"\n\
         [links.a-silent]\nsource = \"{SOURCE}\"\ntarget = \"hub\"\n\
         [links.{LINK}]\nsource = \"{SOURCE}\"\ntarget = \"{TARGET}\"\n",
        silent.address
    );
    let world = World::with(&[SOURCE, TARGET], &links);
    let repo = GitRepo::init(world.path("app.git"), &[]);
    repo.commit("main", "file", "one");
    for name in ["app", "b", "c", "d", "e", "f"] {
        world.import(&repo, name);
    }
    let worker = Running::start(&world, &[], &["--jobs", "2", "--outbox-every", "200ms"]);
    wait("the silent server holds all that its link may have", || silent.held.load(Ordering::SeqCst) >= 2);
    for content in ["two", "three"] {
        repo.commit("main", "file", content);
        world.import(&repo, "app");
        wait("the other link goes on", || is_synced(&world, TARGET));
    }
    // The silent server still holds its connections: no other delivery waited for them.
    assert!(silent.held.load(Ordering::SeqCst) >= 2);
    worker.signal("KILL");
}
