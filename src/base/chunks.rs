//! Blocking reader over an asynchronous stream of chunks.

use std::io::{self, BufRead, Read};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;

/// Chunks of a body in the order of their arrival.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Conditions under which a [`ChunkReader`] reads on and waits.
pub trait ChunkWait {
    /// Called before each chunk, arrived or not.
    ///
    /// # Errors
    /// The read ends with the error.
    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Waits on `runtime` for a chunk that has not arrived; `None` at the end of the chunks.
    ///
    /// # Errors
    /// The error of the chunk, or of a wait that takes too long.
    fn wait(
        &mut self,
        runtime: &Handle,
        chunk: impl Future<Output = Option<io::Result<Bytes>>>,
    ) -> io::Result<Option<Bytes>>;
}

/// Blocking reader over chunks. Must not be read on a thread that runs futures.
pub struct ChunkReader<W> {
    chunks: Chunks,
    /// The unread rest of the current chunk.
    chunk: Bytes,
    runtime: Handle,
    wait: W,
}

impl<W: ChunkWait> ChunkReader<W> {
    /// Reads `chunks`, which `runtime` drives.
    pub fn new(chunks: Chunks, runtime: Handle, wait: W) -> Self {
        ChunkReader { chunks: chunks.fuse().boxed(), chunk: Bytes::new(), runtime, wait }
    }

    /// Conditions of the waits from here on.
    pub fn wait_mut(&mut self) -> &mut W {
        &mut self.wait
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let ChunkReader { chunks, runtime, wait, .. } = self;
        wait.check()?;
        let ready = {
            let _inside = runtime.enter();
            chunks.next().now_or_never()
        };
        match ready {
            Some(chunk) => chunk.transpose(),
            None => wait.wait(runtime, chunks.next()),
        }
    }
}

impl<W: ChunkWait> BufRead for ChunkReader<W> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.chunk.is_empty() {
            match self.next()? {
                None => break,
                Some(chunk) => self.chunk = chunk,
            }
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.chunk.len(), "`consume` takes at most the bytes that `fill_buf` returned");
        let _ = self.chunk.split_to(count.min(self.chunk.len()));
    }
}

impl<W: ChunkWait> Read for ChunkReader<W> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the waits.
    #[derive(Default)]
    struct Counting(usize);

    impl ChunkWait for Counting {
        fn wait(
            &mut self,
            runtime: &Handle,
            chunk: impl Future<Output = Option<io::Result<Bytes>>>,
        ) -> io::Result<Option<Bytes>> {
            self.0 += 1;
            runtime.block_on(chunk).transpose()
        }
    }

    #[test]
    fn chunks_are_read_in_order_and_only_missing_ones_are_waited_for() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let arrived = ["one", "", "two"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let late = futures::stream::once(async {
            tokio::task::yield_now().await;
            Ok(Bytes::from_static(b"three"))
        });
        let chunks = futures::stream::iter(arrived).chain(late).boxed();
        let mut reader = ChunkReader::new(chunks, runtime.handle().clone(), Counting::default());
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!((read.as_str(), reader.wait_mut().0), ("onetwothree", 1));
        // The end stays the end.
        assert_eq!(reader.fill_buf().unwrap(), b"");
    }

    #[test]
    fn a_failed_chunk_fails_the_read() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chunks = [Ok(Bytes::from_static(b"one")), Err(io::ErrorKind::ConnectionReset.into())];
        let chunks = futures::stream::iter(chunks).boxed();
        let mut reader = ChunkReader::new(chunks, runtime.handle().clone(), Counting::default());
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!((error.kind(), read.as_slice()), (io::ErrorKind::ConnectionReset, &b"one"[..]));
    }
}
