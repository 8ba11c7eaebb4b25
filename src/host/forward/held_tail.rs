//! Holds back the end of a response of receive-pack.

use gitferry_git::protocol::{Band, PacketWriter};

/// Flush packet, which ends a response of receive-pack.
const FLUSH: &[u8] = b"0000";

/// Holds back the last four bytes of a response: a client considers its push done when the last flush packet arrives.
#[derive(Debug, Default)]
pub struct HeldTail {
    /// The first five bytes: the length of the first packet, and its band.
    front: Vec<u8>,
    tail: Vec<u8>,
}

impl HeldTail {
    /// Takes a chunk, and returns the bytes that may be sent on.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        let missing = (FLUSH.len() + 1).saturating_sub(self.front.len());
        self.front.extend_from_slice(&chunk[..missing.min(chunk.len())]);
        self.tail.extend_from_slice(chunk);
        let keep = self.tail.split_off(self.tail.len().saturating_sub(FLUSH.len()));
        std::mem::replace(&mut self.tail, keep)
    }

    /// Returns the rest. A message is put before it as progress, if the response has side bands and ends with a flush.
    pub fn end(&mut self, message: Option<&str>) -> Vec<u8> {
        let mut rest = Vec::new();
        let banded = self.front.get(FLUSH.len()).is_some_and(|band| (1..=3).contains(band));
        if let Some(message) = message
            && banded
            && self.tail == FLUSH
        {
            let text = format!("{message}\n");
            // Writing to memory does not fail.
            let _ = PacketWriter::new(&mut rest).parts(&[&[Band::Progress as u8], text.as_bytes()]);
        }
        rest.append(&mut self.tail);
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(chunks: &[&[u8]], message: Option<&str>) -> (Vec<u8>, Vec<u8>) {
        let mut tail = HeldTail::default();
        let passed = chunks.iter().flat_map(|chunk| tail.push(chunk)).collect();
        (passed, tail.end(message))
    }

    #[test]
    fn only_the_last_packet_is_held_back() {
        let answer = b"000b\x02hello\n000a\x01unpk0000";
        for cut in 0..answer.len() {
            let chunks = [&answer[..cut], &answer[cut..]];
            assert_eq!(through(&chunks, None), (answer[..answer.len() - 4].to_vec(), FLUSH.to_vec()));
            let (passed, rest) = through(&chunks, Some("late"));
            assert_eq!((passed.len(), rest.as_slice()), (answer.len() - 4, &b"000a\x02late\n0000"[..]));
        }
    }

    #[test]
    fn a_message_is_added_only_to_side_bands_before_a_flush() {
        assert_eq!(through(&[b"000eunpack ok\n", b"0000"], Some("late")).1, FLUSH);
        assert_eq!(through(&[b"0006\x01a0004"], Some("late")).1, b"0004");
        assert_eq!(through(&[b"00"], Some("late")), (Vec::new(), b"00".to_vec()));
        assert_eq!(through(&[], Some("late")), (Vec::new(), Vec::new()));
    }
}
