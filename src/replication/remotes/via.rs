//! The way through a region: where the source alone cannot tell what the target lacks, or cannot give a history in parts,
//! both sides are fetched into a region that the link names with `via`. That has all objects, so that it sends no more
//! than the target lacks, in parts as small as they have to be.

use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::Kind as Format;
use tokio::runtime::Handle;

use super::common::MAX_TIPS_ASKED;
use super::ends::actor;
use super::error::RemotesError;
use super::push::{Flow, push};
use super::supply::{FromServer, Supply, Wanted};
use crate::progress::Progress;
use gitferry_engine::region::Region;
use gitferry_engine::region::server::RegionServer;
use gitferry_git::client::{ReceivePack, Server, UploadPack};
use gitferry_git::own_refs::VIA_PREFIX;
use gitferry_git::protocol::Version;
use gitferry_git::receive_pack::{Command, MAX_COMMANDS};

/// A way that a pass may turn to. Blocking.
pub trait Detour: Sync {
    /// Where it leads through, for people.
    fn name(&self) -> &str;

    /// Brings there what a pass wants of the source, and of the target's `tips` what the target gives.
    fn take(
        &self,
        source: &mut dyn Supply,
        wants: &[ObjectId],
        target: &dyn Server,
        tips: &[ObjectId],
    ) -> Result<Taken<'_>, RemotesError>;

    /// Lets go of what was brought there.
    fn leave(&self) -> Result<(), RemotesError>;
}

/// What a detour has come to.
pub struct Taken<'d> {
    /// Has all that was brought.
    pub supply: Box<dyn Supply + 'd>,
    /// The target's tips that it has.
    pub tips: Vec<ObjectId>,
    /// Bytes of packs that were fetched for that.
    pub bytes: u64,
}

/// Through a repository of a region, which is made when it is needed.
pub struct Via {
    region: Region,
    name: String,
    actor: String,
    runtime: Handle,
    progress: Arc<Progress>,
    /// Where this link names objects.
    prefix: String,
    server: OnceLock<RegionServer>,
}

impl Via {
    /// Through this region, for a repository on the link of this name, which counts what flows.
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

    /// The repository there.
    fn server(&self, format: Format) -> Result<&RegionServer, RemotesError> {
        if let Some(server) = self.server.get() {
            return Ok(server);
        }
        let (region, name, actor) = (&self.region, &self.name, &self.actor);
        let item = self.runtime.block_on(async {
            match region.find(name).await? {
                Some(item) => region.check_writable(&item).map(|()| item),
                None => region.create(name, format, actor).await,
            }
        })?;
        let server = RegionServer::new(region, item.id, name, &self.runtime, actor).on_the_way();
        Ok(self.server.get_or_init(|| server))
    }

    /// The region's own failure, which is not the target's.
    fn refused(&self, reason: impl std::fmt::Display) -> RemotesError {
        RemotesError::Via { region: self.region.name.clone(), reason: reason.to_string() }
    }

    /// Brings objects with all that they need. What a ref names is there.
    fn bring(&self, server: &RegionServer, supply: &mut dyn Supply, ids: &[ObjectId]) -> Result<u64, RemotesError> {
        let mut receive = ReceivePack::open(server)?;
        let there = receive.take_refs().refs;
        let new: Vec<ObjectId> = ids.iter().copied().filter(|id| !there.names(id)).collect();
        let asked = there.iter().filter_map(|entry| there.object(&entry)).take(MAX_TIPS_ASKED);
        let asked: Vec<ObjectId> = asked.collect();
        let mut haves: Vec<ObjectId> = match new.is_empty() {
            true => Vec::new(),
            false => supply.known(&asked)?.into_iter().collect(),
        };
        let mut bytes = 0;
        for new in new.chunks(MAX_COMMANDS) {
            let command =
                |id: &ObjectId| Command { name: format!("{}{id}", self.prefix).into(), old: None, new: Some(*id) };
            let commands: Vec<Command> = new.iter().map(command).collect();
            let wanted =
                Wanted { wants: new.to_vec(), haves: haves.clone(), thin: true, ofs_delta: true, ..Wanted::default() };
            let mut pack = supply.pack(&wanted)?;
            let mut flow = Flow { progress: &self.progress, limit: None, bytes: 0 };
            let report = push(&mut receive, &commands, Some(&mut |out| flow.pass_on(&mut *pack.bytes, out)), false);
            let report = report.map_err(|error| if error.is_of_some_refs() { self.refused(error) } else { error })?;
            if let Some((name, reason)) = report.refs.into_iter().find_map(|told| Some((told.name, told.result.err()?)))
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
        &self.region.name
    }

    fn take(
        &self,
        source: &mut dyn Supply,
        wants: &[ObjectId],
        target: &dyn Server,
        tips: &[ObjectId],
    ) -> Result<Taken<'_>, RemotesError> {
        let mut upload = UploadPack::open_in(target, Version::V0)?;
        let server = self.server(upload.format())?;
        let mut bytes = self.bring(server, source, wants)?;
        let shown = upload.list(&[b"refs/"])?.refs;
        // A server does not give all that it takes pushes for.
        let tips: Vec<ObjectId> = tips.iter().copied().filter(|tip| shown.names(tip)).collect();
        if let Some(tip) = tips.first() {
            bytes += self.bring(server, &mut FromServer::new(target, upload, Some(*tip)), &tips)?;
        }
        let supply = FromServer::new(server, UploadPack::open(server)?, wants.first().copied());
        Ok(Taken { supply: Box::new(supply), tips, bytes })
    }

    fn leave(&self) -> Result<(), RemotesError> {
        let Some(server) = self.server.get() else { return Ok(()) };
        let mut receive = ReceivePack::open(server)?;
        let there = receive.take_refs().refs;
        let own = there.with_prefix(self.prefix.as_bytes()).filter_map(|row| there.get(row));
        let own: Vec<Command> =
            own.map(|entry| Command { name: entry.name.into(), old: there.object(&entry), new: None }).collect();
        for commands in own.chunks(MAX_COMMANDS) {
            let report = push(&mut receive, commands, None, false)?;
            for (name, reason) in report.refs.into_iter().filter_map(|told| Some((told.name, told.result.err()?))) {
                tracing::warn!(region = self.name(), "{} could not be deleted: {reason}", name.as_bstr());
            }
        }
        Ok(())
    }
}
