//! A model of a target's refs under a plan, and properties that every plan keeps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use gitferry_config::Divergence::{Force, Preserve as Keep, Refuse};
use gitferry_git::own_refs::OWN_PREFIX;

type Refs = BTreeMap<String, u8>;

/// Objects from here on were made at the target: the source does not have them.
const FOREIGN: u8 = 100;

fn id(byte: u8) -> ObjectId {
    ObjectId::from_bytes_or_panic(&[byte; 20])
}

fn table(refs: &Refs) -> RefTable {
    let refs = refs.iter().map(|(name, byte)| (RefName::new(name.as_str()).unwrap(), RefValue::from(id(*byte))));
    RefTable::from_sorted(gix::hash::Kind::Sha1, refs).unwrap()
}

fn refs(all: &[(&str, u8)]) -> Refs {
    all.iter().map(|(name, byte)| ((*name).to_owned(), *byte)).collect()
}

fn policy(renames: &[&str], deletions: Deletions, divergence: Divergence) -> RefPolicy {
    let renames: Vec<String> = renames.iter().map(|text| (*text).to_owned()).collect();
    RefPolicy::new(&[], &renames, deletions, divergence).unwrap()
}

/// Objects that a source with everything below [`FOREIGN`] does not have.
fn foreign(asked: &[ObjectId]) -> HashSet<ObjectId> {
    asked.iter().filter(|id| id.as_slice()[0] >= FOREIGN).copied().collect()
}

/// Applies one command as receive-pack does: the old value has to match, and no ref may be a directory of another.
fn apply(refs: &mut Refs, name: &BStr, old: Option<ObjectId>, new: Option<ObjectId>) {
    let name = name.to_string();
    assert_eq!(refs.get(&name).map(|byte| id(*byte)), old, "old value of {name}");
    match new {
        None => _ = refs.remove(&name),
        Some(new) => {
            let below = |folder: &str, name: &str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            assert!(!refs.keys().any(|other| below(other, &name) || below(&name, other)), "{name} in {refs:?}");
            refs.insert(name, new.as_slice()[0]);
        }
    }
}

fn run(plan: &Plan<'_>, target: &Refs) -> Refs {
    let mut now = target.clone();
    plan.preserve.iter().for_each(|kept| apply(&mut now, &kept.name, None, Some(kept.id)));
    plan.deletions.iter().for_each(|edit| apply(&mut now, &edit.name, edit.old, edit.new));
    plan.edits.iter().for_each(|edit| apply(&mut now, &edit.name, edit.old, edit.new));
    now
}

fn planned(source: &Refs, target: &Refs, policy: &RefPolicy) -> (Refs, Notes) {
    let (source, there) = (table(source), table(target));
    let delta = RefDelta::of(&source, &there, policy);
    let foreign = foreign(&delta.ids_to_verify((&source, &there), |_| false, false).now);
    let plan = Plan::of(delta, &there, &foreign, policy);
    (run(&plan, target), plan.skipped)
}

#[test]
fn a_directory_makes_room_for_a_file_and_the_other_way() {
    let (a, b) = (refs(&[("refs/heads/x", 1)]), refs(&[("refs/heads/x/y", 1), ("refs/heads/x/z", 2)]));
    let mirror = policy(&[], Deletions::Mirror, Keep);
    assert_eq!(planned(&a, &b, &mirror).0, a);
    assert_eq!(planned(&b, &a, &mirror).0, b);
}

#[test]
fn a_diverged_ref_in_each_way() {
    let source = refs(&[("refs/heads/main", 2)]);
    let target = refs(&[("refs/heads/main", 101), ("refs/heads/own", 102)]);
    let kept = "refs/gitferry/diverged/heads/main/656565656565";
    let own = "refs/gitferry/diverged/heads/own/666666666666";
    let (after, notes) = planned(&source, &target, &policy(&[], Deletions::Mirror, Keep));
    assert_eq!(after, refs(&[("refs/heads/main", 2), (kept, 101), (own, 102)]));
    assert!(notes.is_empty());
    // The same tip is kept once.
    let (again, _) =
        planned(&source, &refs(&[("refs/heads/main", 101), (kept, 101)]), &policy(&[], Deletions::Mirror, Keep));
    assert_eq!(again, refs(&[("refs/heads/main", 2), (kept, 101)]));
    let (taken, notes) =
        planned(&source, &refs(&[("refs/heads/main", 101), (kept, 7)]), &policy(&[], Deletions::Mirror, Keep));
    assert_eq!(taken, refs(&[("refs/heads/main", 101), (kept, 7)]));
    assert!(notes.has(NoteKind::Diverged));
    let (after, _) = planned(&source, &target, &policy(&[], Deletions::Mirror, Force));
    assert_eq!(after, source);
    let (after, notes) = planned(&source, &target, &policy(&[], Deletions::Mirror, Refuse));
    assert_eq!((after, notes.refs.len()), (target.clone(), 2));
    let (after, _) = planned(&source, &target, &policy(&[], Deletions::Keep, Keep));
    assert_eq!(after, refs(&[("refs/heads/main", 2), ("refs/heads/own", 102), (kept, 101)]));
}

#[test]
fn what_a_source_is_believed_to_have_is_asked_as_it_is_fetched() {
    let (source, target) = (
        table(&refs(&[("refs/heads/a", 2), ("refs/heads/b", 3)])),
        table(&refs(&[("refs/heads/a", 1), ("refs/heads/b", 2), ("refs/heads/c", 1)])),
    );
    let delta = RefDelta::of(&source, &target, &RefPolicy::default());
    let ask = |confirmed: &dyn Fn(&BStr) -> bool, assumed| delta.ids_to_verify((&source, &target), confirmed, assumed);
    assert_eq!(ask(&|_| false, true).now, [id(1)]);
    // The new value of `a` is at the target, so that nothing is fetched for it; `c` is deleted.
    assert_eq!(ask(&|_| true, true).now, [id(1)]);
    let (source, target) = (table(&refs(&[("refs/heads/a", 2)])), table(&refs(&[("refs/heads/a", 1)])));
    let delta = RefDelta::of(&source, &target, &RefPolicy::default());
    let ask = |confirmed: &dyn Fn(&BStr) -> bool, assumed| delta.ids_to_verify((&source, &target), confirmed, assumed);
    assert_eq!(ask(&|_| true, false).now, [id(1)]);
    assert_eq!(ask(&|_| false, true).now, [id(1)]);
    let believed = ask(&|_| true, true);
    assert!(believed.now.is_empty() && believed.during_fetch == [id(1)].into());
}

#[test]
fn two_refs_that_would_be_one_leave_it_alone() {
    let source = refs(&[("refs/heads/a", 1), ("refs/m/a", 2), ("refs/m/b", 3)]);
    let target = refs(&[("refs/m/a", 9)]);
    let (after, notes) = planned(&source, &target, &policy(&["refs/heads/*:refs/m/*"], Deletions::Mirror, Keep));
    assert_eq!(after, refs(&[("refs/m/a", 9), ("refs/m/b", 3)]));
    assert_eq!(notes.refs.len(), 1);
    assert_eq!((notes.refs[0].name.as_str(), notes.refs[0].outcome), ("refs/m/a", NoteKind::Invalid));
}

#[test]
fn what_could_not_be_kept_stays() {
    let (source, target) = (refs(&[("refs/heads/a", 1)]), refs(&[("refs/heads/a", 101), ("refs/heads/b", 102)]));
    let (sources, there) = (table(&source), table(&target));
    let delta = RefDelta::of(&sources, &there, &RefPolicy::default());
    let foreign = foreign(&delta.ids_to_verify((&sources, &there), |_| false, false).now);
    let mut plan = Plan::of(delta, &there, &foreign, &RefPolicy::default());
    assert_eq!(plan.preserve.len(), 2);
    plan.leave(&[("refs/heads/a".into(), "full".into()), ("refs/heads/b".into(), "full".into())]);
    assert!(plan.is_empty() && plan.skipped.refs.len() == 2 && plan.unconfirmed.len() == 2);
}

#[test]
fn refs_that_move_among_what_is_there_fetch_nothing() {
    let (source, target) = (
        table(&refs(&[("refs/heads/a", 2), ("refs/heads/b", 3), ("refs/heads/c", 3)])),
        table(&refs(&[("refs/heads/a", 1), ("refs/tags/t", 2)])),
    );
    let delta = RefDelta::of(&source, &target, &policy(&[], Deletions::Keep, Keep));
    let mut held = TargetObjects::of(&target);
    assert!(held.wants(&delta.edits[..1]).is_empty());
    assert_eq!(held.wants(&delta.edits), [id(3)]);
    let known: HashSet<ObjectId> = [id(1)].into();
    assert_eq!(held.haves(&delta.edits, &source, &known), [id(1), id(2)]);
    held.add(id(3));
    assert!(held.wants(&delta.edits).is_empty());
    assert!(held.haves(&[], &source, &known).contains(&id(3)));
}

#[test]
fn heads_go_by_the_names_of_the_target() {
    let renamed = policy(&["refs/heads/*:refs/heads/m/*"], Deletions::Mirror, Keep);
    let main = RefValue::parse(b"ref:refs/heads/main").unwrap();
    assert_eq!(head_of(Some(&main), &renamed).unwrap().as_bstr(), "refs/heads/m/main");
    assert_eq!(head_of(Some(&RefValue::from(id(1))), &renamed), None);
    assert_eq!(head_of(None, &renamed), None);
}

/// Ref names of which none is a directory of another.
fn any_refs(lowest: u8) -> impl Strategy<Value = Refs> {
    let name = "refs/(heads|tags|pull|m|gitferry)/[ab]{1,2}";
    proptest::collection::btree_map(name, (lowest..4, any::<bool>()).prop_map(|(byte, _)| byte + 1), 0..8)
}

fn any_target() -> impl Strategy<Value = Refs> {
    let name = "refs/(heads|tags|pull|m|gitferry)/[ab]{1,2}";
    proptest::collection::btree_map(name, prop_oneof![1..5u8, 100..103u8], 0..8)
}

proptest! {
    #[test]
    fn a_plan_makes_what_the_policy_says(
        source in any_refs(0), target in any_target(), renames in proptest::bool::ANY,
        deletions in prop_oneof![Just(Deletions::Mirror), Just(Deletions::Keep)],
        divergence in prop_oneof![Just(Keep), Just(Force), Just(Refuse)],
    ) {
        let policy = policy(if renames { &["refs/heads/*:refs/m/*"] } else { &[] }, deletions, divergence);
        let (after, notes) = planned(&source, &target, &policy);
        let carried = |name: &str| ["refs/heads/", "refs/tags/", "refs/m/"].iter().any(|prefix| name.starts_with(prefix));
        let renamed = |name: &String| if renames { name.replacen("refs/heads/", "refs/m/", 1) } else { name.clone() };
        let mut wanted: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for (name, byte) in source.iter().filter(|(name, _)| carried(name)) {
            if !wanted.entry(renamed(name)).or_default().is_empty() { twice.insert(renamed(name)); }
            wanted.get_mut(&renamed(name)).unwrap().insert(*byte);
        }
        let owned = |name: &str| carried(name) && !(renames && name.starts_with("refs/heads/"));
        let names: BTreeSet<&String> = wanted.keys().chain(target.keys()).collect();
        for name in names {
            let before = target.get(name).copied();
            let stays = !owned(name) || twice.contains(name)
                || (divergence == Refuse && before.is_some_and(|byte| byte >= FOREIGN))
                || (deletions == Deletions::Keep && !wanted.contains_key(name));
            let expected = if stays { before } else { wanted.get(name).and_then(|all| all.first().copied()) };
            prop_assert_eq!(after.get(name).copied(), expected, "{}", name);
        }
        // All refs beyond these are kept tips, and no object that was made at the target is lost.
        for name in after.keys().filter(|name| !wanted.contains_key(*name) && !target.contains_key(*name)) {
            prop_assert!(name.as_bytes().starts_with(OWN_PREFIX.as_bytes()) && divergence == Keep);
        }
        if divergence != Force {
            let still: BTreeSet<u8> = after.values().copied().collect();
            prop_assert!(target.values().filter(|byte| **byte >= FOREIGN).all(|byte| still.contains(byte)));
        }
        prop_assert!(divergence != Keep || !notes.has(NoteKind::Diverged));
        // A second pass has nothing to do, unless the policy forbids something.
        let (again, _) = planned(&source, &after, &policy);
        prop_assert_eq!(again, after);
    }
}

#[test]
fn a_ref_that_two_would_become_is_nobodys_until_one_does() {
    let policy = RefPolicy::new(&[], &["refs/heads/*:refs/x/*".into()], Default::default(), Keep).unwrap();
    let source = table(&refs(&[("refs/heads/a", 1), ("refs/x/a", 2)]));
    let target = table(&refs(&[("refs/x/a", 3)]));
    let delta = RefDelta::of(&source, &target, &policy);
    assert_eq!(delta.kept, ["refs/x/a"]);
    assert!(delta.edits.is_empty() && delta.deletions.is_empty());
}
