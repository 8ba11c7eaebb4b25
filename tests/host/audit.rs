//! The audit trail: what real clients did, and what was refused to them, has one record each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::hooks::{Hook, fetched, policy};
use crate::iam::{Iam, Login, POWER_USER, deny_prod};
use crate::lfs::{batch, put, upload_of};
use crate::raw::{HalfPush, connect, post, push_body, rest};
use crate::said;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::lfs_work::{Work, oid_of};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::prometheus::Page;
use gitferry_test_support::queues::{Bus, Queues};

/// Audit trails of both hosts, in a file each.
pub const BOTH: [&str; 2] = ["audit = { file = \"audit-us.jsonl\" }\n", "audit = { file = \"audit-eu.jsonl\" }\n"];
const ANN: &str = "0123456789abcdef";
const TOKENS: &str = "ann:0123456789abcdef\nbob:fedcba9876543210:read\n";

pub fn file(pair: &Pair, region: usize) -> PathBuf {
    pair.path(["data/audit-us.jsonl", "data/audit-eu.jsonl"][region])
}

/// The records of a host so far.
fn records(pair: &Pair, region: usize) -> Vec<Value> {
    let text = std::fs::read_to_string(file(pair, region)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Waits for records that satisfy a condition, at least `count` of them.
pub fn wait_for(pair: &Pair, region: usize, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let found = || records(pair, region).into_iter().filter(|record| wanted(record)).collect::<Vec<_>>();
    pair.wait(|| found().len() >= count);
    found()
}

fn operation(record: &Value) -> &str {
    record["additionalEventData"]["operation"].as_str().unwrap_or_default()
}

fn with_user(url: &str, user: &str) -> String {
    url.replace("://", &format!("://{user}@"))
}

#[test]
fn what_git_does_with_a_token_is_recorded_in_the_shape_of_cloud_trail() {
    let pair = Pair::with_tokens_and_each_host(TOKENS, BOTH);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = with_user(&pair.url(US, "team/app"), &format!("ann:{ANN}"));
    repo.git(&["push", "-q", &url, "main", "main:refs/heads/side"]);
    let clone = pair.path("clone");
    repo.git(&["clone", "-q", &url, clone.to_str().unwrap()]);
    let pushed = &wait_for(&pair, US, 1, |record| operation(record) == "push" && record.get("errorCode").is_none())[0];
    let main = repo.git(&["rev-parse", "main"]);
    assert_eq!(pushed["eventName"], "GitPush");
    assert_eq!(pushed["eventSource"], "codecommit.amazonaws.com");
    assert_eq!(pushed["userIdentity"], json!({ "type": "Token", "principalId": "ann", "userName": "ann" }));
    assert_eq!((&pushed["sourceIPAddress"], &pushed["awsRegion"]), (&"127.0.0.1".into(), &REGIONS[US].into()));
    assert!(pushed["userAgent"].as_str().unwrap().starts_with("git/"), "{pushed}");
    assert_eq!(pushed["readOnly"], false);
    let expected = json!([
        { "ref": "refs/heads/main", "commit": main }, { "ref": "refs/heads/side", "commit": main },
    ]);
    assert_eq!(pushed["requestParameters"]["references"], expected);
    let data = &pushed["additionalEventData"];
    assert_eq!(data["references"][1], json!({ "ref": "refs/heads/side", "old": null, "new": main, "changed": true }));
    assert_eq!((&data["protocol"], &data["dataTransferred"]), (&"HTTP".into(), &true.into()));
    assert_eq!((&data["repositoryName"], &data["referencesLeftOut"]), (&"team/app".into(), &0.into()));
    let shown = pair.ok(&["repo", "show", "team/app", "--region", REGIONS[US], "--json"]);
    assert_eq!(data["repositoryId"], serde_json::from_str::<Value>(&shown).unwrap()["id"]);
    assert!(data["bytesTransferredIn"].as_u64().unwrap() > 500 && data["bytesTransferredOut"].as_u64().unwrap() > 20);
    assert_eq!(pushed["resources"][0]["type"], "AWS::CodeCommit::Repository");
    // As in CodeCommit, the refs for a push are a GitPush that reads.
    let listed =
        &wait_for(&pair, US, 1, |record| operation(record) == "push_refs" && record["userIdentity"]["type"] == "Token")
            [0];
    assert_eq!((&listed["eventName"], &listed["readOnly"]), (&"GitPush".into(), &true.into()));
    assert_eq!(listed["additionalEventData"]["dataTransferred"], false);
    let fetched = wait_for(&pair, US, 2, |record| operation(record) == "fetch" && record.get("errorCode").is_none());
    assert!(fetched.iter().all(|record| record["eventName"] == "GitPull" && record["readOnly"] == true));
    assert!(fetched.iter().any(|record| record["additionalEventData"]["dataTransferred"] == true));
    // Git asks without credentials first.
    wait_for(&pair, US, 1, |record| record["errorCode"] == "MissingAuthenticationTokenException");
    let mut ids: Vec<String> = records(&pair, US).iter().map(|record| record["eventID"].to_string()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    assert_eq!(std::fs::metadata(file(&pair, US)).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(file(&pair, US)).unwrap();
    assert!(!text.contains(ANN) && !text.contains("Basic"), "a secret is in the audit trail");
}

#[test]
fn denials_are_recorded_with_their_reason_and_no_secret() {
    let pair = Pair::with_tokens_and_each_host(TOKENS, BOTH);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", &with_user(&url, &format!("ann:{ANN}")), "main"]);
    let refused = repo.try_git(&["push", &with_user(&url, "bob:fedcba9876543210"), "main:refs/heads/bob"]);
    assert!(!refused.status.success());
    let denied = &wait_for(&pair, US, 1, |record| record["errorCode"] == "AccessDenied")[0];
    assert_eq!((&denied["eventName"], &denied["userIdentity"]["userName"]), (&"GitPush".into(), &"bob".into()));
    assert!(denied["errorMessage"].as_str().unwrap().contains("do not grant"), "{denied}");
    // The password is in the place of the user name, as people do it, and in its own.
    for user in ["hunter2-secret-in-place", "eve:hunter2-secret-in-place"] {
        assert!(!repo.try_git(&["ls-remote", &with_user(&url, user)]).status.success());
    }
    let known = wait_for(&pair, US, 2, |record| record["errorCode"] == "UnrecognizedClientException");
    assert!(known.iter().all(|record| record["userIdentity"] == json!({ "type": "Unknown" })), "{known:?}");
    let missing = &with_user(&pair.url(US, "nothing/here"), "bob:fedcba9876543210");
    assert!(!repo.try_git(&["ls-remote", missing]).status.success());
    let found = &wait_for(&pair, US, 1, |record| record["errorCode"] == "RepositoryDoesNotExistException")[0];
    assert_eq!(found["additionalEventData"]["repositoryName"], "nothing/here");
    let text = std::fs::read_to_string(file(&pair, US)).unwrap();
    for secret in ["hunter2", ANN, "fedcba9876543210"] {
        assert!(!text.contains(secret), "{secret} is in the audit trail");
    }
}

#[test]
fn users_of_an_account_are_named_and_a_policy_that_refuses_a_ref_too() {
    let pair = Pair::with_iam_and_each_host(BOTH);
    let iam = Iam { pair: &pair };
    let account = iam.account();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    iam.put("ann", "deny-prod", &deny_prod(&account, true));
    iam.settle(US);
    let url = ann.url(&pair, US, "app");
    let refused = repo.try_git(&["push", &url, "main", "main:refs/heads/prod"]);
    assert!(said(&refused).contains("explicitly denies"), "{}", said(&refused));
    let pushed = &wait_for(&pair, US, 1, |record| operation(record) == "push")[0];
    let identity = &pushed["userIdentity"];
    assert_eq!((&identity["type"], &identity["userName"]), (&"IAMUser".into(), &"ann".into()));
    let arn = format!("arn:aws:iam::{account}:user/ann");
    assert_eq!((&identity["arn"], &identity["accountId"]), (&arn.clone().into(), &account.clone().into()));
    assert_eq!(identity["accessKeyId"], ann.id.as_str());
    assert!(identity["principalId"].as_str().unwrap().starts_with("AIDA"), "{identity}");
    assert_eq!(pushed["recipientAccountId"], account.as_str());
    assert_eq!(pushed["resources"][0]["ARN"], format!("arn:aws:codecommit:{}:{account}:app", REGIONS[US]));
    assert_eq!(pushed["errorCode"], "AccessDenied");
    let by_name: BTreeMap<&str, bool> = pushed["additionalEventData"]["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reference| (reference["ref"].as_str().unwrap(), reference["changed"].as_bool().unwrap()))
        .collect();
    assert_eq!(by_name, BTreeMap::from([("refs/heads/main", true), ("refs/heads/prod", false)]));
    // The ledger names the principal and the address.
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json", "--limit", "1"]);
    let change: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&change["actor"], &change["origin"]), (&arn.into(), &"127.0.0.1".into()), "{log}");
    // A wrong password of a user who exists, and the account's repository.
    let wrong = Login { id: ann.id.clone(), user: ann.user.clone(), password: "x".repeat(44) };
    assert!(!repo.try_git(&["ls-remote", &wrong.url(&pair, US, "app")]).status.success());
    let unknown = &wait_for(&pair, US, 1, |record| record["errorCode"] == "UnrecognizedClientException")[0];
    assert_eq!(unknown["userIdentity"], json!({ "type": "Unknown", "userName": ann.user }), "{unknown}");
    let text = std::fs::read_to_string(file(&pair, US)).unwrap();
    assert!(!text.contains(&ann.password) && !text.contains(&"x".repeat(44)));
}

/// More records than one request takes.
#[test]
fn records_go_to_an_event_bus() {
    const REQUESTS: usize = 24;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (queues, bus) = runtime.block_on(async {
        let queues = Queues::new().await;
        let bus = Bus::to(&queues).await;
        bus.records_to(&queues).await;
        (queues, bus)
    });
    let emulator = Emulator::get();
    let environment = emulator.environment().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let more = format!(
        "[hosts.us-east-1.audit]\nevents = \"eventbridge:{}\"\n[regions.us-east-1.aws]\n\
         region = \"us-east-1\"\nendpoint_url = \"{}\"\n",
        bus.name,
        emulator.endpoint()
    );
    let pair = Pair::with_iam_and(&more, environment.collect());
    let iam = Iam { pair: &pair };
    let ann = iam.user("ann", &[POWER_USER]);
    iam.settle(US);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    for number in 0..REQUESTS {
        let missing = ann.url(&pair, US, &format!("missing-{number:02}"));
        assert!(!repo.try_git(&["ls-remote", &missing]).status.success());
    }
    // Git asks without credentials first.
    let mut names = Vec::new();
    while names.len() < REQUESTS {
        for body in runtime.block_on(queues.take(1)) {
            let event: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(event["source"], "gitferry.codecommit");
            let record = &event["detail"];
            if record["userIdentity"]["userName"] == "ann" {
                assert_eq!((&record["eventName"], &record["awsRegion"]), (&"GitPull".into(), &REGIONS[US].into()));
                names.push(record["additionalEventData"]["repositoryName"].as_str().unwrap().to_owned());
            }
        }
    }
    names.sort_unstable();
    let expected: Vec<String> = (0..REQUESTS).map(|number| format!("missing-{number:02}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn lfs_objects_are_recorded() {
    let pair = Pair::with_hosts(BOTH);
    let work = Work::new(pair.path("work"));
    work.commit("large.bin", b"content of an object");
    let url = pair.url(US, "app");
    work.git(&["push", "-q", &url, "main"]);
    let clone = Work::clone(pair.dir(), &url);
    assert_eq!(clone.read("large.bin"), b"content of an object");
    let oid = oid_of(b"content of an object");
    for (operation_name, event, read_only) in
        [("lfs_upload", "GitPush", false), ("lfs_download", "GitPull", true), ("lfs_batch", "GitPush", true)]
    {
        let found =
            wait_for(&pair, US, 1, |record| operation(record) == operation_name && record["eventName"] == event);
        let record = &found[0];
        assert_eq!(
            (&record["additionalEventData"]["protocol"], &record["readOnly"]),
            (&"LFS".into(), &read_only.into())
        );
        assert_eq!(record["userIdentity"], json!({ "type": "Anonymous" }));
        assert!(record.get("errorCode").is_none(), "{record}");
        if operation_name != "lfs_batch" {
            assert_eq!(record["requestParameters"]["oid"], oid.as_str());
            assert_eq!(record["additionalEventData"]["dataTransferred"], true);
        }
    }
    assert_eq!(put(&pair, &"0".repeat(64), "", "something else").status, 422);
    wait_for(&pair, US, 1, |record| operation(record) == "lfs_upload" && record["errorCode"] == "ValidationException");
    assert_eq!(batch(&pair, US, &upload_of("nonsense", 1)).status, 200);
}

/// The primary sees the client's address if the replica's host is one of its trusted proxies, and that of the replica
/// otherwise. A client cannot claim another.
#[test]
fn a_forwarded_push_is_recorded_at_both_hosts_with_the_client() {
    for is_trusted in [true, false] {
        let trust = if is_trusted { "trusted_proxies = [\"127.0.0.0/8\"]\n" } else { "" };
        let hosts = [format!("{}{trust}", BOTH[US]), format!("{}{trust}on_push = \"forward\"\n", BOTH[EU])];
        let pair = Pair::with_tokens_and_each_host(TOKENS, [&hosts[US], &hosts[EU]]);
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        let url = |region| with_user(&pair.url(region, "app"), &format!("ann:{ANN}"));
        repo.git(&["push", "-q", &url(US), "main"]);
        pair.wait(|| repo.try_git(&["ls-remote", "--exit-code", &url(EU), "main"]).status.success());
        // The client of the replica comes from an address that its own proxy reports.
        let header = "http.extraHeader=X-Forwarded-For: 203.0.113.9";
        repo.git(&["-c", header, "push", "-q", &url(EU), "main:refs/heads/side"]);
        let sent = &wait_for(&pair, EU, 1, |record| operation(record) == "push")[0];
        assert_eq!(sent["additionalEventData"]["forwardedTo"], REGIONS[US]);
        let client = if is_trusted { "203.0.113.9" } else { "127.0.0.1" };
        assert_eq!((&sent["sourceIPAddress"], &sent["eventName"]), (&client.into(), &"GitPush".into()));
        let wanted = |record: &Value| record["additionalEventData"]["forwardedBy"] == REGIONS[EU];
        let taken = &wait_for(&pair, US, 1, |record| wanted(record) && operation(record) == "push")[0];
        assert_eq!((&taken["sourceIPAddress"], &taken["userIdentity"]["userName"]), (&client.into(), &"ann".into()));
        assert_eq!(taken["requestParameters"]["references"][0]["ref"], "refs/heads/side");
        for region in REGIONS {
            let log = pair.ok(&["log", "app", "--region", region, "--json", "--limit", "1"]);
            let change: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
            assert_eq!((&change["actor"], &change["origin"]), (&"ann".into(), &client.into()), "{log}");
        }
    }
}

#[test]
fn commands_leave_their_machine_in_the_ledger() {
    let pair = Pair::open();
    pair.ok(&["repo", "create", "made", "--region", REGIONS[US]]);
    let log = pair.ok(&["log", "made", "--region", REGIONS[US], "--json"]);
    let change: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let machine = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname")).unwrap();
    assert_eq!(change["origin"], machine.trim(), "{log}");
}

#[test]
fn clients_that_hang_up_are_recorded_once() {
    let mut pair = Pair::with_hosts(BOTH);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair.wait(|| pair.spooled(US).is_empty());
    drop(HalfPush::start(&pair, US, "app", &repo, "half"));
    let failed = |record: &Value| operation(record) == "push" && record.get("errorCode").is_some();
    let half = wait_for(&pair, US, 1, failed);
    assert_eq!((&half[0]["eventName"], half.len()), (&"GitPush".into(), 1), "{half:?}");
    // Whole pushes arrive whose clients do not wait for the answer. Some are made all the same, and some end with the
    // connection, before their commands are read: the record says which. One that ends before the host begins to answer
    // it does nothing and has none.
    let is_push = |record: &Value| operation(record) == "push";
    let before = wait_for(&pair, US, 2, is_push).len();
    for number in 0..10 {
        let body = push_body(&repo, &format!("gone-{number}"));
        let mut stream = connect(&pair, US);
        stream.write_all(post("app", "receive-pack", body.len(), "").as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5 * number));
    }
    // A connection that ends in the middle of its head is no request.
    pair.send_and_leave(US, "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: loc");
    pair.signal("TERM");
    assert_eq!(pair.exit_code(), Some(0));
    let pushes: Vec<Value> = records(&pair, US).into_iter().filter(is_push).collect();
    assert!((before + 1..=before + 10).contains(&pushes.len()), "{pushes:?}");
    pair.restart();
    let listed = repo.git(&["ls-remote", &pair.url(US, "app")]);
    for number in 0..10 {
        let name = format!("refs/heads/gone-{number}");
        let references = |record: &Value| record["additionalEventData"]["references"][0].clone();
        let about: Vec<Value> = pushes.iter().map(references).filter(|one| one["ref"] == name.as_str()).collect();
        assert!(about.len() <= 1, "{name}: {pushes:?}");
        let is_recorded = about.first().is_some_and(|reference| reference["changed"] == true);
        assert_eq!(is_recorded, listed.contains(&name), "{name}: {pushes:?}");
    }
}

/// Every route of the host, asked for in every way, leaves one record; health checks that were answered leave none.
#[test]
fn every_route_leaves_a_record() {
    let pair = Pair::with_tokens_and_each_host(TOKENS, BOTH);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &with_user(&pair.url(US, "app"), &format!("ann:{ANN}")), "main"]);
    let object = format!("/app/info/lfs/objects/{}", "0".repeat(64));
    let routes = [
        "/app/info/refs?service=git-upload-pack",
        "/app/info/refs?service=git-receive-pack",
        "/app/info/refs",
        "/app/git-upload-pack",
        "/app/git-receive-pack",
        "/app/info/frontier",
        "/app/info/head",
        "/app/info/lfs/objects/batch",
        "/app/info/lfs/objects/verify",
        &object,
        "/app/info/lfs/locks",
        "/v1/repos/app/info/refs?service=git-upload-pack",
        "/gitferry/account/info/refs?service=git-upload-pack",
        "/_quarantine/0123456789/info/refs",
        "/_metrics",
        "/nothing",
        "/..%2f/info/refs",
        "/%ff",
        "/",
    ];
    let basic = |token: &str| {
        use base64::Engine as _;
        format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(format!("u:{token}")))
    };
    let ways = [String::new(), basic(ANN), basic("wrong-wrong-wrong-wrong")];
    let mut asked = 0;
    for route in routes {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            for (number, credentials) in ways.iter().enumerate() {
                let agent = format!("walker/{asked}");
                let request = format!(
                    "{method} {route} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {agent}\r\n{credentials}Content-Length: 0\r\n\
                     Connection: close\r\n\r\n",
                    pair.address(US)
                );
                let answer = pair.raw(US, &request);
                asked += 1;
                if route == "/_metrics" && answer.starts_with("HTTP/1.1 200") {
                    continue;
                }
                let found = wait_for(&pair, US, 1, |record| record["userAgent"] == agent.as_str());
                assert_eq!(found.len(), 1, "{method} {route} as {number}: {found:?}");
                let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
                assert_eq!(found[0].get("errorCode").is_some(), status >= 400, "{method} {route}: {answer} {found:?}");
                assert!(!found[0].to_string().contains("0123456789/"), "the secret of a quarantine: {found:?}");
            }
        }
    }
    // What is refused before it is routed: here a page of another site makes a browser send it.
    let cross = format!(
        "POST /app/git-receive-pack HTTP/1.1\r\nHost: {}\r\nUser-Agent: cross\r\nSec-Fetch-Site: cross-site\r\n\
         Origin: http://evil\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        pair.address(US)
    );
    assert!(pair.raw(US, &cross).starts_with("HTTP/1.1 4"));
    wait_for(&pair, US, 1, |record| record["userAgent"] == "cross");
    for route in ["/_health", "/_ready"] {
        let request = format!("GET {route} HTTP/1.1\r\nHost: x\r\nUser-Agent: probe\r\nConnection: close\r\n\r\n");
        assert!(pair.raw(US, &request).starts_with("HTTP/1.1 200"), "{route}");
    }
    let last = format!("GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: last\r\nConnection: close\r\n\r\n", pair.address(US));
    pair.raw(US, &last);
    wait_for(&pair, US, 1, |record| record["userAgent"] == "last");
    assert!(!records(&pair, US).iter().any(|record| record["userAgent"] == "probe"));
}

#[test]
fn hooks_that_fetch_a_quarantine_are_recorded_without_its_secret() {
    let hook = Hook::start(|question| {
        fetched(question, "file");
        (axum::http::StatusCode::OK, json!({ "accept": true }).to_string())
    });
    let audit = "[hosts.us-east-1.audit]\nfile = \"audit-us.jsonl\"\n";
    let pair = Pair::configured(&format!("{audit}{}", policy(&hook, "")), &[]);
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    repo.commit("main", "file", "1\n");
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let records = wait_for(&pair, US, 1, |record| operation(record) == "quarantine");
    let hook_identity = json!({ "type": "AWSService", "invokedBy": "gitferry" });
    assert!(records.iter().all(|record| record["userIdentity"] == hook_identity), "{records:?}");
    let secret = hook.last().1["quarantine"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert!(!std::fs::read_to_string(file(&pair, US)).unwrap().contains(&secret), "the secret of a quarantine");
}

/// Files are rotated while clients work, here by the host and by another program, and no record is lost.
#[test]
fn rotation_under_load_loses_no_record() {
    let small = "audit = { file = \"audit-us.jsonl\", rotate_at = \"64KiB\", keep = 1000 }\n";
    let pair = Pair::with_hosts([small, ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let done = AtomicBool::new(false);
    let host = pair.address(US);
    let moved = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let pair = &pair;
                scope.spawn(move || {
                    for number in 0..200 {
                        let get = format!(
                            "GET /app/info/frontier HTTP/1.1\r\nHost: {host}\r\nUser-Agent: c{client}n{number}\r\n\
                             Connection: close\r\n\r\n"
                        );
                        assert!(pair.raw(US, &get).starts_with("HTTP/1.1 200"));
                    }
                })
            })
            .collect();
        let done = &done;
        let pair = &pair;
        let other = scope.spawn(move || {
            let mut moved = 0;
            // A few times alone: on a slow machine no file would grow to the size at which the host rotates it.
            while !done.load(Ordering::Relaxed) && moved < 4 {
                let to = pair.path(&format!("data/moved-{moved}.jsonl"));
                if std::fs::rename(file(pair, US), to).is_ok() {
                    moved += 1;
                }
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            moved
        });
        clients.into_iter().for_each(|client| client.join().unwrap());
        done.store(true, Ordering::Relaxed);
        other.join().unwrap()
    });
    assert!(moved > 0);
    let agents = || {
        let mut agents = Vec::new();
        for entry in std::fs::read_dir(pair.path("data")).unwrap() {
            let path = entry.unwrap().path();
            if !path.to_string_lossy().contains(".jsonl") {
                continue;
            }
            for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
                if let Ok(record) = serde_json::from_str::<Value>(line) {
                    agents.push(record["userAgent"].as_str().unwrap().to_owned());
                }
            }
        }
        agents.retain(|agent| agent.starts_with('c'));
        agents.sort_unstable();
        agents
    };
    let mut expected: Vec<String> =
        (0..4).flat_map(|client| (0..200).map(move |number| format!("c{client}n{number}"))).collect();
    expected.sort_unstable();
    pair.wait(|| agents().len() >= expected.len());
    assert_eq!(agents(), expected);
    assert!(pair.path("data/audit-us.jsonl.1").exists(), "the host rotated nothing");
}

/// A sink that hangs costs a request a moment at most. What is lost is counted.
#[test]
fn a_sink_that_hangs_stops_no_git() {
    let pair = Pair::with_hosts(["audit = { file = \"audit-us.jsonl\" }\n", ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    wait_for(&pair, US, 1, |record| operation(record) == "push");
    // The lock of the file is held by another process that never lets go.
    let held = std::fs::File::open(file(&pair, US)).unwrap();
    held.lock().unwrap();
    let host = pair.address(US);
    let get =
        |number: usize| format!("GET /app/info/frontier HTTP/1.1\r\nHost: {host}\r\nUser-Agent: n{number}\r\n\r\n");
    let mut stream = connect(&pair, US);
    for number in 0..5_000 {
        stream.write_all(get(number).as_bytes()).unwrap();
        let head = crate::raw::head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        skip_body(&mut stream, &head);
        if number % 50 == 0 && counted(&pair, "dropped_total") > 0.0 {
            break;
        }
    }
    assert!(counted(&pair, "dropped_total") > 0.0);
    let start = std::time::Instant::now();
    repo.git(&["push", "-q", &pair.url(US, "app"), "main:refs/heads/side"]);
    repo.git(&["ls-remote", &pair.url(US, "app")]);
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    drop((held, stream));
    let gap = &wait_for(&pair, US, 1, |record| record["eventName"] == "AuditRecordsDropped")[0];
    let lost = gap["serviceEventDetails"]["dropped"].as_u64().unwrap();
    assert!(lost > 0 && lost as f64 <= counted(&pair, "dropped_total"), "{gap}");
    repo.git(&["ls-remote", &pair.url(US, "app")]);
    pair.wait(|| counted(&pair, "written_total") > 4_000.0);
}

fn skip_body(stream: &mut std::net::TcpStream, head: &str) {
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or_else(|| panic!("{head}"))];
    std::io::Read::read_exact(stream, &mut body).unwrap();
}

/// Value of a counter of the audit trail on the page of metrics.
fn counted(pair: &Pair, name: &str) -> f64 {
    let host = pair.address(US);
    let answer = pair.raw(US, &format!("GET /_metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    Page::read(answer.split_once("\r\n\r\n").unwrap().1).sum(&format!("gitferry_host_audit_{name}"), &[])
}

#[test]
fn the_last_requests_are_recorded_when_the_host_stops() {
    let mut pair = Pair::with_hosts(BOTH);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let mut half = HalfPush::start(&pair, US, "app", &repo, "late");
    pair.signal("TERM");
    half.stream.write_all(&half.rest).unwrap();
    let (answer, _) = rest(&mut half.stream);
    assert!(String::from_utf8_lossy(&answer).contains("ok refs/heads/late"));
    assert_eq!(pair.exit_code(), Some(0));
    let late = |record: &Value| record["requestParameters"]["references"][0]["ref"] == "refs/heads/late";
    assert_eq!(records(&pair, US).iter().filter(|record| late(record)).count(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_ends_the_start() {
    let said = Pair::fails_to_start("[hosts.us-east-1.audit]\nfile = \"/proc/nothing/audit\"\n");
    assert!(said.contains("the audit file /proc/nothing/audit cannot be written"), "{said}");
    let said = Pair::fails_to_start("[hosts.us-east-1.audit]\nkeep = 3\n");
    assert!(said.contains("audit needs `file`, `events` or both"), "{said}");
}
