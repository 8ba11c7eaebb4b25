//! Lists the refs of both servers, over two connections at a time, and turns them into a plan.

use std::collections::HashSet;

use gix::bstr::ByteSlice;

use super::checkpoint::{Checkpoint, hash};
use super::error::MirrorError;
use super::known_objects::KnownObjects;
use super::object_source::{Negotiation, ObjectSource as _, ServerSource};
use super::plan::{Plan, RefDelta};
use super::policy::RefPolicy;
use super::report::NoteKind;
use gitferry_git::client::{ReceivePack, RemoteRefs, Server, UploadPack};
use gitferry_git::protocol::Version;

/// Refs of both sides.
#[derive(Debug)]
pub struct ListedRefs {
    /// URL of the source.
    pub source_url: String,
    /// Refs of the source.
    pub source: RemoteRefs,
    /// URL of the target.
    pub target_url: String,
    /// Refs of the target, from its first advertisement.
    pub target: RemoteRefs,
}

/// Refs of both sides, and the open connections to them.
pub struct Listing<'s> {
    /// Refs of both sides.
    pub refs: ListedRefs,
    /// Upload-pack of the source.
    pub object_source: ServerSource<'s>,
    /// Receive-pack of the target.
    pub receive: ReceivePack<'s>,
}

impl<'s> Listing<'s> {
    /// Opens both servers and lists their refs.
    pub fn at(source: &'s dyn Server, target: &'s dyn Server, policy: &RefPolicy) -> Result<Self, MirrorError> {
        let (opened, received) = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| ReceivePack::open(target));
            // A server that has to list all refs does so in its first answer in version 0; version 2 takes another
            // request.
            let prefixes = policy.prefixes();
            let lists_all = prefixes.iter().any(|prefix| prefix == "refs/");
            let version = if lists_all && !source.is_within() { Version::V0 } else { Version::V2 };
            let opened = UploadPack::open_in(source, version).and_then(|mut upload| {
                let prefixes: Vec<&[u8]> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
                upload.list(&prefixes).map(|refs| (upload, refs))
            });
            (opened, receiving.join())
        });
        let (upload, refs) = opened?;
        let mut receive = received
            .map_err(|_| MirrorError::Internal("the thread that lists the target's refs panicked".into()))??;
        let target_refs = receive.take_refs();
        // An empty repository does not always announce its object format.
        if refs.format != target_refs.format && !refs.refs.is_empty() {
            return Err(MirrorError::Formats {
                source_url: source.url().into(),
                source_format: refs.format,
                target_url: target.url().into(),
                target_format: target_refs.format,
            });
        }
        let tip = refs.refs.iter().next().and_then(|entry| refs.refs.object(&entry));
        let refs = ListedRefs {
            source_url: source.url().into(),
            source: refs,
            target_url: target.url().into(),
            target: target_refs,
        };
        Ok(Listing { refs, object_source: ServerSource::new(source, upload, tip), receive })
    }
}

/// A plan, and the facts that were learned while it was made.
#[derive(Debug)]
pub struct Decision<'a> {
    /// Changes to make.
    pub plan: Plan<'a>,
    /// Objects that the source has, as far as it was asked.
    pub objects: KnownObjects,
}

/// Compares the refs of both sides and asks the source about the values that would be overwritten.
///
/// With `trust`, the source is assumed to have what the checkpoint confirms, until a fetch proves it. Without, values
/// that the source does not have are treated as made at the target, as after a source has lost part of its history.
///
/// # Errors
/// [`MirrorError::EmptySource`] where every ref that the link owns would be deleted, and `allow_empty` is false; errors
/// of the source.
pub fn decide<'a>(
    refs: &'a ListedRefs,
    policy: &RefPolicy,
    checkpoint: Option<&Checkpoint>,
    allow_empty: bool,
    object_source: &mut ServerSource<'_>,
    trust: bool,
) -> Result<Decision<'a>, MirrorError> {
    let ListedRefs { source, target, .. } = refs;
    let mut delta = RefDelta::of(&source.refs, &target.refs, policy);
    for name in &source.unusable {
        delta.skipped.add(name.as_bstr(), NoteKind::Invalid, "it is not a valid ref name");
    }
    if delta.deletes_all() && !allow_empty {
        return Err(MirrorError::EmptySource {
            source_url: refs.source_url.clone(),
            target_url: refs.target_url.clone(),
            refs: delta.deletions.len() as u64,
        });
    }
    let assumed = trust && object_source.negotiation() == Negotiation::DuringFetch;
    let both = (&source.refs, &target.refs);
    let ask = match checkpoint {
        Some(checkpoint) => {
            let confirmed = checkpoint.confirms(policy, &hash(&target.refs, None).digest());
            delta.ids_to_verify(both, confirmed, assumed)
        }
        None => delta.ids_to_verify(both, |_| false, assumed),
    };
    let known = object_source.known(&ask.now)?;
    let assumed_there = |id: &gix::ObjectId| object_source.cannot_negotiate && ask.confirmed.contains(id);
    let foreign: HashSet<_> = ask.now.iter().copied().filter(|id| !known.contains(id) && !assumed_there(id)).collect();
    let plan = Plan::of(delta, &target.refs, &foreign, policy);
    Ok(Decision { plan, objects: KnownObjects::new(known, ask.during_fetch) })
}
