//! Similarity of two files, as Git measures it to find renames: bytes of lines (cut at 64 bytes) that both have.

use std::collections::HashMap;

use crate::lines::is_binary;

/// Longest piece of a line in bytes.
const PIECE_BYTES: usize = 64;
/// Score of equal files.
pub(crate) const MAX_SCORE: u64 = 60_000;
/// Least score of a rename: half of the larger file, Git's default.
pub(crate) const MIN_SCORE: u64 = MAX_SCORE / 2;

/// Returns true if files of these sizes can reach [`MIN_SCORE`].
pub(crate) fn sizes_allow(one: u64, two: u64) -> bool {
    let larger = one.max(two);
    let delta = larger - one.min(two);
    larger > 0 && larger * (MAX_SCORE - MIN_SCORE) >= delta * MAX_SCORE
}

/// Pieces of a file, for comparisons with many others.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    bytes: u64,
    /// Pieces with the bytes of all their occurrences.
    pieces: HashMap<Vec<u8>, u64>,
}

impl Sketch {
    /// Reads the pieces of a file. The carriage return of a line end in text does not count.
    pub(crate) fn of(data: &[u8]) -> Sketch {
        let is_text = !is_binary(data);
        let mut pieces: HashMap<Vec<u8>, u64> = HashMap::new();
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        for (at, byte) in data.iter().enumerate() {
            if is_text && *byte == b'\r' && data.get(at + 1) == Some(&b'\n') {
                continue;
            }
            piece.push(*byte);
            if *byte == b'\n' || piece.len() == PIECE_BYTES {
                count(&mut pieces, &mut piece);
            }
        }
        if !piece.is_empty() {
            count(&mut pieces, &mut piece);
        }
        Sketch { bytes: data.len() as u64, pieces }
    }

    /// Returns how much of the larger file is in both, up to [`MAX_SCORE`].
    pub(crate) fn score(&self, other: &Sketch) -> u64 {
        let larger = self.bytes.max(other.bytes);
        if larger == 0 {
            return 0;
        }
        let common = self.pieces.iter().filter_map(|(piece, bytes)| Some(*bytes.min(other.pieces.get(piece)?)));
        common.sum::<u64>() * MAX_SCORE / larger
    }
}

fn count(found: &mut HashMap<Vec<u8>, u64>, piece: &mut Vec<u8>) {
    let bytes = piece.len() as u64;
    match found.get_mut(piece) {
        Some(all) => *all += bytes,
        None => {
            found.insert(piece.clone(), bytes);
        }
    }
    piece.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(one: &[u8], two: &[u8]) -> u64 {
        Sketch::of(one).score(&Sketch::of(two))
    }

    #[test]
    fn half_a_file_is_a_rename_and_less_is_none() {
        assert_eq!(score(b"a\nb\n", b"a\nb\n"), MAX_SCORE);
        assert_eq!(score(b"a\nb\n", b"b\nc\n"), MIN_SCORE);
        assert_eq!(score(b"a\nb\nc\n", b"c\nd\ne\n"), MAX_SCORE / 3);
        assert_eq!(score(b"", b""), 0);
        assert_eq!(score(b"a\r\nb\r\n", b"a\nb\n"), 4 * MAX_SCORE / 6);
        assert!(sizes_allow(10, 5) && sizes_allow(5, 10) && !sizes_allow(10, 4) && !sizes_allow(0, 0));
    }
}
