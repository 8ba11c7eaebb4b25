//! OpenSSH's server on a loopback port, with keys and a configuration of its own.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian puts it.
const SSHD: &str = "/usr/sbin/sshd";
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Sshd {
    dir: PathBuf,
    pub port: u16,
    process: Child,
}

/// Makes a key pair.
pub fn keygen(file: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-f"]).arg(file).stdin(Stdio::null());
    if kind == "rsa" {
        command.args(["-b", "3072"]);
    }
    let made = command.status().expect("ssh-keygen is missing: apt-get install openssh-client");
    assert!(made.success(), "ssh-keygen -t {kind}");
}

impl Sshd {
    /// Starts a server that accepts the keys in `authorized`, with an Ed25519 key and more lines.
    /// Its files are in a folder below this one.
    pub fn start(below: &Path, authorized: &[&Path], more: &str) -> Sshd {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server");
        let dir = tempfile::Builder::new().prefix("sshd").tempdir_in(below).unwrap().keep();
        // Where it separates privileges; made by the service's own scripts elsewhere.
        let _ = std::fs::create_dir_all("/run/sshd");
        keygen(&dir.join("host"), "ed25519", "");
        let keys = authorized.iter().map(|key| std::fs::read_to_string(key.with_extension("pub")).unwrap());
        std::fs::write(dir.join("authorized"), keys.collect::<String>()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\nMaxStartups 100\n{more}",
            dir.display()
        );
        // The first line of an option counts.
        let config = match more.contains("AcceptEnv") {
            true => config.replace("AcceptEnv GIT_PROTOCOL\n", ""),
            false => config,
        };
        std::fs::write(dir.join("config"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let process = Command::new(SSHD)
            .args(["-D", "-e", "-f"])
            .arg(dir.join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Sshd { dir, port, process };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "sshd does not start:\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// The line of `known_hosts` for it.
    pub fn known(&self) -> String {
        let key = std::fs::read_to_string(self.dir.join("host.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// The URL of the repositories in a folder.
    pub fn url(&self, folder: &Path) -> String {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        format!("ssh://{}@127.0.0.1:{}{}/{{name}}", user.trim(), self.port, folder.display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
