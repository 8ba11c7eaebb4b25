//! Plan of a pass: which refs of the target change, decided from the refs of both sides. No I/O.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::oid;

use super::policy::{RefPolicy, diverged_name};
use super::report::{NoteKind, Notes};
use gitferry_config::{Deletions, Divergence};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::RefTable;

/// Most objects that one fetch declares as haves. What both sides name pays off; more of it does not.
pub const MAX_HAVES: usize = 8_192;
/// Most updated refs whose old values are assumed to be at the source until the fetch proves it. Every such value is a
/// have in every fetch, so they share [`MAX_HAVES`] with the others.
const MAX_ASSUMED: usize = MAX_HAVES / 2;

/// Change of one ref of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Name at the target.
    pub name: Cow<'a, BStr>,
    /// Value at the target now; `None` where there is no such ref.
    pub old: Option<ObjectId>,
    /// New value; `None` to delete the ref.
    pub new: Option<ObjectId>,
    /// True if the source does not have the old value.
    pub diverged: bool,
}

impl Edit<'_> {
    /// The edit as a command of a push.
    pub fn command(&self) -> Command {
        Command { name: self.name.clone().into_owned(), old: self.old, new: self.new }
    }
}

/// Differences between the target's refs and those that the source and the policy call for.
#[derive(Debug, Default)]
pub struct RefDelta<'a> {
    /// Refs to create or update, sorted by name.
    pub edits: Vec<Edit<'a>>,
    /// Refs to delete, sorted by name.
    pub deletions: Vec<Edit<'a>>,
    /// Number of refs that are equal already.
    pub equal: u64,
    /// Refs of the target that stay although the source does not have them.
    pub kept: Vec<BString>,
    /// Refs of the source that cannot be mirrored, with reasons.
    pub skipped: Notes,
    /// Number of the source's refs that the policy mirrors.
    pub mirrored: u64,
}

impl<'a> RefDelta<'a> {
    /// Compares the refs of both sides.
    pub fn of(source: &'a RefTable, target: &'a RefTable, policy: &RefPolicy) -> Self {
        let mut delta = RefDelta::default();
        let wanted = delta.wanted(source, policy);
        let mut there = target.iter().peekable();
        for (name, new) in wanted {
            while let Some(entry) = there.next_if(|entry| entry.name < name.as_ref()) {
                delta.only_at_target(target, entry.row, policy);
            }
            let entry = there.next_if(|entry| entry.name == name.as_ref());
            let Some(new) = new.and_then(|row| source.object(&source.get(row as usize)?)) else {
                // The ref stays, and its value is not confirmed to come from the source.
                delta.kept.extend(entry.map(|entry| entry.name.to_owned()));
                continue;
            };
            let old = entry.and_then(|entry| target.object(&entry));
            if old == Some(new) {
                delta.equal += 1;
            } else {
                delta.edits.push(Edit { name, old, new: Some(new), diverged: false });
            }
        }
        for entry in there {
            delta.only_at_target(target, entry.row, policy);
        }
        delta
    }

    /// Names at the target with the rows of the source's refs, sorted by name. A name that several refs of the source
    /// map to has no row, so that the target's ref stays as it is.
    fn wanted(&mut self, source: &'a RefTable, policy: &RefPolicy) -> Vec<(Cow<'a, BStr>, Option<u32>)> {
        let mut wanted: Vec<(Cow<'a, BStr>, Option<u32>)> = Vec::with_capacity(source.len());
        for entry in source.iter() {
            let name = match policy.target_of(entry.name) {
                None => continue,
                Some(Err(reason)) => {
                    self.skipped.add(entry.name, NoteKind::Invalid, reason);
                    continue;
                }
                Some(Ok(name)) => name,
            };
            if source.object(&entry).is_none() {
                self.skipped.add(entry.name, NoteKind::Invalid, "it is a dangling symbolic ref");
                continue;
            }
            self.mirrored += 1;
            let name = if name == entry.name { Cow::Borrowed(entry.name) } else { Cow::Owned(name) };
            wanted.push((name, Some(entry.row as u32)));
        }
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        for at in 1..wanted.len() {
            if wanted[at - 1].0 != wanted[at].0 {
                continue;
            }
            if wanted[at].1.is_some() {
                let reason = "several refs of the source map to this name";
                self.skipped.add(&wanted[at].0, NoteKind::Invalid, reason);
            }
            wanted[at - 1].1 = None;
            wanted[at].1 = None;
        }
        wanted.dedup_by(|(a, _), (b, _)| a == b);
        wanted
    }

    fn only_at_target(&mut self, target: &'a RefTable, row: usize, policy: &RefPolicy) {
        let Some(entry) = target.get(row).filter(|entry| policy.owns(entry.name)) else { return };
        match policy.deletions {
            Deletions::Keep => self.kept.push(entry.name.to_owned()),
            Deletions::Mirror => {
                let name = Cow::Borrowed(entry.name);
                self.deletions.push(Edit { name, old: target.object(&entry), new: None, diverged: false });
            }
        }
    }

    /// Returns true if no ref changes.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.deletions.is_empty()
    }

    /// Returns true if every ref that the link owns would be deleted from the target.
    pub fn deletes_all(&self) -> bool {
        self.mirrored == 0 && !self.deletions.is_empty()
    }

    /// Old values that the source has to be asked about: all that would be overwritten or deleted and that no ref of
    /// the source names. With `assumed`, values that the checkpoint confirms are left to the fetch that replaces them,
    /// whose negotiation answers the same question.
    pub fn ids_to_verify(
        &self,
        (source, target): (&RefTable, &RefTable),
        confirmed: impl Fn(&BStr) -> bool,
        assumed: bool,
    ) -> IdsToVerify {
        let mut ask = IdsToVerify::default();
        let mut seen = HashSet::new();
        let few = assumed && self.edits.iter().filter(|edit| edit.old.is_some()).count() <= MAX_ASSUMED;
        for edit in self.edits.iter().chain(&self.deletions) {
            let Some(old) = edit.old.filter(|old| !source.names(old)) else { continue };
            let confirmed = confirmed(edit.name.as_ref());
            let fetched = edit.new.is_some_and(|new| !target.names(&new));
            if confirmed {
                ask.confirmed.insert(old);
            }
            if confirmed && fetched && few {
                ask.during_fetch.insert(old);
            } else if seen.insert(old) {
                ask.now.push(old);
            }
        }
        ask.during_fetch.retain(|old| !seen.contains(old));
        ask
    }
}

/// Old values that the source may or may not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IdsToVerify {
    /// Values to ask about before the plan is made, without duplicates.
    pub now: Vec<ObjectId>,
    /// Values that a fetch's negotiation confirms before any byte of its pack is passed on.
    pub during_fetch: HashSet<ObjectId>,
    /// Values that the checkpoint confirms. A source that cannot negotiate is assumed to have them.
    pub confirmed: HashSet<ObjectId>,
}

/// A diverged tip of the target, to be kept under another name before its ref is overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preserve {
    /// Name under which the tip is kept.
    pub name: RefName,
    /// The tip.
    pub id: ObjectId,
    /// Name of the ref that diverged.
    pub of: BString,
}

impl Preserve {
    /// The creation as a command of a push.
    pub fn command(&self) -> Command {
        Command { name: self.name.clone().into(), old: None, new: Some(self.id) }
    }
}

/// Changes of one pass.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Diverged tips to keep before anything else.
    pub preserve: Vec<Preserve>,
    /// Refs to delete.
    pub deletions: Vec<Edit<'a>>,
    /// Refs to create and update.
    pub edits: Vec<Edit<'a>>,
    /// Refs that stay as they are, with reasons.
    pub skipped: Notes,
    /// Refs whose values at the target are not known to come from the source.
    pub unconfirmed: Vec<BString>,
    /// Number of refs that are equal on both sides.
    pub equal: u64,
}

impl<'a> Plan<'a> {
    /// Makes the plan from the delta and the old values that the source does not have (`foreign`).
    pub fn of(delta: RefDelta<'a>, target: &RefTable, foreign: &HashSet<ObjectId>, policy: &RefPolicy) -> Self {
        let mut plan = Plan { skipped: delta.skipped, unconfirmed: delta.kept, equal: delta.equal, ..Plan::default() };
        for mut edit in delta.deletions.into_iter().chain(delta.edits) {
            edit.diverged = edit.old.is_some_and(|old| foreign.contains(&old));
            if edit.diverged && !plan.admit_diverged(&edit, target, policy) {
                plan.unconfirmed.push(edit.name.into_owned());
                continue;
            }
            match edit.new {
                None => plan.deletions.push(edit),
                Some(_) => plan.edits.push(edit),
            }
        }
        plan
    }

    /// Returns true if the edit of a diverged ref is part of the plan; adds the tip to [`Plan::preserve`] where the
    /// policy says so.
    fn admit_diverged(&mut self, edit: &Edit<'_>, target: &RefTable, policy: &RefPolicy) -> bool {
        let Some(id) = edit.old else { return true };
        let refused = match policy.divergence {
            Divergence::Force => return true,
            Divergence::Refuse => format!("the target has {id}, which the source does not have; it stays"),
            Divergence::Preserve => match diverged_name(edit.name.as_ref(), &id) {
                None => {
                    format!(
                        "the target has {id}, which the source does not have; no valid name is left to keep it under"
                    )
                }
                Some(name) => match target.find(name.as_bstr()).map(|entry| target.object(&entry)) {
                    Some(Some(kept)) if kept == id => return true,
                    Some(_) => format!("{name}, under which {id} would be kept, is taken"),
                    None => {
                        self.preserve.push(Preserve { name, id, of: edit.name.clone().into_owned() });
                        return true;
                    }
                },
            },
        };
        self.skipped.add(edit.name.as_ref(), NoteKind::Diverged, refused);
        false
    }

    /// Removes the edits of refs whose diverged tips could not be kept.
    pub fn leave(&mut self, not_kept: &[(BString, String)]) {
        for (of, reason) in not_kept {
            let reason = format!("what the target has could not be kept, so it stays: {reason}");
            self.skipped.add(of.as_bstr(), NoteKind::Diverged, reason);
            self.unconfirmed.push(of.clone());
        }
        let left: HashSet<&BStr> = not_kept.iter().map(|(of, _)| of.as_bstr()).collect();
        self.edits.retain(|edit| !left.contains(edit.name.as_ref()));
        self.deletions.retain(|edit| !left.contains(edit.name.as_ref()));
    }

    /// Removes deletions of symbolic refs: receive-pack would delete the ref that they point to.
    pub fn skip_symbolic(&mut self, symbolic: &BTreeMap<RefName, RefName>) {
        let target_of = |edit: &Edit<'_>| symbolic.iter().find(|(name, _)| name.as_bstr() == edit.name.as_ref());
        for edit in &self.deletions {
            let Some((_, target)) = target_of(edit) else { continue };
            let reason = format!("it is a symbolic ref at the target; to delete it would delete {target}");
            self.skipped.add(edit.name.as_ref(), NoteKind::Invalid, reason);
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        self.deletions.retain(|edit| target_of(edit).is_none());
        let is_symbolic = |of: &BString| symbolic.keys().any(|name| name.as_bstr() == of.as_bstr());
        let edited: HashSet<&BStr> = self.edits.iter().map(|edit| edit.name.as_ref()).collect();
        self.preserve.retain(|kept| edited.contains(kept.of.as_bstr()) || !is_symbolic(&kept.of));
    }

    /// Takes the deletion of this branch out of the plan.
    pub fn take_deletion_of(&mut self, branch: &BStr) -> Option<Edit<'a>> {
        let at = self.deletions.iter().position(|edit| edit.name.as_ref() == branch)?;
        Some(self.deletions.remove(at))
    }

    /// Returns true if no ref changes; diverged tips do not count.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.deletions.is_empty()
    }
}

/// Tips of all refs of a source that the policy mirrors.
pub fn all_carried(source: &RefTable, policy: &RefPolicy) -> Vec<ObjectId> {
    let carried = source.iter().filter(|entry| matches!(policy.target_of(entry.name), Some(Ok(_))));
    carried.filter_map(|entry| source.object(&entry)).collect()
}

/// Branch that the target's `HEAD` should name; `None` where the source's `HEAD` is detached, or its branch is not
/// mirrored.
pub fn head_of(source: Option<&RefValue>, policy: &RefPolicy) -> Option<RefName> {
    match source? {
        RefValue::Object(_) => None,
        RefValue::Symbolic(branch) => RefName::new(policy.target_of(branch)?.ok()?).ok(),
    }
}

/// Objects that a target is known to have: those that its refs name or have named during the pass.
#[derive(Debug)]
pub struct TargetObjects<'a> {
    advertised: &'a RefTable,
    pushed: HashSet<ObjectId>,
}

impl<'a> TargetObjects<'a> {
    /// Starts from the target's advertisement. These objects are counted on until the end of the pass, even if their
    /// refs are deleted meanwhile: servers do not collect garbage at once, and one that did would refuse a pack that
    /// builds on it.
    pub fn of(advertised: &'a RefTable) -> Self {
        TargetObjects { advertised, pushed: HashSet::new() }
    }

    /// Adds a value of a confirmed push.
    pub fn add(&mut self, id: ObjectId) {
        if !self.advertised.names(&id) {
            self.pushed.insert(id);
        }
    }

    /// Returns true if the target names no object.
    pub fn is_empty(&self) -> bool {
        self.pushed.is_empty() && self.advertised.is_empty()
    }

    /// Returns true if the target names this object.
    pub fn has(&self, id: &oid) -> bool {
        self.pushed.contains(id) || self.advertised.names(id)
    }

    /// All objects, unordered, possibly with duplicates.
    pub fn iter(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let advertised = self.advertised.iter().filter_map(|entry| entry.id.map(oid::to_owned));
        self.pushed.iter().copied().chain(advertised)
    }

    /// Wants of a batch: new values that the target does not have, without duplicates. Empty where refs only move among
    /// objects that are there.
    pub fn wants(&self, batch: &[Edit<'_>]) -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        let new = batch.iter().filter_map(|edit| edit.new);
        new.filter(|id| !self.has(id) && seen.insert(*id)).collect()
    }

    /// Haves for the fetch of a batch, at most [`MAX_HAVES`]: first the old values of the refs that move, then objects
    /// that both sides have. Others would be of no use to the source.
    pub fn haves(&self, batch: &[Edit<'_>], source: &RefTable, known: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        let moved = batch.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old);
        let both = self.iter().filter(|id| source.names(id) || known.contains(id));
        moved.chain(both).filter(|id| seen.insert(*id)).take(MAX_HAVES).collect()
    }
}

#[cfg(test)]
mod tests;
