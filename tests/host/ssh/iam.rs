//! Users of an account, by their SSH keys: the user name is the id of the key.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::lfs_work::Work;
use gitferry_test_support::pair::{EU, REGIONS, US};
use russh::client::Config;
use russh::keys::Algorithm;
use serde_json::Value;

use super::client::{Device, connect, drain};
use super::{Ssh, keys, public};
use crate::iam::{Iam, POWER_USER, READ_ONLY, deny_prod};
use crate::said;

const ADMINISTRATOR: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
/// Longest time until a host refuses what a change has revoked, as documented.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);
/// Time that a login takes on a busy machine.
const LOGIN: Duration = Duration::from_secs(3);

/// An SSH key of a user of the account.
pub(super) struct Key {
    pub(super) id: String,
    user: String,
    pub(super) file: PathBuf,
}

impl Ssh {
    pub(super) fn iam(&self) -> Iam<'_> {
        Iam { pair: &self.pair }
    }

    /// Makes a key of a kind and a size for a user.
    fn upload(&self, user: &str, kind: &str, bits: &str) -> Key {
        let file = self.keys.path().join(format!("{user}-{kind}-{bits}"));
        keys::sized(&file, kind, bits);
        let id = self.upload_line(user, &public(&file));
        Key { id, user: user.to_owned(), file }
    }

    /// Uploads the content of a `.pub` file; the id of the key.
    fn upload_line(&self, user: &str, line: &str) -> String {
        let file = self.pair.path("upload.pub");
        std::fs::write(&file, line).unwrap();
        let made = self.iam().json(&["ssh-key", "upload", file.to_str().unwrap(), "--user", user]);
        made["ssh_key_id"].as_str().unwrap().to_owned()
    }

    /// Makes a user with managed policies and an Ed25519 key.
    pub(super) fn new_user(&self, name: &str, policies: &[&str]) -> Key {
        self.iam().new_user(name, policies);
        self.upload(name, "ed25519", "256")
    }

    /// Logs in as a user name with a key file; all that the client says.
    pub(super) fn login(&self, user: &str, file: &Path, options: &[&str]) -> String {
        said(&self.ssh_as(user, file, options, &[]).output().unwrap())
    }

    pub(super) fn greets(&self, key: &Key) -> bool {
        let name = format!(":user/{}!", key.user);
        self.login(&key.id, &key.file, &[]).contains(&name)
    }

    pub(super) fn git_as(&self, key: &Key, dir: &Path) -> Command {
        // `command` finds the key by the name of its file.
        self.command(key.file.file_name().unwrap().to_str().unwrap(), dir, &[])
    }

    pub(super) fn run_as(&self, key: &Key, repo: &GitRepo, args: &[&str]) -> Output {
        self.git_as(key, &repo.path).args(args).output().unwrap()
    }

    pub(super) fn ok_as(&self, key: &Key, repo: &GitRepo, args: &[&str]) -> String {
        let output = self.run_as(key, repo, args);
        assert!(output.status.success(), "git {args:?}: {}\n{}", said(&output), self.pair.log());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Key {
    pub(super) fn url(&self, ssh: &Ssh, region: usize, path: &str) -> String {
        format!("ssh://{}@{}/{path}", self.id, ssh.address(region))
    }
}

#[test]
fn every_kind_of_key_logs_in_under_its_id() {
    let ssh = Ssh::with_account();
    let kinds = [
        ("ann", "ed25519", "256"),
        ("ann", "ecdsa", "256"),
        ("ann", "ecdsa", "384"),
        ("ann", "ecdsa", "521"),
        ("bob", "rsa", "2048"),
        ("bob", "rsa", "4096"),
    ];
    for user in ["ann", "bob"] {
        ssh.iam().new_user(user, &[]);
    }
    let keys = kinds.map(|(user, kind, bits)| ssh.upload(user, kind, bits));
    ssh.iam().settle(US);
    for key in &keys {
        assert!(key.id.starts_with("APKA"), "{}", key.id);
        let greeting = ssh.login(&key.id, &key.file, &[]);
        assert!(greeting.contains(&format!(":user/{}! gitferry gives no shell", key.user)), "{greeting}");
    }
    let rsa = |algorithm: &str| {
        ssh.login(&keys[4].id, &keys[4].file, &["-o", &format!("PubkeyAcceptedAlgorithms={algorithm}")])
    };
    assert!(rsa("rsa-sha2-256").contains("Hi ") && rsa("rsa-sha2-512").contains("Hi "));
    assert!(!rsa("ssh-rsa").contains("Hi "), "{}", rsa("ssh-rsa"));
    // A key that is too short is not taken.
    let short = ssh.keys.path().join("short");
    keys::sized(&short, "rsa", "1024");
    let file = short.with_extension("pub");
    let region = REGIONS[US];
    let refused =
        ssh.pair.gitferry(&["iam", "ssh-key", "upload", file.to_str().unwrap(), "--user", "bob", "--region", region]);
    assert!(said(&refused).contains("2048 to 8192 bits"), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn security_keys_of_the_account_log_in() {
    let ssh = Ssh::with_account();
    ssh.iam().new_user("ann", &[]);
    let kinds = [Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256];
    let mut devices = kinds.map(Device::new);
    let ids = devices.each_ref().map(|(_, key)| ssh.upload_line("ann", &key.to_openssh().unwrap()));
    ssh.iam().settle(US);
    for ((device, key), id) in devices.iter_mut().zip(&ids) {
        let mut session = connect(&ssh, Config::default()).await;
        let result = session.authenticate_publickey_with(id.as_str(), key.clone(), None, device).await.unwrap();
        assert!(result.success(), "{}: {}", key.algorithm(), ssh.pair.log());
        let channel = session.channel_open_session().await.unwrap();
        channel.request_shell(true).await.unwrap();
        let (_, greeting, status) = drain(channel).await;
        assert!(greeting.contains(":user/ann!") && status == Some(1), "{greeting}");
    }
    // Another device with a key of the same kind does not pass for it, nor does a key for the other's id.
    let (mut stranger, _) = Device::new(Algorithm::SkEd25519);
    let key = devices[0].1.clone();
    let mut session = connect(&ssh, Config::default()).await;
    let result = session.authenticate_publickey_with(ids[0].as_str(), key.clone(), None, &mut stranger).await.unwrap();
    assert!(!result.success());
    let mut session = connect(&ssh, Config::default()).await;
    let result = session.authenticate_publickey_with(ids[1].as_str(), key, None, &mut devices[0].0).await.unwrap();
    assert!(!result.success());
}

#[test]
fn an_id_and_a_key_that_do_not_belong_together_are_refused_like_unknown_ones() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    let bob = ssh.new_user("bob", &[POWER_USER]);
    let gone = ssh.new_user("gone", &[POWER_USER]);
    ssh.iam().settle(US);
    assert!(ssh.greets(&ann) && ssh.greets(&bob) && ssh.greets(&gone));
    ssh.iam().json(&["ssh-key", "deactivate", &bob.id, "--user", "bob"]);
    ssh.iam().json(&["ssh-key", "delete", &gone.id, "--user", "gone"]);
    ssh.iam().json(&["policy", "detach", POWER_USER, "--user", "gone"]);
    ssh.iam().json(&["user", "delete", "gone"]);
    ssh.iam().settle(US);
    let stranger = ssh.keys.path().join("stranger");
    keys::sized(&stranger, "ed25519", "256");
    let unknown = "APKAAAAAAAAAAAAAAAAA";
    let cases = [
        ("no key of the account", ann.id.as_str(), &stranger),
        ("key of another user", &ann.id, &bob.file),
        ("inactive key", &bob.id, &bob.file),
        ("key of a deleted user", &gone.id, &gone.file),
        ("unknown id", unknown, &ann.file),
        ("name of the user", "ann", &ann.file),
        ("name of other hosts", "git", &ann.file),
        ("id in small letters", &ann.id.to_lowercase(), &ann.file),
    ];
    let mut times = Vec::new();
    for (case, user, file) in cases {
        let start = Instant::now();
        let answer = ssh.login(user, file, &[]);
        times.push(start.elapsed());
        assert!(answer.trim().ends_with("Permission denied (publickey)."), "{case}: {answer}");
    }
    let slowest = times.iter().max().unwrap();
    let fastest = times.iter().min().unwrap();
    assert!(*slowest - *fastest < Duration::from_secs(2), "{times:?}");
    assert!(ssh.greets(&ann));
}

#[test]
fn what_is_revoked_is_refused_on_connections_that_are_open() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    ssh.iam().settle(US);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    ssh.ok_as(&ann, &repo, &["push", "-q", &ann.url(&ssh, US, "app"), "main"]);
    let path = format!("ControlPath={}", ssh.pair.path("control").display());
    let open = || {
        let master = ["-o", "ControlMaster=yes", "-o", &path, "-N", "-f"];
        assert!(ssh.ssh_as(&ann.id, &ann.file, &master, &[]).status().unwrap().success());
    };
    let shared = |command: &str| {
        let options = ["-o", "ControlMaster=no", "-o", &path];
        ssh.ssh_as(&ann.id, &ann.file, &options, &[command]).output().unwrap()
    };
    let fetches = || shared("git-upload-pack 'app'").status.success();
    open();
    assert!(fetches());
    // Rights are those of the moment.
    ssh.iam().json(&["policy", "detach", POWER_USER, "--user", "ann"]);
    let start = Instant::now();
    ssh.pair.wait(|| !fetches());
    assert!(start.elapsed() < REVOKED_WITHIN + LOGIN, "{:?}", start.elapsed());
    let refused = shared("git-upload-pack 'app'");
    assert!(said(&refused).contains("no policy allows codecommit:GitPull"), "{}", said(&refused));
    ssh.iam().json(&["policy", "attach", POWER_USER, "--user", "ann"]);
    ssh.iam().settle(US);
    assert!(fetches());
    // A key that is deactivated ends the connection with the first command.
    ssh.iam().json(&["ssh-key", "deactivate", &ann.id, "--user", "ann"]);
    let start = Instant::now();
    ssh.pair.wait(|| !fetches());
    assert!(start.elapsed() < REVOKED_WITHIN + LOGIN, "{:?}", start.elapsed());
    assert!(!ssh.greets(&ann));
    ssh.iam().json(&["ssh-key", "activate", &ann.id, "--user", "ann"]);
    ssh.iam().settle(US);
    assert!(ssh.greets(&ann));
}

#[test]
fn policies_decide_on_repositories_and_on_each_ref() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    let bob = ssh.new_user("bob", &[READ_ONLY]);
    let eve = ssh.new_user("eve", &[]);
    let account = ssh.iam().account();
    ssh.iam().put("ann", "deny-prod", &deny_prod(&account, true));
    ssh.iam().settle(US);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    for path in ["v1/repos/app", "app"] {
        ssh.ok_as(&ann, &repo, &["push", "-q", &ann.url(&ssh, US, path), "main"]);
        ssh.ok_as(&bob, &repo, &["ls-remote", &bob.url(&ssh, US, path)]);
    }
    repo.commit("main", "x", "1");
    let both = ssh.run_as(&ann, &repo, &["push", &ann.url(&ssh, US, "app"), "main", "main:refs/heads/prod"]);
    assert!(!both.status.success());
    assert!(said(&both).contains("explicitly denies codecommit:GitPush on this ref"), "{}", said(&both));
    let listed = ssh.ok_as(&ann, &repo, &["ls-remote", &ann.url(&ssh, US, "app"), "refs/heads/*"]);
    assert_eq!(listed.trim_end(), format!("{}\trefs/heads/main", repo.git(&["rev-parse", "main"])));
    let refused = ssh.run_as(&bob, &repo, &["push", &bob.url(&ssh, US, "app"), "main:refs/heads/bob"]);
    assert!(said(&refused).contains("no policy allows codecommit:GitPush on the repository"), "{}", said(&refused));
    // A repository that exists and one that does not look the same to a user without rights.
    let answers = ["app", "nothing"].map(|name| {
        let output = ssh.run_as(&eve, &repo, &["ls-remote", &eve.url(&ssh, US, name)]);
        assert!(!output.status.success());
        said(&output).replace(name, "NAME")
    });
    assert_eq!(answers[0], answers[1]);
    let log = ssh.pair.ok(&["log", "app", "--region", "us-east-1", "--json"]);
    assert!(log.contains(&format!("arn:aws:iam::{account}:user/ann")), "{log}");
}

#[test]
fn the_repository_of_the_account_is_out_of_reach() {
    let ssh = Ssh::with_account();
    let root = ssh.new_user("root-user", &[ADMINISTRATOR]);
    ssh.iam().settle(US);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    let shown = ssh.pair.ok(&["repo", "show", "gitferry/account", "--region", "us-east-1", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let id = shown["id"].as_str().unwrap_or_else(|| panic!("{shown}"));
    ssh.ok_as(&root, &repo, &["push", "-q", &root.url(&ssh, US, "app"), "main"]);
    for path in ["gitferry/account", "v1/repos/gitferry/account.git", id] {
        for command in ["git-upload-pack '/{}'", "git-receive-pack '/{}'", "git-lfs-authenticate '/{}' download"] {
            let command = command.replace("{}", path);
            let output = ssh.ssh_as(&root.id, &root.file, &[], &[&command]).output().unwrap();
            assert_eq!(output.status.code(), Some(128), "{command}: {}", said(&output));
            assert!(said(&output).contains("there is no repository"), "{command}: {}", said(&output));
        }
    }
}

#[test]
fn both_regions_know_the_keys() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    ssh.iam().settle(US);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    ssh.ok_as(&ann, &repo, &["push", "-q", "--mirror", &ann.url(&ssh, US, "team/app")]);
    ssh.iam().settle(EU);
    let there = ann.url(&ssh, EU, "team/app");
    ssh.pair.wait(|| ssh.run_as(&ann, &repo, &["ls-remote", &there, "main"]).status.success());
    let to = ssh.pair.path("clone");
    ssh.ok_as(&ann, &repo, &["clone", "-q", "--mirror", &there, to.to_str().unwrap()]);
    let clone = GitRepo::at(to);
    assert_eq!(clone.refs(), repo.refs());
    clone.git(&["fsck", "--strict", "--no-dangling"]);
    let refused = ssh.run_as(&ann, &repo, &["push", &there, "main:refs/heads/new"]);
    assert!(said(&refused).contains(&ssh.pair.url(US, "team/app")), "{}", said(&refused));
}

#[test]
fn lfs_objects_go_with_the_rights_of_the_key() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    let bob = ssh.new_user("bob", &[READ_ONLY]);
    ssh.iam().settle(US);
    let work = Work::new(ssh.pair.path("work"));
    let content = noise(9, 200_000);
    work.commit("large.bin", &content);
    let url = |key: &Key| key.url(&ssh, US, "v1/repos/app");
    let pushed = ssh.git_as(&ann, &ssh.pair.path("work")).args(["push", &url(&ann), "main"]).output().unwrap();
    assert!(pushed.status.success(), "{}\n{}", said(&pushed), ssh.pair.log());
    let to = ssh.pair.path("clone");
    let mut clone = ssh.git_as(&bob, ssh.pair.dir());
    clone.args(["-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.process=git-lfs filter-process"]);
    clone.args(["-c", "filter.lfs.required=true", "clone", "-q", &url(&bob), to.to_str().unwrap()]);
    let cloned = clone.env("GIT_LFS_SKIP_SMUDGE", "0").output().unwrap();
    assert!(cloned.status.success(), "{}\n{}", said(&cloned), ssh.pair.log());
    assert_eq!(std::fs::read(to.join("large.bin")).unwrap(), content);
    let ask = |key: &Key, operation: &str| {
        let command = format!("git-lfs-authenticate app {operation}");
        ssh.ssh_as(&key.id, &key.file, &[], &[&command]).output().unwrap()
    };
    let refused = ask(&bob, "upload");
    assert!(said(&refused).contains("no policy allows codecommit:GitPush"), "{}", said(&refused));
    // A credential ends with its key.
    let answer: Value = serde_json::from_slice(&ask(&ann, "download").stdout).unwrap();
    let authorization = answer["header"]["Authorization"].as_str().unwrap();
    let body = r#"{"operation":"download","objects":[]}"#;
    let batch = || {
        let head = format!(
            "POST /app/info/lfs/objects/batch HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Accept: application/vnd.git-lfs+json\r\nContent-Type: application/vnd.git-lfs+json\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        ssh.pair.raw(US, &(head + body)).split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(batch(), "200");
    ssh.iam().json(&["ssh-key", "deactivate", &ann.id, "--user", "ann"]);
    ssh.iam().settle(US);
    assert_eq!(batch(), "401");
}

#[test]
fn each_command_has_a_record_in_the_audit_trail() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[POWER_USER]);
    let eve = ssh.new_user("eve", &[]);
    ssh.iam().settle(US);
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    ssh.ok_as(&ann, &repo, &["push", "-q", &ann.url(&ssh, US, "app"), "main"]);
    let to = ssh.pair.path("clone");
    ssh.ok_as(&ann, &repo, &["clone", "-q", &ann.url(&ssh, US, "app"), to.to_str().unwrap()]);
    assert!(!ssh.run_as(&eve, &repo, &["ls-remote", &eve.url(&ssh, US, "app")]).status.success());
    assert!(ssh.greets(&ann));
    let file = ssh.pair.path("data").join(format!("audit-{}.jsonl", REGIONS[US]));
    let records = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let records = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["additionalEventData"]["protocol"] == "SSH").collect()
    };
    ssh.pair.wait(|| records().len() >= 3);
    let [push, clone, denied] = &records()[..] else { panic!("{:?}", records()) };
    let user = format!("arn:aws:iam::{}:user/ann", ssh.iam().account());
    for (record, name) in [(push, "GitPush"), (clone, "GitPull")] {
        assert_eq!((&record["eventName"], &record["userIdentity"]["arn"]), (&name.into(), &user.as_str().into()));
        assert!(record.get("errorCode").is_none(), "{record}");
        assert!(record["userAgent"].as_str().unwrap().contains("OpenSSH"), "{record}");
        let data = &record["additionalEventData"];
        assert_eq!((&data["repositoryName"], &data["dataTransferred"]), (&"app".into(), &true.into()), "{record}");
        assert!(data["bytesTransferredIn"].as_u64().unwrap() > 100, "{record}");
        assert!(data["bytesTransferredOut"].as_u64().unwrap() > 100, "{record}");
    }
    assert_eq!(push["requestParameters"]["references"][0]["ref"], "refs/heads/main");
    assert_eq!((&denied["eventName"], &denied["errorCode"]), (&"GitPull".into(), &"AccessDenied".into()), "{denied}");
    assert_eq!(denied["sourceIPAddress"], "127.0.0.1");
}

#[test]
fn guessing_is_refused_for_a_while_and_concerns_one_user_name() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[]);
    let bob = ssh.new_user("bob", &[]);
    ssh.iam().settle(US);
    // More keys than one, of which the last is right, are no guesses.
    for _ in 0..3 {
        let other = ["-i", bob.file.to_str().unwrap()];
        assert!(ssh.login(&ann.id, &ann.file, &other).contains(":user/ann!"));
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..6 {
                    assert!(ssh.login(&ann.id, &bob.file, &[]).contains("Permission denied"));
                }
            });
        }
    });
    ssh.pair.wait(|| !ssh.greets(&ann));
    assert!(ssh.pair.log().contains("too many logins of the user from this address have failed"));
    assert!(ssh.greets(&bob));
}
