//! Repositories, a server of Git's own before them, and a remote that reaches it.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use gitferry_base::clock::SystemClock;
use gitferry_config::Config;
use gitferry_git::client::{ClientError, FetchPack, PushReport, ReceivePack, Server, UploadPack};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefName;
use gitferry_remote::{Remote, RemoteRepository};
use gix::ObjectId;
use tokio::runtime::Runtime;

use gitferry_test_support::cgi;
use gitferry_test_support::git::{GitRepo, noise};

/// A folder, and a runtime for what runs beside the test.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    /// Path and query.
    pub uri: String,
    pub headers: HeaderMap,
    pub version: Version,
}

/// What a server is told to do with a request first: answer it, or change it and let it through.
pub type Rule = Arc<dyn Fn(&mut Request) -> Option<Response> + Send + Sync>;

/// `git http-backend`, and what it was asked.
#[derive(Clone)]
pub struct GitHttp {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Place {
    pub fn new() -> Place {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Place { dir: tempfile::tempdir().unwrap(), runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A repository with a history at `served/NAME`, which may be pushed to.
    pub fn repository(&self, name: &str) -> GitRepo {
        GitRepo::with_history(self.path("served").join(name), &[])
    }

    /// An empty repository at `served/NAME`.
    pub fn empty(&self, name: &str) -> GitRepo {
        GitRepo::init(self.path("served").join(name), &[])
    }

    /// Serves the repositories in `served`.
    pub fn serve(&self, rule: Rule) -> GitHttp {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = GitHttp { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let router = server.router(&self.path("served"), rule);
        self.runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        server
    }

    /// The same over TLS, with the certificate `cert.pem`, made here, and these protocols to choose from.
    pub fn serve_tls(&self, rule: Rule, protocols: &[&str]) -> GitHttp {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(self.path("cert.pem"), &cert).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = GitHttp { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let router = server.router(&self.path("served"), rule);
        let protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self.runtime.spawn(async move {
            let config = axum_server::tls_rustls::RustlsConfig::from_pem(cert.into(), key.into()).await.unwrap();
            let mut offering = rustls::ServerConfig::clone(&config.get_inner());
            offering.alpn_protocols = protocols;
            config.reload_from_config(Arc::new(offering));
            let server = axum_server::from_tcp_rustls(listener, config).unwrap();
            server.serve(router.into_make_service()).await.unwrap();
        });
        server
    }

    /// The remote `there`, configured by these lines.
    pub fn remote(&self, lines: &str) -> Remote {
        let text = format!("[remotes.there]\n{lines}");
        let config = Config::parse(&text, &self.path("gitferry.toml")).unwrap();
        Remote::new("there", &config, SystemClock::shared(), self.runtime.handle()).unwrap()
    }

    /// Its repository `app`.
    pub fn app(&self, lines: &str) -> RemoteRepository {
        self.remote(lines).repository("app").unwrap()
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a server for one connection after the other.
    pub fn tcp<F, R>(&self, serve: F) -> SocketAddr
    where
        F: Fn(tokio::net::TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        self.runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        address
    }
}

impl GitHttp {
    fn router(&self, root: &Path, rule: Rule) -> axum::Router {
        let seen = self.seen.clone();
        let layer = from_fn(move |mut request: Request<Body>, next: Next| {
            let (seen, rule) = (seen.clone(), rule.clone());
            async move {
                seen.lock().unwrap().push(Seen {
                    method: request.method().clone(),
                    uri: request.uri().to_string(),
                    headers: request.headers().clone(),
                    version: request.version(),
                });
                match rule(&mut request) {
                    Some(answer) => answer,
                    None => next.run(request).await,
                }
            }
        });
        cgi::router(root.into()).layer(layer)
    }

    /// The lines of a remote's configuration that lead here.
    pub fn lines(&self, more: &str) -> String {
        format!("url = \"http://{}/{{name}}\"\n{more}", self.address)
    }

    /// The requests since this was asked the last time.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Everything goes through.
pub fn open() -> Rule {
    Arc::new(|_| None)
}

/// Only requests with this `Authorization` go through.
pub fn only(authorization: &'static str) -> Rule {
    Arc::new(move |request| {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes());
        (given != Some(authorization.as_bytes())).then(|| unauthorized("who are you?"))
    })
}

pub fn unauthorized(text: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")], text.to_owned()).into_response()
}

/// All refs that a server shows, as `git for-each-ref` prints them.
pub fn listed(server: &dyn Server) -> Result<Vec<String>, ClientError> {
    let refs = UploadPack::open(server)?.list(&[])?.refs;
    Ok(refs.iter().map(|entry| format!("{} {}", entry.name, refs.object(&entry).unwrap())).collect())
}

/// The same of a repository on disk.
pub fn refs_of(repo: &GitRepo) -> Vec<String> {
    repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]).lines().map(String::from).collect()
}

/// Fetches all refs of a server into a fresh repository.
pub fn fetch_all(server: &dyn Server, into: &GitRepo) -> Result<(), ClientError> {
    let mut upload = UploadPack::open(server)?;
    let refs = upload.list(&[])?.refs;
    let mut wants: Vec<ObjectId> = refs.iter().map(|entry| refs.object(&entry).unwrap()).collect();
    wants.sort();
    wants.dedup();
    let mut pack = Vec::new();
    let mut input = upload.fetch(&FetchPack { wants, ofs_delta: true, ..FetchPack::default() })?;
    std::io::Read::read_to_end(&mut input, &mut pack)
        .map_err(|error| ClientError::from_io(error).unwrap_or_else(|error| panic!("{error}")))?;
    into.feed(&["index-pack", "--stdin", "--strict"], &pack);
    for entry in refs.iter() {
        into.git(&["update-ref", &entry.name.to_string(), &refs.object(&entry).unwrap().to_string()]);
    }
    Ok(())
}

/// Asserts that a server gives all of a repository.
pub fn assert_fetches(place: &Place, server: &dyn Server, repo: &GitRepo) {
    let number = (0..).find(|n| !place.path(&format!("fetched-{n}")).exists()).unwrap();
    let into = GitRepo::init(place.path(&format!("fetched-{number}")), &[]);
    fetch_all(server, &into).unwrap();
    assert_eq!(refs_of(&into), refs_of(repo));
    assert_eq!(into.reachable(), repo.reachable());
    into.git(&["fsck", "--strict", "--no-dangling"]);
}

/// A repository whose pack has at least this many bytes.
pub fn bulky(path: PathBuf, bytes: usize) -> GitRepo {
    let repo = GitRepo::init(path, &[]);
    repo.commit_bytes("main", "bulk", &noise(7, bytes));
    repo
}

/// Pushes the branch `main` of a repository, which is new there.
pub fn push_main(server: &dyn Server, repo: &GitRepo) -> Result<PushReport, ClientError> {
    let id = repo.git(&["rev-parse", "main"]);
    let pack = repo.feed(&["pack-objects", "--stdout", "--revs", "-q"], b"main\n");
    push_pack(server, &id, &pack)
}

pub fn push_pack(server: &dyn Server, id: &str, pack: &[u8]) -> Result<PushReport, ClientError> {
    let new = ObjectId::from_hex(id.as_bytes()).unwrap();
    let name = RefName::new("refs/heads/main").unwrap();
    let command = Command { name: name.as_bstr().to_owned(), old: None, new: Some(new) };
    let mut write = |out: &mut dyn std::io::Write| Ok(out.write_all(pack)?);
    ReceivePack::open(server)?.push(&[command], Some(&mut write))
}

/// Does something with AWS credentials from this file. Profiles name files by variables of the process, so that one
/// test at a time does it.
pub fn with_aws<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: only the SDK reads them, and only in tests that come here.
    unsafe {
        std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", file);
        std::env::set_var("AWS_CONFIG_FILE", "/nowhere");
        std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
    }
    work()
}
