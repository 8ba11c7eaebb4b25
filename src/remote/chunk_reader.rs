//! Blocking reader over an asynchronous stream of chunks.

use std::io::{self, BufRead, Read};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;

use gitferry_git::client::Deadline;

/// Blocking reader over the chunks that a server sends. Reads fail with [`io::ErrorKind::TimedOut`] after
/// `idle_timeout` without a chunk, or once the deadline has passed. Must not be read on a thread that runs futures.
pub struct ChunkReader {
    stream: BoxStream<'static, io::Result<Bytes>>,
    piece: Bytes,
    idle_timeout: Duration,
    deadline: Deadline,
    runtime: Handle,
}

impl ChunkReader {
    pub fn new(
        stream: BoxStream<'static, io::Result<Bytes>>,
        idle_timeout: Duration,
        deadline: Deadline,
        runtime: Handle,
    ) -> Self {
        ChunkReader { stream: stream.fuse().boxed(), piece: Bytes::new(), idle_timeout, deadline, runtime }
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let late = |text: String| io::Error::new(io::ErrorKind::TimedOut, text);
        let left = self.deadline.left();
        if left == Some(Duration::ZERO) {
            return Err(late("the server did not finish its answer before the deadline".into()));
        }
        let idle_timeout = self.idle_timeout.min(left.unwrap_or(self.idle_timeout));
        let stream = &mut self.stream;
        let ready = {
            let _inside = self.runtime.enter();
            stream.next().now_or_never()
        };
        let next = match ready {
            Some(next) => next,
            // Timers can only be created inside the runtime.
            None => self
                .runtime
                .block_on(async { tokio::time::timeout(idle_timeout, stream.next()).await })
                .map_err(|_| late(format!("the server sent nothing for {idle_timeout:?}")))?,
        };
        next.transpose()
    }
}

impl BufRead for ChunkReader {
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

impl Read for ChunkReader {
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
            let mut pieces =
                ChunkReader::new(stream, Duration::from_secs(3600), deadline.clone(), runtime.handle().clone());
            deadline.set(Some(Duration::from_millis(20)));
            let error = io::copy(&mut pieces, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
