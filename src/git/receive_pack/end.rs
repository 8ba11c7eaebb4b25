//! End of a push, found in its bytes as they arrive: commands, options and pack. Keeps none of them but the current line.

use gix::hash::Kind as Format;

use crate::pack::PackEnd;
use crate::protocol::MAX_PACKET_BYTES;

/// Bytes of the length of a packet.
const LENGTH_BYTES: usize = 4;

/// Finds the end of what a client sends in a push, in constant memory: for a sender that keeps its side open until it has
/// the report. Judges nothing else.
#[derive(Debug)]
pub struct PushEnd {
    state: State,
    /// Format of the client's ids, which the first command names.
    format: Format,
    /// Largest size that an entry of the pack may declare, in bytes.
    object_bytes: u64,
    has_begun: bool,
    commands: u64,
    has_options: bool,
    has_pack: bool,
}

#[derive(Debug)]
enum State {
    /// Within the packets of a section.
    Packets(Section, Packet),
    Pack(Box<PackEnd>),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Commands,
    Options,
}

/// A packet of which some has come.
#[derive(Debug)]
enum Packet {
    /// Digits of the length.
    Length(Vec<u8>),
    /// Content, and the number of bytes that it lacks.
    Content(Vec<u8>, usize),
}

/// A push whose end cannot be found. The reason is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the end of the push cannot be found: {0}")]
pub struct Endless(&'static str);

impl PushEnd {
    /// At the first byte of a push, whose objects have `object_bytes` at most each.
    pub fn new(object_bytes: u64) -> Self {
        PushEnd {
            state: State::Packets(Section::Commands, Packet::Length(Vec::new())),
            format: Format::Sha1,
            object_bytes,
            has_begun: false,
            commands: 0,
            has_options: false,
            has_pack: false,
        }
    }

    /// Takes the next bytes. Returns how many of them belong to the push, once it ends with them; `None` if all of them do
    /// and more follow.
    ///
    /// # Errors
    /// The bytes are not those of a push. The receiver refuses them, too.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Endless> {
        let mut rest = bytes;
        loop {
            match &mut self.state {
                State::Ended => return Ok(Some(bytes.len() - rest.len())),
                State::Pack(pack) => {
                    let ended = pack.feed(rest).map_err(Endless)?;
                    return Ok(ended.map(|last| bytes.len() - rest.len() + last));
                }
                State::Packets(..) if rest.is_empty() => return Ok(None),
                State::Packets(section, packet) => {
                    let section = *section;
                    let (taken, complete) = packet.take(rest)?;
                    rest = &rest[taken..];
                    self.has_begun |= matches!(packet, Packet::Content(..)) || matches!(complete, Complete::Line(_));
                    match complete {
                        Complete::No => {}
                        Complete::Line(line) => self.line(section, &line)?,
                        Complete::Flush => self.end_section(section),
                    }
                }
            }
        }
    }

    /// Returns true once a line, or the beginning of one, has come: a client that has nothing to push sends none.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    fn line(&mut self, section: Section, line: &[u8]) -> Result<(), Endless> {
        if section == Section::Options || line.starts_with(b"shallow ") {
            return Ok(());
        }
        if line.starts_with(b"push-cert") {
            return Err(Endless("it has a certificate"));
        }
        let mut parts = line.splitn(2, |byte| *byte == 0);
        let command = parts.next().unwrap_or_default();
        if self.commands == 0 {
            self.capabilities(parts.next().unwrap_or_default())?;
        }
        self.commands += 1;
        let new = command.split(|byte| *byte == b' ').nth(1).ok_or(Endless("a command has no new value"))?;
        self.has_pack |= new.iter().any(|digit| *digit != b'0');
        Ok(())
    }

    fn capabilities(&mut self, words: &[u8]) -> Result<(), Endless> {
        let words = words.strip_suffix(b"\n").unwrap_or(words);
        for word in words.split(|byte| *byte == b' ') {
            if word == b"push-options" || word.starts_with(b"push-options=") {
                self.has_options = true;
            }
            if let Some(format) = word.strip_prefix(b"object-format=") {
                self.format = match format {
                    b"sha1" => Format::Sha1,
                    b"sha256" => Format::Sha256,
                    _ => return Err(Endless("it has an unknown object format")),
                };
            }
        }
        Ok(())
    }

    fn end_section(&mut self, section: Section) {
        let packets = |section| State::Packets(section, Packet::Length(Vec::new()));
        self.state = match section {
            Section::Commands if self.commands == 0 => State::Ended,
            Section::Commands if self.has_options => packets(Section::Options),
            _ if self.has_pack => State::Pack(Box::new(PackEnd::new(self.format, self.object_bytes))),
            _ => State::Ended,
        };
    }
}

/// End of a packet.
enum Complete {
    No,
    Line(Vec<u8>),
    Flush,
}

impl Packet {
    /// Takes some of the bytes, at least one of which there is; with the packet that ends with them.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, Complete), Endless> {
        let taken = match self {
            Packet::Length(digits) => {
                let taken = (LENGTH_BYTES - digits.len()).min(bytes.len());
                digits.extend_from_slice(&bytes[..taken]);
                if digits.len() < LENGTH_BYTES {
                    return Ok((taken, Complete::No));
                }
                match length(digits).ok_or(Endless("a packet has no length"))? {
                    0 => {
                        digits.clear();
                        return Ok((taken, Complete::Flush));
                    }
                    length @ LENGTH_BYTES..=MAX_PACKET_BYTES => {
                        *self = Packet::Content(Vec::new(), length - LENGTH_BYTES);
                        taken
                    }
                    _ => return Err(Endless("a packet has the length of none")),
                }
            }
            Packet::Content(content, left) => {
                let taken = (*left).min(bytes.len());
                content.extend_from_slice(&bytes[..taken]);
                *left -= taken;
                taken
            }
        };
        let Packet::Content(content, 0) = self else { return Ok((taken, Complete::No)) };
        let line = std::mem::take(content);
        *self = Packet::Length(Vec::new());
        Ok((taken, Complete::Line(line)))
    }
}

fn length(digits: &[u8]) -> Option<usize> {
    // `from_str_radix` accepts a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{PacketReader, PacketWriter};
    use crate::receive_pack::PushRequest;
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const ZERO: &str = "0000000000000000000000000000000000000000";
    /// A pack without objects.
    const PACK: &[u8] =
        b"PACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e";

    /// Packets of lines, with a flush for each `None`.
    fn packets(lines: &[Option<&str>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = PacketWriter::new(&mut bytes);
        for line in lines {
            match line {
                Some(line) => out.data(line.as_bytes()).unwrap(),
                None => out.flush_packet().unwrap(),
            }
        }
        bytes
    }

    /// Number of bytes up to the end, in pieces, and if a command had begun by then; `None` if there is no end.
    fn end_of(bytes: &[u8], piece: usize) -> Result<(Option<usize>, bool), Endless> {
        let mut end = PushEnd::new(1 << 20);
        let mut before = 0;
        for piece in bytes.chunks(piece) {
            if let Some(last) = end.feed(piece)? {
                return Ok((Some(before + last), end.has_begun()));
            }
            before += piece.len();
        }
        Ok((None, end.has_begun()))
    }

    #[test]
    fn the_end_follows_what_the_commands_announce() {
        let push = |capabilities: &str| format!("{ZERO} {A} refs/heads/a\0 report-status {capabilities}\n");
        let delete = |capabilities: &str| format!("{A} {ZERO} refs/heads/b\0 {capabilities}");
        let shallow = format!("shallow {A}");
        let sha256 = format!("{} {} refs/heads/a\0object-format=sha256", "0".repeat(64), "1".repeat(64));
        let plain = packets(&[Some(&push("side-band-64k")), None]);
        let long_pack = [PACK, &[7; 12]].concat();
        let cases: [(Vec<u8>, &[u8]); 8] = [
            (plain.clone(), PACK),
            (packets(&[Some(&push("push-options")), None, Some("ci.skip"), Some("0000"), None]), PACK),
            (packets(&[Some(&push("push-options")), None, None]), PACK),
            (packets(&[Some(&delete("push-options")), None, Some("why"), None]), b""),
            (packets(&[Some(&delete("")), None]), b""),
            (packets(&[Some(&delete("")), Some(&format!("{ZERO} {A} refs/x")), None]), PACK),
            (packets(&[Some(&shallow), Some(&push("object-format=sha1")), None]), PACK),
            (packets(&[Some(&sha256), None]), &long_pack),
        ];
        for (head, pack) in cases {
            let push = [&head, pack].concat();
            for piece in [1, 3, 50, 10_000] {
                assert_eq!(end_of(&push, piece), Ok((Some(push.len()), true)), "{}", String::from_utf8_lossy(&head));
                assert_eq!(end_of(&push[..push.len() - 1], piece), Ok((None, true)));
                assert_eq!(end_of(&[&push[..], b"more"].concat(), piece), Ok((Some(push.len()), true)));
            }
        }
        // A client that only looks.
        for piece in [1, 4] {
            assert_eq!(end_of(b"0000", piece), Ok((Some(4), false)));
            assert_eq!(end_of(b"000", piece), Ok((None, false)));
        }
        assert_eq!(end_of(&packets(&[Some(&shallow), None]), 9).unwrap().0, Some(4 + 48 + 4));
    }

    #[test]
    fn other_bytes_have_no_end() {
        let bad = format!("{ZERO} {A} refs/heads/a\0object-format=sha3");
        let bad = packets(&[Some(&bad), None]);
        let garbage = [packets(&[Some(&format!("{ZERO} {A} r")), None]), b"not a pack at all".to_vec()].concat();
        let cases: [&[u8]; 7] = [b"GET / HTTP/1.1", b"0001", b"0003", b"fff1", b"0005x", &bad, &garbage];
        for bytes in cases {
            assert!(end_of(bytes, 5).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
        assert!(end_of(&packets(&[Some("push-cert\0x")]), 5).is_err());
    }

    proptest! {
        /// What the receiver reads as a request without a pack ends there.
        #[test]
        fn the_end_is_where_the_receiver_finds_it(lines in proptest::collection::vec(proptest::option::of(prop_oneof![
            "[01]{40} [01]{40} [a-z/]{1,9}",
            "0{40} 0{40} [a-z]{1,9}\\x00 (push-options|atomic|agent=x push-options|object-format=sha1)",
            "1{40} 0{40} [a-z]{1,9}\\x00(push-options )?object-format=sha256",
            "shallow [01]{40}",
            "[ -~]{0,9}",
        ]), 0..8), piece in 1..99usize) {
            let lines: Vec<Option<&str>> = lines.iter().map(Option::as_deref).collect();
            let bytes = packets(&lines);
            let mut input = PacketReader::new(&bytes[..]);
            let read = PushRequest::read(&mut input, Format::Sha1);
            let rest = input.into_inner().len();
            let found = end_of(&bytes, piece);
            match read {
                Ok(Some(request)) if request.has_pack() => prop_assert!(found.is_err() || found.unwrap().0.is_none()),
                Ok(Some(_)) => prop_assert_eq!(found, Ok((Some(bytes.len() - rest), true))),
                Ok(None) if bytes.is_empty() => prop_assert_eq!(found, Ok((None, false))),
                Ok(None) => prop_assert_eq!(found.unwrap().0, Some(bytes.len() - rest)),
                Err(_) => {}
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = end_of(&bytes, 7);
        }
    }
}
