//! Detour through a region. Where the source alone cannot tell what the target lacks, or cannot split a history, both
//! sides are fetched into the region that the link names as `via`. The region then has all objects, sends no more than
//! the target lacks, and splits histories at any commit.

use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::Kind as Format;
use tokio::runtime::Handle;

use super::ends::actor;
use super::error::MirrorError;
use super::find_haves::MAX_TIPS_ASKED;
use super::object_source::{ObjectSource, PackRequest, ServerSource};
use super::push::{Flow, push};
use crate::progress::Progress;
use gitferry_engine::region::Region;
use gitferry_engine::region::server::RegionServer;
use gitferry_git::client::{ReceivePack, Server, UploadPack};
use gitferry_git::own_refs::VIA_PREFIX;
use gitferry_git::protocol::Version;
use gitferry_git::receive_pack::{Command, MAX_COMMANDS};

/// Way that a pass may switch to. Blocking.
pub trait Detour: Sync {
    /// Name of the region, for messages.
    fn name(&self) -> &str;

    /// Fetches what a pass wants from the source, and those of the target's `tips` that the target serves.
    fn take(
        &self,
        source: &mut dyn ObjectSource,
        wants: &[ObjectId],
        target: &dyn Server,
        tips: &[ObjectId],
    ) -> Result<Taken<'_>, MirrorError>;

    /// Deletes the refs that kept these objects.
    fn leave(&self) -> Result<(), MirrorError>;
}

/// Result of [`Detour::take`].
pub struct Taken<'d> {
    /// Source of all objects that were fetched.
    pub object_source: Box<dyn ObjectSource + 'd>,
    /// Tips of the target that were fetched.
    pub tips: Vec<ObjectId>,
    /// Bytes of the packs that were fetched.
    pub bytes: u64,
}

/// Detour through a repository of a region, which is created on demand.
pub struct Via {
    region: Region,
    name: String,
    actor: String,
    runtime: Handle,
    progress: Arc<Progress>,
    /// Prefix of the link's refs in the region.
    prefix: String,
    server: OnceLock<RegionServer>,
}

impl Via {
    /// Detour for one repository of a link. `progress` counts bytes as they flow.
    pub fn new(region: &Region, name: &str, link: &str, progress: &Arc<Progress>, runtime: &Handle) -> Via {
        Via {
            region: region.clone(),
            name: name.into(),
            actor: actor(link),
            runtime: runtime.clone(),
            progress: progress.clone(),
            prefix: format!("{VIA_PREFIX}{link}/"),
            server: OnceLock::new(),
        }
    }

    /// Server of the repository in the region, opened once.
    fn server(&self, format: Format) -> Result<&RegionServer, MirrorError> {
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let region = &self.region;
        let name = &self.name;
        let actor = &self.actor;
        let item = self.runtime.block_on(async {
            match region.repositories().find(name).await? {
                Some(item) => region.committer().check_writable(&item).map(|()| item),
                None => region.repositories().create(name, format, actor).await,
            }
        })?;
        let server = RegionServer::new(region, item.id, name, &self.runtime, actor).via();
        Ok(self.server.get_or_init(|| server))
    }

    /// Refusal by the region, as opposed to one by the target.
    fn refused(&self, reason: impl std::fmt::Display) -> MirrorError {
        MirrorError::Via { region: self.region.name().to_owned(), reason: reason.to_string() }
    }

    /// Fetches objects with everything that is reachable from them, except what refs of the region name already.
    /// Returns the bytes of the packs.
    fn fetch_into(
        &self,
        server: &RegionServer,
        object_source: &mut dyn ObjectSource,
        ids: &[ObjectId],
    ) -> Result<u64, MirrorError> {
        let mut receive = ReceivePack::open(server)?;
        let advertised_refs = receive.take_refs().refs;
        let new: Vec<ObjectId> = ids.iter().copied().filter(|id| !advertised_refs.names(id)).collect();
        let asked = advertised_refs.iter().filter_map(|entry| advertised_refs.object(&entry)).take(MAX_TIPS_ASKED);
        let asked: Vec<ObjectId> = asked.collect();
        let mut haves: Vec<ObjectId> =
            if new.is_empty() { Vec::new() } else { object_source.known(&asked)?.into_iter().collect() };
        let mut bytes = 0;
        for new in new.chunks(MAX_COMMANDS) {
            let command =
                |id: &ObjectId| Command { name: format!("{}{id}", self.prefix).into(), old: None, new: Some(*id) };
            let commands: Vec<Command> = new.iter().map(command).collect();
            let wanted = PackRequest {
                wants: new.to_vec(),
                haves: haves.clone(),
                thin: true,
                ofs_delta: true,
                ..PackRequest::default()
            };
            let mut pack = object_source.pack(&wanted)?;
            let mut flow = Flow::new(&self.progress, None);
            let report = push(&mut receive, &commands, Some(&mut |out| flow.pass_on(&mut *pack.bytes, out)), false);
            let report = report.map_err(|error| if error.is_batch_refusal() { self.refused(error) } else { error })?;
            if let Some((name, reason)) =
                report.refs.into_iter().find_map(|outcome| Some((outcome.name, outcome.result.err()?)))
            {
                return Err(self.refused(format!("{name}: {reason}")));
            }
            bytes += flow.bytes;
            haves.extend(new);
        }
        Ok(bytes)
    }
}

impl Detour for Via {
    fn name(&self) -> &str {
        self.region.name()
    }

    fn take(
        &self,
        source: &mut dyn ObjectSource,
        wants: &[ObjectId],
        target: &dyn Server,
        tips: &[ObjectId],
    ) -> Result<Taken<'_>, MirrorError> {
        let mut upload = UploadPack::open_in(target, Version::V0)?;
        let server = self.server(upload.format())?;
        let mut bytes = self.fetch_into(server, source, wants)?;
        let advertised = upload.list(&[b"refs/"])?.refs;
        // Servers do not serve all refs that they accept pushes for.
        let tips: Vec<ObjectId> = tips.iter().copied().filter(|tip| advertised.names(tip)).collect();
        if let Some(tip) = tips.first() {
            bytes += self.fetch_into(server, &mut ServerSource::new(target, upload, Some(*tip)), &tips)?;
        }
        let object_source = ServerSource::new(server, UploadPack::open(server)?, wants.first().copied());
        Ok(Taken { object_source: Box::new(object_source), tips, bytes })
    }

    fn leave(&self) -> Result<(), MirrorError> {
        let Some(server) = self.server.get() else { return Ok(()) };
        let mut receive = ReceivePack::open(server)?;
        let advertised_refs = receive.take_refs().refs;
        let own = advertised_refs.with_prefix(self.prefix.as_bytes()).filter_map(|row| advertised_refs.get(row));
        let own: Vec<Command> = own
            .map(|entry| Command { name: entry.name.into(), old: advertised_refs.object(&entry), new: None })
            .collect();
        for commands in own.chunks(MAX_COMMANDS) {
            let report = push(&mut receive, commands, None, false)?;
            for (name, reason) in
                report.refs.into_iter().filter_map(|outcome| Some((outcome.name, outcome.result.err()?)))
            {
                tracing::warn!(
                    region = self.name(),
                    "{} cannot be deleted, the next pass tries again: {reason}",
                    name.as_bstr()
                );
            }
        }
        Ok(())
    }
}
