//! Pushes in quarantine that hooks at a URL may fetch from. Each is served under a path with a random 244-bit secret
//! until its hook has answered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use gitferry_git::view::View;

/// Prefix of the paths of quarantined pushes.
pub const PREFIX: &str = "/_quarantine/";

/// A path as it may be logged and shown: the rest of a quarantine's path is a secret.
pub fn without_secret(path: &str) -> &str {
    if path.starts_with(PREFIX) { PREFIX } else { path }
}

/// The quarantined pushes that can be fetched from.
#[derive(Debug)]
pub struct Quarantines {
    /// Views by the hash of their secret, so that the time of a lookup reveals nothing about other secrets.
    views: Mutex<HashMap<[u8; 32], View>>,
    url: String,
}

/// A quarantined push that can be fetched from until this guard is dropped.
#[derive(Debug)]
pub struct Published {
    quarantines: Arc<Quarantines>,
    key: [u8; 32],
    /// URL of the repository as it would be after the push. Holds the secret.
    pub url: String,
}

impl Quarantines {
    /// Starts without any. `url` is the URL of this host as hooks reach it.
    pub fn new(url: impl Into<String>) -> Arc<Self> {
        let url = url.into().trim_end_matches('/').to_owned();
        Arc::new(Quarantines { views: Mutex::default(), url })
    }

    /// Serves a push until the guard is dropped.
    pub fn publish(self: &Arc<Self>, view: View) -> Published {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let key = key(&secret);
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(key, view);
        Published { quarantines: self.clone(), key, url: format!("{}{PREFIX}{secret}", self.url) }
    }

    /// The push with this secret; `None` if there is none, or its hook has answered.
    pub fn find(&self, secret: &str) -> Option<View> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).get(&key(secret)).cloned()
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.quarantines.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
