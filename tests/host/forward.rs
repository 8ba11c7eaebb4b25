//! Pushes to a replica that go to the primary.

use crate::raw::{HalfPush, line, post};
use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

const FORWARD: &str = "on_push = \"forward\"";

/// A repository that both regions have.
fn replicated(pair: &Pair) -> GitRepo {
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    pair.wait_until_same(&repo, "app");
    repo
}

#[test]
fn who_pushes_reads_their_own_write() {
    let pair = Pair::with_hosts(["", FORWARD]);
    let repo = replicated(&pair);
    let here = pair.url(EU, "app");
    for number in 0..20 {
        let id = repo.commit("main", "counter", &format!("{number}\n"));
        repo.git(&["push", "-q", &here, "main"]);
        let listed = repo.git(&["ls-remote", &here, "refs/heads/main"]);
        assert!(listed.starts_with(&id), "push {number}: {listed}");
    }
    pair.assert_clones_as(&repo, &here);
    pair.assert_clones_as(&repo, &pair.url(US, "app"));
    assert!(!pair.log().contains("answered before it was replicated here"), "{}", pair.log());
}

#[test]
fn refusals_and_reports_come_back_as_they_are() {
    let pair = Pair::with_hosts(["", FORWARD]);
    let repo = replicated(&pair);
    let other = GitRepo::with_history(pair.path("other.git"), &[]);
    other.commit("main", "different", "history\n");
    repo.commit("main", "more", "more\n");
    repo.git(&["push", "-q", &pair.url(EU, "app"), "main"]);
    let output = other.try_git(&["push", &pair.url(EU, "app"), "main"]);
    assert!(!output.status.success() && said(&output).contains("fetch first"), "{}", said(&output));
    // Deleting, without any pack.
    let output = repo.try_git(&["push", &pair.url(EU, "app"), ":side", ":refs/heads/nothing"]);
    assert!(said(&output).contains("[deleted]"), "{}", said(&output));
    assert_eq!(repo.git(&["ls-remote", &pair.url(EU, "app"), "refs/heads/side"]), "");
}

#[test]
fn with_certificates_and_credentials() {
    let pair = Pair::with_tls("ann:0123456789abcdef\nbob:fedcba9876543210:read\n", [FORWARD, FORWARD]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["config", "http.sslCAInfo", pair.path("cert.pem").to_str().unwrap()]);
    let url = |region, user: &str| pair.url(region, "app").replace("https://", &format!("https://{user}@"));
    repo.git(&["push", "-q", "--mirror", &url(US, "ann:0123456789abcdef")]);
    pair.wait(|| repo.try_git(&["ls-remote", &url(EU, "bob:fedcba9876543210")]).status.success());
    let id = repo.commit("main", "more", "more\n");
    repo.git(&["push", "-q", &url(EU, "ann:0123456789abcdef"), "main"]);
    let listed = repo.git(&["ls-remote", &url(EU, "bob:fedcba9876543210"), "refs/heads/main"]);
    assert!(listed.starts_with(&id), "{listed}");
    for user in ["bob:fedcba9876543210", "eve:0123456789abcdee"] {
        assert!(!repo.try_git(&["push", &url(EU, user), "main:other"]).status.success(), "{user}");
    }
    assert!(!pair.log().contains("0123456789abcdef"), "a secret is in the log");
}

#[test]
fn a_primary_that_is_away_is_named() {
    let pair = Pair::with_hosts(["url = \"http://127.0.0.1:1\"", FORWARD]);
    let repo = replicated(&pair);
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main:new"]);
    let said = said(&output);
    assert!(!output.status.success());
    assert!(said.contains("http://127.0.0.1:1 in us-east-1 cannot be reached"), "{said}");
    repo.git(&["ls-remote", &pair.url(EU, "app")]);
}

#[test]
fn circles_end_at_once() {
    // Who asks for the primary comes back to the replica.
    let pair = Pair::with_hosts(["url = \"http://EU\"", FORWARD]);
    let repo = replicated(&pair);
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main:new"]);
    let said = said(&output);
    assert!(!output.status.success() && said.contains("app is a replica in eu-west-1, too"), "{said}");
    // Nor is a push sent on that somebody else sent on.
    let (zero, main) = (zero(), repo.git(&["rev-parse", "main"]));
    let command = format!("{zero} {main} refs/heads/new\0 report-status delete-refs");
    let body = line(&command) + "0000";
    let request = format!(
        "POST /app/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nGitferry-Forwarded-By: mars\r\nConnection: close\r\n\
         Content-Type: application/x-git-receive-pack-request\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = pair.raw(EU, &request);
    assert!(answer.contains("ng refs/heads/new") && answer.contains("replica"), "{answer}");
}

#[test]
fn a_replica_that_lags_says_so() {
    let mut pair = Pair::with_hosts(["", "on_push = \"forward\"\nlimits = { forward_wait = \"1s\" }"]);
    let repo = replicated(&pair);
    // Nobody replicates any more.
    let file = pair.path("data/gitferry.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.split("[links.dr]").next().unwrap()).unwrap();
    pair.restart();
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main:new"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("eu-west-1 will have it later"), "{}", said(&output));
}

#[test]
fn a_forwarded_push_that_vanishes_leaves_nothing_at_the_primary() {
    let pair = Pair::with_hosts(["limits = { requests = 1 }", "on_push = \"forward\"\nlimits = { requests = 1 }"]);
    let repo = replicated(&pair);
    pair.wait(|| pair.spooled(US).is_empty());
    drop(HalfPush::start_watching(&pair, EU, US, "app", &repo, "late"));
    for region in [US, EU] {
        pair.wait(|| repo.try_git(&["ls-remote", &pair.url(region, "app")]).status.success());
        pair.wait(|| pair.spooled(region).is_empty());
    }
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/late"]), "");
}

#[test]
fn frontiers_are_for_readers() {
    let pair = Pair::with_tokens("ann:0123456789abcdef\n");
    let request = "GET /app/info/frontier HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    assert!(pair.raw(US, &format!("{request}\r\n")).starts_with("HTTP/1.1 401"));
    let known = format!("{request}Authorization: Bearer 0123456789abcdef\r\n\r\n");
    assert!(pair.raw(US, &known).starts_with("HTTP/1.1 404"));
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app").replace("http://", "http://ann:0123456789abcdef@"), "main"]);
    let answer = pair.raw(US, &known);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"epoch\":1,\"seq\":"), "{answer}");
}

/// Two regions of which the second does not learn of what becomes of `app` in the first, and the configuration under
/// which it would.
fn out_of_step() -> (Pair, GitRepo, String) {
    let mut pair = Pair::with_hosts(["", "on_push = \"forward\"\nlimits = { forward_wait = \"1s\" }"]);
    let repo = replicated(&pair);
    let file = pair.path("data/gitferry.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.split("[links.dr]").next().unwrap()).unwrap();
    pair.restart();
    (pair, repo, config)
}

/// A push by hand that deletes `side`, with more headers.
fn delete_side(pair: &Pair, region: usize, repo: &GitRepo, headers: &str) -> String {
    let command =
        format!("{} {} refs/heads/side\0 report-status delete-refs", repo.git(&["rev-parse", "side"]), zero());
    let body = line(&command) + "0000";
    pair.raw(region, &(post("app", "receive-pack", body.len(), &format!("Connection: close\r\n{headers}")) + &body))
}

fn zero() -> String {
    "0".repeat(40)
}

/// The id of `app` in a region.
fn id_of(pair: &Pair, region: usize) -> String {
    let shown: serde_json::Value =
        serde_json::from_str(&pair.ok(&["repo", "show", "app", "--region", REGIONS[region], "--json"])).unwrap();
    shown["id"].as_str().unwrap().to_owned()
}

/// The name changes hands between what the replica knows and the push that it forwards: nothing of it goes into the other
/// repository, which has the very refs that the push names.
#[test]
fn a_forwarded_push_goes_to_the_repository_that_it_began_with_or_to_none() {
    let (mut pair, repo, config) = out_of_step();
    let old = id_of(&pair, US);
    pair.ok(&["repo", "delete", "app", "--region", REGIONS[US]]);
    repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
    let new = id_of(&pair, US);
    assert!(old != new && id_of(&pair, EU) == old);
    let refs = repo.git(&["ls-remote", &pair.url(US, "app")]);
    let answer = delete_side(&pair, EU, &repo, "");
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("another repository of that name"), "{answer}");
    let output = repo.try_git(&["push", &pair.url(EU, "app"), ":side", "main:new"]);
    assert!(!output.status.success() && said(&output).contains("another repository of that name"), "{}", said(&output));
    let lfs = "Accept: application/vnd.git-lfs+json\r\nContent-Type: application/vnd.git-lfs+json\r\n";
    let body = format!(r#"{{"operation":"upload","objects":[{{"oid":"{}","size":7}}]}}"#, "a".repeat(64));
    let batch = format!(
        "POST /app/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lfs}Content-Length: {}\r\n\
         \r\n{body}",
        body.len()
    );
    let answer = pair.raw(EU, &batch);
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains(&old), "{answer}");
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app")]), refs);
    // It is the id that decides, at the primary.
    let header = |id: &str| format!("Gitferry-Repository: {id}\r\n");
    assert!(delete_side(&pair, US, &repo, &header(&old)).starts_with("HTTP/1.1 409"));
    assert!(delete_side(&pair, US, &repo, &header("app")).starts_with("HTTP/1.1 400"));
    assert_eq!(repo.git(&["ls-remote", &pair.url(US, "app")]), refs);
    assert!(delete_side(&pair, US, &repo, &header(&new)).contains("ok refs/heads/side"));
    repo.git(&["push", "-q", &pair.url(US, "app"), "side"]);
    // Older replicas name none.
    assert!(delete_side(&pair, US, &repo, "").contains("ok refs/heads/side"));
    repo.git(&["push", "-q", &pair.url(US, "app"), "side"]);
    // Once it knows, it forwards to the new one.
    std::fs::write(pair.path("data/gitferry.toml"), config).unwrap();
    pair.restart();
    pair.wait(|| {
        pair.gitferry(&["repo", "show", "app", "--region", REGIONS[EU]]).status.success() && id_of(&pair, EU) == new
    });
    let id = repo.commit("main", "more", "more\n");
    repo.git(&["push", "-q", &pair.url(EU, "app"), "main"]);
    assert!(repo.git(&["ls-remote", &pair.url(US, "app"), "refs/heads/main"]).starts_with(&id));
}

/// A push to a replica of what its primary has deleted or renamed makes no repository there.
#[test]
fn a_forwarded_push_makes_nothing_in_the_place_of_what_is_gone() {
    let (pair, repo, _) = out_of_step();
    let gone: [&[&str]; 2] = [&["repo", "rename", "app", "web"], &["repo", "delete", "web"]];
    for command in gone {
        pair.ok(&[command, &["--region", REGIONS[US]]].concat());
        let output = repo.try_git(&["push", &pair.url(EU, "app"), "main:new"]);
        assert!(!output.status.success() && said(&output).contains("or none"), "{}", said(&output));
        let answer = delete_side(&pair, EU, &repo, "");
        assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
        let list = pair.ok(&["repo", "list", "--region", REGIONS[US]]);
        assert!(!list.contains("app"), "{command:?}: {list}");
    }
}
