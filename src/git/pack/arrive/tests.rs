use super::*;
use proptest::prelude::*;
use std::io::{BufReader, Read};

const LIMITS: ArrivalLimits = ArrivalLimits { pack_bytes: 1 << 20, object_bytes: 1 << 16 };

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

fn pack(blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [*b"PACK", 2u32.to_be_bytes(), (blobs.len() as u32).to_be_bytes()].concat();
    for blob in blobs {
        Header::Blob.write_to(blob.len() as u64, &mut file).unwrap();
        file.extend(deflate(blob));
    }
    let mut hasher = gix::hash::hasher(Format::Sha1);
    hasher.update(&file);
    file.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    file
}

fn read(input: impl Read, piece: usize) -> Result<(Arrival, Vec<u8>), Fault> {
    let mut out = Vec::new();
    let mut input = BufReader::with_capacity(piece, input);
    let arrival = arrive(&mut input, Format::Sha1, LIMITS, &mut out, &CheckProgress::default())?;
    Ok((arrival, out))
}

proptest! {
    #[test]
    fn a_pack_is_found_whole_in_pieces_of_any_size(
        sizes in proptest::collection::vec(0..9000usize, 0..8), piece in 1..3000usize
    ) {
        let blobs: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|i| (i * i / 7) as u8).collect()).collect();
        let pack = pack(&blobs);
        let (arrival, written) = read(&pack[..], piece).unwrap();
        prop_assert_eq!(&written, &pack);
        prop_assert_eq!((arrival.objects as usize, arrival.bytes), (blobs.len(), pack.len() as u64));
    }

    #[test]
    fn nothing_is_read_behind_the_end(sizes in proptest::collection::vec(0..300usize, 0..5)) {
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> { panic!("it waits for more") }
        }
        let pack = pack(&sizes.iter().map(|size| vec![3; *size]).collect::<Vec<_>>());
        prop_assert!(read((&pack[..]).chain(Endless), 50).is_ok());
    }

    #[test]
    fn damage_is_found(size in 0..500usize, at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>()) {
        let mut pack = pack(&[vec![1; size], vec![2; 40]]);
        let at = at.index(pack.len());
        if cut { pack.truncate(at) } else { pack[at] ^= 1 << bit }
        prop_assert!(read(&pack[..], 77).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), objects in 0..4u32) {
        let _ = read(&[&b"PACK\0\0\0\x02"[..], &objects.to_be_bytes(), &bytes].concat()[..], 64);
    }
}

#[test]
fn limits_hold() {
    let large = pack(&[vec![1; (1 << 16) + 1]]);
    assert!(matches!(read(&large[..], 512), Err(Fault::TooLarge { .. })));
    let noise = |seed: u64| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..60_000).map(next).collect()
    };
    let many = pack(&(0..40).map(noise).collect::<Vec<Vec<u8>>>());
    assert!(many.len() > 1 << 20, "{}", many.len());
    assert!(matches!(read(&many[..], 4096), Err(Fault::PackTooLarge { .. })));
    let mut liar = pack(&[]);
    liar[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(read(&liar[..], 512).unwrap_err().to_string().contains("4294967295 objects"));
}
