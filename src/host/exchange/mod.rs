//! Exchanges: requests that are admitted and then answered on a thread of their own, with blocking bodies.
//!
//! The threads of the runtime serve stores and tables, and slow clients must not block them.

pub mod dialogue;
pub mod request_body;
pub mod response_body;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use tokio::runtime::Handle;

use crate::admission::{Admission, AdmissionMetrics, ComputePermit, Slot};
use crate::request::refusal::Refusal;
use gitferry_base::chunks::Chunks;
use gitferry_config::HostLimits;
use gitferry_git::limits::WALK_STACK_BYTES;
use request_body::{LazyReader, RequestBody};
use response_body::Sender;

/// Admission of Git requests, and the idle timeouts of their bodies.
#[derive(Debug)]
pub struct Exchanges {
    admission: Admission,
    request_silence: Duration,
    response_silence: Duration,
}

/// An admitted request on its thread.
pub struct Exchange {
    /// Body of the request, decompressed. Releases `compute` while a read waits for the client.
    pub input: Box<dyn RequestBody>,
    /// Body of the response. Holds `compute` unless [`Sender::release_while_waiting`] is called.
    pub output: Sender,
    /// Permit of this thread to compute.
    pub compute: Arc<ComputePermit>,
    /// Runtime that drives the requests of the region.
    pub runtime: Handle,
}

impl Exchanges {
    /// Starts without requests.
    pub fn new(limits: &HostLimits, metrics: AdmissionMetrics) -> Arc<Self> {
        Arc::new(Exchanges {
            admission: Admission::new(limits, metrics),
            request_silence: limits.request_silence,
            response_silence: limits.response_silence,
        })
    }

    /// Admits a request and waits for the first bytes of its body. The client is asked for the body (`100 Continue`)
    /// only now.
    pub async fn admit(&self, input: Body) -> Result<(Slot, Chunks), Refusal> {
        let slot = self.admission.admit().await?;
        let chunks = request_body::chunks(input, self.request_silence, Some(slot.clone()));
        Ok((slot, request_body::await_first(chunks).await?))
    }

    /// Admits a request whose body is read while its response is written. Returns the body of the response, which
    /// `work` writes on a thread of its own. A compressed request fails after `max_inflated` bytes.
    pub async fn run(
        &self,
        headers: &HeaderMap,
        input: Body,
        max_inflated: u64,
        work: impl FnOnce(Exchange) + Send + 'static,
    ) -> Result<Body, Refusal> {
        let (slot, chunks) = self.admit(input).await?;
        let open = request_body::reader(headers, chunks, &Handle::current(), max_inflated);
        self.start(slot, open.map_err(Refusal::BadRequest)?, work)
    }

    /// Admits a conversation in which the server speaks first, and whose requests all come through `input`, which is not
    /// compressed. Otherwise as [`Exchanges::run`].
    pub async fn converse(&self, input: Body, work: impl FnOnce(Exchange) + Send + 'static) -> Result<Body, Refusal> {
        let slot = self.admit_conversation().await?;
        self.start_conversation(slot, input, work)
    }

    /// Admits a conversation.
    pub async fn admit_conversation(&self) -> Result<Slot, Refusal> {
        Ok(self.admission.admit().await?)
    }

    /// Starts the thread of an admitted conversation, as [`Exchanges::converse`] does.
    pub fn start_conversation(
        &self,
        slot: Slot,
        input: Body,
        work: impl FnOnce(Exchange) + Send + 'static,
    ) -> Result<Body, Refusal> {
        let chunks = request_body::chunks(input, self.request_silence, Some(slot.clone()));
        let open = request_body::plain_reader(chunks, &Handle::current());
        self.start(slot, open, work)
    }

    /// Starts the thread of an admitted request.
    fn start(
        &self,
        slot: Slot,
        open: LazyReader,
        work: impl FnOnce(Exchange) + Send + 'static,
    ) -> Result<Body, Refusal> {
        let runtime = Handle::current();
        let (output, response) = response_body::channel(self.response_silence, &runtime);
        spawn_request_thread(move || {
            let compute = slot.begin_compute(&runtime);
            let mut input = open();
            input.release_while_waiting(compute.clone());
            work(Exchange { input, output, compute, runtime });
            drop(slot);
        })?;
        Ok(response)
    }

    /// Admits a request without a body. Returns the body of the response, which `write` writes on a thread of its own.
    pub async fn respond(
        &self,
        write: impl FnOnce(&mut Sender) -> io::Result<()> + Send + 'static,
    ) -> Result<Body, Refusal> {
        let slot = self.admission.admit().await?;
        let runtime = Handle::current();
        let (mut output, response) = response_body::channel(self.response_silence, &runtime);
        spawn_request_thread(move || {
            output.release_while_waiting(slot.begin_compute(&runtime));
            match write(&mut output) {
                // The response is complete; a client that disconnects now loses only its own copy.
                Ok(()) => _ = output.finish(),
                Err(error) => {
                    tracing::debug!(%error, "a response ended early");
                    output.fail(error.to_string());
                }
            }
        })?;
        Ok(response)
    }

    /// Waits until no request is in progress.
    pub async fn wait_until_idle(&self) {
        self.admission.wait_until_idle().await;
    }
}

/// Runs the work of a request on a thread of its own.
fn spawn_request_thread(work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
    let span = tracing::Span::current();
    let thread = std::thread::Builder::new().name("git-request".into()).stack_size(WALK_STACK_BYTES);
    match thread.spawn(move || span.in_scope(work)) {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::error!(%error, "the thread of a request could not be started; the request is answered 503");
            Err(Refusal::Busy)
        }
    }
}
