//! Repositories that pushes make: by the push alone, whole, and in one region.

use std::os::unix::fs::PermissionsExt as _;

use crate::said;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::lfs_work::Work;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

fn repositories(pair: &Pair, region: usize) -> String {
    pair.ok(&["repo", "list", "--region", REGIONS[region]])
}

fn assert_nothing(pair: &Pair, name: &str, after: &str) {
    for region in [US, EU] {
        let list = repositories(pair, region);
        assert!(!list.contains(name), "{after} made a repository in {}: {list}", REGIONS[region]);
    }
}

#[test]
fn nothing_but_an_accepted_push_makes_a_repository() {
    let pair = Pair::with_host_and("", "[[push_policies]]\nrepositories = [\"small\"]\nmax_push = \"1 KiB\"\n");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.commit_bytes("main", "noise", &noise(1, 100_000));
    for service in ["git-receive-pack", "git-upload-pack"] {
        let get =
            format!("GET /app/info/refs?service={service} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        pair.raw(US, &get);
        assert_nothing(&pair, "app", service);
    }
    let url = pair.url(US, "app");
    let output = repo.try_git(&["push", "--dry-run", &url, "main"]);
    assert!(output.status.success() && said(&output).contains("[new branch]"), "{}", said(&output));
    assert_nothing(&pair, "app", "push --dry-run");
    let hooks = pair.path("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    std::fs::write(hooks.join("pre-push"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(hooks.join("pre-push"), std::fs::Permissions::from_mode(0o755)).unwrap();
    repo.try_git(&["-c", &format!("core.hooksPath={}", hooks.display()), "push", &url, "main"]);
    assert_nothing(&pair, "app", "a push that its own hook declined");
    assert!(!repo.try_git(&["push", &url, "main^{tree}:refs/heads/tree"]).status.success());
    assert_nothing(&pair, "app", "a push of which every ref was refused");
    assert!(!repo.try_git(&["push", &pair.url(US, "small"), "main"]).status.success());
    assert_nothing(&pair, "small", "a push that was too large");
    let other = GitRepo::with_history(pair.path("sha256.git"), &["--object-format=sha256"]);
    assert!(!other.try_git(&["push", &url, "main"]).status.success());
    assert_nothing(&pair, "app", "a push in another object format");
    // The push that makes it is its first change.
    repo.git(&["push", "-q", &url, "main", "side"]);
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let changes: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(changes.len(), 1, "{log}");
    assert_eq!(changes[0]["edits_total"], 2, "{log}");
    pair.ok(&["verify", "app", "--region", REGIONS[US], "--deep"]);
    let head = repo.git(&["ls-remote", "--symref", &url, "HEAD"]);
    assert!(head.starts_with("ref: refs/heads/main"), "{head}");
    repo.git(&["push", "-q", "--mirror", &url]);
    pair.assert_clones_as(&repo, &url);
    pair.wait_until_same(&repo, "app");
}

#[test]
fn objects_of_lfs_come_before_the_push_that_names_them() {
    let pair = Pair::open();
    let work = Work::new(pair.path("work"));
    work.commit("large.bin", b"content");
    let lfs = "Accept: application/vnd.git-lfs+json\r\nContent-Type: application/vnd.git-lfs+json\r\n";
    let body = format!(r#"{{"operation":"upload","objects":[{{"oid":"{}","size":7}}]}}"#, "a".repeat(64));
    let batch = format!(
        "POST /app/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lfs}Content-Length: {}\r\n\r\n\
         {body}",
        body.len()
    );
    let answer = pair.raw(US, &batch);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"upload\""), "{answer}");
    assert_nothing(&pair, "app", "a question about LFS objects");
    let put =
        format!("PUT /app/info/lfs/objects/{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", "a".repeat(64));
    let answer = pair.raw(US, &format!("{put}Content-Length: 7\r\n\r\ncontent"));
    assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
    assert_nothing(&pair, "app", "an upload that was refused");
    work.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    assert_eq!(Work::clone(pair.dir(), &pair.url(US, "app")).read("large.bin"), b"content");
}

#[test]
fn first_pushes_at_the_same_time_lose_nothing() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    let push = |number: usize| repo.try_git(&["push", "-q", &url, &format!("main~{number}:refs/heads/b{number}")]);
    let first: Vec<bool> = std::thread::scope(|scope| {
        let pushing: Vec<_> = (0..6).map(|number| scope.spawn(move || push(number))).collect();
        pushing
            .into_iter()
            .map(|push| {
                let output = push.join().unwrap();
                assert!(output.status.success() || said(&output).contains("push again"), "{}", said(&output));
                output.status.success()
            })
            .collect()
    });
    assert!(first.contains(&true));
    let listed = repo.git(&["ls-remote", &url, "refs/heads/*"]);
    for (number, done) in first.iter().enumerate() {
        assert_eq!(listed.contains(&format!("refs/heads/b{number}")), *done, "{listed}");
        assert!(push(number).status.success());
    }
    pair.ok(&["verify", "app", "--region", REGIONS[US], "--deep"]);
    assert_eq!(repositories(&pair, US).matches("app").count(), 1);
}

#[test]
fn pages_of_other_sites_get_nothing_done() {
    let pair = Pair::open();
    let ask = |line: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        pair.raw(US, &text)[9..12].to_owned()
    };
    let batch = r#"{"operation":"upload","objects":[]}"#;
    let lfs = "Content-Type: application/vnd.git-lfs+json\r\n";
    for page in [
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
    ] {
        assert_eq!(ask("GET /img/info/refs?service=git-receive-pack", page, ""), "403", "{page}");
        assert_eq!(ask("GET /img/info/refs?service=git-upload-pack", page, ""), "403", "{page}");
        assert_eq!(ask("POST /form/info/lfs/objects/batch", &format!("{page}{lfs}"), batch), "403", "{page}");
        assert_eq!(ask("PUT /form/info/lfs/objects/verify", page, batch), "403", "{page}");
    }
    // A form of an old browser says nothing of where it is from.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"] {
        let kind = format!("Content-Type: {kind}\r\n");
        for service in ["batch", "verify"] {
            assert_eq!(ask(&format!("POST /form/info/lfs/objects/{service}"), &kind, batch), "415", "{kind}");
        }
    }
    assert_eq!(ask("POST /form/info/lfs/objects/batch", "", batch), "415");
    let own = "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n";
    assert_eq!(ask("POST /form/info/lfs/objects/batch", &format!("{own}{lfs}"), batch), "200");
    let with_parameter = "Content-Type: application/vnd.git-lfs+json; charset=utf-8\r\n";
    assert_eq!(ask("POST /form/info/lfs/objects/batch", with_parameter, batch), "200");
    assert_nothing(&pair, "form", "a page");
    assert_nothing(&pair, "img", "a page");
}

#[test]
fn names_that_a_link_brings_are_made_at_its_source() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let output = repo.try_git(&["push", &pair.url(EU, "app"), "main"]);
    assert!(!output.status.success() && said(&output).contains(&pair.url(US, "app")), "{}", said(&output));
    let request = "POST /app/git-receive-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\
                   Content-Type: application/x-git-receive-pack-request\r\n\r\n0000";
    let answer = pair.raw(EU, request);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(&pair.url(US, "app")), "{answer}");
    assert_nothing(&pair, "app", "a push to where it would come by a link");
}

#[test]
fn a_replica_that_forwards_also_forwards_what_is_to_be_made() {
    let pair = Pair::with_hosts(["", "on_push = \"forward\""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let here = pair.url(EU, "team/new");
    repo.git(&["push", "-q", &here, "main"]);
    // It can be read at once where it was pushed to.
    let refs = |url: &str| repo.git(&["ls-remote", url, "refs/*"]);
    assert_eq!(refs(&here), refs(&pair.url(US, "team/new")));
    assert!(refs(&here).contains("refs/heads/main"));
    let shown = pair.ok(&["repo", "show", "team/new", "--region", REGIONS[EU], "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["role"], "replica", "{shown}");
    // With objects of LFS before it.
    let work = Work::new(pair.path("work"));
    work.commit("large.bin", b"content");
    work.git(&["push", "-q", &pair.url(EU, "lfs"), "main"]);
    pair.wait_until_same(&work.repo(), "lfs");
    assert_eq!(Work::clone(pair.dir(), &pair.url(EU, "lfs")).read("large.bin"), b"content");
    // Two at once, one at each: one repository.
    let (one, two) = std::thread::scope(|scope| {
        let push = |region| {
            let url = pair.url(region, "both");
            let repo = &repo;
            scope.spawn(move || repo.try_git(&["push", "-q", &url, &format!("main:refs/heads/from-{region}")]))
        };
        let (one, two) = (push(US), push(EU));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert!(one.status.success() || two.status.success(), "{}{}", said(&one), said(&two));
    let id = |region: usize| {
        let shown = pair.ok(&["repo", "show", "both", "--region", REGIONS[region], "--json"]);
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["id"].clone()
    };
    pair.wait(|| repo.try_git(&["ls-remote", &pair.url(EU, "both")]).status.success());
    assert_eq!(id(US), id(EU));
}
