//! The decision on each ref of a push in one exact state. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use gix::bstr::{BStr, BString, ByteSlice};

use super::policy::{PushPolicy, is_hidden, is_reserved};
use super::rejection::{Refused, Rejection};
use super::state::PushState;
use crate::ledger::change::RefEdit;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::RefTable;

/// Answer to a client with an outdated value of a ref.
const FETCH_FIRST: &str = "fetch first";

/// Properties of a command that do not depend on the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    /// Reason to refuse the command: missing objects, a declining hook, and so on.
    pub refused: Option<Refused>,
    /// True if the update is a fast-forward; `None` if no rule depends on it, or if the ref is created or deleted.
    pub fast_forward: Option<bool>,
    /// Ref to which the name led over symbolic refs when it was judged; `None` if the name was no symbolic ref.
    pub leads_to: Option<BString>,
}

impl Fact {
    /// Names of the ref that a command changes: its own, and behind a symbolic ref that of the target.
    pub(super) fn names<'a>(&'a self, command: &'a Command) -> Vec<&'a BStr> {
        let mut names = vec![command.name.as_bstr()];
        names.extend(self.leads_to.as_ref().map(|target| target.as_bstr()));
        names
    }
}

/// Decision on all commands of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Outcome of each command.
    pub outcomes: Vec<Result<(), Refused>>,
    /// Edits of the accepted commands, sorted by name.
    pub edits: Vec<RefEdit>,
    /// New HEAD, if it changes.
    pub head: Option<RefValue>,
    /// Messages for the client's user.
    pub messages: Vec<String>,
}

/// Decides on all commands of a push. With `atomic`, one refusal refuses all.
pub fn decide(commands: &[Command], facts: &[Fact], state: &PushState, policy: &PushPolicy, atomic: bool) -> Decision {
    decide_on(commands, facts, &state.refs, &state.view.head, policy, atomic)
}

fn decide_on(
    commands: &[Command],
    facts: &[Fact],
    refs: &RefTable,
    head: &RefValue,
    policy: &PushPolicy,
    atomic: bool,
) -> Decision {
    let mut names: HashMap<&BStr, usize> = HashMap::new();
    for command in commands {
        *names.entry(command.name.as_bstr()).or_default() += 1;
    }
    assert_eq!(facts.len(), commands.len(), "each command of a push has been judged");
    let mut judge = Judge { refs, head, policy, messages: Vec::new() };
    let mut outcomes: Vec<Result<Option<RefEdit>, Refused>> = Vec::with_capacity(commands.len());
    for (command, fact) in commands.iter().zip(facts) {
        outcomes.push(match names.get(command.name.as_bstr()) {
            Some(1) => judge.command(command, fact),
            _ => refuse(Rejection::Conflict, "multiple updates for one ref"),
        });
    }
    unite_aliases(commands, &mut outcomes);
    refuse_conflicts(&mut outcomes, refs, policy);
    let first = outcomes.iter().find_map(|outcome| Some(outcome.as_ref().err()?.rejection));
    if let Some(rejection) = first
        && atomic
    {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = refuse(rejection, "atomic push failure");
        }
    }
    let messages = judge.messages;
    let in_order: Vec<&RefEdit> = outcomes.iter().filter_map(|o| o.as_ref().ok()?.as_ref()).collect();
    let head = match &policy.with_head {
        Some(with) => with.head.clone().filter(|new| new != head),
        None => first_head(&in_order, refs, head),
    };
    let mut edits: Vec<RefEdit> = in_order.into_iter().cloned().collect();
    edits.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Decision { outcomes: outcomes.into_iter().map(|outcome| outcome.map(drop)).collect(), edits, head, messages }
}

fn refuse<T>(rejection: Rejection, reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::new(rejection, reason))
}

struct Judge<'a> {
    refs: &'a RefTable,
    head: &'a RefValue,
    policy: &'a PushPolicy,
    messages: Vec<String>,
}

impl Judge<'_> {
    /// Returns the edit of a command; `None` if the ref has the new value already.
    ///
    /// A push to a symbolic ref is a push to its target, as in Git, and needs access to both.
    fn command(&mut self, command: &Command, fact: &Fact) -> Result<Option<RefEdit>, Refused> {
        let name = command.name.as_bstr();
        self.check_access(name)?;
        if let Some(refused) = fact.refused.as_ref().filter(|refused| refused.rejection == Rejection::Unauthorized) {
            return Err(refused.clone());
        }
        check_form(command, self.policy.mirror)?;
        let target = self.refs.follow(name).ok_or_else(|| Refused::new(Rejection::Name, "broken symref"))?;
        if target != name {
            self.check_access(target)?;
        }
        let valid = RefName::new(target)
            .map_err(|error| Refused::new(Rejection::Name, format!("funny refname: {}", error.reason)))?;
        let value = self.refs.find(target).and_then(|entry| entry.id.map(ToOwned::to_owned));
        self.protection(name, command, fact)?;
        if target != name {
            self.protection(target, command, fact)?;
        }
        if command.new.is_none() && self.policy.with_head.is_none() && self.is_head(target) {
            return refuse(Rejection::Protected, "deletion of the current branch prohibited");
        }
        if command.new.is_none() && value.is_none() {
            self.messages.push(format!("warning: deleting a non-existent ref: {name}"));
            return Ok(None);
        }
        let judged_for = fact.leads_to.as_ref().unwrap_or(&command.name);
        if value != command.old || judged_for.as_bstr() != target {
            return refuse(Rejection::Stale, FETCH_FIRST);
        }
        if let Some(refused) = &fact.refused {
            return Err(refused.clone());
        }
        let edit = RefEdit { name: valid, old: value.map(RefValue::Object), new: command.new.map(RefValue::Object) };
        Ok(Some(edit).filter(|edit| edit.old != edit.new))
    }

    /// Refuses names that clients may not write.
    fn check_access(&self, name: &BStr) -> Result<(), Refused> {
        if is_reserved(name, self.policy.mirror) {
            return refuse(Rejection::Protected, "refs/gitferry/ is reserved");
        }
        if self.policy.hidden.as_ref().is_some_and(|hidden| hidden.matches(name)) {
            return refuse(Rejection::Protected, "deny updating a hidden ref");
        }
        Ok(())
    }

    fn protection(&self, name: &BStr, command: &Command, fact: &Fact) -> Result<(), Refused> {
        for protection in &self.policy.protections {
            if !protection.refs.matches(name) {
                continue;
            }
            if protection.no_push {
                return refuse(Rejection::Protected, "protected ref: no pushes");
            }
            if protection.no_delete && command.new.is_none() {
                return refuse(Rejection::Protected, "protected ref: no deletion");
            }
            if protection.no_force && fact.fast_forward == Some(false) {
                return refuse(Rejection::Protected, "protected ref: non-fast-forward");
            }
        }
        Ok(())
    }

    fn is_head(&self, name: &BStr) -> bool {
        let RefValue::Symbolic(target) = self.head else { return false };
        target.as_bstr() == name || self.refs.follow(target.as_bstr()) == Some(name)
    }
}

/// Refuses names right below `refs/`, which Git accepts in pushes only for deletion. Links (`mirror`) may bring refs
/// that an import brought to the other region.
fn check_form(command: &Command, mirror: bool) -> Result<(), Refused> {
    let is_direct = command.name.strip_prefix(b"refs/").is_some_and(|rest| !rest.contains(&b'/'));
    if is_direct && command.new.is_some() && !mirror {
        return refuse(Rejection::Name, "funny refname: it is directly below refs/");
    }
    Ok(())
}

/// Merges commands whose names lead to the same ref into one if they agree, and refuses all of them otherwise.
fn unite_aliases(commands: &[Command], outcomes: &mut [Result<Option<RefEdit>, Refused>]) {
    let mut by_target: HashMap<BString, Vec<usize>> = HashMap::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        if let Ok(Some(edit)) = outcome {
            by_target.entry(edit.name.as_bstr().to_owned()).or_default().push(number);
        }
    }
    for numbers in by_target.into_values().filter(|numbers| numbers.len() > 1) {
        let new = |number: &usize| commands.get(*number).map(|command| command.new);
        let agree = numbers.windows(2).all(|pair| new(&pair[0]) == new(&pair[1]));
        for number in numbers.into_iter().skip(usize::from(agree)) {
            outcomes[number] =
                if agree { Ok(None) } else { refuse(Rejection::Conflict, "inconsistent aliased update") };
        }
    }
}

/// Refuses refs that would be directory and file at once. Deleted refs make room.
fn refuse_conflicts(outcomes: &mut [Result<Option<RefEdit>, Refused>], refs: &RefTable, policy: &PushPolicy) {
    let edits = || outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()?.as_ref());
    let gone: HashSet<BString> =
        edits().filter(|edit| edit.new.is_none()).map(|edit| edit.name.as_bstr().to_owned()).collect();
    let mut created: BTreeSet<BString> = BTreeSet::new();
    for outcome in outcomes.iter_mut() {
        let Ok(Some(RefEdit { name, old: None, new: Some(_) })) = outcome else { continue };
        match conflict(name.as_bstr(), refs, &gone, &created) {
            Some(other) if is_hidden(&other, policy.hidden.as_ref(), policy.mirror) => {
                *outcome = refuse(Rejection::Conflict, "directory/file conflict");
            }
            Some(other) => *outcome = refuse(Rejection::Conflict, format!("directory/file conflict with {other}")),
            None => drop(created.insert(name.as_bstr().to_owned())),
        }
    }
}

/// Returns an existing or created ref that conflicts with a new name.
fn conflict(name: &BStr, refs: &RefTable, gone: &HashSet<BString>, created: &BTreeSet<BString>) -> Option<BString> {
    let stays = |name: &BStr| !gone.contains(name);
    for at in name.find_iter("/") {
        let parent = name[..at].as_bstr();
        if created.contains(parent) || (refs.find(parent).is_some() && stays(parent)) {
            return Some(parent.to_owned());
        }
    }
    let below: BString = [name.as_bytes(), b"/"].concat().into();
    if let Some(child) = created.range(below.clone()..).next().filter(|child| child.starts_with(&below)) {
        return Some(child.clone());
    }
    let children = refs.with_prefix(&below).filter_map(|row| refs.get(row));
    children.map(|entry| entry.name).find(|child| stays(child)).map(ToOwned::to_owned)
}

/// Returns the new HEAD if the branch of HEAD is absent before and after the push: `main`, `master`, or the first
/// branch that is created. HEAD stays if no branch is created.
fn first_head(edits: &[&RefEdit], refs: &RefTable, head: &RefValue) -> Option<RefValue> {
    let RefValue::Symbolic(target) = head else { return None };
    let branch = refs.follow(target.as_bstr()).unwrap_or(target.as_bstr());
    let created = || edits.iter().filter(|edit| edit.new.is_some()).map(|edit| &edit.name);
    let branches = || created().filter(|name| name.starts_with(b"refs/heads/"));
    if refs.find(branch).is_some_and(|entry| entry.id.is_some()) || created().any(|name| name.as_bstr() == branch) {
        return None;
    }
    let named = |wanted: &str| branches().find(|name| name.as_bstr() == wanted);
    let chosen = named("refs/heads/main").or_else(|| named("refs/heads/master")).or_else(|| branches().next());
    chosen.cloned().map(RefValue::Symbolic)
}
