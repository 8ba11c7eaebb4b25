//! Pushes that a hook at a URL is looking at: each can be fetched from, under a name that nobody can guess, for
//! as long as the hook takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use gitferry_git::view::View;

/// Path below which they are served.
pub const PREFIX: &str = "/_quarantine/";

/// The pushes that can be fetched from now.
#[derive(Debug)]
pub struct Quarantines {
    /// By the hash of their secret: looking one up tells nothing about the others.
    views: Mutex<HashMap<[u8; 32], View>>,
    url: String,
}

/// A push that can be fetched from until this is dropped.
#[derive(Debug)]
pub struct Shown {
    quarantines: Arc<Quarantines>,
    key: [u8; 32],
    /// Where.
    pub url: String,
}

impl Quarantines {
    /// None yet. `url` is where hooks reach the host.
    pub fn new(url: impl Into<String>) -> Arc<Self> {
        let url = url.into().trim_end_matches('/').to_owned();
        Arc::new(Quarantines { views: Mutex::default(), url })
    }

    /// Lets a push be fetched from.
    pub fn show(self: &Arc<Self>, view: View) -> Shown {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let key = key(&secret);
        self.views.lock().unwrap_or_else(PoisonError::into_inner).insert(key, view);
        Shown { quarantines: self.clone(), key, url: format!("{}{PREFIX}{secret}", self.url) }
    }

    /// The push with a secret.
    pub fn find(&self, secret: &str) -> Option<View> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).get(&key(secret)).cloned()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.quarantines.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

fn key(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
