//! Packets (gitprotocol-common, `pkt-line`) of the input of a command, as they arrive.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use bytes::BytesMut;
use futures::StreamExt as _;
use gitferry_git::protocol::MAX_PACKET_BYTES;

/// Bytes of the length of a packet.
const LENGTH_BYTES: usize = 4;

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// Packet with content.
    Data(Bytes),
    /// `0000`.
    Flush,
    /// `0001`.
    Delimiter,
}

/// The input of a command cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    /// The client is idle for too long.
    #[error("the client sent nothing within the idle timeout")]
    Silent,
    /// The input ends within a packet, or where a packet has to follow.
    #[error("the input of the client breaks off")]
    BrokenOff,
    /// The input is something else.
    #[error("the input of the client is no sequence of packets")]
    Malformed,
}

/// Reads packets. Holds one chunk of input and one packet at most.
pub(super) struct Packets {
    input: BodyDataStream,
    buffer: BytesMut,
    /// Longest wait for the next bytes of a packet.
    silence: Duration,
}

impl Packets {
    /// The packets of `input`, whose bytes arrive without a pause longer than `silence`.
    pub(super) fn new(input: Body, silence: Duration) -> Self {
        Packets { input: input.into_data_stream(), buffer: BytesMut::new(), silence }
    }

    /// The next packet, which may take `pause` to begin; `None` at the end of the input.
    ///
    /// # Errors
    /// No packet follows.
    pub(super) async fn next_after(&mut self, pause: Duration) -> Result<Option<Packet>, PacketError> {
        if !self.fill(LENGTH_BYTES, pause).await? {
            return Ok(None);
        }
        let length = self.buffer.split_to(LENGTH_BYTES);
        let length = std::str::from_utf8(&length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let length = length.and_then(|text| usize::from_str_radix(text, 16).ok());
        match length.ok_or(PacketError::Malformed)? {
            0 => Ok(Some(Packet::Flush)),
            1 => Ok(Some(Packet::Delimiter)),
            length @ LENGTH_BYTES..=MAX_PACKET_BYTES => {
                let content = length - LENGTH_BYTES;
                if !self.fill(content, self.silence).await? {
                    return Err(PacketError::BrokenOff);
                }
                Ok(Some(Packet::Data(self.buffer.split_to(content).freeze())))
            }
            _ => Err(PacketError::Malformed),
        }
    }

    /// The next packet of a request that has begun.
    ///
    /// # Errors
    /// No packet follows, or the input ends.
    pub(super) async fn next(&mut self) -> Result<Packet, PacketError> {
        self.next_after(self.silence).await?.ok_or(PacketError::BrokenOff)
    }

    /// Waits until `count` bytes are there. Returns false if the input ends before the first of them.
    async fn fill(&mut self, count: usize, pause: Duration) -> Result<bool, PacketError> {
        let mut wait = pause;
        while self.buffer.len() < count {
            let chunk = tokio::time::timeout(wait, self.input.next()).await.map_err(|_| PacketError::Silent)?;
            match chunk {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                None if self.buffer.is_empty() => return Ok(false),
                Some(Err(_)) | None => return Err(PacketError::BrokenOff),
            }
            wait = self.silence;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use std::io;

    fn packets(chunks: &[&'static str]) -> Packets {
        let chunks: Vec<io::Result<&'static str>> = chunks.iter().copied().map(Ok).collect();
        Packets::new(Body::from_stream(stream::iter(chunks)), Duration::from_secs(60))
    }

    #[tokio::test]
    async fn packets_are_read_however_they_are_cut() {
        for chunks in [&["0006hi0000", "00010005x"][..], &["0", "006", "h", "i00000", "001", "0005x"]] {
            let mut packets = packets(chunks);
            assert_eq!(packets.next().await, Ok(Packet::Data("hi".into())));
            assert_eq!(packets.next().await, Ok(Packet::Flush));
            assert_eq!(packets.next().await, Ok(Packet::Delimiter));
            assert_eq!(packets.next().await, Ok(Packet::Data("x".into())));
            assert_eq!(packets.next_after(Duration::from_secs(1)).await, Ok(None));
        }
        assert_eq!(packets(&["0004"]).next().await, Ok(Packet::Data(Bytes::new())));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_packet_is_named() {
        for (input, error) in [
            ("", PacketError::BrokenOff),
            ("000", PacketError::BrokenOff),
            ("0006h", PacketError::BrokenOff),
            ("0006", PacketError::BrokenOff),
            ("0002", PacketError::Malformed),
            ("0003", PacketError::Malformed),
            ("fff1", PacketError::Malformed),
            ("+005", PacketError::Malformed),
            ("GET ", PacketError::Malformed),
        ] {
            assert_eq!(packets(&[input]).next().await, Err(error), "{input}");
        }
        let silent = Body::from_stream(stream::pending::<io::Result<&'static str>>());
        let mut silent = Packets::new(silent, Duration::from_secs(60));
        assert_eq!(silent.next().await, Err(PacketError::Silent));
        assert_eq!(silent.next_after(Duration::from_secs(3600)).await, Err(PacketError::Silent));
    }
}
