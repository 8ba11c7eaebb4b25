//! Git LFS: the real client against two regions, and requests that it would never make.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Output;

use crate::said;
use gitferry_test_support::git::{self, GitRepo, noise};
use gitferry_test_support::lfs_work::{Work, oid_of, stored, with_pointer};
use gitferry_test_support::pair::{EU, Pair, US};
use serde_json::{Value, json};

/// What makes a request one of LFS.
const LFS: &str = "Content-Type: application/vnd.git-lfs+json\r\n";
const JSON: &str = "Accept: application/vnd.git-lfs+json\r\nContent-Type: application/vnd.git-lfs+json\r\n";
/// An object that nobody has.
const NOBODYS: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

/// Files in a region's spool.
fn spooled(pair: &Pair, region: &str) -> usize {
    std::fs::read_dir(pair.path("data").join(region).join("objects/.staging")).unwrap().count()
}

fn gitferry(pair: &Pair, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(gitferry_test_support::paths::gitferry());
    command.args(args).env("GITFERRY_CONFIG", pair.path("data").join("gitferry.toml")).output().unwrap()
}

/// An answer: its status, its head, its body.
pub struct Answer {
    pub status: u16,
    head: String,
    body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        assert!(self.head.contains("application/vnd.git-lfs+json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

fn request(pair: &Pair, region: usize, line: &str, headers: &str, body: &str) -> Answer {
    let host = pair.url(region, "").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let length = if headers.contains("Content-Length") || headers.contains("Transfer-Encoding") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{headers}\r\n{body}");
    let answer = pair.raw(region, &text);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.into(), body: body.into() }
}

pub fn batch(pair: &Pair, region: usize, body: &Value) -> Answer {
    request(pair, region, "POST /app/info/lfs/objects/batch", JSON, &body.to_string())
}

pub fn put(pair: &Pair, oid: &str, query: &str, content: &str) -> Answer {
    request(pair, US, &format!("PUT /app/info/lfs/objects/{oid}{query}"), "", content)
}

pub fn upload_of(oid: &str, size: i64) -> Value {
    json!({ "operation": "upload", "transfers": ["basic"], "objects": [{ "oid": oid, "size": size }] })
}

/// A pair with an empty repository `app`.
fn with_app() -> Pair {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair
}

#[test]
fn what_was_pushed_to_one_region_is_cloned_from_the_other() {
    let pair = Pair::open();
    let work = Work::new(pair.path("work"));
    // Larger than one part of a transfer, and small ones.
    let files = [("large.bin", noise(1, (17 << 20) + 5)), ("small.bin", noise(2, 1000)), ("tiny.bin", b"x".to_vec())];
    for (name, content) in &files {
        work.commit(name, content);
    }
    work.commit("again.bin", &files[1].1);
    work.git(&["push", "-q", &pair.url(US, "team/app"), "main"]);
    // As soon as the refs are there, the objects are.
    pair.wait_until_same(&work.repo(), "team/app");
    for region in [EU, US] {
        let clone = Work::clone(pair.dir(), &pair.url(region, "team/app"));
        for (name, content) in &files {
            assert!(clone.read(name) == *content, "{name} in {region}");
        }
        clone.git(&["lfs", "fetch", "--all"]);
        clone.git(&["lfs", "fsck"]);
        assert_eq!(clone.git(&["status", "--porcelain"]), "");
    }
    assert_eq!((spooled(&pair, "us-east-1"), spooled(&pair, "eu-west-1")), (0, 0));
    // A new version of one file moves one object, over the other spelling of the URL.
    work.commit("large.bin", b"now it is small");
    work.git(&["push", "-q", &pair.url(US, "team/app.git"), "main"]);
    pair.wait_until_same(&work.repo(), "team/app");
    assert_eq!(Work::clone(pair.dir(), &pair.url(EU, "team/app.git")).read("large.bin"), b"now it is small");
    let output = gitferry(&pair, &["verify", "dr", "--deep", "--json"]);
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified["ok"], true, "{verified}");
    for side in 0..2 {
        assert_eq!(verified["repositories"][side]["lfs_objects"], 4, "{verified}");
    }
}

#[test]
fn a_push_without_its_objects_is_refused_until_they_come() {
    let pair = Pair::open();
    let work = Work::new(pair.path("work"));
    let url = pair.url(US, "app");
    work.commit("file", b"no object");
    work.git(&["push", "-q", &url, "main"]);
    for n in 0..25 {
        std::fs::write(work.path.join(format!("{n}.bin")), noise(n, 100)).unwrap();
    }
    work.commit("one.bin", b"content");
    let push = git::command(&work.path).args(["push", &url, "main"]).env("GIT_LFS_SKIP_PUSH", "1").output().unwrap();
    let said = said(&push);
    assert!(!push.status.success());
    for words in ["26 LFS objects are missing here", "and 6 more", "git lfs push --all", "LFS objects are missing)"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    assert_eq!(said.matches("(100 bytes)").count() + said.matches("(7 bytes)").count(), 20, "{said}");
    // Branches without pointers go on, and so does this one when the objects are here.
    work.git(&["push", "-q", &url, "main~1:refs/heads/other"]);
    work.git(&["lfs", "push", "--all", &url]);
    work.git(&["push", "-q", &url, "main"]);
    // A later push by somebody who has the pointer as the base of a delta names nothing twice.
    work.git(&["rm", "-q", "0.bin"]);
    work.commit("more", b"more");
    work.git(&["push", "-q", &url, "main"]);
    let clone = Work::clone(pair.dir(), &url);
    assert_eq!(clone.read("one.bin"), b"content");
}

#[test]
fn an_interrupted_download_resumes() {
    let pair = Pair::open();
    let work = Work::new(pair.path("work"));
    let content = noise(3, 3 << 20);
    work.commit("large.bin", &content);
    work.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let path = pair.path("resumed");
    let mut clone = git::command(pair.dir());
    clone.args(["clone", "-q", &pair.url(US, "app")]).arg(&path);
    assert!(clone.status().unwrap().success());
    let clone = Work { path };
    clone.git(&["lfs", "install", "--local"]);
    // What an interrupted git-lfs leaves: the name depends on its version.
    let incomplete = clone.path.join(".git/lfs/incomplete");
    std::fs::create_dir_all(&incomplete).unwrap();
    for name in ["tmp", "part"] {
        std::fs::write(incomplete.join(format!("{}.{name}", oid_of(&content))), &content[..2 << 20]).unwrap();
    }
    let pull = git::command(&clone.path).args(["lfs", "pull"]).env("GIT_TRACE", "1").output().unwrap();
    assert!(pull.status.success(), "{}", said(&pull));
    assert!(clone.read("large.bin") == content);
    assert!(said(&pull).contains("server accepted resume download request"), "{}", said(&pull));
}

#[test]
fn ranges_heads_and_whole_objects() {
    let pair = with_app();
    let content = "0123456789".repeat(10);
    let oid = oid_of(content.as_bytes());
    assert_eq!(put(&pair, &oid, "?size=100", &content).status, 200);
    let path = format!("/app/info/lfs/objects/{oid}");
    let get = |method: &str, headers: &str| request(&pair, US, &format!("{method} {path}"), headers, "");
    let all = get("GET", "");
    assert_eq!((all.status, all.body.as_str()), (200, content.as_str()));
    let part = get("GET", "Range: bytes=90-\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, "0123456789"));
    assert!(part.head.to_lowercase().contains("content-range: bytes 90-99/100"), "{}", part.head);
    let part = get("GET", "Range: bytes=5-6\r\n");
    assert_eq!((part.status, part.body.as_str()), (206, "56"));
    let beyond = get("GET", "Range: bytes=100-\r\n");
    assert_eq!(beyond.status, 416);
    assert!(beyond.head.to_lowercase().contains("content-range: bytes */100"), "{}", beyond.head);
    let head = get("HEAD", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.to_lowercase().contains("content-length: 100"), "{}", head.head);
    let missing = request(&pair, US, &format!("GET /app/info/lfs/objects/{NOBODYS}"), "", "");
    assert_eq!((missing.status, missing.json()["message"].is_string()), (404, true));
}

#[test]
fn uploads_that_are_not_what_they_say_leave_nothing() {
    let pair = with_app();
    let content = "some content";
    let (oid, size) = (oid_of(content.as_bytes()), content.len() as i64);
    let before = spooled(&pair, "us-east-1");
    for (query, sent, status) in [
        ("", "other content", 422),
        ("", "", 422),
        ("?size=12", "some conten", 422),
        ("?size=12", "some content and more", 422),
        ("?size=99", content, 422),
        ("?size=x", content, 400),
        ("?size=99999999999999999999", content, 400),
    ] {
        let answer = put(&pair, &oid, query, sent);
        assert_eq!(answer.status, status, "{query} {sent}: {}", answer.body);
        assert!(answer.json()["message"].is_string());
    }
    // Too long, and nobody said so before.
    let path = format!("PUT /app/info/lfs/objects/{oid}?size=12");
    let chunked = "6\r\nsome c\r\n9\r\nontentaaa\r\n0\r\n\r\n";
    assert_eq!(request(&pair, US, &path, "Transfer-Encoding: chunked\r\n", chunked).status, 422);
    let huge = "Content-Length: 99999999999999\r\n";
    assert_eq!(request(&pair, US, &format!("PUT /app/info/lfs/objects/{oid}"), huge, "").status, 413);
    let gzip = "Content-Encoding: gzip\r\n";
    assert_eq!(request(&pair, US, &format!("PUT /app/info/lfs/objects/{oid}"), gzip, content).status, 415);
    // A client that disappears.
    pair.send_and_leave(US, &format!("{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 12\r\n\r\nsome"));
    pair.wait(|| spooled(&pair, "us-east-1") == before);
    assert_eq!(stored(&pair.path("data/us-east-1"), &oid), None);
    let offered = batch(&pair, US, &upload_of(&oid, size)).json();
    assert!(offered["objects"][0]["actions"]["upload"]["href"].is_string(), "{offered}");
    // And the right one, twice, chunked too.
    assert_eq!(put(&pair, &oid, "?size=12", content).status, 200);
    assert_eq!(put(&pair, &oid, "", content).status, 200);
    let chunked = "c\r\nsome content\r\n0\r\n\r\n";
    assert_eq!(request(&pair, US, &path, "Transfer-Encoding: chunked\r\n", chunked).status, 200);
    let offered = batch(&pair, US, &upload_of(&oid, size)).json();
    assert_eq!(offered["objects"][0], json!({ "oid": oid, "size": size }));
    assert_eq!(spooled(&pair, "us-east-1"), before);
}

#[test]
fn racing_uploads_of_one_object_all_succeed() {
    let pair = with_app();
    let content = "raced ".repeat(50_000);
    let oid = oid_of(content.as_bytes());
    std::thread::scope(|scope| {
        let racing: Vec<_> = (0..8).map(|_| scope.spawn(|| put(&pair, &oid, "", &content).status)).collect();
        assert!(racing.into_iter().all(|upload| upload.join().unwrap() == 200));
    });
    assert!(stored(&pair.path("data/us-east-1"), &oid).is_some());
}

/// The name means another repository when the object has come: a push would not find it there.
#[test]
fn an_upload_whose_repository_is_replaced_meanwhile_is_no_success() {
    for rename in [false, true] {
        let pair = with_app();
        let (content, oid) = ("slowly uploaded", oid_of(b"slowly uploaded"));
        let host = pair.url(US, "").trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut upload = TcpStream::connect(&host).unwrap();
        let head = format!("PUT /app/info/lfs/objects/{oid} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        let head = format!("{head}Content-Length: {}\r\n\r\n{}", content.len(), &content[..5]);
        upload.write_all(head.as_bytes()).unwrap();
        // The upload has begun once something of it lies in the spool.
        pair.wait(|| spooled(&pair, "us-east-1") == 1);
        let edit: &[&str] = match rename {
            true => &["repo", "rename", "app", "old", "--region", "us-east-1"],
            false => &["repo", "delete", "app", "--region", "us-east-1"],
        };
        assert!(gitferry(&pair, edit).status.success(), "{edit:?}");
        assert!(gitferry(&pair, &["repo", "create", "app", "--region", "us-east-1"]).status.success());
        upload.write_all(&content.as_bytes()[5..]).unwrap();
        let mut answer = String::new();
        upload.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("upload the object again"), "{answer}");
        let asked = batch(&pair, US, &upload_of(&oid, content.len() as i64)).json();
        assert!(asked["objects"][0]["actions"]["upload"].is_object(), "{asked}");
        assert_eq!(put(&pair, &oid, "", content).status, 200);
        assert_eq!(spooled(&pair, "us-east-1"), 0);
    }
}

#[test]
fn the_batch_api_answers_object_by_object() {
    let pair = with_app();
    let oid = oid_of(b"here");
    assert_eq!(put(&pair, &oid, "", "here").status, 200);
    let objects = json!([
        { "oid": oid, "size": 4 },
        { "oid": oid, "size": 5 },
        { "oid": NOBODYS, "size": 1 },
        { "oid": NOBODYS, "size": -1 },
        { "oid": NOBODYS.to_uppercase(), "size": 1 },
        { "oid": "../../table.db", "size": 1 },
        { "oid": NOBODYS, "size": i64::MAX },
    ]);
    let ask = |operation: &str| {
        let body = json!({ "operation": operation, "transfers": ["lfs-standalone-file", "basic"],
            "ref": { "name": "refs/heads/main" }, "hash_algo": "sha256", "objects": objects });
        let answer = batch(&pair, US, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer = answer.json();
        assert_eq!((&answer["transfer"], &answer["hash_algo"]), (&json!("basic"), &json!("sha256")));
        let codes = answer["objects"].as_array().unwrap().iter().map(|object| object["error"]["code"].as_u64());
        (codes.collect::<Vec<_>>(), answer)
    };
    let (codes, answer) = ask("download");
    assert_eq!(codes, [None, Some(422), Some(404), Some(422), Some(422), Some(422), Some(404)]);
    let href = format!("{}/info/lfs/objects/{oid}", pair.url(US, "app"));
    assert_eq!(answer["objects"][0]["actions"]["download"]["href"], href);
    // The client comes back to where it asked, whatever that is called.
    let body = json!({ "operation": "download", "objects": objects }).to_string();
    let head = "POST /app/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost:99\r\nConnection: close\r\n";
    let answered = pair.raw(US, &format!("{head}{LFS}Content-Length: {}\r\n\r\n{body}", body.len()));
    assert!(answered.contains(&format!("http://localhost:99/app/info/lfs/objects/{oid}")), "{answered}");
    let (codes, answer) = ask("upload");
    assert_eq!(codes, [None, Some(422), None, Some(422), Some(422), Some(422), Some(422)]);
    assert_eq!(answer["objects"][0].get("actions"), None);
    let actions = &answer["objects"][2]["actions"];
    let verify = format!("{}/info/lfs/objects/verify", pair.url(US, "app"));
    assert_eq!(actions["verify"]["href"], verify);
    for (oid, size, status) in [(&*oid, 4, 200), (&oid, 5, 422), (NOBODYS, 1, 404), ("x", 1, 422)] {
        let body = json!({ "oid": oid, "size": size }).to_string();
        assert_eq!(request(&pair, US, "POST /app/info/lfs/objects/verify", JSON, &body).status, status);
    }
}

#[test]
fn requests_that_make_no_sense_get_the_right_status() {
    let pair = with_app();
    let many = |count: usize| {
        let objects: Vec<Value> = (0..count).map(|n| json!({ "oid": format!("{n:064x}"), "size": 1 })).collect();
        json!({ "operation": "download", "objects": objects })
    };
    assert_eq!(batch(&pair, US, &many(1000)).status, 200);
    assert_eq!(batch(&pair, US, &many(1001)).status, 413);
    assert_eq!(batch(&pair, US, &many(20_000)).status, 413);
    let post = |path: &str, headers: &str, body: &str| request(&pair, US, &format!("POST {path}"), headers, body);
    let path = "/app/info/lfs/objects/batch";
    for body in
        ["", "{", "[]", "{}", r#"{"operation":"steal","objects":[]}"#, r#"{"operation":"upload","objects":[{}]}"#]
    {
        let answer = post(path, JSON, body);
        assert_eq!((answer.status, answer.json()["message"].is_string()), (422, true), "{body}");
    }
    let good = r#"{"operation":"download","objects":[]}"#;
    assert_eq!(post(path, &format!("{LFS}Accept: text/html\r\n"), good).status, 406);
    let either = format!("{LFS}Accept: text/html, application/vnd.git-lfs+json; q=0.5\r\n");
    assert_eq!(post(path, &either, good).status, 200);
    assert_eq!(post(path, LFS, good).status, 200);
    assert_eq!(post(path, JSON, r#"{"operation":"download","hash_algo":"md5","objects":[]}"#).status, 409);
    // A repository that a push would make has no objects yet.
    let nobodys = json!({ "operation": "download", "objects": [{ "oid": NOBODYS, "size": 1 }] }).to_string();
    let answer = post("/other/info/lfs/objects/batch", JSON, &nobodys);
    assert_eq!((answer.status, &answer.json()["objects"][0]["error"]["code"]), (200, &json!(404)));
    let verify = post("/other/info/lfs/objects/verify", JSON, &json!({ "oid": NOBODYS, "size": 1 }).to_string());
    assert_eq!((verify.status, verify.json()["message"].is_string()), (404, true));
    assert_eq!(request(&pair, US, &format!("GET {path}"), JSON, "").status, 405);
    assert_eq!(request(&pair, US, &format!("DELETE /app/info/lfs/objects/{NOBODYS}"), JSON, "").status, 405);
    assert_eq!(post("/app/info/lfs/locks/verify", JSON, "{}").status, 501);
    for bad in [&NOBODYS[1..], "..%2f..%2ftable.db", &NOBODYS.to_uppercase()] {
        assert_eq!(request(&pair, US, &format!("PUT /app/info/lfs/objects/{bad}"), "", "x").status, 404);
    }
    let lies = "POST /app/info/lfs/objects/batch HTTP/1.1\r\nHost: a@b\r\nConnection: close\r\nContent-Length: ";
    let answer = pair.raw(US, &format!("{lies}{}\r\n\r\n{good}", good.len()));
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
}

#[test]
fn tokens_say_who_may_upload_and_who_may_download() {
    let pair = Pair::with_tokens("ann:0123456789abcdef\nbob:fedcba9876543210:read\n");
    let with = |region: usize, user: &str, secret: &str| {
        pair.url(region, "app").replace("http://", &format!("http://{user}:{secret}@"))
    };
    let work = Work::new(pair.path("work"));
    work.commit("file.bin", b"secret content");
    let ann = with(US, "ann", "0123456789abcdef");
    work.git(&["push", "-q", &ann, "main"]);
    let clone = Work::clone(pair.dir(), &with(US, "bob", "fedcba9876543210"));
    assert_eq!(clone.read("file.bin"), b"secret content");
    let oid = oid_of(b"secret content");
    let anonymous = batch(&pair, US, &json!({ "operation": "download", "objects": [] }));
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.head.to_lowercase().contains("lfs-authenticate: basic"), "{}", anonymous.head);
    assert_eq!(request(&pair, US, &format!("GET /app/info/lfs/objects/{oid}"), "", "").status, 401);
    assert_eq!(put(&pair, &oid_of(b"x"), "", "x").status, 401);
    let bob = "Authorization: Bearer fedcba9876543210\r\n";
    assert_eq!(request(&pair, US, &format!("GET /app/info/lfs/objects/{oid}"), bob, "").status, 200);
    assert_eq!(request(&pair, US, &format!("PUT /app/info/lfs/objects/{}", oid_of(b"x")), bob, "x").status, 403);
    let headers = format!("{JSON}{bob}");
    let body = upload_of(NOBODYS, 1).to_string();
    assert_eq!(request(&pair, US, "POST /app/info/lfs/objects/batch", &headers, &body).status, 403);
    let log = pair.log();
    assert!(!log.contains("0123456789abcdef") && !log.contains("fedcba9876543210"), "a secret is in the log");
}

#[test]
fn a_replica_names_the_place_to_upload_to() {
    let pair = Pair::open();
    let work = Work::new(pair.path("work"));
    work.commit("file.bin", b"content");
    work.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair.wait_until_same(&work.repo(), "app");
    work.commit("other.bin", b"other content");
    let output = work.try_git(&["lfs", "push", "--all", &pair.url(EU, "app")]);
    assert!(!output.status.success());
    assert!(said(&output).contains(&pair.url(US, "app")), "{}", said(&output));
    let oid = oid_of(b"other content");
    let answer = request(&pair, EU, &format!("PUT /app/info/lfs/objects/{oid}"), "", "other content");
    assert_eq!(answer.status, 403);
    assert!(answer.json()["message"].as_str().unwrap().contains(&pair.url(US, "app")));
    assert_eq!(stored(&pair.path("data/eu-west-1"), &oid), None);
}

#[test]
fn an_object_that_comes_after_its_pointer_reaches_the_other_region() {
    let pair = Pair::open();
    let repo = with_pointer(&pair.path("src.git"), b"came late");
    let source = repo.path.to_str().unwrap();
    let output = gitferry(&pair, &["import", source, "app", "--region", "us-east-1", "--json"]);
    let imported: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(imported["lfs_missing"], 1, "{imported}");
    pair.wait_until_same(&repo, "app");
    let oid = oid_of(b"came late");
    let download = json!({ "operation": "download", "objects": [{ "oid": oid, "size": 9 }] });
    assert_eq!(batch(&pair, EU, &download).json()["objects"][0]["error"]["code"], 404);
    assert_eq!(put(&pair, &oid, "", "came late").status, 200);
    let path = format!("GET /app/info/lfs/objects/{oid}");
    pair.wait(|| request(&pair, EU, &path, "", "").body == "came late");
    // It is named once.
    assert_eq!(put(&pair, &oid, "", "came late").status, 200);
    let output = gitferry(&pair, &["verify", "app", "--region", "us-east-1", "--json"]);
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&verified["ok"], &verified["repositories"][0]["changes"]), (&json!(true), &json!(2)), "{verified}");
}

#[test]
fn policies_say_how_large_objects_are_and_whether_they_may_come_later() {
    let policies = "[[push_policies]]\nmax_lfs_object = \"10 B\"\nlfs_missing = \"allow\"\n";
    let pair = Pair::configured(policies, &[]);
    let repo = with_pointer(&pair.path("src.git"), b"came late");
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair.wait_until_same(&repo, "app");
    let (large, late) = (oid_of(b"01234567890"), oid_of(b"came late"));
    assert_eq!(batch(&pair, US, &upload_of(&large, 11)).json()["objects"][0]["error"]["code"], 422);
    assert_eq!(put(&pair, &large, "", "01234567890").status, 413);
    let chunked = "b\r\n01234567890\r\n0\r\n\r\n";
    let path = format!("PUT /app/info/lfs/objects/{large}");
    assert_eq!(request(&pair, US, &path, "Transfer-Encoding: chunked\r\n", chunked).status, 413);
    assert_eq!(put(&pair, &late, "", "came late").status, 200);
    let path = format!("GET /app/info/lfs/objects/{late}");
    pair.wait(|| request(&pair, EU, &path, "", "").body == "came late");
}

#[test]
fn a_replica_that_forwards_takes_objects_by_way_of_the_primary() {
    let pair = Pair::with_hosts(["", "on_push = \"forward\""]);
    let work = Work::new(pair.path("work"));
    work.commit("file.bin", b"content");
    work.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    pair.wait_until_same(&work.repo(), "app");
    work.commit("other.bin", b"other content");
    work.git(&["push", "-q", &pair.url(EU, "app"), "main"]);
    // Who pushed reads their own write.
    assert_eq!(Work::clone(pair.dir(), &pair.url(EU, "app")).read("other.bin"), b"other content");
    let headers = format!("{JSON}Authorization: Basic YTpi\r\n");
    let body = upload_of(NOBODYS, 1).to_string();
    let offered = request(&pair, EU, "POST /app/info/lfs/objects/batch", &headers, &body).json();
    let upload = &offered["objects"][0]["actions"]["upload"];
    assert!(upload["href"].as_str().unwrap().starts_with(&pair.url(US, "app")), "{offered}");
    assert_eq!(upload["header"]["Authorization"], "Basic YTpi");
    let wrong = upload_of(NOBODYS, 1).to_string().replace("upload", "upset");
    assert_eq!(request(&pair, EU, "POST /app/info/lfs/objects/batch", JSON, &wrong).status, 422);
}

#[test]
fn hrefs_lead_to_where_the_host_says_it_is_reached() {
    let pair = Pair::with_hosts(["url = \"https://git.example.com/base\"", ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let offered = batch(&pair, US, &upload_of(NOBODYS, 1)).json();
    let href = format!("https://git.example.com/base/app/info/lfs/objects/{NOBODYS}?size=1");
    assert_eq!(offered["objects"][0]["actions"]["upload"]["href"], href);
}
