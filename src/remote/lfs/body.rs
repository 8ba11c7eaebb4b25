//! LFS objects as verified byte streams.

use std::io;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::error::LfsError;
use gitferry_git::lfs::{LfsOid, Pointer};

/// Bytes of an object, chunk by chunk. Errors wrap an [`LfsError`] or the error of a store.
pub type LfsBody = BoxStream<'static, io::Result<Bytes>>;

struct Verifier {
    body: LfsBody,
    pointer: Pointer,
    /// `None` once the whole object has been verified.
    sha256: Option<Sha256>,
    bytes: u64,
    /// Last chunk received, held back until another arrives or the whole object is verified.
    held: Option<Bytes>,
}

/// Verifies the size and SHA-256 of a stream against its pointer.
///
/// The last chunk is withheld until the verification succeeds, so a consumer cannot forward a damaged object that looks
/// complete.
pub fn checked(body: LfsBody, pointer: Pointer) -> LfsBody {
    let verifier = Verifier { body, pointer, sha256: Some(Sha256::new()), bytes: 0, held: None };
    stream::try_unfold(
        verifier,
        |mut verifier| async move { Ok(verifier.next().await?.map(|piece| (piece, verifier))) },
    )
    .boxed()
}

impl Verifier {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(sha256) = &mut self.sha256 else { return Ok(None) };
            let Some(piece) = self.body.try_next().await? else {
                let Some(sha256) = self.sha256.take() else { return Ok(None) };
                self.verify(LfsOid::of(sha256))?;
                return Ok(self.held.take());
            };
            self.bytes += piece.len() as u64;
            if self.bytes > self.pointer.size {
                return Err(self.damaged(format!("it has more than {} bytes", self.pointer.size)));
            }
            sha256.update(&piece);
            if piece.is_empty() {
                continue;
            }
            if let Some(before) = self.held.replace(piece) {
                return Ok(Some(before));
            }
        }
    }

    fn verify(&self, found: LfsOid) -> io::Result<()> {
        if self.bytes != self.pointer.size {
            return Err(self.damaged(format!("it has {} bytes, not {}", self.bytes, self.pointer.size)));
        }
        if found != self.pointer.oid {
            return Err(self.damaged(format!("its bytes are those of {found}")));
        }
        Ok(())
    }

    fn damaged(&self, reason: String) -> io::Error {
        LfsError::Damaged { oid: self.pointer.oid, reason }.into_io()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(all: &[&'static [u8]]) -> LfsBody {
        let all: Vec<io::Result<Bytes>> = all.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        stream::iter(all).boxed()
    }

    fn pointer(content: &[u8]) -> Pointer {
        Pointer { oid: LfsOid(Sha256::digest(content).into()), size: content.len() as u64 }
    }

    #[tokio::test]
    async fn whole_objects_pass() {
        for all in [&[&b"some"[..], b"", b" content"][..], &[b"some content"], &[b"some conten", b"t", b""]] {
            let passed: Vec<Bytes> = checked(pieces(all), pointer(b"some content")).try_collect().await.unwrap();
            assert_eq!(passed.concat(), b"some content");
        }
    }

    #[tokio::test]
    async fn damaged_ones_never_end() {
        for all in
            [&[&b"some"[..], b" cantent"][..], &[b"some conten"], &[b"some content", b"!"], &[], &[b"some content!"]]
        {
            let mut body = checked(pieces(all), pointer(b"some content"));
            let mut passed = 0;
            let error = loop {
                match body.next().await {
                    Some(Ok(piece)) => passed += piece.len(),
                    Some(Err(error)) => break error,
                    None => panic!("{all:?} passed"),
                }
            };
            assert!(passed < 12, "{all:?}");
            let error = error.downcast::<LfsError>().unwrap();
            assert_eq!(error.kind(), gitferry_base::Kind::Corrupt);
        }
    }
}
