//! Two regions with a host each, as `gitferry up` runs them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::git::GitRepo;

pub const US: usize = 0;
pub const EU: usize = 1;
/// Their names.
pub const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Pair {
    dir: tempfile::TempDir,
    addresses: [SocketAddr; 2],
    process: Child,
    scheme: &'static str,
    /// What the process has in its environment beside.
    environment: Vec<(String, String)>,
}

impl Pair {
    pub fn open() -> Pair {
        Pair::start_with("auth = \"none\"", ["", ""], "", &[])
    }

    /// With more configuration, and files beside it.
    pub fn configured(more: &str, files: &[(&str, &str)]) -> Pair {
        Pair::start_with("auth = \"none\"", ["", ""], more, files)
    }

    /// With lines of configuration that are about the process as a whole.
    pub fn with_process(lines: &str) -> Pair {
        let all = |addresses| format!("{lines}\n{}", config(addresses, "auth = \"none\"", ["", ""], ""));
        Pair::on(all, Vec::new())
    }

    pub fn with_tokens(tokens: &str) -> Pair {
        Pair::start_with("auth = { tokens = \"tokens\" }", ["", ""], "", &[("tokens", tokens)])
    }

    /// With tokens, and more lines of configuration for both hosts.
    pub fn with_tokens_and_hosts(tokens: &str, lines: &str) -> Pair {
        Pair::start_with("auth = { tokens = \"tokens\" }", [lines, lines], "", &[("tokens", tokens)])
    }

    /// With tokens, and more lines for each host.
    pub fn with_tokens_and_each_host(tokens: &str, hosts: [&str; 2]) -> Pair {
        Pair::start_with("auth = { tokens = \"tokens\" }", hosts, "", &[("tokens", tokens)])
    }

    /// With tokens, more lines of configuration for both hosts, and more environment.
    pub fn with_tokens_in(tokens: &str, lines: &str, environment: Vec<(String, String)>) -> Pair {
        let pair = |addresses: [SocketAddr; 2]| config(addresses, "auth = { tokens = \"tokens\" }", [lines, lines], "");
        Pair::with_files_on(pair, &[("tokens", tokens)], environment)
    }

    /// With tokens, and more configuration.
    pub fn with_tokens_and(tokens: &str, more: &str) -> Pair {
        Pair::start_with("auth = { tokens = \"tokens\" }", ["", ""], more, &[("tokens", tokens)])
    }

    /// With the token `ann:0123456789abcdef`, SSH servers on which the lines of `keys` may log in, more lines for each
    /// host, and more configuration; with the addresses of the SSH servers.
    pub fn with_ssh(keys: &str, hosts: [&str; 2], more: &str) -> (Pair, [SocketAddr; 2]) {
        let addresses = free_addresses();
        let lines = |region: usize| {
            let address = addresses[region];
            format!("ssh = \"{address}\"\nssh_authorized_keys = \"keys\"\n{}", hosts[region])
        };
        let files = [("tokens", "ann:0123456789abcdef\n"), ("keys", keys)];
        let hosts = [lines(US), lines(EU)];
        let pair = Pair::start_with("auth = { tokens = \"tokens\" }", [&hosts[0], &hosts[1]], more, &files);
        (pair, addresses)
    }

    /// With more lines for each host; US and EU in them stand for the addresses.
    pub fn with_hosts(hosts: [&str; 2]) -> Pair {
        Pair::start_with("auth = \"none\"", hosts, "", &[])
    }

    /// With tokens, a self-signed certificate `cert.pem`, and more lines for each host.
    pub fn with_tls(tokens: &str, hosts: [&str; 2]) -> Pair {
        let tls = "tls = { cert = \"../cert.pem\", key = \"../key.pem\" }\nca = \"../cert.pem\"\n";
        let hosts = hosts.map(|lines| format!("{tls}{lines}"));
        Pair::start_with("auth = { tokens = \"tokens\" }", [&hosts[0], &hosts[1]], "", &[("tokens", tokens)])
    }

    /// With more lines of configuration for both hosts.
    pub fn with_host(lines: &str) -> Pair {
        Pair::with_hosts([lines, lines])
    }

    /// The same, and more configuration.
    pub fn with_host_and(lines: &str, more: &str) -> Pair {
        Pair::start_with("auth = \"none\"", [lines, lines], more, &[])
    }

    /// With an account, whose administrator is in `administrator.json`.
    pub fn with_iam() -> Pair {
        Pair::start_with_iam(["", ""], true, "", Vec::new())
    }

    /// The same with more configuration and more environment.
    pub fn with_iam_and(more: &str, environment: Vec<(String, String)>) -> Pair {
        Pair::start_with_iam(["", ""], true, more, environment)
    }

    /// The same, with more lines for each host, as by [`Pair::with_hosts`].
    pub fn with_iam_and_hosts(hosts: [&str; 2]) -> Pair {
        Pair::start_with_iam(hosts, true, "", Vec::new())
    }

    /// The same, and more configuration.
    pub fn with_iam_hosts_and(hosts: [&str; 2], more: &str) -> Pair {
        Pair::start_with_iam(hosts, true, more, Vec::new())
    }

    /// The same, and more lines for each host.
    pub fn with_iam_and_each_host(hosts: [&str; 2]) -> Pair {
        Pair::start_with_iam(hosts, true, "", Vec::new())
    }

    /// The same over TLS, as by [`Pair::with_tls`].
    pub fn with_iam_and_tls() -> Pair {
        Pair::with_iam_over_tls(["", ""])
    }

    /// The same over TLS, with more lines for each host.
    pub fn with_iam_over_tls(hosts: [&str; 2]) -> Pair {
        let tls = "tls = { cert = \"../cert.pem\", key = \"../key.pem\" }\nca = \"../cert.pem\"\n";
        let hosts = hosts.map(|lines| format!("{tls}{lines}"));
        Pair::start_with_iam([&hosts[0], &hosts[1]], true, "", Vec::new())
    }

    /// With an account whose users also reach the hosts over SSH, an audit trail of each in the file `audit-REGION.jsonl`,
    /// and more lines for each host; with the addresses of the SSH servers.
    pub fn with_iam_and_ssh(hosts: [&str; 2]) -> (Pair, [SocketAddr; 2]) {
        let addresses = free_addresses();
        let lines = |region: usize| {
            let (address, name, more) = (addresses[region], REGIONS[region], hosts[region]);
            format!("ssh = \"{address}\"\naudit = {{ file = \"audit-{name}.jsonl\" }}\n{more}\n")
        };
        let (us, eu) = (lines(US), lines(EU));
        (Pair::with_iam_and_hosts([&us, &eu]), addresses)
    }

    /// With SSH servers on which every key logs in, more lines for each host, and more configuration; with the addresses
    /// of the SSH servers.
    pub fn with_open_ssh(hosts: [&str; 2], more: &str) -> (Pair, [SocketAddr; 2]) {
        let addresses = free_addresses();
        let lines = |region: usize| format!("ssh = \"{}\"\n{}", addresses[region], hosts[region]);
        let (us, eu) = (lines(US), lines(EU));
        (Pair::start_with("auth = \"none\"", [&us, &eu], more, &[]), addresses)
    }

    /// With hosts that need an account, in regions that have none.
    pub fn with_iam_but_no_account() -> Pair {
        Pair::start_with_iam(["", ""], false, "", Vec::new())
    }

    fn start_with_iam(hosts: [&str; 2], has_account: bool, more: &str, environment: Vec<(String, String)>) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let addresses = free_addresses();
        let scheme = if hosts[US].contains("tls =") { "https" } else { "http" };
        new_certificate(dir.path());
        std::fs::write(data.join("gitferry.toml"), config(addresses, "auth = \"iam\"", hosts, more)).unwrap();
        let made = make_regions(dir.path(), &environment);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if has_account {
            let mut command = Command::new(crate::paths::gitferry());
            command
                .args(["iam", "init", "--region", REGIONS[US], "--json", "--config"])
                .arg(data.join("gitferry.toml"));
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            let founded = command.stdin(Stdio::null()).output().unwrap();
            assert!(founded.status.success(), "{}", String::from_utf8_lossy(&founded.stderr));
            std::fs::write(dir.path().join("administrator.json"), founded.stdout).unwrap();
        } else {
            // A key that no account has been sealed with.
            use std::os::unix::fs::OpenOptionsExt as _;
            let mut file = std::fs::OpenOptions::new();
            let mut file = file.write(true).create_new(true).mode(0o600).open(data.join("account.key")).unwrap();
            file.write_all(&[7; 32]).unwrap();
        }
        let process = run(dir.path(), None, &environment);
        let pair = Pair { dir, addresses, process, scheme, environment };
        pair.wait_until_up();
        pair
    }

    fn start_with(auth: &str, hosts: [&str; 2], more: &str, files: &[(&str, &str)]) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        for (name, content) in files {
            std::fs::write(data.join(name), content).unwrap();
        }
        let addresses = free_addresses();
        let scheme = if hosts[US].contains("tls =") { "https" } else { "http" };
        new_certificate(dir.path());
        std::fs::write(data.join("gitferry.toml"), config(addresses, auth, hosts, more)).unwrap();
        Pair::start(dir, addresses, scheme, Vec::new())
    }

    /// On stores that are there already: `fill` puts them into the folder of the configuration, below their names.
    pub fn holding(fill: impl FnOnce(&Path)) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        fill(&data);
        let addresses = free_addresses();
        std::fs::write(data.join("gitferry.toml"), config(addresses, "auth = \"none\"", ["", ""], "")).unwrap();
        Pair::start(dir, addresses, "http", Vec::new())
    }

    /// On other stores than those of this machine: all of the configuration, made for the addresses, and more
    /// environment.
    pub fn on(config: impl FnOnce([SocketAddr; 2]) -> String, environment: Vec<(String, String)>) -> Pair {
        Pair::with_files_on(config, &[], environment)
    }

    fn with_files_on(
        config: impl FnOnce([SocketAddr; 2]) -> String,
        files: &[(&str, &str)],
        environment: Vec<(String, String)>,
    ) -> Pair {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join("data").join(name), content).unwrap();
        }
        let addresses = free_addresses();
        std::fs::write(dir.path().join("data/gitferry.toml"), config(addresses)).unwrap();
        Pair::start(dir, addresses, "http", environment)
    }

    fn start(
        dir: tempfile::TempDir,
        addresses: [SocketAddr; 2],
        scheme: &'static str,
        environment: Vec<(String, String)>,
    ) -> Pair {
        let made = make_regions(dir.path(), &environment);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let process = run(dir.path(), None, &environment);
        let pair = Pair { dir, addresses, process, scheme, environment };
        pair.wait_until_up();
        pair
    }

    /// What is said about a configuration that it does not start with.
    pub fn fails_to_start(more: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("gitferry.toml"), config(free_addresses(), "auth = \"none\"", ["", ""], more))
            .unwrap();
        // Where the configuration makes sense so far.
        let _ = make_regions(dir.path(), &[]);
        let mut process = run(dir.path(), None, &[]);
        let ended = process.wait().unwrap();
        assert_eq!(ended.code(), Some(2), "it started");
        std::fs::read_to_string(dir.path().join("log")).unwrap()
    }

    /// Waits for something that is to come true.
    pub fn wait(&self, done: impl Fn() -> bool) {
        wait(done, || self.log());
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self, region: usize, name: &str) -> String {
        format!("{}://{}/{name}", self.scheme, self.addresses[region])
    }

    /// What the process has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    /// Kills it without warning and starts it again.
    pub fn restart(&mut self) {
        self.restart_with(None);
    }

    /// The same with crash points armed.
    pub fn restart_with(&mut self, failpoints: Option<&str>) {
        self.kill();
        self.process = run(self.dir.path(), failpoints, &self.environment);
        self.wait_until_up();
    }

    /// Sends the process a signal: `TERM`, `INT`, `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the process has ended; its exit code.
    pub fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end; the log says:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn address(&self, region: usize) -> SocketAddr {
        self.addresses[region]
    }

    /// Files of requests that are under way in a region.
    pub fn spooled(&self, region: usize) -> Vec<PathBuf> {
        std::fs::read_dir(self.staging(region)).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    }

    /// Where a region keeps what is not finished.
    pub fn staging(&self, region: usize) -> PathBuf {
        self.path("data").join(REGIONS[region]).join("objects/.staging")
    }

    /// Another command on the same regions.
    pub fn gitferry(&self, args: &[&str]) -> Output {
        let mut command = Command::new(crate::paths::gitferry());
        command.args(args).arg("--config").arg(self.path("data/gitferry.toml"));
        command.env_remove("FAILPOINTS").env_remove("GITFERRY_LOG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// A command that must succeed; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.gitferry(args);
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(output.status.success(), "gitferry {args:?}: {}", String::from_utf8_lossy(&said));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Anonymous memory of the process, in MiB.
    pub fn memory_mib(&self) -> u64 {
        anonymous_mib(self.pid()).unwrap()
    }

    pub fn wait_until_up(&self) {
        if self.scheme == "https" {
            return wait(|| self.addresses.iter().all(|address| TcpStream::connect(address).is_ok()), || self.log());
        }
        let request = "GET /_health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let up = |address: &SocketAddr| talk(*address, request).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
        wait(|| self.addresses.iter().all(up), || self.log());
    }

    /// The replica shows the same refs.
    pub fn wait_until_same(&self, repo: &GitRepo, name: &str) {
        let url = self.url(EU, name);
        let same = || {
            let output = repo.try_git(&["ls-remote", &url, "refs/*"]);
            let listed = String::from_utf8_lossy(&output.stdout).into_owned();
            let listed: Vec<String> =
                listed.lines().filter(|line| !line.ends_with("^{}")).map(|line| line.replace('\t', " ")).collect();
            output.status.success()
                && listed
                    == repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]).lines().collect::<Vec<_>>()
        };
        wait(same, || self.log());
    }

    /// A mirror clone has all that the repository has, and is sound.
    pub fn assert_clones_as(&self, repo: &GitRepo, url: &str) {
        let to = (0..).map(|n| self.path(&format!("mirror-{n}"))).find(|path| !path.exists()).unwrap();
        repo.git(&["clone", "-q", "--mirror", url, to.to_str().unwrap()]);
        let clone = GitRepo::at(to);
        assert_eq!(clone.refs(), repo.refs());
        assert_eq!(clone.reachable(), repo.reachable());
        clone.git(&["fsck", "--strict", "--no-dangling"]);
    }

    /// Sends bytes and closes the connection.
    pub fn send_and_leave(&self, region: usize, request: &str) {
        TcpStream::connect(self.addresses[region]).unwrap().write_all(request.as_bytes()).unwrap();
    }

    /// Sends bytes and returns all that comes back.
    pub fn raw(&self, region: usize, request: &str) -> String {
        talk(self.addresses[region], request).unwrap()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn config(addresses: [SocketAddr; 2], auth: &str, hosts: [&str; 2], more: &str) -> String {
    let mut config = String::new();
    for ((name, address), lines) in REGIONS.into_iter().zip(addresses).zip(hosts) {
        let lines = lines.replace("US", &addresses[US].to_string()).replace("EU", &addresses[EU].to_string());
        config += &format!("[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n");
        config += &format!("[hosts.{name}]\nlisten = \"{address}\"\ncreate_on_push = true\n{auth}\n{lines}\n");
    }
    config += "[links.dr]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\n";
    config + more
}

fn make_regions(dir: &Path, environment: &[(String, String)]) -> Output {
    let mut command = Command::new(crate::paths::gitferry());
    command.args(["region", "init", "--config"]).arg(dir.join("data/gitferry.toml"));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).output().unwrap()
}

fn run(dir: &Path, failpoints: Option<&str>, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new(crate::paths::gitferry())
        .args(["up", "--dir"])
        .arg(dir.join("data"))
        .env("GITFERRY_LOG", "debug")
        .env("FAILPOINTS", failpoints.unwrap_or_default())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// A certificate for 127.0.0.1 that is signed by itself.
pub fn new_certificate(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// Ports that no process uses now.
pub fn free_addresses() -> [SocketAddr; 2] {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Anonymous memory of a process, in MiB, while it runs.
pub fn anonymous_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"))?;
    Some(kib.trim().parse::<u64>().ok()? / 1024)
}

/// Sends a request and returns all that comes back.
pub fn talk(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub fn wait(done: impl Fn() -> bool, log: impl Fn() -> String) {
    let start = Instant::now();
    let mut pauses = crate::waiting::pauses();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long; the log says:\n{}", log());
        std::thread::sleep(pauses());
    }
}
