//! Two repositories, and passes from one to the other.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use gitferry_config::{Deletions, Divergence};
use gitferry_git::client::{ClientError, Connection, Request, Server};
use gitferry_git::protocol::{Service, Version};
use gitferry_git::refs::RefName;
use gitferry_remote::{HeadSet, PushLimits};
use gitferry_replication::mirror::MirrorError;
use gitferry_replication::mirror::checkpoint::Checkpoint;
use gitferry_replication::mirror::ends::HeadSetter;
use gitferry_replication::mirror::lease::Fence;
use gitferry_replication::mirror::pass;
use gitferry_replication::mirror::policy::RefPolicy;
use gitferry_replication::mirror::push::LargePushFailures;
use gitferry_replication::mirror::report::{MirrorOutcome, NoteKind};
use gitferry_replication::mirror::task::MirrorTask;
use gitferry_replication::mirror::via::Detour;
use gitferry_replication::progress::Progress;

use crate::remotes::git::GitRepo;
use gitferry_test_support::scripted_server::GitServer;

/// A source and a target, gone when it is dropped.
pub struct Place {
    _dir: tempfile::TempDir,
    pub source: GitRepo,
    pub target: GitRepo,
}

impl Place {
    /// A source with some history, and an empty target that looks hard at what it is sent.
    pub fn new() -> Place {
        Place::with_format("sha1")
    }

    pub fn with_format(format: &str) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let format = format!("--object-format={format}");
        let source = GitRepo::with_history(dir.path().join("source"), &[&format]);
        let target = GitRepo::init(dir.path().join("target"), &[&format]);
        target.git(&["config", "receive.fsckObjects", "true"]);
        Place { _dir: dir, source, target }
    }

    /// An empty source as well.
    pub fn empty() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let source = GitRepo::init(dir.path().join("source"), &[]);
        let target = GitRepo::init(dir.path().join("target"), &[]);
        Place { _dir: dir, source, target }
    }

    /// A pass that goes by the defaults.
    pub fn pass(&self) -> Pass<'_> {
        Pass {
            source: Box::new(GitServer::new(&self.source, Version::V2, true)),
            target: Box::new(GitServer::new(&self.target, Version::V2, true)),
            policy: RefPolicy::default(),
            limits: limits(50_000),
            heads: Api(None),
            checkpoint: None,
            allow_empty: false,
            detour: None,
            large_push_failures: LargePushFailures::default(),
            fence: None,
            repositories: (&self.source, &self.target),
        }
    }

    /// One pass by the defaults, which must succeed and leave the target as the source.
    pub fn sync(&self) -> MirrorOutcome {
        let (carried, _) = self.pass().ok();
        self.assert_mirrored();
        carried
    }

    /// The target is the source, as Git sees it.
    pub fn assert_mirrored(&self) {
        assert_eq!(refs(&self.target), refs(&self.source));
        assert_eq!(self.target.reachable(), self.source.reachable());
        self.assert_sound();
    }

    /// Both sides are whole.
    pub fn assert_sound(&self) {
        for repo in [&self.source, &self.target] {
            assert_eq!(repo.fsck().0, Some(0), "{:?}", repo.fsck());
        }
    }
}

/// The refs of a repository with their values.
pub fn refs(repo: &GitRepo) -> BTreeMap<String, String> {
    let lines = repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    lines.lines().map(|line| line.split_once(' ').map(|(a, b)| (a.into(), b.into())).unwrap()).collect()
}

pub fn limits(refs_per_push: usize) -> PushLimits {
    PushLimits { refs_per_push, bytes_per_push: None, bytes_per_blob: None, chunked: true, spool_bytes: 1 << 30 }
}

pub fn policy(refs: &[&str], renames: &[&str], deletions: Deletions, divergence: Divergence) -> RefPolicy {
    let texts = |all: &[&str]| -> Vec<String> { all.iter().map(|text| (*text).to_owned()).collect() };
    RefPolicy::new(&texts(refs), &texts(renames), deletions, divergence).unwrap()
}

/// A pass to be.
pub struct Pass<'p> {
    pub source: Box<dyn Server>,
    pub target: Box<dyn Server>,
    pub policy: RefPolicy,
    pub limits: PushLimits,
    pub heads: Api<'p>,
    pub checkpoint: Option<Checkpoint>,
    pub allow_empty: bool,
    pub detour: Option<&'p dyn Detour>,
    pub large_push_failures: LargePushFailures,
    pub fence: Option<&'p dyn Fence>,
    pub repositories: (&'p GitRepo, &'p GitRepo),
}

impl Pass<'_> {
    /// Servers that speak no higher version, with state (as over SSH) or without (as over HTTP).
    pub fn over(mut self, version: Version, stateless: bool) -> Self {
        self.source = Box::new(GitServer::new(self.repositories.0, version, stateless));
        self.target = Box::new(GitServer::new(self.repositories.1, version, stateless));
        self
    }

    pub fn run(&self, carried: &mut MirrorOutcome) -> Result<Option<Checkpoint>, MirrorError> {
        let task = MirrorTask {
            policy: &self.policy,
            limits: &self.limits,
            heads: &self.heads,
            checkpoint: self.checkpoint.as_ref(),
            allow_empty: self.allow_empty,
            progress: &Progress::default(),
            lfs: None,
            detour: self.detour,
            large_push_failures: &self.large_push_failures,
            fence: self.fence,
        };
        pass::run(&task, &*self.source, &*self.target, carried)
    }

    /// What it did, and the checkpoint that it left; it must succeed.
    pub fn ok(&self) -> (MirrorOutcome, Option<Checkpoint>) {
        let mut carried = MirrorOutcome::default();
        let checkpoint = self.run(&mut carried).unwrap();
        (carried, checkpoint)
    }

    /// Why it failed, as it must.
    pub fn fails(&self) -> MirrorError {
        self.run(&mut MirrorOutcome::default()).unwrap_err()
    }
}

/// What is told of a ref.
pub fn told<'c>(carried: &'c MirrorOutcome, name: &str) -> Option<(NoteKind, &'c str)> {
    carried.notes.refs.iter().find(|note| note.name == name).map(|note| (note.outcome, note.reason.as_str()))
}

/// A provider's API, as far as HEAD goes; without a repository there is none.
pub struct Api<'r>(pub Option<&'r GitRepo>);

impl HeadSetter for Api<'_> {
    fn can_set(&self) -> bool {
        self.0.is_some()
    }

    fn set_head(&self, branch: &RefName) -> Result<HeadSet, MirrorError> {
        let Some(repo) = self.0 else { return Ok(HeadSet::NoApi) };
        repo.git(&["rev-parse", "--verify", "-q", &branch.to_string()]);
        repo.git(&["symbolic-ref", "HEAD", &branch.to_string()]);
        Ok(HeadSet::Done)
    }
}

/// Lets so many pushes happen, as a pass that loses its lease or dies before the next.
pub struct Pushes(AtomicUsize);

impl Pushes {
    pub fn at_most(count: usize) -> Pushes {
        Pushes(count.into())
    }
}

impl Fence for Pushes {
    fn before_push(&self) -> Result<(), MirrorError> {
        let left = self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| MirrorError::LeaseLost)
    }
}

/// A server that remembers what it is asked, and may be made to do something else.
#[derive(Debug)]
pub struct Watched {
    inner: GitServer,
    /// Every request, with its body; a connection is one without.
    pub requests: Mutex<Vec<(Service, Vec<u8>)>>,
    /// Done before the first push.
    pub before_push: Mutex<Option<Vec<String>>>,
    /// The answer to the push behind so many others does not arrive.
    pub loses_answer: Mutex<Option<usize>>,
}

impl Watched {
    pub fn new(inner: GitServer) -> Watched {
        Watched { inner, requests: Mutex::default(), before_push: Mutex::default(), loses_answer: Mutex::default() }
    }

    /// How many requests there were over HTTP.
    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    /// How many of them pushed.
    pub fn pushes(&self) -> usize {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(service, body)| *service == Service::ReceivePack && !body.is_empty()).count()
    }

    /// All bodies.
    pub fn said(&self) -> String {
        self.bodies(|_| true)
    }

    /// The bodies that ask for a pack, not only for what is known.
    pub fn fetches(&self) -> String {
        self.bodies(|body| body.contains("0009done"))
    }

    fn bodies(&self, which: impl Fn(&str) -> bool) -> String {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).filter(|body| which(body)).collect()
    }
}

/// A shared one can be handed to a pass.
#[derive(Debug)]
pub struct Shared(pub std::sync::Arc<Watched>);

impl Server for Shared {
    fn url(&self) -> &str {
        self.0.inner.url()
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        self.0.requests.lock().unwrap().push((service, Vec::new()));
        let connection = self.0.inner.connect(service, version)?;
        Ok(Box::new(Counted { connection, watched: self.0.clone(), service, lost: std::io::empty(), is_lost: false }))
    }
}

struct Counted {
    connection: Box<dyn Connection>,
    watched: std::sync::Arc<Watched>,
    service: Service,
    lost: std::io::Empty,
    is_lost: bool,
}

impl Connection for Counted {
    fn is_stateless(&self) -> bool {
        self.connection.is_stateless()
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        match self.is_lost {
            true => &mut self.lost,
            false => self.connection.answer(),
        }
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        if self.service == Service::ReceivePack {
            if let Some(line) = self.watched.before_push.lock().unwrap().take() {
                let repo = GitRepo::at(self.watched.inner.path_text());
                repo.git(&line.iter().map(String::as_str).collect::<Vec<_>>());
            }
            let mut loses = self.watched.loses_answer.lock().unwrap();
            self.is_lost = *loses == Some(0);
            *loses = loses.and_then(|left| left.checked_sub(1));
        }
        self.watched.requests.lock().unwrap().push((self.service, Vec::new()));
        let (inner, watched) = (self.connection.request()?, self.watched.clone());
        Ok(Box::new(CountedRequest { inner, watched }))
    }
}

struct CountedRequest<'c> {
    inner: Box<dyn Request + 'c>,
    watched: std::sync::Arc<Watched>,
}

impl Write for CountedRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(data)?;
        self.watched.requests.lock().unwrap().last_mut().unwrap().1.extend(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl Request for CountedRequest<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        self.inner.finish()
    }
}
