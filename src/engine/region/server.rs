//! A repository of a region as a [`Server`] within the process: the other end of a remote, without a network.
//!
//! A link between a region and a Git server goes through the same protocol, checks and commit as fetches and pushes of
//! clients. A separate thread answers each request through pipes, so no request or answer is held in memory whole.

use std::io::{self, BufRead, BufReader, BufWriter, PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gix::hash::Kind as Format;
use tokio::runtime::Handle;

use super::consolidate::CROWDED_ABOVE;
use super::push::{
    FreshStates, MAX_DRAINED_BYTES, Missing, PushPolicy, PushProgress, PushStates as _, Serving, WithHead,
};
use super::{Region, RegionError, default_head};
use crate::ledger::head::RepositoryId;
use gitferry_base::Kind;
use gitferry_git::client::{ClientError, Connection, Request, Server};
use gitferry_git::limits::WALK_STACK_BYTES;
use gitferry_git::pack::{ArrivalLimits, PackSet};
use gitferry_git::protocol::{AdvertisedRefs, PacketReader, PacketWriter, Service, Version, advertise_refs, drain};
use gitferry_git::receive_pack::{CAPABILITIES, PushRequest};
use gitferry_git::refs::RefValue;
use gitferry_git::upload_pack::{Limits, Session, advertise, serve};
use gitferry_git::view::{RefTable, View};

/// Size of pipe buffers in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// One repository of a region. Clones share their state.
#[derive(Clone, Debug)]
pub struct RegionServer {
    region: Region,
    repository: Repository,
    name: String,
    url: String,
    runtime: Handle,
    actor: String,
    /// True for a pass between two remotes through this repository.
    via: bool,
    side_channel: Arc<Mutex<SideChannel>>,
}

/// The served repository.
#[derive(Clone, Copy, Debug)]
enum Repository {
    Here(RepositoryId),
    /// A missing repository, presented as an empty one.
    Absent(Format),
}

/// Arguments and results of pushes that Git's protocol does not carry.
#[derive(Debug, Default)]
struct SideChannel {
    /// HEAD to set with the next push.
    head: Option<RefValue>,
    /// Sequence number of the newest change made through this server.
    committed: Option<u64>,
}

impl RegionServer {
    /// Creates a server for a repository; changes are made in the name of `actor`. Pushes are those of a mirror:
    /// checked in full like an import, without the rules for users.
    pub fn new(region: &Region, id: RepositoryId, name: &str, runtime: &Handle, actor: &str) -> Self {
        Self::with(region, Repository::Here(id), name, runtime, actor)
    }

    /// Creates a server that presents a missing repository as an empty one and refuses pushes.
    pub fn absent(region: &Region, format: Format, name: &str, runtime: &Handle, actor: &str) -> Self {
        Self::with(region, Repository::Absent(format), name, runtime, actor)
    }

    fn with(region: &Region, repository: Repository, name: &str, runtime: &Handle, actor: &str) -> Self {
        RegionServer {
            region: region.clone(),
            repository,
            name: name.into(),
            url: format!("{name} in {}", region.name()),
            runtime: runtime.clone(),
            actor: actor.into(),
            via: false,
            side_channel: Arc::default(),
        }
    }

    /// Serves a pass between two remotes through this repository: objects of refs below `refs/gitferry/` can be
    /// fetched, too, and packs leave out everything that the client has, whatever the cost of finding out.
    pub fn via(self) -> Self {
        RegionServer { via: true, ..self }
    }

    /// Makes the next push set HEAD in the same change.
    pub fn set_head_with_next_push(&self, head: RefValue) {
        self.side_channel().head = Some(head);
    }

    /// Sets HEAD now. Blocking.
    pub fn set_head(&self, head: &RefValue) -> Result<(), RegionError> {
        // By id: another repository may have the name meanwhile.
        let name = self.id().map_or_else(|| self.name.clone(), |id| id.to_string());
        let item = self.runtime.block_on(self.region.repositories().set_head(&name, head, &self.actor))?;
        self.side_channel().committed = Some(item.head.frontier.seq);
        Ok(())
    }

    /// Returns the sequence number of the newest change made through this server.
    pub fn committed(&self) -> Option<u64> {
        self.side_channel().committed
    }

    /// Returns the region of the repository.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the id of the repository, unless it is missing.
    pub fn id(&self) -> Option<RepositoryId> {
        match self.repository {
            Repository::Here(id) => Some(id),
            Repository::Absent(_) => None,
        }
    }

    fn side_channel(&self) -> std::sync::MutexGuard<'_, SideChannel> {
        self.side_channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn states(&self, id: RepositoryId, service: Service) -> FreshStates {
        let mirror = self.via || service == Service::ReceivePack;
        FreshStates { region: self.region.clone(), id, hidden: None, mirror }
    }

    fn view(&self, service: Service) -> Result<View, ClientError> {
        let id = match self.repository {
            Repository::Here(id) => id,
            Repository::Absent(format) => return Ok(nothing(format)),
        };
        let state = self.runtime.block_on(self.states(id, service).state());
        state.map(|state| state.view).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &RegionError) -> ClientError {
        ClientError::Region { server: self.url.clone(), kind: error.kind(), error: error.to_string() }
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Connection { server: self.url.clone(), doing: "talking to a region within the process", error }
    }

    /// Runs `work` on a thread and returns the reader of its output.
    fn answering(
        &self,
        work: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<()> + Send + 'static,
    ) -> Result<Box<dyn BufRead + Send>, ClientError> {
        let (reader, writer) = io::pipe().map_err(|error| self.broken(error))?;
        let failed = Arc::new(Mutex::new(None));
        let answer = Answer { pipe: BufReader::with_capacity(BUFFER_BYTES, reader), failed: failed.clone() };
        let run = move || {
            let mut writer = BufWriter::with_capacity(BUFFER_BYTES, writer);
            if let Err(error) = work(&mut writer).and_then(|()| writer.flush()) {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
        };
        std::thread::Builder::new()
            .name("region-server".into())
            .stack_size(WALK_STACK_BYTES)
            .spawn(run)
            .map_err(|error| self.broken(error))?;
        Ok(Box::new(answer))
    }
}

/// An answer. An answer that could not be finished ends with an error, never with a plain end of file.
struct Answer {
    pipe: BufReader<PipeReader>,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl BufRead for Answer {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.pipe.fill_buf()?.is_empty()
            && let Some(error) = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Err(error);
        }
        Ok(self.pipe.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.pipe.consume(count);
    }
}

impl Read for Answer {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl Server for RegionServer {
    fn url(&self) -> &str {
        &self.url
    }

    fn is_within(&self) -> bool {
        true
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        let view = self.view(service)?;
        let advertised = view.clone();
        let version = if service == Service::ReceivePack { Version::V0 } else { version };
        let session = Session { version, stateless: true, ref_in_want: false, thorough: self.via, own: true };
        let answer = self.answering(move |mut out| match service {
            Service::UploadPack => advertise(&advertised, session, &mut out).map_err(io::Error::other),
            Service::ReceivePack => {
                let which = AdvertisedRefs { head: false, peeled: None, filter: false };
                advertise_refs(&advertised, Version::V0, which, CAPABILITIES, &mut out)
            }
        })?;
        Ok(Box::new(RegionConnection { server: self.clone(), service, session, view, answer }))
    }
}

struct RegionConnection {
    server: RegionServer,
    service: Service,
    session: Session,
    view: View,
    answer: Box<dyn BufRead + Send>,
}

impl Connection for RegionConnection {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        let server = self.server.clone();
        let (reader, writer) = io::pipe().map_err(|error| server.broken(error))?;
        let whole = Arc::new(AtomicBool::new(false));
        let mut input = BufReader::with_capacity(BUFFER_BYTES, Incoming { pipe: reader, whole: whole.clone() });
        let view = self.view.clone();
        let session = self.session;
        let answer = match self.service {
            Service::UploadPack => server.answering(move |mut out| {
                let never = AtomicBool::new(false);
                let served = serve(&view, &mut input, session, &mut out, &Limits::default(), &never);
                served.map(drop).map_err(io::Error::other)
            })?,
            Service::ReceivePack => {
                let receiver = server.clone();
                server.answering(move |out| receiver.receive(&mut input, out))?
            }
        };
        let out = BufWriter::with_capacity(BUFFER_BYTES, writer);
        Ok(Box::new(RegionRequest { connection: self, out, whole, answer }))
    }
}

impl RegionServer {
    fn receive(&self, input: &mut (dyn BufRead + Send), output: &mut (dyn Write + Send)) -> io::Result<()> {
        let Repository::Here(id) = self.repository else {
            return PacketWriter::new(output).error(&format!("there is no repository {}", self.url));
        };
        let states = self.states(id, Service::ReceivePack);
        let state = self.runtime.block_on(states.state()).map_err(|error| self.failed(&error).into_io())?;
        let live = state.manifest.packs.len();
        if live > CROWDED_ABOVE {
            self.runtime
                .block_on(self.region.consolidator().make_room(&state.item))
                .map_err(|error| self.failed(&error).into_io())?;
        }
        let request = match PushRequest::read(&mut PacketReader::new(&mut *input), state.view.format) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) => return PacketWriter::new(output).error(&error.to_string()),
        };
        let policy = PushPolicy {
            // The source has accepted these sizes already: a mirror follows.
            limits: ArrivalLimits { pack_bytes: u64::MAX, object_bytes: u64::MAX },
            rules: None,
            lfs: Missing::Allow,
            mirror: true,
            with_head: Some(WithHead { head: self.side_channel().head.take() }),
            ..PushPolicy::default()
        };
        let region = &self.region;
        let runtime = &self.runtime;
        let actor = self.actor.as_str();
        let serving = Serving { region, runtime, policy: &policy, actor, request: &request };
        let pushed = match serving.push(&states, &mut &mut *input, &PushProgress::default()) {
            Ok(pushed) => pushed,
            Err(error) if matches!(error.kind(), Kind::Refused | Kind::NotFound | Kind::Usage) => {
                serving.failed(&error)
            }
            // The refs are not to blame for a failure that may pass.
            Err(error) => return Err(self.failed(&error).into_io()),
        };
        pushed.report.write(&request.capabilities, output)?;
        if pushed.item.is_none() {
            drain(input, MAX_DRAINED_BYTES);
        }
        if let Some(item) = pushed.item {
            self.side_channel().committed = Some(item.head.frontier.seq);
            runtime.block_on(async {
                let item = region.snapshots().maintain(item).await;
                region.consolidator().maintain_packs(item.id, live + 1).await;
            });
        }
        Ok(())
    }
}

/// The receiving end of a request. A request that was dropped fails with an error, never with a plain end of file.
struct Incoming {
    pipe: PipeReader,
    whole: Arc<AtomicBool>,
}

impl Read for Incoming {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.pipe.read(out)? {
            0 if !out.is_empty() && !self.whole.load(Ordering::Acquire) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request was cut off"))
            }
            count => Ok(count),
        }
    }
}

struct RegionRequest<'c> {
    connection: &'c mut RegionConnection,
    out: BufWriter<PipeWriter>,
    whole: Arc<AtomicBool>,
    answer: Box<dyn BufRead + Send>,
}

impl Write for RegionRequest<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Request for RegionRequest<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        let RegionRequest { connection, out, whole, answer } = *self;
        // A receiver that has answered may not read the rest; its answer gives the reason.
        let sent = out.into_inner();
        whole.store(sent.is_ok(), Ordering::Release);
        drop(sent);
        connection.answer = answer;
        Ok(())
    }
}

/// Returns the view of an empty repository.
fn nothing(format: Format) -> View {
    View {
        format,
        head: default_head(),
        refs: Arc::new(RefTable::empty(format)),
        packs: Arc::new(PackSet::new(format)),
        recent_tips: Default::default(),
    }
}
