//! [`Entry`]: one request, from its first byte to its record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::action::{Action, Caller, References};
use crate::identity::UserIdentity;
use crate::queue::Place;
use crate::record::{Facts, Outcome, code_of_status};
use crate::trail::{AuditTrail, Trail};

/// One request. Clones are about the same request, whose record is queued when the last one is dropped.
#[derive(Clone, Debug, Default)]
pub struct Entry(Option<Arc<Open>>);

/// A request whose record has not been queued.
#[derive(Debug)]
struct Open {
    trail: Arc<Trail>,
    state: Mutex<State>,
    received: AtomicU64,
    sent: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    facts: Facts,
    places: Vec<Option<Place>>,
    is_proven: bool,
    /// True for a request that needs no record.
    is_dispensed: bool,
    /// True once the action has succeeded, whether its response arrives or not.
    is_settled: bool,
}

impl State {
    fn refuse(&mut self, code: &str, message: &str) {
        if !matches!(self.facts.outcome, Outcome::Refused { .. }) {
            self.facts.outcome = Outcome::Refused { code: code.to_owned(), message: message.to_owned() };
        }
    }

    fn succeed(&mut self) {
        if self.facts.outcome == Outcome::Unknown {
            self.facts.outcome = Outcome::Success;
        }
    }
}

impl AuditTrail {
    /// Begins the entry of a request. Every front door calls this once for each request, before anything can refuse it.
    pub fn begin(&self) -> Entry {
        let open = |trail: &Arc<Trail>| {
            let state = Mutex::default();
            Arc::new(Open { trail: trail.clone(), state, received: AtomicU64::new(0), sent: AtomicU64::new(0) })
        };
        Entry(self.trail().map(open))
    }
}

impl Entry {
    fn update(&self, update: impl FnOnce(&mut State)) {
        if let Some(open) = &self.0 {
            update(&mut open.state.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Records the client.
    pub fn caller(&self, caller: Caller) {
        self.update(|state| state.facts.caller = caller);
    }

    /// Records the account of the host, whose repositories it serves.
    pub fn account(&self, account: Option<String>) {
        self.update(|state| state.facts.account = account);
    }

    /// Records the action that the client asks for.
    pub fn action(&self, action: Action) {
        self.update(|state| state.facts.action = action);
    }

    /// Records the protocol of the request, if it is another one than the caller's.
    pub fn protocol(&self, protocol: crate::Protocol) {
        self.update(|state| state.facts.caller.protocol = protocol);
    }

    /// Records the address of a client whose request comes by way of another host.
    pub fn source(&self, address: std::net::IpAddr) {
        self.update(|state| state.facts.caller.source = Some(address));
    }

    /// Records the repository, by its valid name.
    pub fn repository(&self, name: &str) {
        self.update(|state| state.facts.repository = Some(name.to_owned()));
    }

    /// Records the id of the repository.
    pub fn repository_id(&self, id: impl ToString) {
        self.update(|state| state.facts.repository_id = Some(id.to_string()));
    }

    /// Records the name that an unproven client gives; see [`UserIdentity::claimed`].
    pub fn claimed(&self, user: &str) {
        self.update(|state| state.facts.identity = UserIdentity::claimed(user));
    }

    /// Records the proven principal, and reserves the place of the record. Waits at most
    /// [`MAX_WAIT`](crate::MAX_WAIT) while a queue is full.
    pub async fn authenticated(&self, identity: &UserIdentity) {
        let Some(open) = &self.0 else { return };
        let places = open.trail.reserve().await;
        self.update(|state| {
            state.facts.identity = identity.clone();
            state.places = places;
            state.is_proven = true;
        });
    }

    /// Records the refs of a push.
    pub fn references(&self, references: References) {
        self.update(|state| state.facts.references = Some(references));
    }

    /// Records a parameter of the request (`requestParameters`). Values of members with the name of a secret are hidden.
    pub fn parameter(&self, name: &str, value: impl Into<Value>) {
        self.update(|state| _ = state.facts.parameters.insert(name.to_owned(), value.into()));
    }

    /// Records the answer of a changing action (`responseElements`), without secrets.
    pub fn response(&self, elements: Value) {
        self.update(|state| state.facts.response = Some(crate::without_secrets(elements)));
    }

    /// Records a member of `additionalEventData`.
    pub fn detail(&self, name: &str, value: impl Into<Value>) {
        self.update(|state| _ = state.facts.details.insert(name.to_owned(), value.into()));
    }

    /// Records that objects went one way or the other (`dataTransferred`).
    pub fn data_transferred(&self) {
        self.update(|state| state.facts.data_transferred = true);
    }

    /// Records a refusal or failure. The first one counts.
    pub fn refused(&self, code: &str, message: &str) {
        self.update(|state| state.refuse(code, message));
    }

    /// Records the success of the action, unless it has been refused. A response that breaks off changes nothing about it.
    pub fn succeeded(&self) {
        self.update(|state| {
            state.is_settled = true;
            state.succeed();
        });
    }

    /// Records that the request ended early, unless its outcome is known.
    pub fn aborted(&self, reason: &str) {
        self.update(|state| {
            if !state.is_settled {
                state.refuse("RequestAborted", reason);
            }
        });
    }

    /// Records the status of a response over HTTP, unless the outcome is known already.
    pub fn responded(&self, status: u16) {
        match code_of_status(status) {
            Some(code) => self.refused(code, &format!("the response had the status {status}")),
            None => self.update(State::succeed),
        }
    }

    /// Counts bytes of the client.
    pub fn received(&self, bytes: u64) {
        if let Some(open) = &self.0 {
            open.received.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts bytes for the client.
    pub fn sent(&self, bytes: u64) {
        if let Some(open) = &self.0 {
            open.sent.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Records that the whole response was handed to the connection.
    pub fn completed(&self) {
        self.update(|state| state.facts.complete = true);
    }

    /// Leaves the request without a record: a health check that was answered.
    pub fn dispense(&self) {
        self.update(|state| state.is_dispensed = true);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        if state.is_dispensed {
            return;
        }
        let State { mut facts, places, is_proven, .. } = state;
        facts.received = *self.received.get_mut();
        facts.sent = *self.sent.get_mut();
        self.trail.write(&facts, places, is_proven);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::sinks::{Sink, SinkError};
    use gitferry_base::clock::SystemClock;
    use gitferry_base::supervise::Supervisor;

    struct Memory(mpsc::UnboundedSender<Value>);

    #[async_trait]
    impl Sink for Memory {
        fn name(&self) -> &'static str {
            "file"
        }

        async fn write(&mut self, records: &mut VecDeque<Arc<str>>) -> Result<(), SinkError> {
            for record in records.drain(..) {
                let _ = self.0.send(serde_json::from_str(&record).unwrap());
            }
            Ok(())
        }
    }

    fn trail() -> (AuditTrail, mpsc::UnboundedReceiver<Value>, Supervisor, watch::Sender<bool>) {
        let (sender, records) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Supervisor::new(stopped);
        let trail = AuditTrail::start("us", SystemClock::shared(), vec![Box::new(Memory(sender))], &mut tasks);
        (trail, records, tasks, stop)
    }

    #[tokio::test]
    async fn a_request_has_one_record_however_it_ends() {
        let (trail, mut records, _tasks, _stop) = trail();
        let entry = trail.begin();
        entry.authenticated(&UserIdentity::token("ann")).await;
        entry.action(Action::new("GitPull"));
        let held = entry.clone();
        // The task that answers is cancelled while a thread still works on the request.
        let answering = tokio::spawn(async move {
            let _entry = entry;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        answering.abort();
        assert!(answering.await.unwrap_err().is_cancelled());
        assert!(tokio::time::timeout(Duration::from_millis(50), records.recv()).await.is_err());
        held.received(7);
        held.succeeded();
        drop(held);
        let record = records.recv().await.unwrap();
        assert_eq!(record["eventName"], "GitPull");
        assert_eq!(record["userIdentity"]["userName"], "ann");
        assert_eq!(record["additionalEventData"]["bytesTransferredIn"], 7);
        assert_eq!(record["additionalEventData"]["responseComplete"], false);
        assert!(tokio::time::timeout(Duration::from_millis(50), records.recv()).await.is_err());
        assert_eq!(trail.counts()[0].written, 1);
    }

    #[tokio::test]
    async fn a_change_that_was_made_stays_made_when_the_client_leaves() {
        let (trail, mut records, _tasks, _stop) = trail();
        let made = trail.begin();
        made.succeeded();
        made.aborted("the client hung up");
        drop(made);
        assert!(records.recv().await.unwrap().get("errorCode").is_none());
        let fetch = trail.begin();
        fetch.responded(200);
        fetch.aborted("the client hung up");
        drop(fetch);
        assert_eq!(records.recv().await.unwrap()["errorCode"], "RequestAborted");
        // The report of a push says later what its status could not.
        let push = trail.begin();
        push.responded(200);
        push.refused("PushRejected", "fetch first");
        drop(push);
        assert_eq!(records.recv().await.unwrap()["errorCode"], "PushRejected");
    }

    #[tokio::test]
    async fn a_refusal_stays_and_a_health_check_leaves_no_record() {
        let (trail, mut records, _tasks, _stop) = trail();
        let entry = trail.begin();
        entry.refused("AccessDenied", "no policy allows it");
        entry.responded(404);
        entry.succeeded();
        drop(entry);
        let record = records.recv().await.unwrap();
        assert_eq!(
            (&record["errorCode"], &record["userIdentity"]["type"]),
            (&"AccessDenied".into(), &"Unknown".into())
        );
        trail.begin().dispense();
        drop(AuditTrail::default().begin());
        let last = trail.begin();
        last.responded(503);
        drop(last);
        assert_eq!(records.recv().await.unwrap()["errorCode"], "ServiceUnavailable");
    }
}
