//! Git over SSH: OpenSSH's client, and Git over it, against the server in the host's process.

mod client;
mod clients;
mod clones;
mod commands;
mod ending;
mod failed_logins;
mod forward;
mod hostile;
mod iam;
mod keys;
mod lfs;
mod pushes;
mod sharing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::sshd::keygen;

/// Two regions whose hosts speak SSH, and the keys of their users.
pub struct Ssh {
    pub pair: Pair,
    addresses: [SocketAddr; 2],
    keys: tempfile::TempDir,
}

impl Ssh {
    /// With a user `ann` who may write.
    pub fn open() -> Ssh {
        Ssh::with(&[("ann", "write")], ["", ""], "")
    }

    /// With users, each with an Ed25519 key and rights, more lines for each host, and more configuration.
    pub fn with(users: &[(&str, &str)], hosts: [&str; 2], more: &str) -> Ssh {
        let keys = tempfile::tempdir().unwrap();
        let mut lines = String::new();
        for (name, rights) in users {
            let file = keys.path().join(name);
            keygen(&file, "ed25519", "");
            lines += &format!("{name} {rights} {}", public(&file));
        }
        Ssh::on(keys, &lines, hosts, more)
    }

    /// With lines of authorized keys.
    pub fn on(keys: tempfile::TempDir, lines: &str, hosts: [&str; 2], more: &str) -> Ssh {
        let (pair, addresses) = Pair::with_ssh(lines, hosts, more);
        Ssh::of(pair, addresses, keys)
    }

    /// With an account, which has the keys of its users.
    pub fn with_account() -> Ssh {
        Ssh::with_account_and(["", ""])
    }

    /// The same, with more lines for each host.
    pub fn with_account_and(hosts: [&str; 2]) -> Ssh {
        let (pair, addresses) = Pair::with_iam_and_ssh(hosts);
        Ssh::of(pair, addresses, tempfile::tempdir().unwrap())
    }

    /// With hosts on which every key logs in, such as that of `ann`; more lines for each host, and more configuration.
    pub fn anonymous(hosts: [&str; 2], more: &str) -> Ssh {
        let keys = tempfile::tempdir().unwrap();
        keygen(&keys.path().join("ann"), "ed25519", "");
        let (pair, addresses) = Pair::with_open_ssh(hosts, more);
        Ssh::of(pair, addresses, keys)
    }

    /// On hosts that run, with the keys of their users.
    pub fn of(pair: Pair, addresses: [SocketAddr; 2], keys: tempfile::TempDir) -> Ssh {
        let ssh = Ssh { pair, addresses, keys };
        let known: String = [US, EU].map(|region| ssh.known(region)).concat();
        std::fs::write(ssh.keys.path().join("known"), known).unwrap();
        ssh
    }

    /// Lines of `known_hosts`, from the host keys.
    fn known(&self, region: usize) -> String {
        let port = self.addresses[region].port();
        let folder = self.pair.path("data/ssh").join(REGIONS[region]);
        let line = |name: &str| {
            let output = Command::new("ssh-keygen").args(["-y", "-f"]).arg(folder.join(name)).output().unwrap();
            format!("[127.0.0.1]:{port} {}", String::from_utf8(output.stdout).unwrap())
        };
        line("ssh_host_ed25519_key") + &line("ssh_host_ecdsa_key")
    }

    pub fn address(&self, region: usize) -> SocketAddr {
        self.addresses[region]
    }

    /// File of a user's private key.
    pub fn key(&self, user: &str) -> PathBuf {
        self.keys.path().join(user)
    }

    pub fn url(&self, region: usize, name: &str) -> String {
        format!("ssh://git@{}/{name}", self.addresses[region])
    }

    /// Options of `ssh` that nothing on this machine changes.
    pub fn options(&self, key: &Path) -> Vec<String> {
        let known = self.keys.path().join("known");
        let options = [
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=yes".into(),
            format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null".into(),
            "BatchMode=yes".into(),
            "ConnectTimeout=60".into(),
        ];
        let mut all = vec!["-F".to_owned(), "none".into(), "-i".into(), key.display().to_string()];
        all.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        all
    }

    /// Git in a folder, as a user, with more options of `ssh`.
    pub fn command(&self, user: &str, dir: &Path, options: &[&str]) -> Command {
        let mut command = git::command(dir);
        let ssh = [vec!["ssh".to_owned()], self.options(&self.key(user))].concat().join(" ");
        command.env("GIT_SSH_COMMAND", format!("{ssh} {}", options.join(" "))).env("GIT_SSH_VARIANT", "ssh");
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    /// Runs Git as a user.
    pub fn try_git(&self, user: &str, repo: &GitRepo, args: &[&str]) -> Output {
        self.command(user, &repo.path, &[]).args(args).output().unwrap()
    }

    /// Runs Git as a user, which must succeed; its output.
    pub fn git(&self, user: &str, repo: &GitRepo, args: &[&str]) -> String {
        let output = self.try_git(user, repo, args);
        assert!(output.status.success(), "git {args:?}: {}\n{}", crate::said(&output), self.pair.log());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// OpenSSH's client, as `git@`, with a key, more options, and a command.
    pub fn ssh(&self, key: &Path, options: &[&str], command: &[&str]) -> Command {
        self.ssh_as("git", key, options, command)
    }

    /// The same, as another user than `git`.
    pub fn ssh_as(&self, user: &str, key: &Path, options: &[&str], command: &[&str]) -> Command {
        self.ssh_to(US, user, key, options, command)
    }

    /// The same, to the host of a region.
    pub fn ssh_to(&self, region: usize, user: &str, key: &Path, options: &[&str], command: &[&str]) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.args(self.options(key)).args(options);
        ssh.args(["-p", &self.addresses[region].port().to_string(), &format!("{user}@127.0.0.1")]).args(command);
        ssh.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        ssh
    }

    /// Runs OpenSSH's client as a user.
    pub fn run(&self, user: &str, command: &[&str]) -> Output {
        self.ssh(&self.key(user), &[], command).output().unwrap()
    }

    /// A repository with a history, pushed to `app` in the first region.
    pub fn with_app(&self) -> GitRepo {
        let repo = GitRepo::with_history(self.pair.path("src.git"), &[]);
        self.git("ann", &repo, &["push", "-q", "--mirror", &self.url(US, "app")]);
        repo
    }

    /// A mirror clone over SSH has all that the repository has.
    pub fn assert_clones_as(&self, repo: &GitRepo, url: &str, config: &[&str]) {
        let to = (0..).map(|n| self.pair.path(&format!("mirror-{n}"))).find(|path| !path.exists()).unwrap();
        self.git("ann", repo, &[config, &["clone", "-q", "--mirror", url, to.to_str().unwrap()]].concat());
        let clone = GitRepo::at(to);
        assert_eq!(clone.refs(), repo.refs());
        assert_eq!(clone.reachable(), repo.reachable());
        clone.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

/// The content of the `.pub` file of a key.
pub fn public(key: &Path) -> String {
    std::fs::read_to_string(key.with_extension("pub")).unwrap()
}
