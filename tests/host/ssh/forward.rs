//! Pushes over SSH to a replica, which go to the primary over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Output, Stdio};
use std::sync::{Arc, Mutex};

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::lfs_work::{Work, oid_of, stored};
use gitferry_test_support::pair::{EU, REGIONS, US};
use serde_json::Value;

use super::Ssh;
use crate::iam::POWER_USER;
use crate::raw::{line, push_body};
use crate::said;

const FORWARD: &str = "on_push = \"forward\"";

/// A repository that both regions have.
fn replicated(ssh: &Ssh) -> GitRepo {
    let repo = ssh.with_app();
    ssh.pair.wait_until_same(&repo, "app");
    repo
}

/// `git-receive-pack` of a replica, with open input.
fn receive_pack(ssh: &Ssh, name: &str) -> (Child, ChildStdin) {
    let command = format!("git-receive-pack '{name}'");
    let mut command = ssh.ssh_to(EU, "git", &ssh.key("ann"), &[], &[&command]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

/// Sends pieces, and reads the answer before the input ends.
fn talk(ssh: &Ssh, pieces: &[&[u8]]) -> Output {
    let (child, mut stdin) = receive_pack(ssh, "app");
    for piece in pieces {
        stdin.write_all(piece).unwrap();
        stdin.flush().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    output
}

/// Requests of a route that the host of the primary has answered well.
fn requests(ssh: &Ssh, route: &str) -> u64 {
    let page = ssh.pair.raw(US, "GET /_metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let name = format!(
        "gitferry_host_request_duration_seconds_count{{region=\"us-east-1\",route=\"{route}\",outcome=\"2xx\"}} "
    );
    page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

fn refs(ssh: &Ssh, region: usize) -> String {
    GitRepo::at(ssh.pair.path("src.git")).git(&["ls-remote", &ssh.pair.url(region, "app")])
}

#[test]
fn who_pushes_over_ssh_reads_their_own_write() {
    let ssh = Ssh::anonymous(["", FORWARD], "");
    let repo = replicated(&ssh);
    let here = ssh.url(EU, "app");
    for number in 0..4 {
        let id = repo.commit_bytes("main", "data", &noise(number, 100_000 << number));
        let pushed = ssh.try_git("ann", &repo, &["push", "-o", "ci.skip", &here, "main", "main:refs/heads/new"]);
        assert!(pushed.status.success(), "{}\n{}", said(&pushed), ssh.pair.log());
        let listed = ssh.git("ann", &repo, &["ls-remote", &here, "refs/heads/main"]);
        assert!(listed.starts_with(&id), "push {number}: {listed}");
    }
    assert!(!ssh.pair.log().contains("answered before it was replicated here"), "{}", ssh.pair.log());
    // Deletions have no pack.
    ssh.git("ann", &repo, &["push", "-q", &here, ":side", ":new"]);
    assert_eq!(ssh.git("ann", &repo, &["ls-remote", &here, "side", "new"]), "");
    assert_eq!(refs(&ssh, US), refs(&ssh, EU));
    // A client that has nothing to push costs the primary the advertisement.
    let before = [requests(&ssh, "push_refs"), requests(&ssh, "push")];
    repo.commit("main", "more", "more\n");
    ssh.git("ann", &repo, &["push", "-q", "--dry-run", &here, "main"]);
    ssh.git("ann", &repo, &["push", "-q", &here, "main~1:main"]);
    for input in [&b"0000"[..], b""] {
        let (child, mut stdin) = receive_pack(&ssh, "app");
        stdin.write_all(input).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(" refs/heads/main\0"), "{}", said(&output));
        assert!(!said(&output).contains("# service"), "{}", said(&output));
    }
    ssh.pair.wait(|| requests(&ssh, "push_refs") >= before[0] + 4);
    assert_eq!([requests(&ssh, "push_refs"), requests(&ssh, "push")], [before[0] + 4, before[1]]);
    // A push that creates its repository does so at the primary.
    ssh.git("ann", &repo, &["push", "-q", &ssh.url(EU, "born"), "main"]);
    let log = ssh.pair.ok(&["log", "born", "--region", REGIONS[US], "--json"]);
    assert!(log.contains(&repo.git(&["rev-parse", "main"])), "{log}");
    let born = ssh.git("ann", &repo, &["ls-remote", &ssh.url(EU, "born"), "main"]);
    assert!(born.starts_with(&repo.git(&["rev-parse", "main"])), "{born}");
}

const POLICIES: &str = r#"
[[push_policies]]
repositories = ["app"]
protect = [{ refs = ["refs/heads/side"], forbid = ["force", "delete"] }]
pre_receive = { command = ["sh", "-c", "cat >/dev/null; echo hello from the hook >&2"] }
"#;

#[test]
fn reports_and_messages_of_the_primary_come_back_as_they_are() {
    let ssh = Ssh::anonymous(["", FORWARD], POLICIES);
    let repo = replicated(&ssh);
    let here = ssh.url(EU, "app");
    let main = repo.git(&["rev-parse", "main"]);
    repo.commit("main", "more", "more\n");
    let output = ssh.try_git("ann", &repo, &["push", &here, "main", ":side"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("protected ref: no deletion"), "{}", said(&output));
    assert!(said(&output).contains("remote: hello from the hook"), "{}", said(&output));
    assert!(said(&output).contains("main -> main"), "{}", said(&output));
    // All or none.
    let id = repo.commit("main", "more", "again\n");
    let output = ssh.try_git("ann", &repo, &["push", "--atomic", &here, "main", ":side"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("[remote rejected]") && !refs(&ssh, US).contains(&id), "{}", said(&output));
    // The client decides by the refs of the primary.
    let stale = ssh.try_git("ann", &repo, &["push", &here, &format!("{main}:refs/heads/main")]);
    assert!(said(&stale).contains("non-fast-forward"), "{}", said(&stale));
}

/// Clients other than Git keep their side open after the pack; some are not whole, and some lie.
#[test]
fn the_end_of_a_push_is_found_and_what_is_damaged_is_refused() {
    let limits = "limits = { requests = 1 }";
    let ssh = Ssh::anonymous([limits, &format!("{FORWARD}\n{limits}")], "");
    let repo = replicated(&ssh);
    let body = push_body(&repo, "open");
    let (first, second) = body.split_at(body.len() / 2);
    let report = talk(&ssh, &[&first[..2], &first[2..], second]);
    assert_eq!(report.status.code(), Some(0), "{}", said(&report));
    assert!(said(&report).contains("ok refs/heads/open"), "{}", said(&report));
    let before = refs(&ssh, US);
    assert!(before.contains("refs/heads/open"), "{before}");
    // Packs that are damaged, or have more objects than they say, or bytes behind them.
    let body = push_body(&repo, "bad");
    let pack = body.windows(4).position(|bytes| bytes == b"PACK").unwrap();
    // In the checksum of the last object, and in that of the pack.
    let [damaged, unsealed] = [22, 5].map(|from_end| {
        let mut damaged = body.clone();
        damaged[body.len() - from_end] ^= 1;
        damaged
    });
    let mut fewer = body.clone();
    fewer[pack + 11] -= 1;
    let more = [&body[..], b"more"].concat();
    let garbage = [&body[..pack], b"not a pack at all"].concat();
    for pushed in [&damaged, &unsealed, &fewer, &more, &garbage] {
        let report = talk(&ssh, &[pushed]);
        assert!(said(&report).contains("unpack pack: "), "{}", said(&report));
    }
    // One that has fewer has no end; the client's own counts.
    let mut liar = body.clone();
    liar[pack + 11] += 1;
    for pushed in [&liar[..], &body[..body.len() - 1], &body[..pack - 10]] {
        let (child, mut stdin) = receive_pack(&ssh, "app");
        stdin.write_all(pushed).unwrap();
        drop(stdin);
        let report = child.wait_with_output().unwrap();
        assert!(!said(&report).contains("ok refs/heads/bad"), "{}", said(&report));
    }
    // What is no push is not sent on.
    let before_requests = requests(&ssh, "push");
    let refused = talk(&ssh, &[b"GET / HTTP/1.1\r\n\r\n"]);
    assert_eq!(refused.status.code(), Some(128));
    assert!(said(&refused).contains("the end of the push cannot be found"), "{}", said(&refused));
    assert_eq!(requests(&ssh, "push"), before_requests);
    // Clients that vanish in the middle leave nothing behind, not even a slot.
    for cut in [3, pack - 10, pack + 20, body.len() - 1] {
        let (mut child, mut stdin) = receive_pack(&ssh, "app");
        stdin.write_all(&body[..cut]).unwrap();
        stdin.flush().unwrap();
        let mut advertised = [0; 4];
        child.stdout.as_mut().unwrap().read_exact(&mut advertised).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(refs(&ssh, US), before);
    }
    for region in [US, EU] {
        ssh.pair.wait(|| ssh.pair.spooled(region).is_empty());
        assert_eq!(refs(&ssh, region), before);
    }
}

/// A primary that answers by plan: the listing of refs, then the push.
struct Primary {
    /// Status of each request, and what is wrong with it.
    plan: Arc<Mutex<[(u16, Fault); 2]>>,
    /// Heads of requests.
    heads: Arc<Mutex<Vec<String>>>,
    port: u16,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The connection closes without an answer, once the request is read.
    Lost,
    /// The connection closes in the middle of the answer.
    Cut,
}

impl Primary {
    fn start() -> Primary {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plan = Arc::new(Mutex::new([(200, Fault::None); 2]));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (planned, seen) = (plan.clone(), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (planned, seen) = (planned.clone(), seen.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &planned, &seen));
            }
        });
        Primary { plan, heads, port }
    }

    fn plan(&self, refs: (u16, Fault), push: (u16, Fault)) {
        *self.plan.lock().unwrap() = [refs, push];
        self.heads.lock().unwrap().clear();
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, plan: &Mutex<[(u16, Fault); 2]>, heads: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let is_push = head.starts_with("POST");
    heads.lock().unwrap().push(head.to_lowercase());
    let mut body = Vec::new();
    while is_push && !body.ends_with(b"0\r\n\r\n") {
        let mut piece = [0; 4096];
        let count = reader.read(&mut piece).unwrap_or(0);
        if count == 0 {
            return;
        }
        body.extend_from_slice(&piece[..count]);
    }
    let (status, fault) = plan.lock().unwrap()[usize::from(is_push)];
    let (kind, text) = if is_push {
        ("result", "002d\u{1}000eunpack ok\n0016ok refs/heads/new\n00000000".to_owned())
    } else {
        let first = format!("{} capabilities^{{}}\0report-status side-band-64k\n", "0".repeat(40));
        ("advertisement", format!("001f# service=git-receive-pack\n0000{}0000", line(&first)))
    };
    let head = format!(
        "HTTP/1.1 {status} Planned\r\nContent-Type: application/x-git-receive-pack-{kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    let mut stream = stream;
    let answer = match fault {
        Fault::None => head + &text,
        Fault::Lost => String::new(),
        Fault::Cut => head + &text[..10],
    };
    // The client may have left.
    let _ = stream.write_all(answer.as_bytes());
}

#[test]
fn what_the_primary_says_and_does_not_say_becomes_a_sentence() {
    let primary = Primary::start();
    let url = format!("url = \"http://127.0.0.1:{}\"", primary.port);
    let ssh = Ssh::anonymous([&url, &format!("{FORWARD}\nlimits = {{ forward_wait = \"1s\" }}")], "");
    let repo = replicated(&ssh);
    let here = ssh.url(EU, "app");
    let fine = (200, Fault::None);
    let push = || ssh.try_git("ann", &repo, &["push", &here, "main:new"]);
    for (refs, report, sentence, state) in [
        ((401, Fault::None), fine, "does not know these credentials", "nothing was pushed"),
        ((403, Fault::None), fine, "does not allow this client to push", "nothing was pushed"),
        ((404, Fault::None), fine, "has no such repository", "nothing was pushed"),
        ((409, Fault::None), fine, "has another repository of that name", "nothing was pushed"),
        ((503, Fault::None), fine, "is too busy", "nothing was pushed"),
        ((500, Fault::None), fine, "answered 500", "nothing was pushed"),
        ((200, Fault::Lost), fine, "did not answer", "nothing was pushed"),
        ((200, Fault::Cut), fine, "did not answer", "nothing was pushed"),
        (fine, (403, Fault::None), "does not allow this client to push", "nothing was pushed"),
        (fine, (409, Fault::None), "has another repository of that name", "nothing was pushed"),
        (fine, (502, Fault::None), "answered 502", "may have happened"),
        (fine, (200, Fault::Lost), "did not answer", "may have happened"),
        (fine, (200, Fault::Cut), "did not answer", "may have happened"),
    ] {
        primary.plan(refs, report);
        let output = push();
        let text = said(&output);
        assert!(!output.status.success() && text.contains(sentence) && text.contains(state), "{sentence}: {text}");
        assert!(text.contains(&format!("the primary http://127.0.0.1:{}", primary.port)), "{text}");
    }
    // A push that the primary has, and whose replication cannot be asked about.
    primary.plan(fine, fine);
    let output = push();
    assert!(output.status.success(), "{}\n{}", said(&output), ssh.pair.log());
    assert!(said(&output).contains("eu-west-1 will have it later"), "{}", said(&output));
    let heads = primary.heads();
    let shown: Value =
        serde_json::from_str(&ssh.pair.ok(&["repo", "show", "app", "--region", REGIONS[EU], "--json"])).unwrap();
    let id = format!("gitferry-repository: {}\r\n", shown["id"].as_str().unwrap());
    for head in &heads[..2] {
        assert!(head.contains(&id) && head.contains("gitferry-forwarded-by: eu-west-1\r\n"), "{head}");
        assert!(head.contains("user-agent: ssh-2.0-openssh"), "{head}");
    }
    // Nothing is sent where no connection is made.
    let file = ssh.pair.path("data/gitferry.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace(&format!("127.0.0.1:{}\"", primary.port), "127.0.0.1:1\"")).unwrap();
    let mut ssh = ssh;
    ssh.pair.restart();
    let output = ssh.try_git("ann", &repo, &["push", &here, "main:new"]);
    assert!(said(&output).contains("http://127.0.0.1:1 in us-east-1 cannot be reached"), "{}", said(&output));
}

#[test]
fn the_primary_decides_for_the_key() {
    let ssh = Ssh::with_account_and(["", FORWARD]);
    let iam = ssh.iam();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    iam.put(
        "ann",
        "prod",
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "arn:aws:codecommit:us-east-1:*:app",
             "Condition": {"StringEquals": {"codecommit:References": "refs/heads/prod"}}}
        ]}"#,
    );
    iam.settle(US);
    iam.settle(EU);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    // The push makes the repository, at the primary.
    let here = ann.url(&ssh, EU, "app");
    ssh.ok_as(&ann, &repo, &["push", "-q", &here, "main"]);
    let id = repo.commit("main", "x", "1");
    let both = ssh.run_as(&ann, &repo, &["push", &here, "main", "main:prod"]);
    assert!(!both.status.success(), "{}", said(&both));
    assert!(said(&both).contains("explicitly denies codecommit:GitPush on this ref"), "{}", said(&both));
    let listed = ssh.ok_as(&ann, &repo, &["ls-remote", &here]);
    assert!(listed.contains(&id) && !listed.contains("prod"), "{listed}");
    let user = format!("arn:aws:iam::{}:user/ann", iam.account());
    let log = ssh.pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let newest: Value = serde_json::from_str(log.lines().find(|line| line.contains(&id)).unwrap()).unwrap();
    assert_eq!(newest["actor"], user);
    // Objects of Git LFS go to the primary as well.
    let work = Work::new(ssh.pair.path("work"));
    let content = noise(7, 50_000);
    work.commit("large.bin", &content);
    let pushed = ssh.git_as(&ann, &work.path).args(["push", &ann.url(&ssh, EU, "large"), "main"]).output().unwrap();
    assert!(pushed.status.success(), "{}\n{}", said(&pushed), ssh.pair.log());
    assert!(stored(&ssh.pair.path("data/us-east-1"), &oid_of(&content)).is_some(), "{}", ssh.pair.log());
    // Both hosts have a record, and no secret is in the log.
    let records = |region: usize| {
        std::fs::read_to_string(ssh.pair.path(&format!("data/audit-{}.jsonl", REGIONS[region]))).unwrap_or_default()
    };
    let has = |region: usize, member: &str| {
        records(region).lines().any(|line| line.contains(member) && line.contains(&user) && line.contains("GitPush"))
    };
    ssh.pair.wait(|| has(EU, "\"forwardedTo\":\"us-east-1\"") && has(US, "\"forwardedBy\":\"eu-west-1\""));
    assert!(!ssh.pair.log().contains("Gitferry-Delegation "), "a secret is in the log");
    // A key that is inactive by now is of no use.
    iam.json(&["ssh-key", "deactivate", &ann.id, "--user", "ann"]);
    iam.settle(US);
    let refused = ssh.run_as(&ann, &repo, &["push", &here, "main:late"]);
    assert!(!refused.status.success(), "{}", said(&refused));
}
