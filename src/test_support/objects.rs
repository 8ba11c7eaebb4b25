//! Decorators of an [`ObjectStore`]: faults, a meter, a delay. For tests and benchmarks.
//!
//! They differ only in what happens around a call, which is a [`Layer`]; the forwarding is written once.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempPath;

use crate::faults::{Failure, Faults, Meter, Operation, When};
use gitferry_store::aws::KeyFault;
use gitferry_store::objects::{Crc64, ListPage, ObjectError, ObjectMeta, ObjectStore, Part, Reencrypted, Upload};

/// Fails the calls that its [`Faults`] choose.
pub type FaultyStore = Decorated<Arc<Faults>>;
/// Counts calls and bytes.
pub type MeteredStore = Decorated<Arc<Meter>>;
/// Adds a fixed delay before every call: a store in a region far away.
pub type DelayedStore = Decorated<Duration>;

/// Hides that objects are files of this machine, as those of a store elsewhere are none.
pub type RemoteStore = Decorated<Remote>;

/// See [`RemoteStore`].
#[derive(Clone, Copy, Debug)]
pub struct Remote;

impl Layer for Remote {
    fn shows_files(&self) -> bool {
        false
    }
}

/// Says of the objects whose keys contain a text that they exist already, and has none of them.
pub type LosingStore = Decorated<Losing>;

/// See [`LosingStore`].
#[derive(Clone, Copy, Debug)]
pub struct Losing(pub &'static str);

impl Layer for Losing {
    async fn before(&self, call: &Call<'_>) -> Result<(), ObjectError> {
        if call.operation == Operation::ObjectPutFile && call.key.contains(self.0) {
            return Err(ObjectError::Exists { store: call.store.into(), key: call.key.into() });
        }
        Ok(())
    }
}

/// Has a KMS key that cannot be used: every read and every new object fails for this reason.
pub type KeylessStore = Decorated<KeyFault>;

impl Layer for KeyFault {
    fn shows_files(&self) -> bool {
        false
    }

    async fn before(&self, call: &Call<'_>) -> Result<(), ObjectError> {
        use Operation as O;
        if matches!(call.operation, O::ObjectPut | O::ObjectPutFile | O::ObjectGet | O::ObjectBegin) {
            let (store, key) = (call.store.to_owned(), call.key.to_owned());
            return Err(ObjectError::KmsKey { store, key, fault: *self, reason: "KMS says so".into() });
        }
        Ok(())
    }
}

/// One call on its way to the store.
#[derive(Debug)]
pub struct Call<'a> {
    operation: Operation,
    store: &'a str,
    key: &'a str,
    /// Bytes sent along.
    written: u64,
}

/// A decorator's part in a call: before the call, or around it.
pub trait Layer: fmt::Debug + Send + Sync {
    /// Returns true if the store's files may be used where they lie.
    fn shows_files(&self) -> bool {
        true
    }

    /// Delays a call, or fails it before it reaches the store.
    fn before(&self, _call: &Call<'_>) -> impl Future<Output = Result<(), ObjectError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Makes a call, or fails it. `read` returns the number of bytes in an answer.
    fn around<T: Send>(
        &self,
        call: Call<'_>,
        inner: impl Future<Output = Result<T, ObjectError>> + Send,
        _read: impl Fn(&T) -> u64 + Send,
    ) -> impl Future<Output = Result<T, ObjectError>> + Send {
        async move {
            self.before(&call).await?;
            inner.await
        }
    }
}

impl Layer for Arc<Faults> {
    async fn around<T: Send>(
        &self,
        call: Call<'_>,
        inner: impl Future<Output = Result<T, ObjectError>> + Send,
        _read: impl Fn(&T) -> u64 + Send,
    ) -> Result<T, ObjectError> {
        let Some(when) = self.next(call.operation) else { return inner.await };
        if when == When::After {
            // A refusal is lost like any other answer.
            let _ = inner.await;
        }
        let (store, key) = (call.store.to_owned(), call.key.to_owned());
        let reason = format!("injected fault: {:?} failed {when:?}", call.operation);
        Err(match self.failure() {
            _ if call.operation.is_write() && when == When::After => {
                ObjectError::Unavailable { store, key, reason, ambiguous: true }
            }
            Failure::Unclear => ObjectError::Unavailable { store, key, reason, ambiguous: call.operation.is_write() },
            Failure::Busy => ObjectError::Unavailable { store, key, reason, ambiguous: false },
            Failure::Denied => ObjectError::Environment { store, key, reason },
            Failure::Damaged => ObjectError::Corrupt { store, key, reason },
        })
    }
}

impl Layer for Arc<Meter> {
    async fn around<T: Send>(
        &self,
        call: Call<'_>,
        inner: impl Future<Output = Result<T, ObjectError>> + Send,
        read: impl Fn(&T) -> u64 + Send,
    ) -> Result<T, ObjectError> {
        let result = inner.await;
        self.count(call.operation, result.as_ref().ok().map(|answer| (call.written, read(answer))));
        result
    }
}

impl Layer for Duration {
    async fn before(&self, _call: &Call<'_>) -> Result<(), ObjectError> {
        tokio::time::sleep(*self).await;
        Ok(())
    }
}

/// An object store with a [`Layer`] before it.
#[derive(Debug)]
pub struct Decorated<L> {
    inner: Arc<dyn ObjectStore>,
    layer: L,
}

impl<L: Layer> Decorated<L> {
    /// Puts a layer before a store.
    pub fn new(inner: Arc<dyn ObjectStore>, layer: L) -> Self {
        Decorated { inner, layer }
    }

    fn call<'a>(&'a self, operation: Operation, key: &'a str, written: u64) -> Call<'a> {
        Call { operation, store: self.inner.name(), key, written }
    }
}

/// For answers that carry no bytes worth counting.
fn nothing<T>(_: &T) -> u64 {
    0
}

#[async_trait]
impl<L: Layer> ObjectStore for Decorated<L> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn spool_dir(&self) -> Option<PathBuf> {
        self.inner.spool_dir()
    }

    async fn remove_stale(&self, temporary: Duration, uploads: Timestamp) -> Result<u64, ObjectError> {
        self.inner.remove_stale(temporary, uploads).await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.inner.local_path(key).filter(|_| self.layer.shows_files())
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectMeta, ObjectError> {
        let call = self.call(Operation::ObjectPut, key, bytes.len() as u64);
        self.layer.around(call, self.inner.put(key, bytes), nothing).await
    }

    async fn put_file(&self, key: &str, file: TempPath) -> Result<ObjectMeta, ObjectError> {
        let size = file.metadata().map_or(0, |m| m.len());
        let call = self.call(Operation::ObjectPutFile, key, size);
        self.layer.around(call, self.inner.put_file(key, file), nothing).await
    }

    async fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let call = self.call(Operation::ObjectGet, key, 0);
        self.layer.around(call, self.inner.get(key, range), |bytes| bytes.len() as u64).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectError> {
        let call = self.call(Operation::ObjectHead, key, 0);
        self.layer.around(call, self.inner.head(key), nothing).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<ListPage, ObjectError> {
        let call = self.call(Operation::ObjectList, prefix, 0);
        self.layer.around(call, self.inner.list(prefix, after, limit), nothing).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let call = self.call(Operation::ObjectDelete, key, 0);
        self.layer.around(call, self.inner.delete(key), nothing).await
    }

    async fn begin(&self, key: &str) -> Result<Upload, ObjectError> {
        let call = self.call(Operation::ObjectBegin, key, 0);
        self.layer.around(call, self.inner.begin(key), nothing).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> Result<Part, ObjectError> {
        let call = self.call(Operation::ObjectPutPart, &upload.key, bytes.len() as u64);
        self.layer.around(call, self.inner.put_part(upload, number, bytes), nothing).await
    }

    async fn parts(&self, upload: &Upload) -> Result<Vec<Part>, ObjectError> {
        let call = self.call(Operation::ObjectParts, &upload.key, 0);
        self.layer.around(call, self.inner.parts(upload), nothing).await
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[Part],
        size: u64,
        crc64: Crc64,
    ) -> Result<ObjectMeta, ObjectError> {
        let call = self.call(Operation::ObjectComplete, &upload.key, 0);
        self.layer.around(call, self.inner.complete(upload, parts, size, crc64), nothing).await
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ObjectError> {
        let call = self.call(Operation::ObjectAbort, &upload.key, 0);
        self.layer.around(call, self.inner.abort(upload), nothing).await
    }

    async fn kms_key(&self, key: &str) -> Result<Option<String>, ObjectError> {
        self.inner.kms_key(key).await
    }

    async fn reencrypt(&self, key: &str) -> Result<Reencrypted, ObjectError> {
        let call = self.call(Operation::ObjectCopyFrom, key, 0);
        self.layer.around(call, self.inner.reencrypt(key), nothing).await
    }

    async fn copy_from(
        &self,
        source: &dyn ObjectStore,
        source_key: &str,
        key: &str,
        size: u64,
        crc64: Crc64,
    ) -> Result<Option<ObjectMeta>, ObjectError> {
        let call = self.call(Operation::ObjectCopyFrom, key, 0);
        self.layer.around(call, self.inner.copy_from(source, source_key, key, size, crc64), nothing).await
    }
}
