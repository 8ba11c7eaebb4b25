//! Scripted and random faults of stores, which tests inject.

use gitferry_test_support::faults::{Faults, Operation, When};

#[test]
fn operations_are_listed_in_the_order_of_their_discriminants() {
    for (index, operation) in Operation::ALL.iter().enumerate() {
        assert_eq!(*operation as usize, index);
    }
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let run = |seed| {
        let faults = Faults::random(seed, 3);
        (0..200).map(|_| faults.next(Operation::TableGet)).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    assert!(run(7).contains(&Some(When::Before)) && run(7).contains(&Some(When::After)));
    assert!(run(7).contains(&None));
}

#[test]
fn a_crash_stops_everything_until_the_restart() {
    let faults = Faults::none();
    faults.crash_at(2, When::After);
    assert_eq!(faults.next(Operation::TableGet), None);
    assert_eq!(faults.next(Operation::ObjectPut), Some(When::After));
    assert_eq!(faults.next(Operation::TableGet), Some(When::Before));
    faults.restart();
    assert_eq!(faults.next(Operation::TableGet), None);
    assert_eq!((faults.calls(), faults.injected()), (4, 2));
}

#[test]
fn the_nth_call_of_one_operation_fails_once() {
    let faults = Faults::none();
    faults.fail_nth(Operation::ObjectPut, 2, When::Before);
    assert_eq!(faults.next(Operation::ObjectPut), None);
    assert_eq!(faults.next(Operation::ObjectGet), None);
    assert_eq!(faults.next(Operation::ObjectPut), Some(When::Before));
    assert_eq!(faults.next(Operation::ObjectPut), None);
}
