//! What a server says, as it comes, for blocking readers.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;

use gitferry_git::client::Deadline;

/// The pieces of what a server says, as a blocking reader that fails when nothing comes for too long. To be read on
/// threads that run no futures.
pub struct Pieces {
    stream: BoxStream<'static, io::Result<Bytes>>,
    piece: Bytes,
    silence: Duration,
    deadline: Deadline,
    runtime: Handle,
}

impl Pieces {
    pub fn new(
        stream: BoxStream<'static, io::Result<Bytes>>,
        silence: Duration,
        deadline: Deadline,
        runtime: Handle,
    ) -> Self {
        Pieces { stream: stream.fuse().boxed(), piece: Bytes::new(), silence, deadline, runtime }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let late = |text: String| io::Error::new(io::ErrorKind::TimedOut, text);
        let left = self.deadline.left();
        if left == Some(Duration::ZERO) {
            return Err(late("the server did not come to an end in time".into()));
        }
        let (stream, silence) = (&mut self.stream, self.silence.min(left.unwrap_or(self.silence)));
        let ready = {
            let _inside = self.runtime.enter();
            stream.next().now_or_never()
        };
        let next = match ready {
            Some(next) => next,
            // Within the runtime: that is where timers are made.
            None => self
                .runtime
                .block_on(async { tokio::time::timeout(silence, stream.next()).await })
                .map_err(|_| late(format!("the server said nothing for {silence:?}")))?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_do_not_count_for_ever() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let now = futures::stream::repeat_with(|| Ok(Bytes::from_static(b"0005\x02")));
        let seldom = now.clone().then(|piece| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            piece
        });
        let silent = futures::stream::pending();
        for stream in [now.boxed(), seldom.boxed(), silent.boxed()] {
            let deadline = Deadline::default();
            let mut pieces = Pieces::new(stream, Duration::from_secs(3600), deadline.clone(), runtime.handle().clone());
            deadline.set(Some(Duration::from_millis(20)));
            let error = io::copy(&mut pieces, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
