//! What a server says, as it comes, for blocking readers.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;

/// The pieces of what a server says, as a blocking reader that fails when nothing comes for too long. To be read on
/// threads that run no futures.
pub struct Pieces {
    stream: BoxStream<'static, io::Result<Bytes>>,
    piece: Bytes,
    silence: Duration,
    runtime: Handle,
}

impl Pieces {
    pub fn new(stream: BoxStream<'static, io::Result<Bytes>>, silence: Duration, runtime: Handle) -> Self {
        Pieces { stream: stream.fuse().boxed(), piece: Bytes::new(), silence, runtime }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let (stream, silence) = (&mut self.stream, self.silence);
        let ready = {
            let _inside = self.runtime.enter();
            stream.next().now_or_never()
        };
        let next =
            match ready {
                Some(next) => next,
                // Within the runtime: that is where timers are made.
                None => self.runtime.block_on(async { tokio::time::timeout(silence, stream.next()).await }).map_err(
                    |_| io::Error::new(io::ErrorKind::TimedOut, format!("the server said nothing for {silence:?}")),
                )?,
            };
        next.transpose()
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.next()? {
                None => break,
                Some(piece) => self.piece = piece,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        let _ = self.piece.split_to(count.min(self.piece.len()));
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}
