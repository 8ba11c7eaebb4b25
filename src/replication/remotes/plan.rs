//! What a pass between two servers does, decided from the refs of both. No I/O.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::oid;

use super::policy::{RefPolicy, diverged_name};
use super::report::{Notes, Outcome};
use gitferry_config::{Deletions, Divergence};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::RefTable;

/// Most objects that one fetch says are at the target: what both sides name is worth it, more of it is not.
pub const MAX_HAVES: usize = 8_192;
/// Most refs that move at a time for which the word of the checkpoint is enough until they are fetched: every fetch says
/// of all of them that they are at the target.
const MAX_ON_WORD: usize = MAX_HAVES / 2;

/// One ref of the target and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Its name at the target.
    pub name: Cow<'a, BStr>,
    /// What it names now; `None` where there is no such ref.
    pub old: Option<ObjectId>,
    /// What it is to name; `None` to delete it.
    pub new: Option<ObjectId>,
    /// Whether the source does not have what it names now.
    pub diverged: bool,
}

impl Edit<'_> {
    /// As a command of a push.
    pub fn command(&self) -> Command {
        Command { name: self.name.clone().into_owned(), old: self.old, new: self.new }
    }
}

/// How the target's refs differ from what they are to be.
#[derive(Debug, Default)]
pub struct Difference<'a> {
    /// Refs to be created or updated, in the order of their names.
    pub edits: Vec<Edit<'a>>,
    /// Refs to be deleted, in the order of their names.
    pub deletions: Vec<Edit<'a>>,
    /// Refs that are what they are to be.
    pub equal: u64,
    /// Refs of the target that stay although the source does not have them.
    pub kept: Vec<BString>,
    /// Refs of the source that cannot be carried.
    pub skipped: Notes,
    /// Refs of the source that the link carries.
    pub carried: u64,
}

impl<'a> Difference<'a> {
    /// Compares two sides.
    pub fn of(source: &'a RefTable, target: &'a RefTable, policy: &RefPolicy) -> Self {
        let mut difference = Difference::default();
        let wanted = difference.wanted(source, policy);
        let mut there = target.iter().peekable();
        for (name, new) in wanted {
            while let Some(entry) = there.next_if(|entry| entry.name < name.as_ref()) {
                difference.only_at_target(target, entry.row, policy);
            }
            let entry = there.next_if(|entry| entry.name == name.as_ref());
            let Some(new) = new.and_then(|row| source.object(&source.get(row as usize)?)) else {
                // It stays, and nobody has said whose it is.
                difference.kept.extend(entry.map(|entry| entry.name.to_owned()));
                continue;
            };
            let old = entry.and_then(|entry| target.object(&entry));
            match old == Some(new) {
                true => difference.equal += 1,
                false => difference.edits.push(Edit { name, old, new: Some(new), diverged: false }),
            }
        }
        for entry in there {
            difference.only_at_target(target, entry.row, policy);
        }
        difference
    }

    /// What the target's refs are to be by rows of the source, in the order of their names; without a row where two refs
    /// of the source would be one, so that this one stays as it is.
    fn wanted(&mut self, source: &'a RefTable, policy: &RefPolicy) -> Vec<(Cow<'a, BStr>, Option<u32>)> {
        let mut wanted: Vec<(Cow<'a, BStr>, Option<u32>)> = Vec::with_capacity(source.len());
        for entry in source.iter() {
            let name = match policy.target_of(entry.name) {
                None => continue,
                Some(Err(reason)) => {
                    self.skipped.add(entry.name, Outcome::Invalid, reason);
                    continue;
                }
                Some(Ok(name)) => name,
            };
            if source.object(&entry).is_none() {
                self.skipped.add(entry.name, Outcome::Invalid, "it is a symbolic ref that leads nowhere");
                continue;
            }
            self.carried += 1;
            let name = if name == entry.name { Cow::Borrowed(entry.name) } else { Cow::Owned(name) };
            wanted.push((name, Some(entry.row as u32)));
        }
        wanted.sort_by(|(a, _), (b, _)| a.cmp(b));
        for at in 1..wanted.len() {
            if wanted[at - 1].0 != wanted[at].0 {
                continue;
            }
            if wanted[at].1.is_some() {
                let reason = "several refs of the source would be this one";
                self.skipped.add(&wanted[at].0, Outcome::Invalid, reason);
            }
            (wanted[at - 1].1, wanted[at].1) = (None, None);
        }
        wanted.dedup_by(|(a, _), (b, _)| a == b);
        wanted
    }

    fn only_at_target(&mut self, target: &'a RefTable, row: usize, policy: &RefPolicy) {
        let Some(entry) = target.get(row).filter(|entry| policy.owns(entry.name)) else { return };
        match policy.deletions {
            Deletions::Keep => self.kept.push(entry.name.to_owned()),
            Deletions::Mirror => {
                let (name, old) = (Cow::Borrowed(entry.name), target.object(&entry));
                self.deletions.push(Edit { name, old, new: None, diverged: false });
            }
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.deletions.is_empty()
    }

    /// Whether this would take every ref of the link from the target.
    pub fn takes_all(&self) -> bool {
        self.carried == 0 && !self.deletions.is_empty()
    }

    /// What the source has to be asked about: all that would be overwritten or deleted and that it does not name
    /// itself. With `on_word`, a value that the checkpoint vouches for is not asked about at once where it is
    /// overwritten by something that is fetched: the answer to that fetch says as much.
    pub fn to_ask(
        &self,
        (source, target): (&RefTable, &RefTable),
        vouched: impl Fn(&BStr) -> bool,
        on_word: bool,
    ) -> ToAsk {
        let mut ask = ToAsk::default();
        let mut seen = HashSet::new();
        let few = on_word && self.edits.iter().filter(|edit| edit.old.is_some()).count() <= MAX_ON_WORD;
        for edit in self.edits.iter().chain(&self.deletions) {
            let Some(old) = edit.old.filter(|old| !source.names(old)) else { continue };
            let vouched = vouched(edit.name.as_ref());
            let fetched = edit.new.is_some_and(|new| !target.names(&new));
            if vouched {
                ask.vouched.insert(old);
            }
            if vouched && fetched && few {
                ask.as_it_is_fetched.insert(old);
            } else if seen.insert(old) {
                ask.now.push(old);
            }
        }
        ask.as_it_is_fetched.retain(|old| !seen.contains(old));
        ask
    }
}

/// Old values of which the source has to say whether it has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ToAsk {
    /// Those to ask about before anything is decided, each once.
    pub now: Vec<ObjectId>,
    /// Those of which a fetch tells, before anything of its pack is passed on.
    pub as_it_is_fetched: HashSet<ObjectId>,
    /// All that gitferry is known to have put there: a source that can be asked about nothing is taken to have them.
    pub vouched: HashSet<ObjectId>,
}

/// A tip of the target that the source does not have, to be kept before it is overwritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preserve {
    /// Under which name.
    pub name: RefName,
    /// What.
    pub id: ObjectId,
    /// Which ref named it.
    pub of: BString,
}

impl Preserve {
    /// As a command of a push.
    pub fn command(&self) -> Command {
        Command { name: self.name.clone().into(), old: None, new: Some(self.id) }
    }
}

/// What to do, in this order: keep, delete, create and update.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// What to keep first.
    pub preserve: Vec<Preserve>,
    /// Then what to delete.
    pub deletions: Vec<Edit<'a>>,
    /// Then what to create and update.
    pub edits: Vec<Edit<'a>>,
    /// What is not done, and why.
    pub skipped: Notes,
    /// Refs whose values at the target are not known to come from the source.
    pub unconfirmed: Vec<BString>,
}

impl<'a> Plan<'a> {
    /// Decides, once it is known which old values the source does not have.
    pub fn of(difference: Difference<'a>, target: &RefTable, foreign: &HashSet<ObjectId>, policy: &RefPolicy) -> Self {
        let mut plan = Plan { skipped: difference.skipped, unconfirmed: difference.kept, ..Plan::default() };
        for mut edit in difference.deletions.into_iter().chain(difference.edits) {
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

    /// Whether an edit of a diverged ref is to be done; plans to keep what it overwrites.
    fn admit_diverged(&mut self, edit: &Edit<'_>, target: &RefTable, policy: &RefPolicy) -> bool {
        let Some(id) = edit.old else { return true };
        let refused = match policy.divergence {
            Divergence::Force => return true,
            Divergence::Refuse => format!("the target has {id}, which the source does not have; it stays"),
            Divergence::Preserve => match diverged_name(edit.name.as_ref(), &id) {
                None => {
                    format!("the target has {id}, which the source does not have; no name is left to keep it under")
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
        self.skipped.add(edit.name.as_ref(), Outcome::Diverged, refused);
        false
    }

    /// Leaves alone what could not be kept.
    pub fn leave(&mut self, not_kept: &[(BString, String)]) {
        for (of, reason) in not_kept {
            let reason = format!("what the target has could not be kept, so it stays: {reason}");
            self.skipped.add(of.as_bstr(), Outcome::Diverged, reason);
            self.unconfirmed.push(of.clone());
        }
        let left: HashSet<&BStr> = not_kept.iter().map(|(of, _)| of.as_bstr()).collect();
        self.edits.retain(|edit| !left.contains(edit.name.as_ref()));
        self.deletions.retain(|edit| !left.contains(edit.name.as_ref()));
    }

    /// Leaves alone what is symbolic at the target.
    pub fn leave_symbolic(&mut self, symbolic: &BTreeMap<RefName, RefName>) {
        let target_of = |edit: &Edit<'_>| symbolic.iter().find(|(name, _)| name.as_bstr() == edit.name.as_ref());
        for edit in &self.deletions {
            let Some((_, target)) = target_of(edit) else { continue };
            let reason = format!("it is a symbolic ref at the target; to delete it would delete {target}");
            self.skipped.add(edit.name.as_ref(), Outcome::Invalid, reason);
            self.unconfirmed.push(edit.name.clone().into_owned());
        }
        self.deletions.retain(|edit| target_of(edit).is_none());
        let is_symbolic = |of: &BString| symbolic.keys().any(|name| name.as_bstr() == of.as_bstr());
        let edited: HashSet<&BStr> = self.edits.iter().map(|edit| edit.name.as_ref()).collect();
        self.preserve.retain(|kept| edited.contains(kept.of.as_bstr()) || !is_symbolic(&kept.of));
    }

    /// Takes out the deletion of the branch that the target's `HEAD` names.
    pub fn take_deletion_of(&mut self, branch: &BStr) -> Option<Edit<'a>> {
        let at = self.deletions.iter().position(|edit| edit.name.as_ref() == branch)?;
        Some(self.deletions.remove(at))
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.deletions.is_empty()
    }
}

/// What all refs of a source name that a link carries.
pub fn all_carried(source: &RefTable, policy: &RefPolicy) -> Vec<ObjectId> {
    let carried = source.iter().filter(|entry| matches!(policy.target_of(entry.name), Some(Ok(_))));
    carried.filter_map(|entry| source.object(&entry)).collect()
}

/// The branch that the target's `HEAD` has to name to be as the source's, if the link carries it.
pub fn head_of(source: Option<&RefValue>, policy: &RefPolicy) -> Option<RefName> {
    match source? {
        RefValue::Object(_) => None,
        RefValue::Symbolic(branch) => RefName::new(policy.target_of(branch)?.ok()?).ok(),
    }
}

/// The objects that a target has, as far as its refs tell.
#[derive(Debug)]
pub struct Held<'a> {
    advertised: &'a RefTable,
    pushed: HashSet<ObjectId>,
}

impl<'a> Held<'a> {
    /// What a target's refs name. All of it is there until the pass has ended, even if its refs go meanwhile: no
    /// server collects at once, and one that did would refuse what builds on it.
    pub fn of(advertised: &'a RefTable) -> Self {
        Held { advertised, pushed: HashSet::new() }
    }

    /// Adds what was pushed and confirmed.
    pub fn add(&mut self, id: ObjectId) {
        if !self.advertised.names(&id) {
            self.pushed.insert(id);
        }
    }

    /// Whether the target names nothing.
    pub fn is_empty(&self) -> bool {
        self.pushed.is_empty() && self.advertised.is_empty()
    }

    /// Whether the target names an object.
    pub fn has(&self, id: &oid) -> bool {
        self.pushed.contains(id) || self.advertised.names(id)
    }

    /// Everything, without order and perhaps more than once.
    pub fn iter(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let advertised = self.advertised.iter().filter_map(|entry| entry.id.map(oid::to_owned));
        self.pushed.iter().copied().chain(advertised)
    }

    /// What has to be fetched for a batch: the new values that the target does not have, each once. Nothing where
    /// refs only move among what is there.
    pub fn wants(&self, batch: &[Edit<'_>]) -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        let new = batch.iter().filter_map(|edit| edit.new);
        new.filter(|id| !self.has(id) && seen.insert(*id)).collect()
    }

    /// What a fetch for a batch says that the target has: first the old values of the refs that move, then what
    /// both sides name. Only what the source has is of use to it.
    pub fn haves(&self, batch: &[Edit<'_>], source: &RefTable, known: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let mut seen = HashSet::new();
        let moved = batch.iter().filter(|edit| !edit.diverged).filter_map(|edit| edit.old);
        let both = self.iter().filter(|id| source.names(id) || known.contains(id));
        moved.chain(both).filter(|id| seen.insert(*id)).take(MAX_HAVES).collect()
    }
}

#[cfg(test)]
mod tests;
