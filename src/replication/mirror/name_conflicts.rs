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
use super::pass::MirrorPass;
use super::plan::Edit;
use super::push_order::Replacement;
use super::report::NoteKind;
use super::update::declines_all;
use gitferry_base::fault::crash_point;
use gitferry_git::client::PushReport;
use gitferry_git::own_refs::ASIDE_PREFIX;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};

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

    /// Returns true if this is an old value of the ref with that name.
    pub fn is_of(&self, name: &BStr) -> bool {
        self.of == name
    }

    fn creation(&self) -> Command {
        Command { name: self.name.clone().into(), old: None, new: Some(self.id) }
    }

    fn deletion(&self) -> Command {
        Command { name: self.name.clone().into(), old: Some(self.id), new: None }
    }
}

impl MirrorPass<'_, '_> {
    /// Finds values that earlier passes have kept aside and not removed.
    pub(super) fn load_aside(&mut self) {
        let rows =
            self.target_refs.refs.with_prefix(ASIDE_PREFIX.as_bytes()).filter_map(|row| self.target_refs.refs.get(row));
        let left =
            rows.filter_map(|entry| AsideRef::parse(entry.name.as_bstr(), self.target_refs.refs.object(&entry)?));
        self.aside = left.collect();
    }

    /// Makes all replacements, as many in one push as the target's limits allow.
    pub(super) fn replace_all(&mut self, mut replacements: Vec<Replacement<'_>>) -> Result<(), MirrorError> {
        // A ref that was refused earlier in the pass may need an old value that is about to go.
        for replacement in &mut replacements {
            let before = replacement.deletions.len();
            replacement.deletions = self.hold_back(std::mem::take(&mut replacement.deletions), &HashSet::new())?;
            if replacement.deletions.len() < before {
                self.note_waiting(replacement, "the refs in its place stay");
                replacement.creations.clear();
                replacement.deletions.clear();
            }
        }
        replacements.retain(|replacement| !replacement.creations.is_empty());
        let batch = self.task.limits.refs_per_push.max(1);
        let mut rest = replacements.as_slice();
        while !rest.is_empty() {
            let mut refs = 0;
            let fit = rest.iter().take_while(|replacement| {
                refs += replacement.edits().count();
                refs <= batch
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            self.replace(now)?;
            rest = later;
        }
        self.settle_aside()
    }

    /// Makes some replacements, bisecting them while the target refuses the whole push.
    fn replace(&mut self, some: &[Replacement<'_>]) -> Result<(), MirrorError> {
        let refused = match self.try_replace(some) {
            Ok(None) => return Ok(()),
            Ok(Some(report)) => Ok(report),
            Err(error) if error.is_batch_refusal() => Err(error),
            Err(error) => return Err(error),
        };
        if self.may_bisect(some.len()) {
            let (one, other) = some.split_at(some.len() / 2);
            self.replace(one)?;
            return self.replace(other);
        }
        let creations: Vec<Edit<'_>> = some.iter().flat_map(|one| one.creations.iter().cloned()).collect();
        match refused {
            Ok(mut report) => {
                let made: HashSet<&BStr> = creations.iter().map(|edit| edit.name.as_ref()).collect();
                report.refs.retain(|outcome| made.contains(outcome.name.as_bstr()));
                self.settle(&creations, report);
            }
            Err(error) => self.note_batch_refused(&creations, error),
        }
        for edit in some.iter().flat_map(|one| &one.deletions) {
            self.outcome.notes.add(
                edit.name.as_ref(),
                NoteKind::Pending,
                "it stays: the ref that would take its place is refused",
            );
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        Ok(())
    }

    /// Returns a report if the target refuses these replacements; nothing has changed then.
    fn try_replace(&mut self, some: &[Replacement<'_>]) -> Result<Option<PushReport>, MirrorError> {
        let edits: Vec<Edit<'_>> = some.iter().flat_map(Replacement::edits).cloned().collect();
        if self.receive.capabilities().has("atomic") {
            let report = self.push_edits_atomically(&edits)?;
            if report.is_ok() {
                self.settle(&edits, report);
                return Ok(None);
            }
            if report.refs.iter().any(|outcome| is_policy_refusal(outcome.result.as_ref().err())) {
                return Ok(Some(report));
            }
        }
        self.keep_aside(&edits)?;
        crash_point("put-aside");
        let report = self.push_edits(&edits)?;
        if declines_all(&report) {
            return Ok(Some(report));
        }
        let done =
            edits.iter().zip(&report.refs).filter(|(edit, outcome)| edit.new.is_none() && outcome.result.is_ok());
        self.made_room.extend(done.map(|(edit, _)| edit.name.clone().into_owned()));
        self.settle(&edits, report);
        Ok(None)
    }

    /// Keeps the values of refs that are about to make room, as far as the target accepts such refs.
    fn keep_aside(&mut self, edits: &[Edit<'_>]) -> Result<(), MirrorError> {
        let going = edits.iter().filter(|edit| edit.new.is_none());
        let aside = going.filter_map(|edit| AsideRef::new(edit.name.as_ref(), edit.old?));
        let is_new = |aside: &AsideRef| !self.aside.iter().any(|other| other.name == aside.name);
        let aside: Vec<AsideRef> = aside.filter(is_new).collect();
        if aside.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> = aside.iter().map(AsideRef::creation).collect();
        let report = self.push_empty(&commands)?;
        for (mut aside, outcome) in aside.into_iter().zip(report.refs) {
            match outcome.result {
                Ok(()) => {
                    self.target_hash.edit(aside.name.as_bstr(), None, Some(&RefValue::Object(aside.id)));
                    aside.kept = true;
                }
                Err(reason) => tracing::warn!(target = self.target.url(), "{} is refused: {reason}", aside.name),
            }
            self.aside.push(aside);
        }
        Ok(())
    }

    /// Restores values whose refs made room in vain, and removes kept values that are no longer needed.
    pub(super) fn settle_aside(&mut self) -> Result<(), MirrorError> {
        let aside = std::mem::take(&mut self.aside);
        if aside.is_empty() {
            return Ok(());
        }
        let (there, gone): (Vec<_>, Vec<_>) = aside.into_iter().partition(|aside| self.is_back(aside.of.as_bstr()));
        let ids: Vec<ObjectId> = gone.iter().map(|aside| aside.id).collect();
        let needed = self.needed(&ids, &HashSet::new())?;
        let (back, served): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|aside| needed.as_ref().is_some_and(|(needed, _)| needed.contains(&aside.id)));
        let mut done = [there, served].concat();
        if let Some((_, other)) = needed {
            done.extend(self.restore(back, other.as_bstr())?);
        }
        self.delete_aside(&done)
    }

    /// Restores refs that made room in vain. Returns the values whose refs are back.
    fn restore(&mut self, back: Vec<AsideRef>, other: &BStr) -> Result<Vec<AsideRef>, MirrorError> {
        let mut done = Vec::with_capacity(back.len());
        for some in back.chunks(self.task.limits.refs_per_push.max(1)) {
            let command = |aside: &AsideRef| Command { name: aside.of.clone(), old: None, new: Some(aside.id) };
            let commands: Vec<Command> = some.iter().map(command).collect();
            let report = self.push_empty(&commands)?;
            for (aside, outcome) in some.iter().zip(report.refs) {
                match outcome.result {
                    Ok(()) => {
                        self.target_hash.edit(aside.of.as_bstr(), None, Some(&RefValue::Object(aside.id)));
                        if self.made_room.remove(&aside.of) {
                            debug_assert!(self.outcome.deleted > 0, "a ref that made room was counted as deleted");
                            self.outcome.deleted = self.outcome.deleted.saturating_sub(1);
                        }
                        self.moved.push((aside.of.clone(), Some(aside.id)));
                        self.leave_needed(aside.of.as_bstr(), other);
                        done.push(aside.clone());
                    }
                    Err(reason) => {
                        let reason = if aside.kept {
                            format!("{} stays as {} until the target has {other}: {reason}", aside.id, aside.name)
                        } else {
                            format!("{} made room for {other}, and cannot be restored: {reason}", aside.id)
                        };
                        self.outcome.notes.add(aside.of.as_bstr(), NoteKind::Pending, reason);
                    }
                }
            }
        }
        Ok(done)
    }

    /// Returns true if the ref that made room exists at the target, because it stayed or was created again.
    fn is_back(&self, of: &BStr) -> bool {
        let stayed = self.target_refs.refs.find(of).is_some() && !self.made_room.contains(of);
        stayed || self.came_back.contains(of)
    }

    fn delete_aside(&mut self, aside: &[AsideRef]) -> Result<(), MirrorError> {
        let kept: Vec<AsideRef> = aside.iter().filter(|aside| aside.kept).cloned().collect();
        for some in kept.chunks(self.task.limits.refs_per_push.max(1)) {
            let commands: Vec<Command> = some.iter().map(AsideRef::deletion).collect();
            let report = self.push(&commands, None)?;
            for (aside, outcome) in some.iter().zip(report.refs) {
                match outcome.result {
                    Ok(()) => self.target_hash.edit(aside.name.as_bstr(), Some(&RefValue::Object(aside.id)), None),
                    Err(reason) => {
                        tracing::warn!(
                            target = self.target.url(),
                            "{} cannot be deleted, the next pass tries again: {reason}",
                            aside.name
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn note_waiting(&mut self, replacement: &Replacement<'_>, reason: &str) {
        for edit in &replacement.creations {
            self.outcome.notes.add(edit.name.as_ref(), NoteKind::Pending, reason);
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        for edit in &replacement.deletions {
            self.outcome.notes.add(
                edit.name.as_ref(),
                NoteKind::Pending,
                "it stays: the ref that would take its place waits",
            );
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
    }
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
