//! Targets that fail under large pushes without saying that they are too large.

use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Connection, Request, Server};
use gitferry_git::protocol::{Service, Version};
use gitferry_replication::mirror::report::MirrorOutcome;

use crate::remotes::git::noise;
use crate::remotes::place::{Place, refs};
use gitferry_test_support::scripted_server::GitServer;

/// Most bytes that the server takes in one request.
const TAKES: usize = 1_500_000;

/// A failure that a large request ends in.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Status(u16),
    Cut,
}

/// A server on which requests fail that are larger than it takes.
#[derive(Clone, Debug)]
struct Straining {
    inner: GitServer,
    failure: Failure,
    takes: usize,
    failed: Arc<AtomicUsize>,
    /// URL in errors, if it is another one.
    names: Option<String>,
}

impl Server for Straining {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        let inner = self.inner.connect(service, version)?;
        Ok(match service {
            Service::ReceivePack => Box::new(Conversation { inner, server: self.clone() }),
            _ => inner,
        })
    }
}

struct Conversation {
    inner: Box<dyn Connection>,
    server: Straining,
}

impl Connection for Conversation {
    fn is_stateless(&self) -> bool {
        self.inner.is_stateless()
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        self.inner.answer()
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        Ok(Box::new(Body { inner: Some(self.inner.request()?), server: &self.server, sent: 0 }))
    }
}

struct Body<'c> {
    inner: Option<Box<dyn Request + 'c>>,
    server: &'c Straining,
    sent: usize,
}

impl Write for Body<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.sent += data.len();
        if self.sent > self.server.takes {
            self.inner = None;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.inner.as_mut().unwrap().write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().map_or(Ok(()), |inner| inner.flush())
    }
}

impl Request for Body<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        if let Some(inner) = self.inner {
            return inner.finish();
        }
        self.server.failed.fetch_add(1, SeqCst);
        let server = self.server.names.clone().unwrap_or_else(|| self.server.url().to_owned());
        Err(match self.server.failure {
            Failure::Status(status) => ClientError::Status { server, status, reason: "upstream".into() },
            Failure::Cut => {
                ClientError::Connection { server, doing: "pushing", error: io::ErrorKind::ConnectionReset.into() }
            }
        })
    }
}

fn large() -> Place {
    let place = Place::empty();
    for n in 0..12 {
        place.source.commit_bytes("main", &format!("file{n}"), &noise(n, 300_000));
    }
    place
}

fn straining(place: &Place, failure: Failure, takes: usize) -> Straining {
    let inner = GitServer::new(&place.target, Version::V2, true);
    Straining { inner, failure, takes, failed: Arc::default(), names: None }
}

#[test]
fn large_pushes_that_fail_twice_become_smaller() {
    let statuses = [408, 500, 502, 504].map(Failure::Status);
    for failure in statuses.into_iter().chain([Failure::Cut]) {
        let place = large();
        let target = straining(&place, failure, TAKES);
        let mut pass = place.pass();
        pass.target = Box::new(target.clone());
        let error = pass.fails();
        assert_eq!(error.kind(), Kind::Transient, "{failure:?}: {error}");
        assert!(refs(&place.target).is_empty());
        let (carried, _) = pass.ok();
        assert!(carried.remarks.iter().any(|remark| remark.contains("in slices")), "{carried:?}");
        assert!(target.failed.load(SeqCst) >= 2);
        place.assert_mirrored();
    }
}

/// A target behind a redirect names the URL that the redirect leads to in its errors.
#[test]
fn large_pushes_that_fail_behind_a_redirect_become_smaller() {
    for failure in [Failure::Status(502), Failure::Cut] {
        let place = large();
        let mut target = straining(&place, failure, TAKES);
        target.names = Some("http://elsewhere.example/app".into());
        let mut pass = place.pass();
        pass.target = Box::new(target.clone());
        assert_eq!(pass.fails().kind(), Kind::Transient, "{failure:?}");
        let (carried, _) = pass.ok();
        assert!(carried.remarks.iter().any(|remark| remark.contains("in slices")), "{carried:?}");
        place.assert_mirrored();
    }
}

/// A source whose answers break off within a pack.
#[derive(Debug)]
struct Breaking {
    inner: GitServer,
    /// Most bytes of an answer.
    gives: usize,
}

impl Server for Breaking {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        let inner = self.inner.connect(service, version)?;
        Ok(Box::new(BreakingConversation { inner, gives: self.gives, left: self.gives }))
    }
}

struct BreakingConversation {
    inner: Box<dyn Connection>,
    gives: usize,
    left: usize,
}

impl Read for BreakingConversation {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for BreakingConversation {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let data = self.inner.answer().fill_buf()?;
        Ok(&data[..data.len().min(self.left)])
    }

    fn consume(&mut self, count: usize) {
        self.left -= count;
        self.inner.answer().consume(count);
    }
}

impl Connection for BreakingConversation {
    fn is_stateless(&self) -> bool {
        self.inner.is_stateless()
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        self
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        self.left = self.gives;
        self.inner.request()
    }
}

#[test]
fn failures_of_the_source_do_not_make_pushes_smaller() {
    let place = large();
    let mut pass = place.pass();
    pass.source = Box::new(Breaking { inner: GitServer::new(&place.source, Version::V2, true), gives: TAKES });
    for _ in 0..4 {
        let mut carried = MirrorOutcome::default();
        let error = pass.run(&mut carried).unwrap_err();
        assert_eq!(error.kind(), Kind::Transient, "{error}");
        assert!(carried.remarks.is_empty(), "{carried:?}");
    }
    assert!(refs(&place.target).is_empty());
}

#[test]
fn what_fails_for_another_reason_is_sent_as_it_was() {
    for (failure, takes) in [(Failure::Status(503), TAKES), (Failure::Status(502), 300_000)] {
        let place = Place::empty();
        place.source.commit_bytes("main", "file", &noise(1, if takes == TAKES { 2_000_000 } else { 500_000 }));
        let target = straining(&place, failure, takes);
        let mut pass = place.pass();
        pass.target = Box::new(target.clone());
        for _ in 0..4 {
            let mut carried = MirrorOutcome::default();
            let error = pass.run(&mut carried).unwrap_err();
            assert_eq!(error.kind(), Kind::Transient, "{error}");
            assert!(carried.remarks.is_empty(), "{carried:?}");
        }
        assert_eq!(target.failed.load(SeqCst), 4);
    }
}
