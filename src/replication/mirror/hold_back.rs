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
use super::pass::MirrorPass;
use super::plan::{Edit, MAX_HAVES};
use super::report::NoteKind;
use gitferry_git::client::ClientError;
use gitferry_git::view::RefTable;

/// Most old values that the source is asked about one by one. All values beyond this count as needed.
const MAX_ASKED_ALONE: usize = 64;

/// Tips of the source, by their presence at the target.
struct Sides {
    confirmed: Vec<ObjectId>,
    lacking: Vec<ObjectId>,
    /// Name of one ref that the target lacks, for messages.
    example: BString,
}

impl MirrorPass<'_, '_> {
    /// Returns the edits that may go ahead. Edits whose old values hold commits of refs that the target lacks (refused
    /// ones, and those in `waiting`) are noted as pending and dropped.
    pub(super) fn hold_back<'e>(
        &mut self,
        edits: Vec<Edit<'e>>,
        waiting: &HashSet<BString>,
    ) -> Result<Vec<Edit<'e>>, MirrorError> {
        let old: Vec<ObjectId> = edits.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old).collect();
        let Some((needed, example)) = self.needed(&old, waiting)? else { return Ok(edits) };
        let is_needed = |edit: &Edit<'_>| !edit.diverged && edit.old.is_some_and(|old| needed.contains(&old));
        let (held, free): (Vec<_>, Vec<_>) = edits.into_iter().partition(is_needed);
        for edit in held {
            self.leave_needed(edit.name.as_ref(), example.as_ref());
        }
        Ok(free)
    }

    /// Notes that a ref keeps its value until the target has another ref, and records the ref as unconfirmed.
    pub(super) fn leave_needed(&mut self, name: &BStr, other: &BStr) {
        self.note_stays(name, other);
        self.unconfirmed.push(name.to_owned());
    }

    pub(super) fn note_stays(&mut self, name: &BStr, other: &BStr) {
        let reason = format!("it stays until the target has {other}, the only other ref with some of its commits");
        self.outcome.notes.add(name, NoteKind::Pending, reason);
    }

    /// Returns those of some old values which hold objects that, at the source, only refs have that the target lacks,
    /// with the name of one of these refs; `None` where there is no such value.
    pub(super) fn needed(
        &mut self,
        old: &[ObjectId],
        waiting: &HashSet<BString>,
    ) -> Result<Option<(HashSet<ObjectId>, BString)>, MirrorError> {
        let complete = self.unconfirmed.is_empty() && self.held_moves.is_empty() && waiting.is_empty();
        if old.is_empty() || complete {
            return Ok(None);
        }
        let Some(sides) = self.sides(waiting) else { return Ok(None) };
        let mut seen: HashSet<ObjectId> = sides.confirmed.iter().copied().collect();
        let open: Vec<ObjectId> = old.iter().copied().filter(|id| seen.insert(*id)).collect();
        let needed =
            if open.is_empty() { HashSet::new() } else { ask(&mut *self.object_source, self.source, &sides, open)? };
        Ok((!needed.is_empty()).then_some((needed, sides.example)))
    }

    /// Returns `None` where the target lacks no tip of the source.
    fn sides(&self, waiting: &HashSet<BString>) -> Option<Sides> {
        let lacks: HashSet<&BStr> =
            self.unconfirmed.iter().chain(&self.held_moves).chain(waiting).map(|name| name.as_bstr()).collect();
        let mut confirmed = HashSet::new();
        let mut lacking = HashSet::new();
        let mut example = None;
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
        let confirmed = confirmed.into_iter().collect();
        let lacking: Vec<ObjectId> = lacking.into_iter().collect();
        example.filter(|_| !lacking.is_empty()).map(|example| Sides { confirmed, lacking, example })
    }
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
