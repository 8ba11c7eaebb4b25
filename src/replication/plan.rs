//! What to do for one repository, decided from what was read: no I/O here.

use std::collections::HashSet;

use crate::ledger::change::ChangePack;
use crate::ledger::head::{Frontier, Head, Role};
use crate::region::manifest::{LivePack, Manifest};

/// How a target stands to its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same state.
    Equal,
    /// The target lacks the changes above this state.
    Behind(Frontier),
    /// The target has changes that its source, a replica itself, lacks: another link came first.
    Ahead,
    /// The target is somewhere that the source has never been, or no longer is.
    Diverged(String),
}

/// Compares two heads. A target that is behind or ahead may still turn out to be on another chain.
pub fn standing(source: &Head, target: Option<&Head>) -> Standing {
    let Some(target) = target else { return Standing::Behind(Frontier::ORIGIN) };
    let (ours, theirs) = (target.frontier, source.frontier);
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

/// Which packs to copy so that the target holds all that the changes need.
///
/// The packs that came with the changes, as long as the source still has them; where some have been
/// compacted away, all live packs that the target does not hold.
pub fn packs_to_copy(changes: &[ChangePack], source: &Manifest, target: &Manifest) -> Vec<LivePack> {
    let mut seen: HashSet<&gix::oid> = target.packs.iter().map(|pack| pack.id.as_ref()).collect();
    let mut wanted = Vec::new();
    for pack in changes {
        if !seen.insert(&pack.id) {
            continue;
        }
        match source.find(&pack.id) {
            // What the change says is hashed into the chain: a copy is checked against that.
            Some(live) => wanted.push(LivePack::from_change(pack, live.key.clone())),
            None => return live_packs_not_held(source, target),
        }
    }
    wanted
}

fn live_packs_not_held(source: &Manifest, target: &Manifest) -> Vec<LivePack> {
    source.packs.iter().filter(|pack| target.find(&pack.id).is_none()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::hash::ChangeHash;
    use crate::objects::Crc64;
    use crate::region::commit::blank_head;
    use crate::region::manifest::PackClass;

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

    #[test]
    fn only_packs_that_are_not_held_are_copied_once() {
        let source = Manifest { generation: 1, packs: vec![pack(1), pack(2), pack(3)] };
        let target = Manifest { generation: 1, packs: vec![pack(1)] };
        let changes: Vec<ChangePack> = [1, 2, 2].map(|n| pack(n).to_change()).to_vec();
        let copied: Vec<String> = packs_to_copy(&changes, &source, &target).into_iter().map(|p| p.key).collect();
        assert_eq!(copied, ["k2"]);
    }

    #[test]
    fn a_pack_that_was_compacted_away_is_replaced_by_all_live_packs() {
        let source = Manifest { generation: 2, packs: vec![pack(1), pack(7)] };
        let target = Manifest { generation: 1, packs: vec![pack(1)] };
        let changes: Vec<ChangePack> = [2].map(|n| pack(n).to_change()).to_vec();
        let copied: Vec<String> = packs_to_copy(&changes, &source, &target).into_iter().map(|p| p.key).collect();
        assert_eq!(copied, ["k7"]);
    }
}
