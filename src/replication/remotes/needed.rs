//! Old values that stay because the target lacks a ref that needs them.
//!
//! The target may refuse what a branch was renamed to, or rebuilt into. To take the old branch away then would take from
//! the copy commits that the source still has. The source is asked, without its packs being read: what an old value has
//! beyond all that the target is known to have (`confirmed`) must not be less once the refs that the target lacks
//! (`lacking`) are counted too.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::error::RemotesError;
use super::plan::{Edit, MAX_HAVES};
use super::relay::Relay;
use super::report::Outcome;
use super::supply::{Supply, Tells, Wanted};
use gitferry_git::client::ClientError;
use gitferry_git::view::RefTable;

/// Most old values about which a source is asked one by one; what is beyond stays.
const MAX_ASKED_ALONE: usize = 64;

/// The refs of a source, by whether the target has what they name.
struct Sides {
    confirmed: Vec<ObjectId>,
    lacking: Vec<ObjectId>,
    /// One of the refs that the target lacks.
    example: BString,
}

impl Relay<'_, '_> {
    /// Takes out the edits whose old values the target needs for as long as it lacks other refs of the source: those that
    /// it refused, and those that are `waiting`.
    pub(super) fn hold_back<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        waiting: &HashSet<BString>,
    ) -> Result<Vec<Edit<'e>>, RemotesError> {
        let old: Vec<ObjectId> = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect();
        let Some((needed, example)) = self.needed(&old, waiting)? else { return Ok(edits) };
        let is_needed = |edit: &Edit<'_>| !edit.diverged && edit.old.is_some_and(|old| needed.contains(&old));
        let (held, free): (Vec<_>, Vec<_>) = edits.into_iter().partition(is_needed);
        for edit in held {
            self.leave_needed(edit.name.as_ref(), example.as_ref());
        }
        Ok(free)
    }

    /// Notes that a ref stays as it is until the target has another one.
    pub(super) fn leave_needed(&mut self, name: &BStr, other: &BStr) {
        self.note_stays(name, other);
        self.unconfirmed.push(name.to_owned());
    }

    pub(super) fn note_stays(&mut self, name: &BStr, other: &BStr) {
        let reason = format!("it stays until the target has {other}: only that one has commits of it");
        self.carried.notes.add(name, Outcome::Pending, reason);
    }

    /// Those of some old values that hold something which, at the source, only refs have that the target lacks; and one of
    /// these refs. `None` where there is no such value.
    pub(super) fn needed(
        &mut self,
        old: &[ObjectId],
        waiting: &HashSet<BString>,
    ) -> Result<Option<(HashSet<ObjectId>, BString)>, RemotesError> {
        let complete = self.unconfirmed.is_empty() && self.held_moves.is_empty() && waiting.is_empty();
        if old.is_empty() || complete {
            return Ok(None);
        }
        let Some(sides) = self.sides(waiting) else { return Ok(None) };
        let mut seen: HashSet<ObjectId> = sides.confirmed.iter().copied().collect();
        let open: Vec<ObjectId> = old.iter().copied().filter(|id| seen.insert(*id)).collect();
        let needed = match open.is_empty() {
            true => HashSet::new(),
            false => ask(&mut *self.supply, self.source, &sides, open)?,
        };
        Ok((!needed.is_empty()).then_some((needed, sides.example)))
    }

    /// `None` where the target lacks nothing.
    fn sides(&self, waiting: &HashSet<BString>) -> Option<Sides> {
        let lacks: HashSet<&BStr> =
            self.unconfirmed.iter().chain(&self.held_moves).chain(waiting).map(|name| name.as_bstr()).collect();
        let (mut confirmed, mut lacking, mut example) = (HashSet::new(), HashSet::new(), None);
        for entry in self.source.iter() {
            let Some(id) = self.source.object(&entry) else { continue };
            match self.task.policy.target_of(entry.name) {
                None => {}
                Some(Ok(name)) if !lacks.contains(name.as_bstr()) => _ = confirmed.insert(id),
                Some(name) => {
                    lacking.insert(id);
                    example = example.or_else(|| Some(name.unwrap_or_else(|_| entry.name.to_owned())));
                }
            }
        }
        lacking.retain(|id| !confirmed.contains(id));
        let (confirmed, lacking) = (confirmed.into_iter().collect(), lacking.into_iter().collect::<Vec<_>>());
        example.filter(|_| !lacking.is_empty()).map(|example| Sides { confirmed, lacking, example })
    }
}

/// Asks a source which of these objects hold something that only the refs have that a target lacks. Where it cannot say,
/// all count as such.
fn ask(
    supply: &mut dyn Supply,
    source: &RefTable,
    sides: &Sides,
    mut open: Vec<ObjectId>,
) -> Result<HashSet<ObjectId>, RemotesError> {
    // What the source does not have, none of its refs needs.
    if supply.tells() != Tells::Never {
        let known = supply.known(&open)?;
        open.retain(|id| known.contains(id) || source.names(id));
    }
    if open.is_empty() {
        return Ok(HashSet::new());
    }
    let all = || open.iter().copied().collect();
    if !supply.gives_parts()? {
        return Ok(all());
    }
    let (few, more) = haves(sides);
    let Some(beyond) = differs(supply, &open, &few, &more)? else { return Ok(all()) };
    if !beyond {
        return Ok(HashSet::new());
    }
    let mut needed: HashSet<ObjectId> = open.iter().skip(MAX_ASKED_ALONE).copied().collect();
    for id in open.iter().take(MAX_ASKED_ALONE) {
        if differs(supply, std::slice::from_ref(id), &few, &more)? != Some(false) {
            needed.insert(*id);
        }
    }
    Ok(needed)
}

/// What the target has, without and with the refs that it lacks.
fn haves(sides: &Sides) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let lacking = sides.lacking.iter().copied().take(MAX_HAVES / 2);
    let few: Vec<ObjectId> = sides.confirmed.iter().copied().take(MAX_HAVES / 2).collect();
    let more = lacking.chain(few.iter().copied()).collect();
    (few, more)
}

/// Whether a pack of some objects has more in it beside `few` than beside `more`; `None` where the source does not give
/// such packs. Only their heads are read.
fn differs(
    supply: &mut dyn Supply,
    wants: &[ObjectId],
    few: &[ObjectId],
    more: &[ObjectId],
) -> Result<Option<bool>, RemotesError> {
    let mut count = |haves: &[ObjectId]| {
        let wanted =
            Wanted { wants: wants.to_vec(), haves: haves.to_vec(), thin: true, ofs_delta: true, ..Wanted::default() };
        match supply.pack(&wanted) {
            Ok(pack) => Ok(Some(pack.objects)),
            Err(RemotesError::Client(
                error @ (ClientError::Remote { .. } | ClientError::Protocol { .. } | ClientError::Unsupported { .. }),
            )) => {
                tracing::info!(%error, "the source does not say which refs need what is to be deleted");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    match count(few)? {
        Some(0) => Ok(Some(false)),
        Some(beside_few) => Ok(count(more)?.map(|beside_more| beside_more < beside_few)),
        None => Ok(None),
    }
}
