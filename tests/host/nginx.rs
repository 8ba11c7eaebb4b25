//! Real Git and git-lfs through nginx with its defaults, over HTTP/1.1 and HTTP/2.

use crate::said;
use gitferry_test_support::git::{self, GitRepo, noise};
use gitferry_test_support::lfs_work::Work;
use gitferry_test_support::nginx::Nginx;
use gitferry_test_support::pair::{Pair, US};

/// A host behind nginx; `None` where tests are to do without.
fn behind(pair: &Pair) -> Option<Nginx> {
    Nginx::before(pair.address(US), pair.dir(), "")
}

/// What Git says over one of its ways to the host, and how it reaches a repository over it.
fn ways(nginx: &Nginx) -> [(&'static str, String); 3] {
    let tls = format!("https://{}", nginx.tls);
    [("HTTP/1.1", format!("http://{}", nginx.clear)), ("HTTP/1.1", tls.clone()), ("HTTP/2", tls)]
}

#[test]
fn pushes_of_some_megabytes_accepted_and_refused() {
    let policies = "[[push_policies]]\nrepositories = [\"small/*\"]\nmax_push = \"1 MB\"\n";
    let pair = Pair::configured(policies, &[]);
    let Some(nginx) = behind(&pair) else { return };
    for (number, (version, base)) in ways(&nginx).into_iter().enumerate() {
        let repo = GitRepo::init(pair.path(&format!("src-{number}.git")), &[]);
        repo.git(&["config", "http.sslVerify", "false"]);
        repo.git(&["config", "http.version", version]);
        let url = format!("{base}/team/app-{number}");
        for push in 0..3 {
            repo.commit_bytes("main", "file", &noise(number as u64 * 10 + push, 6 << 20));
            let output = repo.try_git(&["push", "-q", &url, "main"]);
            assert!(output.status.success(), "{version} {base}: {}\n{}", said(&output), nginx.log());
        }
        assert_eq!(repo.git(&["ls-remote", &url, "refs/heads/main"])[..40], *repo.git(&["rev-parse", "main"]));
        // Refused in the middle of its pack.
        let output = repo.try_git(&["push", &format!("{base}/small/app-{number}"), "main"]);
        let told = said(&output);
        assert!(!output.status.success() && told.contains("unpack"), "{version} {base}: {told}\n{}", nginx.log());
        assert!(!told.contains("hung up") && !told.contains("HTTP 5"), "{version} {base}: {told}");
        // By what it wants to do, once all is here.
        let output = repo.try_git(&["push", &url, "main", "main^{tree}:refs/heads/tree"]);
        assert!(said(&output).contains("a branch must name a commit"), "{version} {base}: {}", said(&output));
        let clone = pair.path(&format!("clone-{number}"));
        let mut command = git::command(pair.dir());
        command.args(["-c", "http.sslVerify=false", "-c", &format!("http.version={version}"), "clone", "-q", "--bare"]);
        let output = command.arg(&url).arg(&clone).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        GitRepo::at(clone).git(&["fsck", "--no-dangling"]);
    }
}

#[test]
fn lfs_objects_of_some_megabytes_accepted_and_refused() {
    let policies = "[[push_policies]]\nrepositories = [\"*\"]\nmax_lfs_object = \"20 MB\"\n";
    let pair = Pair::configured(policies, &[]);
    let Some(nginx) = behind(&pair) else { return };
    let work = Work::new(pair.path("work"));
    let url = format!("http://{}/app", nginx.clear);
    work.commit("large.bin", &noise(1, 17 << 20));
    work.git(&["push", "-q", &url, "main"]);
    let clone = Work::clone(pair.dir(), &url);
    assert!(clone.read("large.bin") == noise(1, 17 << 20));
    // An upload that turns out to be too large, from a client that had not asked.
    let mut command = std::process::Command::new("python3");
    let script = "import sys, urllib.request, urllib.error\n\
                  r = urllib.request.Request(sys.argv[1], data=b'0' * 40_000_000, method='PUT')\n\
                  try: print(urllib.request.urlopen(r, timeout=60).status)\n\
                  except urllib.error.HTTPError as e: print(e.code)\n";
    let object = format!("{url}/info/lfs/objects/{}", "a".repeat(64));
    let output = command.args(["-c", script, &object]).env("no_proxy", "*").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "413", "{}\n{}", said(&output), nginx.log());
}

#[test]
fn lfs_behind_tls_comes_back_to_where_it_was_asked_for() {
    const TOKENS: &str = "ann:0123456789abcdef\n";
    let pair = Pair::with_tokens_in(TOKENS, "trusted_proxies = [\"127.0.0.1\"]", Vec::new());
    let lines = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
                 proxy_set_header X-Forwarded-Proto $scheme;\nproxy_set_header X-Forwarded-Host $http_host;";
    gitferry_test_support::pair::new_certificate(pair.dir());
    let Some(nginx) = Nginx::before(pair.address(US), pair.dir(), lines) else { return };
    let work = Work::new(pair.path("work"));
    work.git(&["config", "http.sslVerify", "false"]);
    let url = format!("https://ann:0123456789abcdef@{}/team/app.git", nginx.tls);
    work.commit("large.bin", &noise(1, 2 << 20));
    work.git(&["push", "-q", &url, "main"]);
    let clear = format!("http://ann:0123456789abcdef@{}/team/app.git", nginx.clear);
    assert!(Work::clone(pair.dir(), &clear).read("large.bin") == noise(1, 2 << 20));
}

#[test]
fn hrefs_have_the_form_of_the_url_that_was_asked_for() {
    let hosts = ["trusted_proxies = [\"127.0.0.1\"]", "url = \"https://git.example/base\""];
    let pair = Pair::with_hosts(hosts);
    let body = format!(r#"{{"operation":"upload","objects":[{{"oid":"{}","size":7}}]}}"#, "a".repeat(64));
    let ask = |region: usize, path: &str, headers: &str| {
        let text = format!(
            "POST {path}/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost:99\r\nConnection: close\r\n{headers}\
             Content-Type: application/vnd.git-lfs+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = pair.raw(region, &text);
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["objects"][0]["actions"]["upload"].clone()
    };
    let object = format!("/info/lfs/objects/{}?size=7", "a".repeat(64));
    for path in ["/app", "/app.git", "/v1/repos/app", "/v1/repos/app.git"] {
        let action = ask(US, path, "");
        assert_eq!(action["href"], format!("http://localhost:99{path}{object}"));
        assert!(action["header"].is_null());
        let forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: git.example:8443\r\n";
        assert_eq!(ask(US, path, forwarded)["href"], format!("https://git.example:8443{path}{object}"));
        let standard = "Forwarded: for=203.0.113.9;proto=https;host=git.example\r\n";
        assert_eq!(ask(US, path, standard)["href"], format!("https://git.example{path}{object}"));
    }
    // Who is sent elsewhere takes along what was shown here.
    let shown = "Authorization: Basic eDp5\r\n";
    pair.ok(&["repo", "create", "app", "--region", gitferry_test_support::pair::REGIONS[US]]);
    let download = |headers: &str| ask(gitferry_test_support::pair::EU, "/eu", headers);
    assert!(download("").is_null(), "names that a link brings are not made here");
    let with_url = Pair::with_hosts(["url = \"https://git.example/base\"", ""]);
    let text = format!(
        "POST /app.git/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}\
         Content-Type: application/vnd.git-lfs+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = with_url.raw(US, &text);
    assert!(answer.contains(&format!("https://git.example/base/app.git{object}")), "{answer}");
    assert!(answer.contains(r#""header":{"Authorization":"Basic eDp5"}"#), "{answer}");
}
