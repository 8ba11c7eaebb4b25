//! Resolves directory/file conflicts between refs: `a` becomes `a/b`, or the other way round.
//!
//! A target with atomic pushes is asked to delete and create in one step. Git's own receive-pack refuses that: its ref
//! transactions look for conflicts with refs that exist when they begin. Then the old value is first kept as
//! `refs/gitferry/aside/<name without refs/>/<id>`, the deletion goes in one push with the creation behind it, and the
//! old ref is restored if the creation is refused. A pass that dies in between leaves the kept values to the next one.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::error::MirrorError;
use super::hold_back::{hold_back, needed};
use super::plan::Edit;
use super::push_order::Replacement;
use super::pusher::{Pusher, declines_all};
use super::report::NoteKind;
use super::settle::Settlement;
use super::target::{Atomicity, Target};
use gitferry_base::fault::crash_point;
use gitferry_git::client::PushReport;
use gitferry_git::own_refs::ASIDE_PREFIX;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefName;

/// An old value that is kept under another name while its ref makes room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AsideRef {
    /// Name under which the value is kept.
    name: RefName,
    id: ObjectId,
    /// Name of the ref that had the value.
    of: BString,
    /// True if the target has accepted the name. If not, the value survives only until the target's next garbage
    /// collection.
    kept: bool,
}

impl AsideRef {
    /// Returns `None` if the name would not be valid.
    fn new(of: &BStr, id: ObjectId) -> Option<AsideRef> {
        let rest = of.strip_prefix(b"refs/")?;
        let name = [ASIDE_PREFIX.as_bytes(), rest, b"/", id.to_hex().to_string().as_bytes()].concat();
        Some(AsideRef { name: RefName::new(name).ok()?, id, of: of.to_owned(), kept: false })
    }

    /// Parses a ref that an earlier pass has left.
    fn parse(name: &BStr, id: ObjectId) -> Option<AsideRef> {
        let (of, _) = name.strip_prefix(ASIDE_PREFIX.as_bytes())?.rsplit_once_str(b"/")?;
        let of = [b"refs/", of].concat();
        Some(AsideRef { name: RefName::new(name.to_vec()).ok()?, id, of: of.into(), kept: true })
    }

    fn creation(&self) -> Command {
        Command { name: self.name.clone().into(), old: None, new: Some(self.id) }
    }

    fn deletion(&self) -> Command {
        Command { name: self.name.clone().into(), old: Some(self.id), new: None }
    }
}

/// Old values that are kept aside while their refs make room for others.
pub(super) struct AsideRefs {
    refs: Vec<AsideRef>,
    /// Refs with a value aside that the plan creates again.
    returning: HashSet<BString>,
    /// Refs that have been deleted to make room.
    made_room: HashSet<BString>,
}

impl AsideRefs {
    /// Finds values that earlier passes have kept aside and not removed. `creations` are the refs that the plan creates.
    pub fn load<'e>(target: &Target<'_>, creations: impl Iterator<Item = &'e Edit<'e>>) -> AsideRefs {
        let before = target.refs_before();
        let rows = before.with_prefix(ASIDE_PREFIX.as_bytes()).filter_map(|row| before.get(row));
        let refs: Vec<AsideRef> =
            rows.filter_map(|entry| AsideRef::parse(entry.name.as_bstr(), before.object(&entry)?)).collect();
        let aside: HashSet<&BStr> = refs.iter().map(|aside| aside.of.as_bstr()).collect();
        let returning = creations.filter(|edit| aside.contains(edit.name.as_ref()));
        let returning = returning.map(|edit| edit.name.clone().into_owned()).collect();
        AsideRefs { refs, returning, made_room: HashSet::new() }
    }

    /// Makes all replacements, as many in one push as the target's limits allow. Nothing is left aside in the end,
    /// except values whose refs cannot be restored.
    pub fn replace_all(
        mut self,
        pusher: &mut Pusher<'_>,
        settlement: &mut Settlement<'_>,
        replacements: Vec<Replacement<'_>>,
    ) -> Result<(), MirrorError> {
        let replacements = free_to_go(pusher, settlement, replacements)?;
        let batch = pusher.batch();
        let mut rest = replacements.as_slice();
        while !rest.is_empty() {
            let mut refs = 0;
            let fit = rest.iter().take_while(|replacement| {
                refs += replacement.edits().count();
                refs <= batch
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            self.replace(pusher, settlement, now)?;
            rest = later;
        }
        self.settle(pusher, settlement)
    }

    /// Makes some replacements, bisecting them while the target refuses the whole push.
    fn replace(
        &mut self,
        pusher: &mut Pusher<'_>,
        settlement: &mut Settlement<'_>,
        some: &[Replacement<'_>],
    ) -> Result<(), MirrorError> {
        let refused = match self.try_replace(pusher, settlement, some) {
            Ok(None) => return Ok(()),
            Ok(Some(report)) => Ok(report),
            Err(error) if error.is_batch_refusal() => Err(error),
            Err(error) => return Err(error),
        };
        if let Some((one, other)) = pusher.bisect(some) {
            self.replace(pusher, settlement, one)?;
            return self.replace(pusher, settlement, other);
        }
        let creations: Vec<Edit<'_>> = some.iter().flat_map(|one| one.creations.iter().cloned()).collect();
        match refused {
            Ok(mut report) => {
                let made: HashSet<&BStr> = creations.iter().map(|edit| edit.name.as_ref()).collect();
                report.refs.retain(|outcome| made.contains(outcome.name.as_bstr()));
                settlement.settle(pusher.target(), &creations, report);
            }
            Err(error) => settlement.refuse_batch(&creations, error),
        }
        for edit in some.iter().flat_map(|one| &one.deletions) {
            settlement.leave(edit.name.as_ref(), "it stays: the ref that would take its place is refused");
        }
        Ok(())
    }

    /// Returns a report if the target refuses these replacements; nothing has changed then.
    fn try_replace(
        &mut self,
        pusher: &mut Pusher<'_>,
        settlement: &mut Settlement<'_>,
        some: &[Replacement<'_>],
    ) -> Result<Option<PushReport>, MirrorError> {
        let edits: Vec<Edit<'_>> = some.iter().flat_map(Replacement::edits).cloned().collect();
        if pusher.target().can("atomic") {
            let report = pusher.push_edits(&edits, Atomicity::AllOrNone, settlement.outcome())?;
            if report.is_ok() {
                settlement.settle(pusher.target(), &edits, report);
                return Ok(None);
            }
            if report.refs.iter().any(|outcome| is_policy_refusal(outcome.result.as_ref().err())) {
                return Ok(Some(report));
            }
        }
        self.keep_aside(pusher.target_mut(), &edits)?;
        crash_point("put-aside");
        let report = pusher.push_edits(&edits, Atomicity::EachRef, settlement.outcome())?;
        if declines_all(&report) {
            return Ok(Some(report));
        }
        let done =
            edits.iter().zip(&report.refs).filter(|(edit, outcome)| edit.new.is_none() && outcome.result.is_ok());
        self.made_room.extend(done.map(|(edit, _)| edit.name.clone().into_owned()));
        settlement.settle(pusher.target(), &edits, report);
        Ok(None)
    }

    /// Keeps the values of refs that are about to make room, as far as the target accepts such refs.
    fn keep_aside(&mut self, target: &mut Target<'_>, edits: &[Edit<'_>]) -> Result<(), MirrorError> {
        let going = edits.iter().filter(|edit| edit.new.is_none());
        let aside = going.filter_map(|edit| AsideRef::new(edit.name.as_ref(), edit.old?));
        let is_new = |aside: &AsideRef| !self.refs.iter().any(|other| other.name == aside.name);
        let aside: Vec<AsideRef> = aside.filter(is_new).collect();
        if aside.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> = aside.iter().map(AsideRef::creation).collect();
        let report = target.push_empty(&commands, Atomicity::EachRef)?;
        for (mut aside, outcome) in aside.into_iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => aside.kept = true,
                Err(reason) => tracing::warn!(target = target.url(), "{} is refused: {reason}", aside.name),
            }
            self.refs.push(aside);
        }
        Ok(())
    }

    /// Restores values whose refs made room in vain, and removes kept values that are no longer needed.
    fn settle(mut self, pusher: &mut Pusher<'_>, settlement: &mut Settlement<'_>) -> Result<(), MirrorError> {
        let refs = std::mem::take(&mut self.refs);
        if refs.is_empty() {
            return Ok(());
        }
        let unconfirmed = settlement.unconfirmed();
        self.returning.retain(|name| !unconfirmed.contains(name.as_bstr()));
        let (there, gone): (Vec<_>, Vec<_>) =
            refs.into_iter().partition(|aside| self.is_back(pusher.target(), aside.of.as_bstr()));
        let ids: Vec<ObjectId> = gone.iter().map(|aside| aside.id).collect();
        let needed = needed(pusher.channel().supply(), settlement, &ids, &HashSet::new())?;
        let (back, served): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|aside| needed.as_ref().is_some_and(|needed| needed.has(&aside.id)));
        let mut done = [there, served].concat();
        if let Some(needed) = needed {
            done.extend(self.restore(pusher, settlement, back, needed.by())?);
        }
        delete_aside(pusher, &done)
    }

    /// Returns true if the ref that made room exists at the target, because it stayed or was created again.
    fn is_back(&self, target: &Target<'_>, of: &BStr) -> bool {
        let stayed = target.refs_before().find(of).is_some() && !self.made_room.contains(of);
        stayed || self.returning.contains(of)
    }

    /// Restores refs that made room in vain. Returns the values whose refs are back.
    fn restore(
        &mut self,
        pusher: &mut Pusher<'_>,
        settlement: &mut Settlement<'_>,
        back: Vec<AsideRef>,
        other: &BStr,
    ) -> Result<Vec<AsideRef>, MirrorError> {
        let mut done = Vec::with_capacity(back.len());
        for some in back.chunks(pusher.batch()) {
            let command = |aside: &AsideRef| Command { name: aside.of.clone(), old: None, new: Some(aside.id) };
            let commands: Vec<Command> = some.iter().map(command).collect();
            let report = pusher.target_mut().push_empty(&commands, Atomicity::EachRef)?;
            for (aside, outcome) in some.iter().zip(report.refs) {
                let of = aside.of.as_bstr();
                match outcome.result {
                    Ok(()) => {
                        settlement.restore(of, aside.id, self.made_room.remove(&aside.of), other);
                        done.push(aside.clone());
                    }
                    Err(reason) => {
                        let reason = if aside.kept {
                            format!("{} stays as {} until the target has {other}: {reason}", aside.id, aside.name)
                        } else {
                            format!("{} made room for {other}, and cannot be restored: {reason}", aside.id)
                        };
                        settlement.note(of, NoteKind::Pending, reason);
                    }
                }
            }
        }
        Ok(done)
    }
}

/// Returns the replacements that may be made. Those that would delete a value which a ref needs that was refused earlier
/// in the pass are settled as pending.
fn free_to_go<'e>(
    pusher: &mut Pusher<'_>,
    settlement: &mut Settlement<'_>,
    replacements: Vec<Replacement<'e>>,
) -> Result<Vec<Replacement<'e>>, MirrorError> {
    let mut free = Vec::with_capacity(replacements.len());
    for Replacement { deletions, creations } in replacements {
        let before = deletions.len();
        let deletions = hold_back(pusher.channel().supply(), settlement, deletions, &HashSet::new())?;
        if deletions.len() == before {
            free.push(Replacement { deletions, creations });
            continue;
        }
        for edit in creations {
            settlement.leave(edit.name.as_ref(), "the refs in its place stay");
        }
        for edit in deletions {
            settlement.leave(edit.name.as_ref(), "it stays: the ref that would take its place waits");
        }
    }
    Ok(free)
}

fn delete_aside(pusher: &mut Pusher<'_>, aside: &[AsideRef]) -> Result<(), MirrorError> {
    let kept: Vec<AsideRef> = aside.iter().filter(|aside| aside.kept).cloned().collect();
    for some in kept.chunks(pusher.batch()) {
        let commands: Vec<Command> = some.iter().map(AsideRef::deletion).collect();
        let report = pusher.target_mut().push_deletions(&commands)?;
        for (aside, outcome) in some.iter().zip(report.refs) {
            if let Err(reason) = outcome.result {
                let target = pusher.target().url();
                tracing::warn!(target, "{} cannot be deleted, the next pass tries again: {reason}", aside.name);
            }
        }
    }
    Ok(())
}

/// Returns true if a refusal is due to a rule (hook, protection), and not to the way in which the target applies
/// changes. A second try in two steps would be refused for the same reason.
fn is_policy_refusal(reason: Option<&String>) -> bool {
    reason.is_some_and(|reason| {
        let reason = reason.to_ascii_lowercase();
        ["hook declined", "protected", "denied", "deny", "prohibited", "not allowed"]
            .iter()
            .any(|words| reason.contains(words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_says_which_ref_it_is_of() {
        let id = ObjectId::from_bytes_or_panic(&[7; 20]);
        for of in ["refs/heads/a", "refs/heads/a/b", "refs/tags/v1"] {
            let aside = AsideRef::new(of.into(), id).unwrap();
            let found = AsideRef::parse(aside.name.as_bstr(), id);
            assert_eq!(found, Some(AsideRef { kept: true, ..aside.clone() }), "{of}");
            assert_eq!(aside.of, of);
        }
        assert_eq!(AsideRef::parse("refs/gitferry/aside/x".into(), id), None);
    }
}
