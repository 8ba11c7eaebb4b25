//! Quotas: what real clients are told, what is never refused, and what keeping them costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_base::supervise::Supervisor;
use gitferry_config::Config;
use gitferry_host::auth::iam::IamAuthenticator;
use gitferry_host::{Host, HostOptions};
use gitferry_identity::Identities;
use gitferry_service::events::in_process;
use gitferry_service::open;
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::lfs_work::{Work, oid_of};
use gitferry_test_support::objects::MeteredStore;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::prometheus::Page;
use gitferry_test_support::table::MeteredTable;
use serde_json::Value;

use crate::iam::{Iam, POWER_USER};
use crate::lfs::{batch, put, upload_of};
use crate::said;

const TOKENS: &str = "ann:0123456789abcdef\nbob:fedcba9876543210\n";

fn page(pair: &Pair, region: usize) -> Page {
    let host = pair.address(region);
    let answer = pair.raw(region, &format!("GET /_metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    Page::read(answer.split_once("\r\n\r\n").unwrap().1)
}

/// Waits until a host has counted its region.
fn counted(pair: &Pair, region: usize) {
    pair.wait(|| page(pair, region).metrics.contains("gitferry_host_quota_used"));
}

fn refused(pair: &Pair, quota: &str) -> f64 {
    page(pair, US).sum("gitferry_host_quota_refused_total", &[("quota", quota)])
}

/// Usage of both regions, as `status` tells.
fn usage(pair: &Pair) -> [Value; 2] {
    let status: Value = serde_json::from_str(&pair.ok(&["status", "dr", "--usage", "--json"])).unwrap();
    ["source", "target"].map(|end| status["usage"][end].clone())
}

/// Commits a file that does not compress.
fn grow(repo: &GitRepo, seed: u64, bytes: usize) {
    let content: String = noise(seed, bytes / 2).iter().map(|byte| format!("{byte:02x}")).collect();
    repo.commit("main", &format!("file-{seed}"), &content);
}

#[test]
fn requests_beyond_the_quota_are_told_when_to_come_again() {
    let pair = Pair::with_tokens_and_hosts(TOKENS, "quotas = { requests_per_minute = 10 }\n");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = |user: &str| pair.url(US, "app").replace("://", &format!("://{user}@"));
    repo.git(&["push", "-q", &url("bob:fedcba9876543210"), "main"]);
    let ask = |token: &str| {
        let credentials = STANDARD.encode(format!("u:{token}"));
        let get = "GET /app/info/frontier HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
        pair.raw(US, &format!("{get}Authorization: Basic {credentials}\r\n\r\n"))
    };
    // Those who prove nothing use up nobody's requests.
    for _ in 0..30 {
        assert!(ask("wrong-wrong-wrong-wrong").starts_with("HTTP/1.1 401"));
    }
    let answers: Vec<String> = (0..30).map(|_| ask("0123456789abcdef")).collect();
    let accepted = answers.iter().take_while(|answer| answer.starts_with("HTTP/1.1 200")).count();
    assert!((10..14).contains(&accepted), "{accepted} requests");
    let answer = &answers[accepted];
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let after = answer.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ")?.parse::<u64>().ok());
    assert!((1..=6).contains(&after.unwrap()), "{answer}");
    assert!(answer.contains("the quota of 10 requests a minute (RequestsPerMinuteQuota) is used up"), "{answer}");
    assert!(answer.contains("the operator of this host"), "{answer}");
    let output = repo.try_git(&["ls-remote", &url("ann:0123456789abcdef")]);
    assert!(said(&output).contains("429"), "{}", said(&output));
    assert!(ask("fedcba9876543210").starts_with("HTTP/1.1 200"));
    assert!(refused(&pair, "RequestsPerMinuteQuota") >= 1.0);
}

#[test]
fn repositories_beyond_the_quota_are_not_created() {
    let pair = Pair::with_hosts(["quotas = { repositories = 2 }\n", ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    counted(&pair, US);
    let push = |name: &str| repo.try_git(&["push", &pair.url(US, name), "main"]);
    assert!(push("one").status.success() && push("team/two").status.success());
    let output = push("three");
    assert!(!output.status.success());
    let text = said(&output);
    assert!(text.contains("the quota of 2 repositories (RepositoriesQuota) is used up: there are 2"), "{text}");
    assert!(text.contains("ask the operator of this host"), "{text}");
    // Nor by the upload of an object.
    let content = "an object";
    let answer = put_to(&pair, "three", &oid_of(content.as_bytes()), content);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("RepositoriesQuota"), "{answer}");
    repo.commit("main", "more", "more\n");
    assert!(push("one").status.success());
    assert!(refused(&pair, "RepositoriesQuota") >= 2.0);
    assert_eq!(page(&pair, US).sum("gitferry_host_quota_used", &[("quota", "RepositoriesQuota")]), 2.0);
    let [here, there] = usage(&pair);
    assert_eq!((&here["repositories"], &here["quotas"][0]["limit"]), (&2.into(), &2.into()), "{here}");
    assert_eq!(there["quotas"], serde_json::json!([]), "{there}");
}

fn put_to(pair: &Pair, name: &str, oid: &str, content: &str) -> String {
    let host = pair.address(US);
    let head = format!("PUT /{name}/info/lfs/objects/{oid} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    pair.raw(US, &format!("{head}Content-Length: {}\r\n\r\n{content}", content.len()))
}

#[test]
fn a_push_beyond_the_size_of_a_repository_is_refused_and_stores_nothing() {
    let pair = Pair::with_hosts(["quotas = { repository_size = \"200KiB\" }\n", "quotas = { size = \"1KiB\" }\n"]);
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    grow(&repo, 1, 100_000);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    // The other region has a quota that the replica exceeds: links are never refused.
    pair.wait_until_same(&repo, "app");
    let before = usage(&pair)[US]["bytes"].as_u64().unwrap();
    let good = repo.git(&["rev-parse", "main"]);
    for (seed, bytes) in [(2, 300_000), (3, 3_000_000)] {
        grow(&repo, seed, bytes);
        let output = repo.try_git(&["push", &pair.url(US, "app"), "main"]);
        let text = said(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("for the repository (RepositoryBytesQuota) is exceeded"), "{text}");
        assert!(text.contains("are used, and this adds") && text.contains("ask the operator of this host"), "{text}");
        repo.git(&["reset", "-q", "--soft", &good]);
        repo.git(&["update-ref", "refs/heads/main", &good]);
    }
    assert_eq!(usage(&pair)[US]["bytes"].as_u64().unwrap(), before);
    // What takes no room goes on, also when the quota is used up: branches of what is there, and deletions.
    repo.git(&["push", "-q", &pair.url(US, "app"), "main:refs/heads/again"]);
    repo.git(&["push", "-q", &pair.url(US, "app"), ":again"]);
    // Another repository has a quota of its own.
    let other = GitRepo::with_history(pair.path("other.git"), &[]);
    other.git(&["push", "-q", &pair.url(US, "other"), "main"]);
    assert!(page(&pair, US).sum("gitferry_host_pushes_rejected_total", &[("reason", "quota")]) == 2.0);
    assert!(pair.spooled(US).is_empty());
    // Pushes to the replica's region are refused by its own quota.
    let output = other.try_git(&["push", &pair.url(EU, "here"), "main"]);
    assert!(!output.status.success());
}

#[test]
fn pushes_at_the_same_time_do_not_exceed_a_quota_together() {
    let limit = 1_000_000_u64;
    let pair = Pair::with_hosts([&format!("quotas = {{ size = {limit} }}\n"), ""]);
    counted(&pair, US);
    let first = GitRepo::with_history(pair.path("first.git"), &[]);
    for number in 0..3 {
        first.git(&["push", "-q", &pair.url(US, &format!("app-{number}")), "main"]);
    }
    let outcomes: Vec<(bool, String)> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..12_u64)
            .map(|number| {
                let pair = &pair;
                scope.spawn(move || {
                    let repo = GitRepo::init(pair.path(&format!("src-{number}.git")), &[]);
                    grow(&repo, number, 300_000);
                    let name = format!("app-{}", number % 3);
                    let branch = format!("main:refs/heads/b{number}");
                    let output = repo.try_git(&["push", &pair.url(US, &name), &branch]);
                    (output.status.success(), said(&output))
                })
            })
            .collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    let (accepted, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(accepted, _)| *accepted);
    assert!(refused.iter().all(|(_, text)| text.contains("AccountBytesQuota")), "{refused:?}");
    let accepted = accepted.len();
    let used = usage(&pair)[US]["bytes"].as_u64().unwrap();
    assert!(used <= limit && used > limit / 2, "{used} bytes of {accepted} pushes");
    assert!((3..12).contains(&accepted), "{accepted} pushes were accepted");
}

#[test]
fn lfs_objects_beyond_the_quota_are_refused() {
    let pair = Pair::with_hosts(["quotas = { lfs_size = 5000, repository_lfs_size = 3000 }\n", ""]);
    counted(&pair, US);
    let work = Work::new(pair.path("work"));
    let url = pair.url(US, "app");
    work.commit("small.bin", &noise(1, 2_000));
    work.git(&["push", "-q", &url, "main"]);
    work.commit("large.bin", &noise(2, 2_000));
    let output = work.try_git(&["push", &url, "main"]);
    let text = said(&output);
    assert!(!output.status.success() && text.contains("RepositoryLfsBytesQuota"), "{text}");
    let large = noise(2, 2_000);
    let offered = batch(&pair, US, &upload_of(&oid_of(&large), 2_000));
    assert_eq!(offered.status, 200);
    let error = &offered.json()["objects"][0]["error"];
    assert_eq!(error["code"], 507, "{error}");
    // A client that does not ask first.
    let text: String = "x".repeat(2_000);
    assert_eq!(put(&pair, &oid_of(text.as_bytes()), "", &text).status, 507);
    // All repositories together.
    let more = "y".repeat(2_900);
    assert!(put_to(&pair, "other", &oid_of(more.as_bytes()), &more).starts_with("HTTP/1.1 200"));
    let last = "z".repeat(500);
    let answer = put_to(&pair, "third", &oid_of(last.as_bytes()), &last);
    assert!(answer.starts_with("HTTP/1.1 507") && answer.contains("AccountLfsBytesQuota"), "{answer}");
    let [here, _] = usage(&pair);
    assert_eq!((&here["lfs_bytes"], &here["lfs_objects"]), (&4_900.into(), &2.into()), "{here}");
}

#[test]
fn settings_of_the_account_override_the_configuration() {
    let pair = Pair::with_iam_and_each_host(["quotas = { repository_size = \"1GiB\" }\n", ""]);
    let iam = Iam { pair: &pair };
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    grow(&repo, 1, 50_000);
    let ann = iam.user("ann", &[POWER_USER]);
    iam.settle(US);
    let url = ann.url(&pair, US, "app");
    repo.git(&["push", "-q", &url, "main"]);
    let set = iam.json(&["quota", "set", "RepositoryBytesQuota", "64KiB"]);
    assert_eq!((&set["name"], &set["limit"]), (&"RepositoryBytesQuota".into(), &65_536.into()));
    iam.settle(US);
    grow(&repo, 2, 200_000);
    let output = repo.try_git(&["push", &url, "main"]);
    let text = said(&output);
    assert!(text.contains("RepositoryBytesQuota") && text.contains("an administrator of the account"), "{text}");
    let listed = iam.json(&["quota", "list"]);
    let of = |name: &str| listed["quotas"].as_array().unwrap().iter().find(|quota| quota["name"] == name).unwrap();
    assert_eq!((&of("RepositoryBytesQuota")["limit"], &of("UsersQuota")["limit"]), (&65_536.into(), &5_000.into()));
    assert_eq!(of("AccountBytesQuota")["limit"], Value::Null);
    let wrong = pair.gitferry(&["iam", "quota", "set", "Nothing", "1", "--region", REGIONS[US]]);
    assert!(said(&wrong).contains("no quota has this name"), "{}", said(&wrong));
    iam.json(&["quota", "set", "RepositoryBytesQuota", "none"]);
    iam.settle(US);
    repo.git(&["push", "-q", &url, "main"]);
}

/// Requests of the test below: enough that one read for each would be seen.
const REQUESTS: u64 = 500;

/// Authentication, authorization, audit entry and quotas cost a warm request no read of a table: it reads its repository's
/// head, as without them. The account is followed in the background, with one read a second.
#[test]
fn identities_and_quotas_cost_a_warm_request_no_read() {
    let mut pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    iam.settle(US);
    repo.git(&["push", "-q", &ann.url(&pair, US, "app"), "main"]);
    pair.kill();
    let meter = Arc::new(Meter::new());
    let config = Config::load(&pair.path("data/gitferry.toml")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    let (url, _tasks) = runtime.block_on(async {
        let region = open::writable_region(&config, REGIONS[US]).await.unwrap();
        let region = region
            .with_objects(Arc::new(MeteredStore::new(region.shared_objects().clone(), meter.clone())))
            .with_table(Arc::new(MeteredTable::new(region.shared_table().clone(), meter.clone())));
        let mut tasks = Supervisor::new(stopped);
        let identities = Identities::new(&region, open::key_services(&config, None).await.unwrap());
        identities.run_under(&mut tasks);
        identities.refresh().await.unwrap();
        let authenticator = Arc::new(IamAuthenticator::new(REGIONS[US], identities));
        let (sink, _events) = in_process::channel();
        let quotas = toml::from_str("requests_per_minute = 100000").unwrap();
        let options = HostOptions { quotas, ..HostOptions::default() };
        let host = Host::new(region, authenticator, Arc::new(sink), options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/app/info/refs?service=git-upload-pack", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, host.router()).await });
        (url, tasks)
    });
    // Fails if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let ask = || {
        let request = client.get(&url).header("git-protocol", "version=2").basic_auth(&ann.user, Some(&ann.password));
        runtime.block_on(request.send()).unwrap().status().as_u16()
    };
    let start = Instant::now();
    while ask() != 200 {
        assert!(start.elapsed() < Duration::from_secs(30), "the account is not in force");
        std::thread::sleep(Duration::from_millis(100));
    }
    let before = meter.snapshot();
    let start = Instant::now();
    assert_eq!((0..REQUESTS).map(|_| ask()).collect::<BTreeSet<_>>(), BTreeSet::from([200]));
    let took = start.elapsed();
    let after = meter.snapshot();
    let gets = after.of(Operation::TableGet).calls - before.of(Operation::TableGet).calls;
    let all = after.total().calls - before.total().calls;
    let in_background = 2 * (took.as_secs() + 2);
    assert!(gets >= REQUESTS && all <= REQUESTS + in_background, "{all} calls in {took:?}: {before}{after}");
    println!("a warm request of a user takes {:?} over HTTP, {all} reads for {REQUESTS}", took / REQUESTS as u32);
}
