//! Decides which old values stay at the target because commits in them would be lost without refs that the target
//! lacks.
//!
//! A target may refuse the ref that a branch was renamed to, or that its commits were moved to. Deleting the old branch
//! would then remove commits from the copy that the source still has. The source's own object counts decide, without
//! reading packs: a pack of the old value beyond all that the target is known to have (`confirmed`) must not shrink
//! when the refs that the target lacks (`lacking`) are declared as haves, too.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::error::MirrorError;
use super::object_source::{Negotiation, ObjectSource, PackRequest};
use super::object_supply::ObjectSupply;
use super::plan::{Edit, MAX_HAVES};
use super::settle::Settlement;
use gitferry_git::client::ClientError;
use gitferry_git::view::RefTable;

/// Most old values that the source is asked about one by one. All values beyond this count as needed.
const MAX_ASKED_ALONE: usize = 64;

/// Old values that hold objects which, at the source, only refs have that the target lacks.
pub(super) struct Needed {
    ids: HashSet<ObjectId>,
    /// One of these refs, for messages.
    by: BString,
}

impl Needed {
    /// Returns true if this old value is needed.
    pub fn has(&self, id: &ObjectId) -> bool {
        self.ids.contains(id)
    }

    /// Returns true if the edit replaces or deletes a needed value. The source does not need what was made at the
    /// target.
    pub fn is_replaced_by(&self, edit: &Edit<'_>) -> bool {
        !edit.diverged && edit.old.is_some_and(|old| self.has(&old))
    }

    /// Name of one ref that the target lacks and that needs such values.
    pub fn by(&self) -> &BStr {
        self.by.as_bstr()
    }
}

/// Tips of the source, by their presence at the target.
struct Sides {
    confirmed: Vec<ObjectId>,
    lacking: Vec<ObjectId>,
    /// Name of one ref that the target lacks, for messages.
    example: BString,
}

/// Returns the edits that may go ahead. Edits whose old values hold commits of refs that the target lacks (refused ones,
/// and those in `waiting`) are settled as pending.
pub(super) fn hold_back<'e>(
    supply: &mut ObjectSupply<'_>,
    settlement: &mut Settlement<'_>,
    edits: Vec<Edit<'e>>,
    waiting: &HashSet<BString>,
) -> Result<Vec<Edit<'e>>, MirrorError> {
    let Some(needed) = needed_of(supply, settlement, &edits, waiting)? else { return Ok(edits) };
    let (held, free): (Vec<_>, Vec<_>) = edits.into_iter().partition(|edit| needed.is_replaced_by(edit));
    for edit in held {
        settlement.leave_needed(edit.name.as_ref(), needed.by());
    }
    Ok(free)
}

/// [`needed`] for the old values of these edits.
pub(super) fn needed_of(
    supply: &mut ObjectSupply<'_>,
    settlement: &Settlement<'_>,
    edits: &[Edit<'_>],
    waiting: &HashSet<BString>,
) -> Result<Option<Needed>, MirrorError> {
    let old: Vec<ObjectId> = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect();
    needed(supply, settlement, &old, waiting)
}

/// Returns those of some old values which hold objects that, at the source, only refs have that the target lacks; `None`
/// where there is no such value.
pub(super) fn needed(
    supply: &mut ObjectSupply<'_>,
    settlement: &Settlement<'_>,
    old: &[ObjectId],
    waiting: &HashSet<BString>,
) -> Result<Option<Needed>, MirrorError> {
    let lacks: HashSet<&BStr> = settlement.lacking().chain(waiting).map(|name| name.as_bstr()).collect();
    if old.is_empty() || lacks.is_empty() {
        return Ok(None);
    }
    let Some(sides) = sides(supply, &lacks) else { return Ok(None) };
    let mut seen: HashSet<ObjectId> = sides.confirmed.iter().copied().collect();
    let open: Vec<ObjectId> = old.iter().copied().filter(|id| seen.insert(*id)).collect();
    if open.is_empty() {
        return Ok(None);
    }
    let source = supply.source().refs;
    let ids = ask(supply.from(), source, &sides, open)?;
    Ok((!ids.is_empty()).then_some(Needed { ids, by: sides.example }))
}

/// Returns `None` where the target lacks no tip of the source.
fn sides(supply: &ObjectSupply<'_>, lacks: &HashSet<&BStr>) -> Option<Sides> {
    let mut confirmed = HashSet::new();
    let mut lacking = HashSet::new();
    let mut example = None;
    for (name, id) in supply.source().carried() {
        match name {
            Ok(name) if !lacks.contains(name.as_bstr()) => _ = confirmed.insert(id),
            name => {
                lacking.insert(id);
                example = example.or_else(|| Some(name.unwrap_or_else(ToOwned::to_owned)));
            }
        }
    }
    lacking.retain(|id| !confirmed.contains(id));
    let confirmed = confirmed.into_iter().collect();
    let lacking: Vec<ObjectId> = lacking.into_iter().collect();
    example.filter(|_| !lacking.is_empty()).map(|example| Sides { confirmed, lacking, example })
}

/// Asks the source which of these objects hold something that only lacking refs have. If the source cannot answer, all
/// objects count as needed.
fn ask(
    object_source: &mut dyn ObjectSource,
    source: &RefTable,
    sides: &Sides,
    mut open: Vec<ObjectId>,
) -> Result<HashSet<ObjectId>, MirrorError> {
    // No ref of the source needs an object that the source does not have.
    if object_source.negotiation() != Negotiation::Unsupported {
        let known = object_source.known(&open)?;
        open.retain(|id| known.contains(id) || source.names(id));
    }
    if open.is_empty() {
        return Ok(HashSet::new());
    }
    let all = || open.iter().copied().collect();
    if !object_source.supports_depth()? {
        return Ok(all());
    }
    let (few, more) = haves(sides);
    let Some(beyond) = differs(object_source, &open, &few, &more)? else { return Ok(all()) };
    if !beyond {
        return Ok(HashSet::new());
    }
    let mut needed: HashSet<ObjectId> = open.iter().skip(MAX_ASKED_ALONE).copied().collect();
    for id in open.iter().take(MAX_ASKED_ALONE) {
        if differs(object_source, std::slice::from_ref(id), &few, &more)? != Some(false) {
            needed.insert(*id);
        }
    }
    Ok(needed)
}

/// Haves of the target: without, and with the tips that it lacks.
fn haves(sides: &Sides) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let lacking = sides.lacking.iter().copied().take(MAX_HAVES / 2);
    let few: Vec<ObjectId> = sides.confirmed.iter().copied().take(MAX_HAVES / 2).collect();
    let more = lacking.chain(few.iter().copied()).collect();
    (few, more)
}

/// Returns true if a pack of `wants` has more objects when `few` are declared as haves than when `more` are; `None` if
/// the source refuses such packs. Reads no more of each pack than its header.
fn differs(
    object_source: &mut dyn ObjectSource,
    wants: &[ObjectId],
    few: &[ObjectId],
    more: &[ObjectId],
) -> Result<Option<bool>, MirrorError> {
    let mut count = |haves: &[ObjectId]| {
        let wanted = PackRequest {
            wants: wants.to_vec(),
            haves: haves.to_vec(),
            thin: true,
            ofs_delta: true,
            ..PackRequest::default()
        };
        match object_source.pack(&wanted) {
            Ok(pack) => Ok(Some(pack.objects)),
            Err(MirrorError::Client(
                error @ (ClientError::Remote { .. } | ClientError::Protocol { .. } | ClientError::Unsupported { .. }),
            )) => {
                tracing::info!(%error, "the source cannot report which refs need the values that would be deleted");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    match count(few)? {
        Some(0) => Ok(Some(false)),
        Some(with_few) => Ok(count(more)?.map(|with_more| with_more < with_few)),
        None => Ok(None),
    }
}
