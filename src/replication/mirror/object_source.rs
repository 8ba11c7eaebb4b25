//! Sources of the objects of a push: a Git server, or a region on the way.

use std::collections::HashSet;
use std::io::BufRead;

use gix::ObjectId;

use super::error::MirrorError;
use gitferry_git::client::{ClientError, FetchPack, Server, UploadPack};
use gitferry_git::protocol::{Filter, Version};

/// Ways in which a source reports which of the target's objects it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negotiation {
    /// With each fetch, before the pack (protocol versions 0 and 1 with `multi_ack_detailed`).
    DuringFetch,
    /// In a request of its own (protocol version 2).
    OnRequest,
    /// Not at all.
    Unsupported,
}

/// Source of the objects of a push.
pub trait ObjectSource {
    /// Reports when [`ObjectSource::known`] is worth a request.
    fn negotiation(&self) -> Negotiation;

    /// Returns those of these objects that the source has.
    fn known(&mut self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, MirrorError>;

    /// Returns the commits at `depth` below the tips (a tip is at depth 1) whose histories go on from there. Reads
    /// commit ids only.
    fn commits_at(&mut self, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, MirrorError>;

    /// Returns true if the source answers [`ObjectSource::commits_at`] and sends packs of the commits that it names.
    fn supports_depth(&mut self) -> Result<bool, MirrorError>;

    /// Fails if the source is shallow, so that no pack of these objects would be complete.
    fn check_whole(&mut self, wants: &[ObjectId]) -> Result<(), MirrorError>;

    /// Requests a pack. Memory does not depend on its size.
    fn pack(&mut self, wanted: &PackRequest) -> Result<Pack<'_>, MirrorError>;
}

/// Request for a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackRequest {
    /// Objects to send, with everything that is reachable from them.
    pub wants: Vec<ObjectId>,
    /// Objects that the receiver has, with everything that is reachable from them.
    pub haves: Vec<ObjectId>,
    /// Commits whose parents the receiver does not have.
    pub shallow: Vec<ObjectId>,
    /// True if deltas may refer to bases that only the receiver has (thin pack).
    pub thin: bool,
    /// True if deltas may name their base by offset (`ofs-delta`).
    pub ofs_delta: bool,
    /// Objects to leave out.
    pub filter: Option<Filter>,
}

/// A pack on its way. Its trailer is yielded only after all bytes before it have been verified.
pub struct Pack<'p> {
    /// Number of objects in the pack's header.
    pub objects: u32,
    /// Haves that the source has acknowledged; `None` where the protocol does not report them.
    pub common: Option<HashSet<ObjectId>>,
    /// Bytes of the pack.
    pub bytes: Box<dyn BufRead + 'p>,
}

/// Returns the commits at `depth` below the tips whose histories go on from there. A fetch with `deepen` makes the
/// server name these boundary commits before it sends the pack, which is not read.
pub fn commits_at(upload: &mut UploadPack<'_>, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, MirrorError> {
    let filter = upload.capabilities().fetch_has("filter").then(commits_only);
    // Some servers (dulwich) refuse clients without these capabilities.
    let fetch = FetchPack {
        wants: tips.to_vec(),
        filter,
        deepen: Some(depth),
        thin: true,
        ofs_delta: true,
        ..FetchPack::default()
    };
    Ok(upload.fetch(&fetch)?.shallow().to_vec())
}

/// Leaves out all trees and blobs (`tree:0`).
fn commits_only() -> Filter {
    Filter { tree_depth: Some(0), ..Filter::default() }
}

/// Upload-pack of a Git server.
pub struct ServerSource<'s> {
    server: &'s dyn Server,
    upload: UploadPack<'s>,
    /// An object that the server has. Without one, the server cannot be asked for others.
    tip: Option<ObjectId>,
    /// True once protocol version 2 has been requested.
    upgraded: bool,
    /// True if the server turned out to be unable to report which objects it has.
    pub cannot_negotiate: bool,
}

impl<'s> ServerSource<'s> {
    /// Wraps a connection to the server, with one object (`tip`) that its refs name.
    pub fn new(server: &'s dyn Server, upload: UploadPack<'s>, tip: Option<ObjectId>) -> Self {
        ServerSource { server, upload, tip, upgraded: false, cannot_negotiate: false }
    }

    /// Reconnects in protocol version 2, if the server speaks it: in other versions, many servers send only what refs
    /// name.
    fn upgrade(&mut self) -> Result<(), MirrorError> {
        if !self.upgraded && self.upload.version() != Version::V2 {
            self.upload = UploadPack::open(self.server)?;
        }
        self.upgraded = true;
        Ok(())
    }
}

impl ObjectSource for ServerSource<'_> {
    fn negotiation(&self) -> Negotiation {
        match self.upload.version() {
            Version::V2 => Negotiation::OnRequest,
            _ if self.upload.capabilities().has("multi_ack_detailed") => Negotiation::DuringFetch,
            _ => Negotiation::Unsupported,
        }
    }

    fn known(&mut self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, MirrorError> {
        let Some(tip) = self.tip.filter(|_| !ids.is_empty()) else { return Ok(HashSet::new()) };
        match self.upload.known(tip, ids) {
            Ok(known) => Ok(known.into_iter().collect()),
            Err(ClientError::Unsupported { server, what }) => {
                tracing::warn!("{server} cannot {what}: values that are overwritten at the target count as made there");
                self.cannot_negotiate = true;
                Ok(HashSet::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn supports_depth(&mut self) -> Result<bool, MirrorError> {
        self.upgrade()?;
        let capabilities = self.upload.capabilities();
        let by_any_id = capabilities.has("allow-reachable-sha1-in-want") || capabilities.has("allow-any-sha1-in-want");
        Ok(capabilities.fetch_has("shallow") && (self.upload.version() == Version::V2 || by_any_id))
    }

    fn commits_at(&mut self, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, MirrorError> {
        self.upgrade()?;
        commits_at(&mut self.upload, tips, depth)
    }

    fn check_whole(&mut self, wants: &[ObjectId]) -> Result<(), MirrorError> {
        self.upload.check_whole()?;
        let Some(tip) = wants.first().copied().or(self.tip).filter(|_| self.upload.version() == Version::V2) else {
            return Ok(());
        };
        // Version 2 reports a shallow source only with a pack, of which nothing is read.
        let fetch = FetchPack { wants: vec![tip], thin: true, ofs_delta: true, ..FetchPack::default() };
        self.upload.fetch(&fetch).map(drop).map_err(MirrorError::from)
    }

    fn pack(&mut self, wanted: &PackRequest) -> Result<Pack<'_>, MirrorError> {
        let PackRequest { wants, haves, shallow, thin, ofs_delta, filter } = wanted.clone();
        let fetch = FetchPack { wants, haves, shallow, thin, ofs_delta, filter, ..FetchPack::default() };
        let input = self.upload.fetch(&fetch)?;
        Ok(Pack { objects: input.objects(), common: input.common().cloned(), bytes: Box::new(input) })
    }
}
