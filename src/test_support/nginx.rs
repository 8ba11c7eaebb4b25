//! nginx in front of a host, with its defaults: bodies and answers are buffered.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait until it listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, where the system has it; tests are skipped only where `GITFERRY_TEST_WITHOUT` names nginx.
pub fn program() -> Option<PathBuf> {
    let without = std::env::var("GITFERRY_TEST_WITHOUT").unwrap_or_default();
    if without.split(',').any(|name| name.trim() == "nginx") {
        eprintln!("SKIPPED: GITFERRY_TEST_WITHOUT names nginx");
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")]);
    let found = dirs.map(|dir| dir.join("nginx")).find(|file| file.is_file());
    Some(found.expect("nginx is needed: apt-get install nginx-light, or set GITFERRY_TEST_WITHOUT=nginx"))
}

/// A running nginx.
pub struct Nginx {
    process: Child,
    dir: PathBuf,
    /// In clear, HTTP/1.1.
    pub clear: SocketAddr,
    /// With TLS, HTTP/2 and HTTP/1.1, under the certificate of the folder.
    pub tls: SocketAddr,
}

impl Nginx {
    /// In front of a host; `dir` has `cert.pem` and `key.pem`. `more` goes into its `location`.
    pub fn before(host: SocketAddr, dir: &Path, more: &str) -> Option<Nginx> {
        let program = program()?;
        let dir = dir.join("nginx");
        std::fs::create_dir_all(&dir).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, two) = (free(), free());
        let (clear, tls) = (one.local_addr().unwrap(), two.local_addr().unwrap());
        drop((one, two));
        let at = |name: &str| dir.join(name).display().to_string();
        let certificate = |name: &str| dir.parent().unwrap().join(name).display().to_string();
        let config = format!(
            "pid {pid}; error_log {log} info; daemon off; worker_processes 1; events {{}}\n\
             http {{ access_log off; client_max_body_size 0; proxy_read_timeout 20s;\n\
             client_body_temp_path {body}; proxy_temp_path {proxy}; fastcgi_temp_path {fastcgi};\n\
             uwsgi_temp_path {uwsgi}; scgi_temp_path {scgi};\n\
             server {{ listen {clear}; listen {tls} ssl http2; server_name localhost;\n\
             ssl_certificate {cert}; ssl_certificate_key {key};\n\
             location / {{ proxy_pass http://{host}; proxy_set_header Host $http_host;\n{more}\n}} }} }}\n",
            pid = at("pid"),
            log = at("error.log"),
            body = at("body"),
            proxy = at("proxy"),
            fastcgi = at("fastcgi"),
            uwsgi = at("uwsgi"),
            scgi = at("scgi"),
            cert = certificate("cert.pem"),
            key = certificate("key.pem"),
        );
        // Its workers would be another user where root starts it, who may not get into the folder.
        let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        std::fs::write(dir.join("nginx.conf"), if root { format!("user root;\n{config}") } else { config }).unwrap();
        let said = std::fs::File::create(dir.join("said")).unwrap();
        let mut command = Command::new(program);
        command.arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        let nginx = Nginx { process, dir, clear, tls };
        let start = Instant::now();
        while TcpStream::connect(clear).is_err() {
            assert!(start.elapsed() < PATIENCE, "nginx does not listen: {}", nginx.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(nginx)
    }

    /// What it has said.
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        read("said") + &read("error.log")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // So that it ends its workers, too.
        let _ = Command::new("kill").args(["-s", "TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}
