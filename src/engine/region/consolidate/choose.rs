//! Selection of the packs that one round merges. Pure.

use std::collections::HashSet;

use super::super::manifest::{LivePack, PackClass};

/// Number of packs up to which a manifest is left alone.
pub const CONSOLIDATE_ABOVE: usize = 100;
/// Most packs that one round merges: each leaves a row in the committing transaction.
pub(super) const MERGED_AT_MOST: usize = 80;
/// A pack is kept if it is at least this many times as large as all smaller ones together (as in `git repack
/// --geometric`), so that each object is copied a logarithmic number of times.
const GROWTH: u64 = 2;

/// Returns the packs to merge: the smallest, up to the first that outweighs all of them; none if there are few packs.
/// Closed packs are only merged with closed ones: an open pack proves nothing. Packs whose keys are in `aside` are not
/// chosen.
pub fn choose(packs: &[LivePack], aside: &HashSet<String>) -> Vec<LivePack> {
    if packs.len() <= CONSOLIDATE_ABOVE {
        return Vec::new();
    }
    let live = packs.iter().filter(|pack| pack.class == PackClass::Live && !aside.contains(&pack.key));
    let (closed, open): (Vec<&LivePack>, Vec<&LivePack>) = live.partition(|pack| pack.closed);
    let (first, second) = if closed.len() >= open.len() { (closed, open) } else { (open, closed) };
    let chosen = smallest(first);
    if chosen.is_empty() { smallest(second) } else { chosen }
}

/// Returns the smallest packs of a group, up to the first that outweighs them; none if there is only one.
fn smallest(mut group: Vec<&LivePack>) -> Vec<LivePack> {
    group.sort_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.key.cmp(&b.key)));
    let (mut chosen, mut bytes): (Vec<LivePack>, u64) = (Vec::new(), 0);
    for pack in group.iter().take(MERGED_AT_MOST) {
        if chosen.len() > 1 && pack.bytes >= bytes.saturating_mul(GROWTH) {
            break;
        }
        bytes = bytes.saturating_add(pack.bytes);
        chosen.push((*pack).clone());
    }
    if chosen.len() > 1 { chosen } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_store::objects::Crc64;

    fn pack(number: usize, bytes: u64, closed: bool) -> LivePack {
        LivePack {
            key: format!("k{number:04}"),
            class: PackClass::Live,
            id: gix::ObjectId::null(gix::hash::Kind::Sha1),
            bytes,
            objects: 1,
            crc64: Crc64(0),
            index_bytes: 0,
            index_crc64: Crc64(0),
            closed,
        }
    }

    #[test]
    fn few_packs_are_left_alone() {
        let packs: Vec<LivePack> = (0..CONSOLIDATE_ABOVE).map(|n| pack(n, 1, true)).collect();
        assert!(choose(&packs, &HashSet::new()).is_empty());
    }

    #[test]
    fn the_small_ones_are_chosen_and_the_large_ones_stay() {
        let mut packs: Vec<LivePack> = (0..60).map(|n| pack(n, 10, true)).collect();
        packs.extend((60..120).map(|n| pack(n, 1_000_000, true)));
        let chosen = choose(&packs, &HashSet::new());
        assert_eq!(chosen.len(), 60);
        assert!(chosen.iter().all(|pack| pack.bytes == 10));
    }

    #[test]
    fn open_and_closed_packs_do_not_mix() {
        let packs: Vec<LivePack> = (0..150).map(|n| pack(n, 10, n % 3 != 0)).collect();
        let chosen = choose(&packs, &HashSet::new());
        assert_eq!(chosen.len(), MERGED_AT_MOST);
        assert!(chosen.iter().all(|pack| pack.closed));
    }

    #[test]
    fn each_object_is_copied_a_logarithmic_number_of_times() {
        let (mut packs, mut written): (Vec<LivePack>, u64) = (Vec::new(), 0);
        for number in 0..5_000 {
            packs.push(pack(number, 100, true));
            while let chosen @ [_, ..] = &choose(&packs, &HashSet::new())[..] {
                let bytes = chosen.iter().map(|pack| pack.bytes).sum();
                written += bytes;
                packs.retain(|pack| chosen.iter().all(|other| other.key != pack.key));
                packs.push(pack(100_000 + number, bytes, true));
            }
            assert!(packs.len() <= CONSOLIDATE_ABOVE);
        }
        assert!(written <= 5_000 * 100 * 12, "{written} bytes written for {} bytes", 5_000 * 100);
    }

    #[test]
    fn packs_that_are_set_aside_do_not_stop_the_others() {
        let packs: Vec<LivePack> = (0..150).map(|n| pack(n, 10 + n as u64, true)).collect();
        let aside: HashSet<String> = packs.iter().take(40).map(|pack| pack.key.clone()).collect();
        let chosen = choose(&packs, &aside);
        assert_eq!(chosen.len(), MERGED_AT_MOST);
        assert!(chosen.iter().all(|pack| !aside.contains(&pack.key)));
        let all: HashSet<String> = packs.iter().map(|pack| pack.key.clone()).collect();
        assert!(choose(&packs, &all).is_empty());
    }

    #[test]
    fn the_smaller_group_is_taken_where_the_larger_one_has_nothing_to_merge() {
        let packs: Vec<LivePack> = (0..102).map(|n| pack(n, 10, n < 60)).collect();
        let aside: HashSet<String> = packs.iter().take(59).map(|pack| pack.key.clone()).collect();
        let chosen = choose(&packs, &aside);
        assert!(chosen.len() == 42 && chosen.iter().all(|pack| !pack.closed));
    }
}
