//! Where the objects of a push come from.

use std::collections::HashSet;
use std::io::BufRead;

use gix::ObjectId;

use super::error::RemotesError;
use gitferry_git::client::{ClientError, FetchPack, Server, UploadPack};
use gitferry_git::protocol::{Filter, Version};

/// When a source says which of the target's objects it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// With each fetch, before the pack (versions 0 and 1).
    AsItIsFetched,
    /// When it is asked.
    WhenAsked,
    /// Never.
    Never,
}

/// Where the objects of a push come from.
pub trait Supply {
    /// When [`Supply::known`] is worth a request of its own.
    fn tells(&self) -> Tells;

    /// Which of these objects it has.
    fn known(&mut self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, RemotesError>;

    /// The commits that histories have so many commits below their tips (the tips themselves are at 1), where they go
    /// on from there. Nothing but their ids is read.
    fn commits_at(&mut self, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, RemotesError>;

    /// Whether [`Supply::commits_at`] can be asked, and packs of what it names.
    fn gives_parts(&mut self) -> Result<bool, RemotesError>;

    /// Fails where the history of what is wanted ends somewhere, so that no pack of it would be whole.
    fn check_whole(&mut self, wants: &[ObjectId]) -> Result<(), RemotesError>;

    /// A pack for a push. Memory does not depend on its size.
    fn pack(&mut self, wanted: &Wanted) -> Result<Pack<'_>, RemotesError>;
}

/// What a pack is to hold, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These, with all that they need.
    pub wants: Vec<ObjectId>,
    /// But not what these need: it is there.
    pub haves: Vec<ObjectId>,
    /// Commits whose parents are not there.
    pub shallow: Vec<ObjectId>,
    /// Whether deltas may refer to what is there.
    pub thin: bool,
    /// Whether deltas may name their base by distance.
    pub ofs_delta: bool,
    /// What is to be left out.
    pub filter: Option<Filter>,
}

/// A pack on its way. Its trailer comes only when all before it has proven to be whole.
pub struct Pack<'p> {
    /// How many objects it announces.
    pub objects: u32,
    /// Of the objects that are said to be at the target, those that the source has; `None` where it does not say.
    pub common: Option<HashSet<ObjectId>>,
    /// Its bytes.
    pub bytes: Box<dyn BufRead + 'p>,
}

/// The commits that histories have so many commits below their tips, where they go on: where a history ends that is
/// fetched only so deep, the server names the commits at its end before it sends the pack, which is not read.
pub fn commits_at(upload: &mut UploadPack<'_>, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, RemotesError> {
    let filter = upload.capabilities().fetch_has("filter").then(commits_only);
    // Some servers (dulwich) insist on a client that could read any pack.
    let (thin, ofs_delta) = (true, true);
    let fetch =
        FetchPack { wants: tips.to_vec(), filter, deepen: Some(depth), thin, ofs_delta, ..FetchPack::default() };
    Ok(upload.fetch(&fetch)?.shallow().to_vec())
}

/// Leaves out all trees and blobs: `tree:0`.
fn commits_only() -> Filter {
    Filter { tree_depth: Some(0), ..Filter::default() }
}

/// The source as a Git server.
pub struct FromServer<'s> {
    server: &'s dyn Server,
    upload: UploadPack<'s>,
    /// Something that it has: without that it is not to be asked what else.
    tip: Option<ObjectId>,
    /// Whether the highest version has been asked for.
    upgraded: bool,
    /// Whether it could not say which objects it has.
    pub is_mute: bool,
}

impl<'s> FromServer<'s> {
    /// A conversation with the source, and one of the objects that it names.
    pub fn new(server: &'s dyn Server, upload: UploadPack<'s>, tip: Option<ObjectId>) -> Self {
        FromServer { server, upload, tip, upgraded: false, is_mute: false }
    }

    /// Goes on in version 2 if the server speaks it: in others, many servers give only what refs name.
    fn upgrade(&mut self) -> Result<(), RemotesError> {
        if !self.upgraded && self.upload.version() != Version::V2 {
            self.upload = UploadPack::open(self.server)?;
        }
        self.upgraded = true;
        Ok(())
    }
}

impl Supply for FromServer<'_> {
    fn tells(&self) -> Tells {
        match self.upload.version() {
            Version::V2 => Tells::WhenAsked,
            _ if self.upload.capabilities().has("multi_ack_detailed") => Tells::AsItIsFetched,
            _ => Tells::Never,
        }
    }

    fn known(&mut self, ids: &[ObjectId]) -> Result<HashSet<ObjectId>, RemotesError> {
        let Some(tip) = self.tip.filter(|_| !ids.is_empty()) else { return Ok(HashSet::new()) };
        match self.upload.known(tip, ids) {
            Ok(known) => Ok(known.into_iter().collect()),
            Err(ClientError::Unsupported { server, what }) => {
                tracing::warn!("{server} cannot {what}: what is overwritten at the target counts as made there");
                self.is_mute = true;
                Ok(HashSet::new())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn gives_parts(&mut self) -> Result<bool, RemotesError> {
        self.upgrade()?;
        let capabilities = self.upload.capabilities();
        let by_any_id = capabilities.has("allow-reachable-sha1-in-want") || capabilities.has("allow-any-sha1-in-want");
        Ok(capabilities.fetch_has("shallow") && (self.upload.version() == Version::V2 || by_any_id))
    }

    fn commits_at(&mut self, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, RemotesError> {
        self.upgrade()?;
        commits_at(&mut self.upload, tips, depth)
    }

    fn check_whole(&mut self, wants: &[ObjectId]) -> Result<(), RemotesError> {
        self.upload.check_whole()?;
        let Some(tip) = wants.first().copied().or(self.tip).filter(|_| self.upload.version() == Version::V2) else {
            return Ok(());
        };
        // Version 2 says so only when it is asked for a pack, of which nothing is read.
        let fetch = FetchPack { wants: vec![tip], thin: true, ofs_delta: true, ..FetchPack::default() };
        self.upload.fetch(&fetch).map(drop).map_err(RemotesError::from)
    }

    fn pack(&mut self, wanted: &Wanted) -> Result<Pack<'_>, RemotesError> {
        let Wanted { wants, haves, shallow, thin, ofs_delta, filter } = wanted.clone();
        let fetch = FetchPack { wants, haves, shallow, thin, ofs_delta, filter, ..FetchPack::default() };
        let input = self.upload.fetch(&fetch)?;
        Ok(Pack { objects: input.objects(), common: input.common().cloned(), bytes: Box::new(input) })
    }
}
