//! Blocking reader of a server's answer, with an idle timeout and a deadline.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

use gitferry_base::chunks::{ChunkReader, ChunkWait, Chunks};
use gitferry_git::client::Deadline;

/// Blocking reader of a server's answer. Must not be read on a thread that runs futures.
pub type AnswerReader = ChunkReader<AnswerWait>;

/// Reads the answer that arrives as `chunks`. Reads fail with [`io::ErrorKind::TimedOut`] after `idle_timeout` without a
/// chunk, or once the deadline has passed.
pub fn answer_reader(chunks: Chunks, idle_timeout: Duration, deadline: Deadline, runtime: Handle) -> AnswerReader {
    ChunkReader::new(chunks, runtime, AnswerWait { idle_timeout, deadline })
}

/// Limits of the waits for an answer.
pub struct AnswerWait {
    idle_timeout: Duration,
    deadline: Deadline,
}

impl ChunkWait for AnswerWait {
    fn check(&mut self) -> io::Result<()> {
        if self.deadline.left() == Some(Duration::ZERO) {
            return Err(late("the server did not finish its answer before the deadline".into()));
        }
        Ok(())
    }

    fn wait(
        &mut self,
        runtime: &Handle,
        chunk: impl Future<Output = Option<io::Result<Bytes>>>,
    ) -> io::Result<Option<Bytes>> {
        let limit = self.deadline.left().map_or(self.idle_timeout, |left| left.min(self.idle_timeout));
        // Timers can only be created inside the runtime.
        let next = runtime.block_on(async { tokio::time::timeout(limit, chunk).await });
        next.map_err(|_| late(format!("the server sent nothing for {limit:?}")))?.transpose()
    }
}

fn late(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

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
                answer_reader(stream, Duration::from_secs(3600), deadline.clone(), runtime.handle().clone());
            deadline.set(Some(Duration::from_millis(20)));
            let error = io::copy(&mut pieces, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }
}
