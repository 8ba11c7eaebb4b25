//! Looking at both servers: two conversations are opened at a time, and their refs compared.

use std::collections::HashSet;

use gix::bstr::ByteSlice;

use super::checkpoint::{Checkpoint, hash};
use super::error::RemotesError;
use super::plan::{Difference, Plan};
use super::policy::RefPolicy;
use super::report::Outcome;
use super::supply::{FromServer, Supply as _, Tells};
use gitferry_git::client::{ReceivePack, RemoteRefs, Server, UploadPack};
use gitferry_git::protocol::Version;

/// What two servers have, and the conversations with them.
pub struct Look<'s> {
    /// Where the objects come from.
    pub supply: FromServer<'s>,
    /// The source's refs.
    pub source: RemoteRefs,
    /// The conversation with the target.
    pub receive: ReceivePack<'s>,
    /// The target's refs, as they were told at first.
    pub target: RemoteRefs,
}

impl<'s> Look<'s> {
    /// Looks at both.
    pub fn at(source: &'s dyn Server, target: &'s dyn Server, policy: &RefPolicy) -> Result<Self, RemotesError> {
        let (opened, received) = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| ReceivePack::open(target));
            // A source that has to tell all its refs does so at once in version 0.
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
        let mut receive = received.map_err(|_| RemotesError::Internal("a thread died".into()))??;
        let there = receive.take_refs();
        // A server without refs does not always say how it would name objects.
        if refs.format != there.format && !refs.refs.is_empty() {
            return Err(RemotesError::Formats {
                source_url: source.url().into(),
                source_format: refs.format,
                target_url: target.url().into(),
                target_format: there.format,
            });
        }
        let tip = refs.refs.iter().next().and_then(|entry| refs.refs.object(&entry));
        Ok(Look { supply: FromServer::new(source, upload, tip), source: refs, receive, target: there })
    }
}

/// What is to be done, and what was found out on the way.
#[derive(Debug)]
pub struct Decided<'a> {
    /// What is to be done.
    pub plan: Plan<'a>,
    /// Refs that are as they are at the source.
    pub equal: u64,
    /// Of the old values that were asked about, those that the source has.
    pub known: HashSet<gix::ObjectId>,
    /// Old values that the checkpoint vouches for, of which a fetch has to show that the source has them.
    pub on_word: HashSet<gix::ObjectId>,
}

/// Compares the refs of both sides and asks the source about what would be overwritten. `Err` with the number of refs
/// where all that the link carries would be deleted and that is not allowed.
///
/// With `trust`, a source is believed to have what it had by the checkpoint until it is fetched from. A source that no
/// longer has that has lost its past: what the target has of it counts as made at the target.
pub fn decide<'a>(
    source: &'a RemoteRefs,
    target: &'a RemoteRefs,
    policy: &RefPolicy,
    checkpoint: Option<&Checkpoint>,
    allow_empty: bool,
    supply: &mut FromServer<'_>,
    trust: bool,
) -> Result<Result<Decided<'a>, u64>, RemotesError> {
    let mut difference = Difference::of(&source.refs, &target.refs, policy);
    for name in &source.unusable {
        difference.skipped.add(name.as_bstr(), Outcome::Invalid, "it is no valid name of a ref");
    }
    if difference.takes_all() && !allow_empty {
        return Ok(Err(difference.deletions.len() as u64));
    }
    let equal = difference.equal;
    let on_word = trust && supply.tells() == Tells::AsItIsFetched;
    let refs = (&source.refs, &target.refs);
    let ask = match checkpoint {
        Some(checkpoint) => {
            let confirmed = checkpoint.confirms(policy, &hash(&target.refs, None).digest());
            difference.to_ask(refs, confirmed, on_word)
        }
        None => difference.to_ask(refs, |_| false, on_word),
    };
    let known = supply.known(&ask.now)?;
    let believed = |id: &gix::ObjectId| supply.is_mute && ask.vouched.contains(id);
    let foreign: HashSet<_> = ask.now.iter().copied().filter(|id| !known.contains(id) && !believed(id)).collect();
    let plan = Plan::of(difference, &target.refs, &foreign, policy);
    Ok(Ok(Decided { plan, equal, known, on_word: ask.as_it_is_fetched }))
}
