//! Damage anywhere is found, and nothing makes the check panic.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::OnceLock;

use gitferry_git::pack::{CheckOptions, PackWriter};
use gix::hash::Kind as Format;
use gix::objs::Kind;
use proptest::prelude::*;

use crate::packs::support::{Repo, check, seal};

/// A small pack with offset deltas (or deltas by id) and its index.
fn sample(by_id: bool) -> &'static (Vec<u8>, Vec<u8>) {
    static SAMPLES: [OnceLock<(Vec<u8>, Vec<u8>)>; 2] = [OnceLock::new(), OnceLock::new()];
    SAMPLES[usize::from(by_id)].get_or_init(|| {
        let repo = Repo::with_history(Format::Sha1);
        let arguments = if by_id { &["--revs"][..] } else { &["--revs", "--delta-base-offset"] };
        let pack = repo.pack("a.pack", arguments, "main~57\nmain~30:dir1\n");
        let index = repo.index_pack(&pack, &[]).unwrap();
        (std::fs::read(pack).unwrap(), std::fs::read(index).unwrap())
    })
}

/// Checks with and without the index; what passes has to pass in both ways.
fn check_bytes(dir: &Path, pack: &[u8], index: &[u8], threads: usize) -> [bool; 2] {
    let (path, hint) = (dir.join("a.pack"), dir.join("a.idx"));
    std::fs::write(&path, pack).unwrap();
    std::fs::write(&hint, index).unwrap();
    let mut options = CheckOptions::new(Format::Sha1);
    options.threads = NonZeroUsize::new(threads);
    [None, Some(hint.as_path())].map(|hint| check(&path, hint, &options).is_ok())
}

#[test]
fn every_flipped_byte_of_a_pack_is_found() {
    for by_id in [false, true] {
        let (pack, index) = sample(by_id);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(check_bytes(dir.path(), pack, index, 1), [true, true]);
        for at in 0..pack.len() {
            let mut flipped = pack.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(check_bytes(dir.path(), &flipped, index, 1), [false, false], "byte {at} of {}", pack.len());
        }
    }
}

#[test]
fn every_flipped_byte_of_an_index_is_found() {
    let (pack, index) = sample(false);
    let dir = tempfile::tempdir().unwrap();
    for at in 0..index.len() {
        let mut flipped = index.clone();
        flipped[at] ^= 0x10;
        // Without its magic number it is not an index of version 2, and not used.
        let unused = at < 8;
        assert_eq!(check_bytes(dir.path(), pack, &flipped, 1), [true, unused], "byte {at} of {}", index.len());
    }
}

#[test]
fn every_truncation_is_found() {
    let (pack, index) = sample(false);
    let dir = tempfile::tempdir().unwrap();
    for length in (0..pack.len()).step_by(7) {
        assert_eq!(check_bytes(dir.path(), &pack[..length], index, 1), [false, false], "{length} bytes");
        if length > 12 {
            let sealed = seal(pack[..length].to_vec(), Format::Sha1);
            assert_eq!(check_bytes(dir.path(), &sealed, index, 1), [false, false], "{length} bytes, sealed");
        }
    }
    for length in 0..index.len() {
        let truncated = check_bytes(dir.path(), pack, &index[..length], 1);
        assert_eq!(truncated, [true, length < 8], "{length} bytes of the index");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// With the checksums made right again, damage gets past the first gate.
    #[test]
    fn mutated_and_sealed_packs_never_panic(
        by_id: bool,
        threads in 1usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        index_changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let (pack, index) = sample(by_id);
        let mut pack = pack[..pack.len() - 20].to_vec();
        for (at, byte) in changes {
            let at = at.index(pack.len());
            pack[at] = byte;
        }
        let pack = seal(pack, Format::Sha1);
        let mut index = index[..index.len() - 40].to_vec();
        for (at, byte) in index_changes {
            let at = at.index(index.len());
            index[at] = byte;
        }
        index.extend_from_slice(&pack[pack.len() - 20..]);
        let dir = tempfile::tempdir().unwrap();
        check_bytes(dir.path(), &pack, &seal(index, Format::Sha1), threads);
    }

    #[test]
    fn whatever_is_written_passes(
        objects in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
        sha256: bool,
    ) {
        let format = if sha256 { Format::Sha256 } else { Format::Sha1 };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pack");
        let mut writer = PackWriter::create(&path, format, objects.len() as u32).unwrap();
        for (at, data) in objects.iter().enumerate() {
            if at % 2 == 0 {
                writer.whole(Kind::Blob, data).unwrap();
            } else {
                writer.whole_streaming(Kind::Blob, data.len() as u64, &mut &data[..]).unwrap();
            }
        }
        let built = writer.finish().unwrap();
        let checked = check(&path, None, &CheckOptions::new(format)).unwrap();
        prop_assert_eq!((checked.id, checked.bytes, checked.objects), (built.id, built.bytes, built.objects));
    }
}
