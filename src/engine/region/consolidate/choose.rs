//! Selection of the packs that one round merges. Pure.

use std::collections::{BTreeMap, HashSet};

use super::super::manifest::{LivePack, PackClass};

/// Number of packs up to which a manifest is left alone.
pub const CONSOLIDATE_ABOVE: usize = 100;
/// Most packs that one round merges: each leaves a row in the committing transaction.
pub(super) const MERGED_AT_MOST: usize = 80;
/// Sizes of packs fall into classes: each begins at this many times the one before it.
const CLASS_GROWTH: u64 = 8;
/// Bytes that one round may merge in any repository, so that the packs that come meanwhile stay few.
const ROUND_BYTES: u64 = 64 * 1024 * 1024;
/// The share of a repository's bytes that one round may merge, if that is more than [`ROUND_BYTES`]: rounds of large
/// repositories merge several packs, too.
const ROUND_SHARE: u64 = 16;

/// Returns the packs to merge: those of the size class with the most packs, from the smallest, as many as one round may
/// merge; none if there are few packs. Each merge lifts many packs by a class at once, so that each object is copied a
/// logarithmic number of times. Closed packs are only merged with closed ones: an open pack proves nothing. Packs whose
/// keys are in `aside` are not chosen.
pub fn choose(packs: &[LivePack], aside: &HashSet<String>) -> Vec<LivePack> {
    if packs.len() <= CONSOLIDATE_ABOVE {
        return Vec::new();
    }
    let bytes = packs.iter().fold(0, |sum: u64, pack| sum.saturating_add(pack.bytes));
    let most_bytes = ROUND_BYTES.max(bytes / ROUND_SHARE);
    let live = packs.iter().filter(|pack| pack.class == PackClass::Live && !aside.contains(&pack.key));
    let (closed, open): (Vec<&LivePack>, Vec<&LivePack>) = live.partition(|pack| pack.closed);
    let (first, second) = if closed.len() >= open.len() { (closed, open) } else { (open, closed) };
    let chosen = most_alike(first, most_bytes);
    if chosen.is_empty() { most_alike(second, most_bytes) } else { chosen }
}

/// Returns packs of the most populous size class of a group, from the smallest, up to `most_bytes` but at least two;
/// none if each class has one pack.
fn most_alike(group: Vec<&LivePack>, most_bytes: u64) -> Vec<LivePack> {
    let mut classes: BTreeMap<u32, Vec<&LivePack>> = BTreeMap::new();
    for pack in group {
        classes.entry(pack.bytes.max(1).ilog(CLASS_GROWTH)).or_default().push(pack);
    }
    // The last of several maxima is the one of the smallest packs.
    let Some(mut class) = classes.into_values().rev().max_by_key(Vec::len) else { return Vec::new() };
    if class.len() < 2 {
        return Vec::new();
    }
    class.sort_by(|a, b| a.bytes.cmp(&b.bytes).then_with(|| a.key.cmp(&b.key)));
    let mut bytes: u64 = 0;
    let fits = |(number, pack): &(usize, &LivePack)| {
        bytes = bytes.saturating_add(pack.bytes);
        *number < 2 || bytes <= most_bytes
    };
    class.into_iter().take(MERGED_AT_MOST).enumerate().take_while(fits).map(|(_, pack)| pack.clone()).collect()
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

    /// Pushes `pushes` packs, one after the other, with all rounds after each. Returns how often the bytes of the last
    /// tenth of the pushes were copied meanwhile, and the largest round in bytes.
    fn course(pushes: usize, mut bytes_of: impl FnMut() -> u64) -> (f64, u64) {
        let mut packs: Vec<LivePack> = Vec::new();
        let (mut pushed, mut written, mut largest): (u64, u64, u64) = (0, 0, 0);
        for number in 0..pushes {
            if number == pushes - pushes / 10 {
                (pushed, written) = (0, 0);
            }
            packs.push(pack(number, bytes_of(), true));
            pushed += packs[packs.len() - 1].bytes;
            while let chosen @ [_, ..] = &choose(&packs, &HashSet::new())[..] {
                let bytes = chosen.iter().map(|pack| pack.bytes).sum();
                written += bytes;
                largest = largest.max(bytes);
                packs.retain(|pack| chosen.iter().all(|other| other.key != pack.key));
                packs.push(pack(1_000_000 + number, bytes, true));
            }
            assert!(packs.len() <= CONSOLIDATE_ABOVE);
        }
        (written as f64 / pushed as f64, largest)
    }

    #[test]
    fn each_object_is_copied_a_logarithmic_number_of_times() {
        for (pushes, most) in [(500, 2.0), (10_000, 2.5), (30_000, 2.5)] {
            let (copies, largest) = course(pushes, || 200_000);
            assert!(copies <= most, "{pushes} pushes: {copies} copies");
            let allowed = ROUND_BYTES.max(pushes as u64 * 200_000 / ROUND_SHARE);
            assert!(largest <= allowed, "{pushes} pushes: a round of {largest} bytes");
        }
        // Pushes of all sizes from some bytes to some MiB.
        let mut seed: u64 = 1;
        let (copies, _) = course(10_000, || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            100 << (seed >> 60)
        });
        assert!(copies <= 4.0, "{copies} copies");
    }

    #[test]
    fn a_round_merges_two_packs_however_large() {
        let packs: Vec<LivePack> = (0..101).map(|n| pack(n, u64::MAX / 128, true)).collect();
        assert_eq!(choose(&packs, &HashSet::new()).len(), 6);
        let packs: Vec<LivePack> = (0..101).map(|n| pack(n, u64::MAX, true)).collect();
        assert_eq!(choose(&packs, &HashSet::new()).len(), 2);
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
