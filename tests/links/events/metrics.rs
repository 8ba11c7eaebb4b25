//! What alarms watch: `--metrics`, `/_metrics`, and what `gitferry health` says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::consolidate::PackAside;
use gitferry_replication::verified::Verified;
use gitferry_service::lambda::handler::Handler;
use gitferry_service::lambda::links::Served;
use gitferry_store::table::{Condition, Write};
use serde_json::{Value, json};

use crate::events::place::{Place, block_on, wait};
use gitferry_test_support::prometheus::Page;
use gitferry_test_support::running::Running;
use gitferry_test_support::samples;
use gitferry_test_support::world::{LINK, SOURCE, TARGET};

/// The metrics of a page for Prometheus.
fn page(worker: &Running) -> BTreeMap<String, f64> {
    let (code, text) = worker.get_text("/_metrics");
    assert_eq!(code, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let metric = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let name = name.strip_suffix(&format!("{{link=\"{LINK}\"}}")).unwrap();
        (name.strip_prefix("gitferry_").unwrap().to_owned(), value.parse().unwrap())
    };
    lines.map(metric).collect()
}

/// The metrics in what a command printed.
fn lines(printed: &str) -> Vec<Value> {
    let all = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "gitferry").collect()
}

#[test]
fn a_worker_tells_both_of_what_it_does() {
    let place = Place::new("");
    let mut worker =
        Running::start(&place.world, &[("GITFERRY_METRICS", "emf")], &["--metrics-every", "1s", "--sweep-every", "1s"]);
    wait("it is delivered", || page(&worker)["delivered_total"] == 1.0);
    wait("the first sweep is over", || page(&worker).contains_key("oldest_unverified_seconds"));
    let metrics = page(&worker);
    assert_eq!((metrics["failed_total"], metrics["forks"]), (0.0, 0.0));
    place.commit("two");
    wait("the next one is, too", || page(&worker)["delivered_total"] == 2.0);
    wait("nothing is left", || page(&worker).get("pending") == Some(&0.0));
    worker.signal("TERM");
    let mut printed = String::new();
    worker.output.read_to_string(&mut printed).unwrap();
    assert!(worker.child.wait().unwrap().success());
    let lines = lines(&printed);
    // Counters are told once; in all they come to what was delivered.
    let delivered: f64 = lines.iter().map(|line| line["Delivered"].as_f64().unwrap()).sum();
    assert_eq!(delivered, 2.0, "{printed}");
    assert!(lines.iter().all(|line| line["link"] == LINK && line["LagSeconds"].is_number()), "{printed}");
    assert!(lines.last().unwrap()["OldestUnverifiedSeconds"].is_number(), "{printed}");
}

#[test]
fn prometheus_reads_the_page_of_a_worker() {
    // No process listens there, so each request to the queue is tried again.
    let nowhere = "queue = \"http://127.0.0.1:9/0/in\"\ndead_letters = \"http://127.0.0.1:9/0/dead\"\n\
                   aws = { region = \"us-east-1\", endpoint_url = \"http://127.0.0.1:9\" }\n";
    let place = Place::new(nowhere);
    let worker = Running::start(&place.world, &[], &[]);
    let page = || Page::read(&worker.get_text("/_metrics").1);
    wait("it is delivered", || page().sum("gitferry_delivered_total", &[("link", LINK)]) == 1.0);
    let lost = [("service", "sqs"), ("outcome", "no_answer")];
    wait("a request was tried again", || page().sum("gitferry_aws_retries_total", &[("service", "sqs")]) >= 1.0);
    let page = page();
    assert!(page.sum("gitferry_aws_attempts_total", &lost) > page.sum("gitferry_aws_retries_total", &[]), "{page:?}");
    let of_link = ["delivered_total", "failed_total", "failing", "forks", "lag_seconds", "pending", "ready"];
    let of_process = ["aws_attempts_total", "aws_retries_total"];
    let mut expected: BTreeSet<String> =
        of_link.into_iter().chain(of_process).map(|name| format!("gitferry_{name}")).collect();
    // Known once the first sweep is over.
    expected.extend(["oldest_unverified_seconds", "packs_aside"].map(|name| format!("gitferry_{name}")));
    assert!(page.metrics.is_subset(&expected) && page.metrics.len() >= 9, "{page:?}");
    assert_eq!((page.values_of("link"), page.values_of("service")), ([LINK].into(), ["sqs"].into()));
    assert_eq!(page.sum("gitferry_ready", &[("link", LINK)]), 0.0, "{page:?}");
}

#[test]
fn what_cannot_be_delivered_gets_later_and_later() {
    let place = Place::new("");
    place.world.ok(&["replicate", LINK]);
    place.commit("two");
    for pack in place.world.pack_files(SOURCE) {
        std::fs::remove_file(pack).unwrap();
    }
    let committed = SystemClock::shared().now();
    let worker = Running::start(&place.world, &[], &[]);
    wait("it has failed and is told", || {
        let metrics = page(&worker);
        metrics["failed_total"] >= 1.0 && metrics["pending"] == 1.0
    });
    // Since the commit, not since the worker heard of it.
    let before = page(&worker)["lag_seconds"];
    assert!(before > 0.0 && before <= SystemClock::shared().now().duration_since(committed).as_secs_f64() + 5.0);
    wait("it gets later", || page(&worker)["lag_seconds"] > before);
    assert_eq!(page(&worker)["forks"], 0.0);
}

/// Does something with all files of a table. No process has it open between two commands.
fn move_table(from: &Path, to: &Path, step: fn(&Path, &Path) -> std::io::Result<()>) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if name.to_string_lossy().starts_with("table.db") {
            step(&path, &to.join(name)).unwrap();
        }
    }
}

#[test]
fn a_fork_is_counted() {
    let place = Place::new("");
    place.world.ok(&["replicate", LINK]);
    let backup = place.world.path("backup");
    std::fs::create_dir(&backup).unwrap();
    let source = place.world.path(SOURCE);
    move_table(&source, &backup, |from, to| std::fs::copy(from, to).map(drop));
    place.commit("lost by the backup");
    place.world.ok(&["replicate", LINK]);
    move_table(&source, &place.world.fresh("gone"), |from, _| std::fs::remove_file(from));
    move_table(&backup, &source, |from, to| std::fs::copy(from, to).map(drop));
    place.repo.commit("main", "file", "another history");
    place.world.import_unawares(&place.repo, "app");
    let worker = Running::start(&place.world, &[], &[]);
    wait("it is told", || page(&worker).get("forks") == Some(&1.0));
}

/// Marks the pack of the target as damaged, as consolidation does.
async fn set_aside(place: &Place) {
    let region = place.region(TARGET);
    let item = region.repositories().get("app").await.unwrap();
    let pack = region.reader().manifest(&item).await.unwrap().0.packs.remove(0);
    let (repository, key, now) = (item.id, pack.key, region.clock().now());
    let at = keys::aside(repository, &key);
    let row = PackAside { repository, pack: pack.id, key, reason: "a test".into(), found: now, checked: now };
    let document = serde_json::to_value(row).unwrap();
    region.table().transact(vec![Write::put(at, Condition::Any, document)]).await.unwrap();
}

#[test]
fn packs_that_are_set_aside_are_counted_until_they_are_mended() {
    let place = Place::new("");
    place.world.ok(&["replicate", LINK]);
    let worker = Running::start(&place.world, &[], &["--sweep-every", "1s"]);
    let aside = || page(&worker).get("packs_aside").copied();
    wait("they are counted", || aside() == Some(0.0));
    block_on(set_aside(&place));
    wait("one is damaged", || aside() == Some(1.0));
    let backup = place.world.run(&["backup", LINK, "--max-age", "1h", "--out", "manifest.json", "--metrics", "emf"]);
    assert_eq!(lines(&backup.stdout)[0]["PacksAside"], 1.0, "{}", backup.stdout);
    // It is read again, and found sound.
    place.world.ok(&["verify", "app", "--region", TARGET, "--deep"]);
    wait("none is", || aside() == Some(0.0));
}

#[test]
fn a_backup_tells_how_old_its_recovery_point_is() {
    let place = Place::new("");
    let backup = |more: &[&str]| {
        let args = ["backup", LINK, "--max-age", "1h", "--out", "manifest.json"];
        let run = place.world.run(&[&args[..], more].concat());
        lines(&run.stdout)
    };
    assert_eq!(backup(&[]), Vec::<Value>::new());
    let told = backup(&["--metrics", "emf"]);
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["RecoveryPointAgeSeconds"], &told[0]["OldestUnverifiedSeconds"]), (&0.0.into(), &0.0.into()));
    let noted = block_on(Verified::new(&place.region(TARGET), LINK).read()).unwrap();
    assert_eq!(noted.keys().collect::<Vec<_>>(), [&place.id()]);
    // What is damaged has been verified when it was last sound.
    for pack in place.world.pack_files(TARGET) {
        std::fs::remove_file(pack).unwrap();
    }
    let told = backup(&["--metrics", "emf"]);
    assert!(told[0]["OldestUnverifiedSeconds"].as_f64().unwrap() > 0.0, "{told:?}");
    assert_eq!(block_on(Verified::new(&place.region(TARGET), LINK).read()).unwrap(), noted);
}

#[test]
fn a_function_tells_of_each_invocation() {
    let place = Place::new("");
    let handler = Handler::new(vec![Served { link: Arc::new(place.link()), queue: None, publisher: None }], 4);
    let soon = || tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let event = samples::updated_of("app").to_string();
    block_on(async {
        handler.handle(event.as_bytes(), soon()).await.unwrap();
        let told = handler.take_metrics();
        assert_eq!((told[0].link.as_str(), told[0].delivered, told[0].failed), (LINK, 1, 0));
        assert!(told[0].lag_seconds > 0.0);
        // An invocation that does nothing says so.
        let schedule = json!({ "detail-type": "Scheduled Event" }).to_string();
        handler.handle(schedule.as_bytes(), soon()).await.unwrap();
        let told = handler.take_metrics();
        assert_eq!((told.len(), told[0].delivered, told[0].lag_seconds), (1, 0, 0.0));
    });
    place.commit("two");
    for pack in place.world.pack_files(SOURCE) {
        std::fs::remove_file(pack).unwrap();
    }
    block_on(async {
        handler.handle(event.as_bytes(), soon()).await.unwrap_err();
        let told = handler.take_metrics();
        assert_eq!((told[0].failed, told[0].pending, told[0].forks), (1, 1, 0));
        assert!(told[0].lag_seconds > 0.0);
    });
}

#[test]
fn health_is_asked_by_the_program_itself() {
    let place = Place::new("");
    let mut worker = Running::start(&place.world, &[], &[]);
    let said = place.world.ok(&["health", &worker.health]);
    assert!(said.contains("\"ok\":true"), "{said}");
    wait("it is ready", || place.world.run(&["health", "--ready", &worker.health]).status.success());
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    let said = place.world.ends(1, &["health", &worker.health]).stderr;
    assert!(said.contains("Connection refused"), "{said}");
    place.world.ends(2, &["health", "nowhere"]);
}

#[test]
fn the_environment_may_hold_the_configuration() {
    let place = Place::new("");
    let text = std::fs::read_to_string(place.config()).unwrap();
    let elsewhere = place.world.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let status = |text: &str, file: Option<&str>| {
        let mut command = place.world.command(&["status", LINK, "--json"]);
        command.env("GITFERRY_CONFIG_TOML", text);
        if let Some(file) = file {
            command.env("GITFERRY_CONFIG", file);
        }
        command.output().unwrap()
    };
    // Paths in it are relative to the working directory; it counts before the usual file.
    std::fs::rename(place.config(), elsewhere.join("other.toml")).unwrap();
    assert!(status(&text, None).status.success());
    // A file that is named counts before it.
    std::fs::copy(elsewhere.join("other.toml"), place.world.path("other.toml")).unwrap();
    assert!(status("not TOML", Some("other.toml")).status.success());
    let wrong = status("not TOML", None);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("GITFERRY_CONFIG_TOML"), "{said}");
    // An empty one is none.
    assert_eq!(status("", None).status.code(), Some(2));
}
