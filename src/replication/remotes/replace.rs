//! Refs that take the places of others: `a` becomes `a/b`, or the other way round.
//!
//! A target that pushes atomically is asked to do both in one step. Git's own refuses that, since its transactions look
//! for conflicts among what is there when they begin. Then what makes room is first kept under
//! `refs/gitferry/aside/<name without refs/>/<id>`, deleted in one push with the creation behind it, and put back where
//! that is refused. A pass that dies in between leaves what was kept to the next one.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};

use super::error::RemotesError;
use super::order::Replacement;
use super::plan::Edit;
use super::relay::Relay;
use super::report::Outcome;
use super::update::declines_all;
use gitferry_base::fault::crash_point;
use gitferry_git::client::PushReport;
use gitferry_git::own_refs::ASIDE_PREFIX;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};

/// An old value that is kept while its ref makes room for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aside {
    /// Under which name.
    name: RefName,
    id: ObjectId,
    /// The ref that named it.
    of: BString,
    /// Whether the target keeps it. One that takes no refs of that name only has it until it collects what no ref names.
    kept: bool,
}

impl Aside {
    /// `None` where no ref can have the name.
    fn new(of: &BStr, id: ObjectId) -> Option<Aside> {
        let rest = of.strip_prefix(b"refs/")?;
        let name = [ASIDE_PREFIX.as_bytes(), rest, b"/", id.to_hex().to_string().as_bytes()].concat();
        Some(Aside { name: RefName::new(name).ok()?, id, of: of.to_owned(), kept: false })
    }

    /// From a ref that a pass before has left.
    fn parse(name: &BStr, id: ObjectId) -> Option<Aside> {
        let (of, _) = name.strip_prefix(ASIDE_PREFIX.as_bytes())?.rsplit_once_str(b"/")?;
        let of = [b"refs/", of].concat();
        Some(Aside { name: RefName::new(name.to_vec()).ok()?, id, of: of.into(), kept: true })
    }

    /// Whether this is what the ref of that name was.
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

impl Relay<'_, '_> {
    /// What passes before have kept and not got rid of.
    pub(super) fn find_aside(&mut self) {
        let rows = self.there.refs.with_prefix(ASIDE_PREFIX.as_bytes()).filter_map(|row| self.there.refs.get(row));
        let left = rows.filter_map(|entry| Aside::parse(entry.name.as_bstr(), self.there.refs.object(&entry)?));
        self.aside = left.collect();
    }

    /// Makes all replacements, as many in one push as the target takes.
    pub(super) fn replace_all(&mut self, mut replacements: Vec<Replacement<'_>>) -> Result<(), RemotesError> {
        // What makes room may be needed by a ref that has been refused before.
        for replacement in &mut replacements {
            let before = replacement.deletions.len();
            replacement.deletions = self.hold_back(std::mem::take(&mut replacement.deletions), &HashSet::new())?;
            if replacement.deletions.len() < before {
                self.leave_waiting(replacement, "what is in its place stays");
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

    /// Makes some replacements: at once, or in parts where the target refuses them as a whole.
    fn replace(&mut self, some: &[Replacement<'_>]) -> Result<(), RemotesError> {
        let refused = match self.try_replace(some) {
            Ok(None) => return Ok(()),
            Ok(Some(report)) => Ok(report),
            Err(error) if error.is_of_some_refs() => Err(error),
            Err(error) => return Err(error),
        };
        if self.may_part(some.len()) {
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
            Err(error) => self.leave_refused(&creations, error),
        }
        for edit in some.iter().flat_map(|one| &one.deletions) {
            self.carried.notes.add(
                edit.name.as_ref(),
                Outcome::Pending,
                "it stays: what is to take its place is refused",
            );
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        Ok(())
    }

    /// `Some` report where the target refuses these replacements, and nothing has changed.
    fn try_replace(&mut self, some: &[Replacement<'_>]) -> Result<Option<PushReport>, RemotesError> {
        let edits: Vec<Edit<'_>> = some.iter().flat_map(Replacement::edits).cloned().collect();
        if self.receive.capabilities().has("atomic") {
            let report = self.push_edits_atomically(&edits)?;
            if report.is_ok() {
                self.settle(&edits, report);
                return Ok(None);
            }
            if report.refs.iter().any(|outcome| is_by_rule(outcome.result.as_ref().err())) {
                return Ok(Some(report));
            }
        }
        self.put_aside(&edits)?;
        crash_point("put-aside");
        let report = self.push_edits(&edits)?;
        if declines_all(&report) {
            return Ok(Some(report));
        }
        let done = edits.iter().zip(&report.refs).filter(|(edit, told)| edit.new.is_none() && told.result.is_ok());
        self.made_room.extend(done.map(|(edit, _)| edit.name.clone().into_owned()));
        self.settle(&edits, report);
        Ok(None)
    }

    /// Keeps what is about to make room, where the target takes that.
    fn put_aside(&mut self, edits: &[Edit<'_>]) -> Result<(), RemotesError> {
        let going = edits.iter().filter(|edit| edit.new.is_none());
        let aside = going.filter_map(|edit| Aside::new(edit.name.as_ref(), edit.old?));
        let is_new = |aside: &Aside| !self.aside.iter().any(|other| other.name == aside.name);
        let aside: Vec<Aside> = aside.filter(is_new).collect();
        if aside.is_empty() {
            return Ok(());
        }
        let commands: Vec<Command> = aside.iter().map(Aside::creation).collect();
        let report = self.push_empty(&commands)?;
        for (mut aside, told) in aside.into_iter().zip(report.refs) {
            match told.result {
                Ok(()) => {
                    self.after.edit(aside.name.as_bstr(), None, Some(&RefValue::Object(aside.id)));
                    aside.kept = true;
                }
                Err(reason) => tracing::warn!(target = self.target.url(), "{} is refused: {reason}", aside.name),
            }
            self.aside.push(aside);
        }
        Ok(())
    }

    /// Puts back what made room for nothing, and lets go of what is kept and no longer needed.
    pub(super) fn settle_aside(&mut self) -> Result<(), RemotesError> {
        let aside = std::mem::take(&mut self.aside);
        if aside.is_empty() {
            return Ok(());
        }
        let (there, gone): (Vec<_>, Vec<_>) = aside.into_iter().partition(|aside| self.is_back(aside.of.as_bstr()));
        let ids: Vec<ObjectId> = gone.iter().map(|aside| aside.id).collect();
        let needed = self.needed(&ids, &HashSet::new())?;
        let (back, served): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|aside| needed.as_ref().is_some_and(|(needed, _)| needed.contains(&aside.id)));
        let mut over = [there, served].concat();
        if let Some((_, other)) = needed {
            over.extend(self.put_back(back, other.as_bstr())?);
        }
        self.let_go(&over)
    }

    /// Gives refs that made room for nothing their values again. Those for which that was done.
    fn put_back(&mut self, back: Vec<Aside>, other: &BStr) -> Result<Vec<Aside>, RemotesError> {
        let mut done = Vec::with_capacity(back.len());
        for some in back.chunks(self.task.limits.refs_per_push.max(1)) {
            let command = |aside: &Aside| Command { name: aside.of.clone(), old: None, new: Some(aside.id) };
            let commands: Vec<Command> = some.iter().map(command).collect();
            let report = self.push_empty(&commands)?;
            for (aside, told) in some.iter().zip(report.refs) {
                match told.result {
                    Ok(()) => {
                        self.after.edit(aside.of.as_bstr(), None, Some(&RefValue::Object(aside.id)));
                        if self.made_room.remove(&aside.of) {
                            self.carried.deleted = self.carried.deleted.saturating_sub(1);
                        }
                        self.moved.push((aside.of.clone(), Some(aside.id)));
                        self.leave_needed(aside.of.as_bstr(), other);
                        done.push(aside.clone());
                    }
                    Err(reason) => {
                        let reason = match aside.kept {
                            true => format!("{} stays as {} until {other} is there: {reason}", aside.id, aside.name),
                            false => format!("{} made room for {other}, and cannot come back: {reason}", aside.id),
                        };
                        self.carried.notes.add(aside.of.as_bstr(), Outcome::Pending, reason);
                    }
                }
            }
        }
        Ok(done)
    }

    /// Whether a ref that made room is at the target (again).
    fn is_back(&self, of: &BStr) -> bool {
        let stayed = self.there.refs.find(of).is_some() && !self.made_room.contains(of);
        stayed || self.came_back.contains(of)
    }

    fn let_go(&mut self, over: &[Aside]) -> Result<(), RemotesError> {
        let kept: Vec<Aside> = over.iter().filter(|aside| aside.kept).cloned().collect();
        for some in kept.chunks(self.task.limits.refs_per_push.max(1)) {
            let commands: Vec<Command> = some.iter().map(Aside::deletion).collect();
            let report = self.push(&commands, None)?;
            for (aside, told) in some.iter().zip(report.refs) {
                match told.result {
                    Ok(()) => self.after.edit(aside.name.as_bstr(), Some(&RefValue::Object(aside.id)), None),
                    Err(reason) => {
                        tracing::warn!(target = self.target.url(), "{} could not be deleted: {reason}", aside.name);
                    }
                }
            }
        }
        Ok(())
    }

    fn leave_waiting(&mut self, replacement: &Replacement<'_>, reason: &str) {
        for edit in &replacement.creations {
            self.carried.notes.add(edit.name.as_ref(), Outcome::Pending, reason);
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        for edit in &replacement.deletions {
            self.carried.notes.add(edit.name.as_ref(), Outcome::Pending, "it stays: what is to take its place waits");
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
    }
}

/// Whether a refusal is one of a rule, and not of how the target makes changes: to try again in two steps would end in
/// the same way.
fn is_by_rule(reason: Option<&String>) -> bool {
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
            let aside = Aside::new(of.into(), id).unwrap();
            let found = Aside::parse(aside.name.as_bstr(), id);
            assert_eq!(found, Some(Aside { kept: true, ..aside.clone() }), "{of}");
            assert_eq!(aside.of, of);
        }
        assert_eq!(Aside::parse("refs/gitferry/aside/x".into(), id), None);
    }
}
