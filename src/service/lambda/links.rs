//! The links of the function: open ones, and those whose stores did not open yet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};

use crate::delivery::Link;
use crate::events::outbox::Publisher;
use crate::events::sqs::Queue;

/// Longest time of an invocation that opening a link may take.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// An open link of the function.
#[derive(Debug)]
pub struct Served {
    /// The link.
    pub link: Arc<dyn Link>,
    /// The queue of the link, if it has one.
    pub queue: Option<Queue>,
    /// Publisher of the target's outbox, where the target has an event bus.
    pub publisher: Option<Publisher>,
}

/// Opens a link of the function, again in each invocation until it opens.
#[async_trait]
pub trait OpenServed: std::fmt::Debug + Send + Sync {
    /// Name of the link.
    fn name(&self) -> &str;

    /// URL of the queue of the link.
    fn queue_url(&self) -> Option<&str>;

    /// Opens the link; an error is the reason in words.
    async fn open(&self) -> Result<Served, String>;
}

/// A link of the function, open or not.
#[derive(Debug)]
pub(super) struct FunctionLink {
    name: String,
    queue_url: Option<String>,
    served: OnceCell<Served>,
    /// `None` where the link was open from the start.
    opener: Option<Arc<dyn OpenServed>>,
    /// Reason why the link did not open the last time.
    reason: Mutex<String>,
}

impl FunctionLink {
    pub fn open(served: Served) -> Self {
        FunctionLink {
            name: served.link.name().to_owned(),
            queue_url: served.queue.as_ref().map(|queue| queue.url().to_owned()),
            served: OnceCell::new_with(Some(served)),
            opener: None,
            reason: Mutex::default(),
        }
    }

    pub fn late(opener: Arc<dyn OpenServed>) -> Self {
        FunctionLink {
            name: opener.name().to_owned(),
            queue_url: opener.queue_url().map(str::to_owned),
            served: OnceCell::new(),
            opener: Some(opener),
            reason: Mutex::default(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The open link; `None` while it is not open.
    pub fn served(&self) -> Option<&Served> {
        self.served.get()
    }

    /// Reason why the link is not open.
    pub fn reason(&self) -> String {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        format!("link {} does not open: {reason}", self.name)
    }

    /// Opens the link, if it is not open.
    pub async fn try_open(&self, until: Instant) {
        let (None, Some(opener)) = (self.served(), &self.opener) else { return };
        let until = until.min(Instant::now() + OPEN_WITHIN);
        let opening = self.served.get_or_try_init(|| opener.open());
        let reason = match timeout_at(until, opening).await {
            Ok(Ok(_)) => return tracing::warn!(link = self.name, "the link could be opened"),
            Ok(Err(reason)) => reason,
            Err(_) => "its stores did not answer in time".to_owned(),
        };
        tracing::error!(reason, link = self.name, "the link does not open; the next invocation tries again");
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Returns true if `arn:aws:sqs:REGION:ACCOUNT:NAME` names the queue of the link, `https://…/ACCOUNT/NAME`.
    pub fn has_queue(&self, arn: &str) -> bool {
        let Some(url) = &self.queue_url else { return false };
        let mut of_arn = arn.rsplit(':');
        let mut of_url = url.rsplit('/');
        let (name, account) = (of_arn.next(), of_arn.next());
        name.is_some() && (name, account) == (of_url.next(), of_url.next())
    }
}
