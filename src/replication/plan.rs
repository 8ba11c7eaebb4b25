//! Decisions about one repository from what was read at both sides. No I/O.

use std::collections::HashSet;

use gitferry_engine::ledger::change::ChangePack;
use gitferry_engine::ledger::head::{Frontier, Head, Role};
use gitferry_engine::region::consolidate::CROWDED_ABOVE;
use gitferry_engine::region::manifest::{LivePack, MAX_PACKS, Manifest};

/// Relation of a target's ledger to its source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Equal frontiers.
    Equal,
    /// The target lacks the changes above this state.
    Behind(Frontier),
    /// The target has changes that its source, a replica itself, lacks: another link delivered first.
    Ahead,
    /// The target's frontier is not in the source's ledger: two histories, with the reason in words.
    Diverged(String),
}

/// Compares two heads. A target that is [`Standing::Behind`] or [`Standing::Ahead`] by its seq may still be on another
/// chain, which only reading the chain shows.
pub fn standing(source: &Head, target: Option<&Head>) -> Standing {
    let Some(target) = target else { return Standing::Behind(Frontier::ORIGIN) };
    let ours = target.frontier;
    let theirs = source.frontier;
    if ours == theirs {
        return Standing::Equal;
    }
    if source.role == Role::Replica && ours.seq > theirs.seq {
        return Standing::Ahead;
    }
    if target.role == Role::Primary {
        return Standing::Diverged(format!(
            "the target is a primary itself, at {ours} (the source is at {theirs}): two regions take writes"
        ));
    }
    if ours.seq > theirs.seq {
        return Standing::Diverged(format!("the target is at {ours}, ahead of its source at {theirs}"));
    }
    if ours.seq == theirs.seq {
        return Standing::Diverged(format!("the target is at {ours}, the source at {theirs}: two histories"));
    }
    Standing::Behind(ours)
}

/// Cost of one more pack, in bytes: a look-up, and two more objects to copy.
const PACK_COST: u64 = 64 * 1024;
/// Maximum number of packs that are copied as they came where fewer and larger ones hold the same objects. They fit
/// into the manifest of a target that has made room.
const MAX_ORIGINALS: usize = MAX_PACKS - CROWDED_ABOVE;

/// Packs that give the target all objects of the changes. Either set is enough by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacksToCopy {
    /// Packs that the source's manifest lists.
    pub live: Vec<LivePack>,
    /// Packs that came with the changes, if the source's manifest no longer lists all of them and they cost less than
    /// `live`.
    pub originals: Option<Originals>,
}

/// Packs that came with changes and that the target lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Originals {
    /// Packs that the source's manifest lists.
    pub live: Vec<LivePack>,
    /// Packs that the manifest no longer lists: the source may still keep them as replaced packs.
    pub replaced: Vec<ChangePack>,
}

/// Chooses the packs to copy.
///
/// If the source's manifest lists all packs that came with the changes, these are copied. If consolidation has merged
/// some of them into others, every pack of the manifest that the target lacks is needed, which may be many times the
/// bytes of the changes; the packs that came with the changes are then proposed as well if they cost less.
pub fn packs_to_copy(changes: &[ChangePack], source: &Manifest, target: &Manifest) -> PacksToCopy {
    let mut seen: HashSet<&gix::oid> = target.packs.iter().map(|pack| pack.id.as_ref()).collect();
    let mut originals = Originals { live: Vec::new(), replaced: Vec::new() };
    for pack in changes {
        if !seen.insert(&pack.id) {
            continue;
        }
        match source.find(&pack.id) {
            // Size and checksum come from the change, which is hashed into the chain, not from the manifest.
            Some(live) => originals.live.push(LivePack::from_change(pack, live.key.clone())),
            None => originals.replaced.push(pack.clone()),
        }
    }
    if originals.replaced.is_empty() {
        return PacksToCopy { live: originals.live, originals: None };
    }
    let live = live_packs_not_held(source, target);
    let few = originals.live.len() + originals.replaced.len() <= MAX_ORIGINALS;
    let cheaper = few && originals.cost() < cost(live.iter().map(|pack| (pack.bytes, pack.index_bytes)));
    PacksToCopy { live, originals: cheaper.then_some(originals) }
}

impl Originals {
    fn cost(&self) -> u64 {
        let live = self.live.iter().map(|pack| (pack.bytes, pack.index_bytes));
        cost(live.chain(self.replaced.iter().map(|pack| (pack.bytes, pack.index_bytes))))
    }
}

/// Cost of copying packs, given as bytes of each pack and of its index.
fn cost(packs: impl Iterator<Item = (u64, u64)>) -> u64 {
    let one = |(bytes, index): (u64, u64)| bytes.saturating_add(index).saturating_add(PACK_COST);
    packs.map(one).fold(0, u64::saturating_add)
}

fn live_packs_not_held(source: &Manifest, target: &Manifest) -> Vec<LivePack> {
    source.packs.iter().filter(|pack| target.find(&pack.id).is_none()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use gitferry_engine::ledger::hash::ChangeHash;
    use gitferry_engine::region::commit::blank_head;
    use gitferry_engine::region::manifest::PackClass;
    use gitferry_store::objects::Crc64;

    fn head(seq: u64, hash: u8, role: Role) -> Head {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut head = blank_head("r".into(), gix::hash::Kind::Sha1, role, "a".into(), now);
        head.frontier = Frontier { epoch: 1, seq, hash: ChangeHash([hash; 32]) };
        head
    }

    fn pack(number: u8) -> LivePack {
        LivePack {
            key: format!("k{number}"),
            class: PackClass::Live,
            id: gix::ObjectId::from_bytes_or_panic(&[number; 20]),
            bytes: 1,
            objects: 1,
            crc64: Crc64(1),
            index_bytes: 1,
            index_crc64: Crc64(1),
            closed: true,
        }
    }

    #[test]
    fn heads_are_compared_by_frontier_and_role() {
        let source = head(5, 5, Role::Primary);
        assert_eq!(standing(&source, None), Standing::Behind(Frontier::ORIGIN));
        assert_eq!(standing(&source, Some(&head(5, 5, Role::Replica))), Standing::Equal);
        let behind = head(4, 4, Role::Replica);
        assert_eq!(standing(&source, Some(&behind)), Standing::Behind(behind.frontier));
        for other in [head(5, 6, Role::Replica), head(6, 6, Role::Replica), head(4, 4, Role::Primary)] {
            assert!(matches!(standing(&source, Some(&other)), Standing::Diverged(_)));
        }
    }

    #[test]
    fn only_a_replica_may_be_behind_its_target() {
        let source = head(5, 5, Role::Replica);
        for role in [Role::Replica, Role::Primary] {
            assert_eq!(standing(&source, Some(&head(6, 6, role))), Standing::Ahead);
            assert!(matches!(standing(&source, Some(&head(5, 6, role))), Standing::Diverged(_)));
        }
        assert!(matches!(standing(&source, Some(&head(4, 4, Role::Primary))), Standing::Diverged(_)));
    }

    fn sized(number: u8, bytes: u64) -> LivePack {
        LivePack { bytes, ..pack(number) }
    }

    fn changes(packs: &[LivePack]) -> Vec<ChangePack> {
        packs.iter().map(LivePack::to_change).collect()
    }

    fn keys(packs: &[LivePack]) -> Vec<&str> {
        packs.iter().map(|pack| pack.key.as_str()).collect()
    }

    #[test]
    fn only_packs_that_are_not_held_are_copied_once() {
        let source = Manifest { generation: 1, packs: vec![pack(1), pack(2), pack(3)] };
        let target = Manifest { generation: 1, packs: vec![pack(1)] };
        let wanted = packs_to_copy(&changes(&[pack(1), pack(2), pack(2)]), &source, &target);
        assert_eq!((keys(&wanted.live), wanted.originals), (vec!["k2"], None));
    }

    #[test]
    fn a_pack_that_was_merged_away_comes_as_it_was_or_with_all_live_packs() {
        let merged = sized(7, 100 << 20);
        let source = Manifest { generation: 2, packs: vec![pack(1), pack(3), merged] };
        let target = Manifest { generation: 1, packs: vec![pack(1)] };
        let wanted = packs_to_copy(&changes(&[pack(2), pack(3)]), &source, &target);
        assert_eq!(keys(&wanted.live), ["k3", "k7"]);
        let originals = wanted.originals.unwrap();
        assert_eq!((keys(&originals.live), originals.replaced), (vec!["k3"], changes(&[pack(2)])));
        // If the packs that came are larger in sum than the merged pack, the merged pack is cheaper.
        let wanted = packs_to_copy(&changes(&[sized(2, 60 << 20), sized(4, 60 << 20)]), &source, &target);
        assert_eq!((keys(&wanted.live), wanted.originals), (vec!["k3", "k7"], None));
    }

    #[test]
    fn a_target_that_is_far_behind_does_not_copy_tiny_packs_one_by_one() {
        let tiny = |number: u32| {
            let mut id = [0; 20];
            id[..4].copy_from_slice(&number.to_be_bytes());
            LivePack { id: gix::ObjectId::from_bytes_or_panic(&id), ..pack(1) }
        };
        let source = Manifest { generation: 2, packs: vec![sized(7, 1 << 40)] };
        for (count, one_by_one) in [(MAX_ORIGINALS, true), (MAX_ORIGINALS + 1, false), (10_000, false)] {
            let packs: Vec<LivePack> = (0..count).map(|number| tiny(u32::try_from(number).unwrap())).collect();
            let wanted = packs_to_copy(&changes(&packs), &source, &Manifest::default());
            assert_eq!(wanted.originals.is_some(), one_by_one, "{count}");
            assert_eq!(keys(&wanted.live), ["k7"]);
        }
        // Nor does it copy many of them where one small pack has all objects.
        let source = Manifest { generation: 2, packs: vec![sized(7, 1 << 20)] };
        let packs: Vec<LivePack> = (0..100).map(tiny).collect();
        assert_eq!(packs_to_copy(&changes(&packs), &source, &Manifest::default()).originals, None);
    }

    /// Packs of one region in the property below, each with the numbers of the objects in it.
    #[derive(Clone, Default)]
    struct Holdings(Vec<(LivePack, BTreeSet<u32>)>);

    impl Holdings {
        fn manifest(&self) -> Manifest {
            Manifest { generation: 1, packs: self.0.iter().map(|(pack, _)| pack.clone()).collect() }
        }

        fn objects(&self) -> BTreeSet<u32> {
            self.0.iter().flat_map(|(_, objects)| objects).copied().collect()
        }

        /// Merges the `count` smallest packs, as consolidation does.
        fn merge(&mut self, count: usize, number: u8) {
            self.0.sort_by_key(|(pack, _)| pack.bytes);
            let merged: Vec<_> = self.0.drain(..count.min(self.0.len())).collect();
            let bytes = merged.iter().map(|(pack, _)| pack.bytes).sum();
            let objects = merged.into_iter().flat_map(|(_, objects)| objects).collect();
            self.0.push((sized(number, bytes), objects));
        }
    }

    proptest::proptest! {
        /// Pushes, consolidations on both sides, and deliveries with and without replaced packs: the target always has
        /// all objects, never pays more than for the live packs, and proposed originals are packs of the changes.
        #[test]
        fn either_set_is_enough_and_the_cheaper_one_is_chosen(
            steps in proptest::collection::vec((0_u8..8, 1_u64..3_000_000), 1..200),
        ) {
            let (mut source, mut target) = (Holdings::default(), Holdings::default());
            let mut missed: Vec<(LivePack, BTreeSet<u32>)> = Vec::new();
            let mut number = 0_u8;
            for (step, bytes) in steps {
                if number == u8::MAX {
                    break;
                }
                match step {
                    0..4 => {
                        number += 1;
                        let brought = (sized(number, bytes), BTreeSet::from([u32::from(number)]));
                        source.0.push(brought.clone());
                        missed.push(brought);
                    }
                    4..6 if source.0.len() > 1 => {
                        number += 1;
                        source.merge(2 + (bytes % 6) as usize, number);
                    }
                    6 if target.0.len() > 1 => {
                        number += 1;
                        target.merge(2 + (bytes % 3) as usize, number);
                    }
                    _ => {
                        let brought: Vec<LivePack> = missed.iter().map(|(pack, _)| pack.clone()).collect();
                        let wanted = packs_to_copy(&changes(&brought), &source.manifest(), &target.manifest());
                        let mut with_live = target.clone();
                        with_live.0.extend(source.0.iter().filter(|(pack, _)| wanted.live.contains(pack)).cloned());
                        match &wanted.originals {
                            None => target = with_live,
                            Some(originals) => {
                                // The fallback is enough, too.
                                proptest::prop_assert!(with_live.objects().is_superset(&source.objects()));
                                let of_live = cost(wanted.live.iter().map(|pack| (pack.bytes, pack.index_bytes)));
                                proptest::prop_assert!(originals.cost() < of_live);
                                let ids = originals.live.iter().map(|pack| pack.id);
                                let ids: HashSet<_> = ids.chain(originals.replaced.iter().map(|pack| pack.id)).collect();
                                target.0.extend(missed.iter().filter(|(pack, _)| ids.contains(&pack.id)).cloned());
                            }
                        }
                        proptest::prop_assert!(target.objects().is_superset(&source.objects()));
                        missed.clear();
                    }
                }
            }
        }
    }
}
