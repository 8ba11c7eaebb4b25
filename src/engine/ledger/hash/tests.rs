use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn object(byte: u8) -> RefValue {
    RefValue::Object(gix::ObjectId::from_bytes_or_panic(&[byte | 1; 20]))
}

fn hash_of<'a>(refs: impl IntoIterator<Item = (&'a String, &'a u8)>) -> HashedRefs {
    let mut hash = HashedRefs::default();
    refs.into_iter().for_each(|(name, byte)| hash.edit(name.as_bytes(), None, Some(&object(*byte))));
    hash
}

fn same(one: &HashedRefs, other: &HashedRefs) -> bool {
    let (xor, lattice) = (one.xor == other.xor, one.lattice == other.lattice);
    assert_eq!(xor, lattice);
    assert_eq!(lattice, one.lattice.digest() == other.lattice.digest());
    lattice
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_refs_and_the_way_to_them_do_not_matter(
        before in btree_map("[a-e]{1,2}", any::<u8>(), 0..12),
        after in btree_map("[a-e]{1,2}", any::<u8>(), 0..12),
    ) {
        prop_assert!(same(&hash_of(&before), &hash_of(before.iter().rev())));
        let (mut moved, mut edits) = (hash_of(&before), HashedRefs::default());
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names.into_iter().rev() {
            let value = |refs: &BTreeMap<String, u8>| refs.get(name).map(|byte| object(*byte));
            edits.edit(name.as_bytes(), value(&before).as_ref(), value(&after).as_ref());
        }
        moved.add(&edits);
        prop_assert!(same(&moved, &hash_of(&after)));
        let values = |refs: &BTreeMap<String, u8>| -> Vec<(String, u8)> {
            refs.iter().map(|(name, byte)| (name.clone(), byte | 1)).collect()
        };
        prop_assert_eq!(same(&hash_of(&before), &hash_of(&after)), values(&before) == values(&after));
    }
}

#[test]
fn name_and_value_are_told_apart() {
    let hash = |name: &[u8], value: &RefValue| {
        let mut hash = HashedRefs::default();
        hash.edit(name, None, Some(value));
        hash
    };
    let symbolic = RefValue::parse(b"ref:refs/heads/x").unwrap();
    let one = hash(b"refs/heads/a", &object(1));
    for other in [
        hash(b"refs/heads/a", &object(3)),
        hash(b"refs/heads/b", &object(1)),
        hash(b"refs/heads/a", &symbolic),
        HashedRefs::default(),
    ] {
        assert!(!same(&one, &other));
    }
}

/// One ref more than there are bits to choose by, and linear algebra finds edits that an XOR does not see.
#[test]
fn what_an_xor_does_not_see_the_lattice_does() {
    let names: Vec<String> = (0..257).map(|n| format!("refs/heads/{n}")).collect();
    let edit = |hash: &mut HashedRefs, name: &String| hash.edit(name.as_bytes(), Some(&object(1)), Some(&object(3)));
    let mut basis: Vec<([u8; 32], BTreeSet<usize>)> = Vec::new();
    let chosen = names.iter().enumerate().find_map(|(number, name)| {
        let (mut hash, mut of) = (HashedRefs::default(), BTreeSet::from([number]));
        edit(&mut hash, name);
        let mut bits = hash.xor.0;
        for (other, others) in &basis {
            let lead = other.iter().position(|byte| *byte != 0).unwrap();
            let bit = 0x80 >> other[lead].leading_zeros();
            if bits[lead] & bit != 0 {
                bits.iter_mut().zip(other).for_each(|(a, b)| *a ^= b);
                of = &of ^ others;
            }
        }
        if bits == [0; 32] {
            return Some(of);
        }
        basis.push((bits, of));
        None
    });
    let mut hash = HashedRefs::default();
    for (number, name) in names.iter().enumerate() {
        if chosen.as_ref().unwrap().contains(&number) {
            edit(&mut hash, name);
        }
    }
    assert!(hash.xor == Xor::default(), "the forged edits change the XOR");
    assert!(hash.lattice != Lattice::default());
}

/// The numbers are part of the format: every build has to make the same ones.
#[test]
fn a_hash_is_the_same_for_good() {
    let hash = hash_of(&BTreeMap::from([("refs/heads/main".to_owned(), 1), ("refs/tags/v1".to_owned(), 2)]));
    assert_eq!(
        hash.lattice.digest().to_string(),
        "lt1-368d21b40ee4bc357fc2824559c7061ad42ec1f44bf2d7be4192c91784b45032"
    );
}

#[test]
fn hashes_survive_text() {
    let hash = ChangeHash([0xab; 32]);
    assert_eq!(hash.to_string().parse::<ChangeHash>().unwrap(), hash);
    assert!("ab".parse::<ChangeHash>().is_err());
    let refs = hash_of(&BTreeMap::from([("a".to_owned(), 1)]));
    for hash in [RefsHash::Xor(refs.xor), RefsHash::Lattice(refs.lattice)] {
        assert_eq!(hash.to_string().parse::<RefsHash>().unwrap(), hash);
        assert_eq!(hash.digest().to_string().parse::<RefsDigest>().unwrap(), hash.digest());
    }
    for bad in ["", "ab", "lt1-ab", "AAAA"] {
        assert!(bad.parse::<RefsHash>().is_err() && bad.parse::<RefsDigest>().is_err(), "{bad}");
    }
}

/// Prints what the hashes of a million refs and of one edit cost: `cargo test --release --lib -- --ignored
/// --nocapture costs_of_a_million_refs`.
#[test]
#[ignore = "a measurement"]
fn costs_of_a_million_refs() {
    let names: Vec<String> = (0..1_000_000).map(|n| format!("refs/heads/team/feature-{n:07}")).collect();
    let value = object(7);
    let (mut xor, mut lattice) = (Xor::default(), Lattice::default());
    let start = std::time::Instant::now();
    names.iter().for_each(|name| xor.edit(name.as_bytes(), None, Some(&value)));
    let of_xor = start.elapsed();
    let start = std::time::Instant::now();
    names.iter().for_each(|name| lattice.edit(name.as_bytes(), None, Some(&value)));
    let of_lattice = start.elapsed();
    let start = std::time::Instant::now();
    names[..1000].iter().for_each(|name| lattice.edit(name.as_bytes(), Some(&value), Some(&object(9))));
    let (edits, text) = (start.elapsed() / 1000, RefsHash::Lattice(lattice.clone()).to_string().len());
    let start = std::time::Instant::now();
    let digests = (0..1000).filter(|_| lattice.digest() == RefsDigest::default()).count();
    println!(
        "a million refs: xor {of_xor:?}, lattice {of_lattice:?}; one edit {edits:?}, one digest {:?}; \
         {text} bytes in a head ({xor:?}, {digests})",
        start.elapsed() / 1000
    );
}
