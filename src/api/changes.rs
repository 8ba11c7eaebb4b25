//! Changes of the account by requests, each in one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_account::Author;
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_identity::{Administration, AdministrationError, Identities};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::{Result, of_change};
use crate::iam::operation::{Ask, Change};

/// Makes changes of the account of a region.
#[derive(Debug)]
pub struct Changes {
    region: Region,
    identities: Arc<Identities>,
    events: Arc<dyn Sink>,
    /// URLs of the hosts, by region.
    urls: BTreeMap<String, String>,
    /// The account, once a change has opened it.
    opened: Mutex<Option<Administration>>,
}

impl Changes {
    /// Changes the account of `region` and announces each change to `events`.
    pub fn new(
        region: Region,
        identities: Arc<Identities>,
        events: Arc<dyn Sink>,
        urls: BTreeMap<String, String>,
    ) -> Self {
        Changes { region, identities, events, urls, opened: Mutex::default() }
    }

    /// Makes a change in the name of the caller, and waits until requests to this host are decided on by its result.
    ///
    /// # Errors
    /// Those of the operation; `UnmodifiableEntity` in a region whose account is a replica, with the place to go.
    pub async fn make(&self, ask: &Ask, change: &dyn Change) -> Result<Value> {
        let principal = &ask.caller.principal;
        let name = principal.user_name().or(principal.role_name()).unwrap_or("root");
        let author = Author::new(name, principal.arn()).from_address(ask.source.to_string());
        let made = match self.open().await {
            Ok(account) => account.change(&author, |editor| change.change(ask, editor)).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(result) => {
                self.identities.catch_up().await;
                Ok(result)
            }
            Err(error) => {
                if !matches!(error, AdministrationError::Iam(_)) {
                    // Another repository may have taken the account's place.
                    *self.opened.lock().await = None;
                }
                Err(of_change(error, |primary| self.replica(primary)))
            }
        }
    }

    async fn open(&self) -> std::result::Result<Administration, AdministrationError> {
        let mut opened = self.opened.lock().await;
        if let Some(account) = &*opened {
            return Ok(account.clone());
        }
        // Opened data keys come with the request.
        let account = Administration::open(&self.region, Vec::new()).await?.announcing(self.events.clone());
        *opened = Some(account.clone());
        Ok(account)
    }

    /// Answer in a region that only receives the account.
    fn replica(&self, primary: &str) -> String {
        let here = self.region.name();
        let place = self.urls.get(primary).map_or_else(String::new, |url| format!(", at {url}"));
        format!(
            "The account is a replica in region {here} and is changed in region {primary}: send the request there{place}."
        )
    }
}
