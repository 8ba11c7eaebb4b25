//! Blocking reader of stored objects.

use std::io::{Error, ErrorKind, Read, Result};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;

use super::{ObjectError, ObjectStore};

/// Bytes per request to the store.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Blocking reader of one object. For threads that may block (`spawn_blocking`) only.
pub struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    key: String,
    offset: u64,
    chunk: Bytes,
}

impl ObjectReader {
    /// Creates a reader at the beginning of `key`. Sends no request yet.
    pub fn new(store: Arc<dyn ObjectStore>, key: impl Into<String>, runtime: Handle) -> Self {
        ObjectReader { store, runtime, key: key.into(), offset: 0, chunk: Bytes::new() }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if self.chunk.is_empty() {
            let range = self.offset..self.offset + CHUNK_BYTES;
            self.chunk = self.runtime.block_on(self.store.get(&self.key, range)).map_err(to_io)?;
            self.offset += self.chunk.len() as u64;
        }
        let count = self.chunk.len().min(out.len());
        out[..count].copy_from_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        Ok(count)
    }
}

fn to_io(error: ObjectError) -> Error {
    let kind = match error {
        ObjectError::NotFound { .. } => ErrorKind::NotFound,
        ObjectError::Corrupt { .. } => ErrorKind::InvalidData,
        _ => ErrorKind::Other,
    };
    Error::new(kind, error)
}
