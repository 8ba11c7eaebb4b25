//! A way that breaks anywhere: no ref of the target is ever wrong, and the next pass completes.

use crate::remotes_servers::damage::{Damaged, To, faults};

/// Passes that are spoiled at places told by seeds; how many of them failed.
fn run(to: To, seeds: std::ops::Range<u64>) -> usize {
    let failed = seeds.filter(|seed| {
        let (side, plan) = faults(to, *seed);
        let damaged = Damaged::new(to, *seed);
        let failed = damaged.spoiled_pass(side, plan);
        damaged.next_pass();
        failed
    });
    failed.count()
}

#[test]
fn from_server_to_server() {
    assert!(run(To::Server, 0..6) > 0, "no pass failed");
}

#[test]
fn from_server_to_region() {
    assert!(run(To::Region, 100..104) > 0, "no pass failed");
}

#[test]
#[ignore = "takes minutes"]
fn from_server_to_server_with_many_seeds() {
    assert!(run(To::Server, 1_000..1_150) > 20);
}

#[test]
#[ignore = "takes minutes"]
fn from_server_to_region_with_many_seeds() {
    assert!(run(To::Region, 2_000..2_100) > 10);
}
