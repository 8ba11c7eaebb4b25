//! Slots at Git servers, which all links of a worker share: two links to one server deliver no more repositories at a
//! time than one does, and a silent server holds only slots of its own links.
//!
//! A delivery takes one slot of each of its servers, all at once or none, so that none is held while another is waited
//! for. Each link keeps one slot of each of its servers: links whose other server is silent leave that slot to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The slots in use at each server.
#[derive(Debug)]
pub(super) struct Servers {
    /// Most deliveries at a time with one server.
    jobs: usize,
    by_server: Mutex<BTreeMap<String, InUse>>,
    /// Notified when a slot was given back.
    freed: Notify,
}

/// The slots that each link holds, by the position of the link.
#[derive(Debug, Default)]
struct InUse(BTreeMap<usize, usize>);

impl InUse {
    /// Returns true if a link may take one more slot: its first one always, further ones while enough slots are left
    /// for the links that hold none.
    fn has_room(&self, link: usize, jobs: usize) -> bool {
        let (held, idle) = (self.0.values().sum::<usize>(), self.0.values().filter(|held| **held == 0).count());
        self.0.get(&link) == Some(&0) || held + idle < jobs
    }
}

/// The slots of one delivery, given back on drop.
#[derive(Debug)]
pub(super) struct Slots {
    of: Arc<Servers>,
    link: usize,
    servers: Arc<[String]>,
}

impl Servers {
    pub(super) fn new(jobs: usize) -> Arc<Self> {
        Arc::new(Servers { jobs, by_server: Mutex::default(), freed: Notify::new() })
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeMap<String, InUse>> {
        self.by_server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a link with its servers.
    pub(super) fn join(&self, link: usize, servers: &[String]) {
        let mut in_use = self.in_use();
        for server in servers {
            in_use.entry(server.clone()).or_default().0.entry(link).or_default();
        }
    }

    /// Waits for a slot at each server of a registered link.
    pub(super) async fn enter(self: &Arc<Self>, link: usize, servers: &Arc<[String]>) -> Slots {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on a freed slot is noticed.
            freed.as_mut().enable();
            if let Some(slots) = self.try_enter(link, servers) {
                return slots;
            }
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>, link: usize, servers: &Arc<[String]>) -> Option<Slots> {
        let mut in_use = self.in_use();
        let has_room = |server: &String| in_use.get(server).is_none_or(|held| held.has_room(link, self.jobs));
        if !servers.iter().all(has_room) {
            return None;
        }
        for server in servers.iter() {
            *in_use.entry(server.clone()).or_default().0.entry(link).or_default() += 1;
        }
        Some(Slots { of: self.clone(), link, servers: servers.clone() })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        let mut in_use = self.of.in_use();
        for server in self.servers.iter() {
            if let Some(held) = in_use.get_mut(server).and_then(|held| held.0.get_mut(&self.link)) {
                *held -= 1;
            }
        }
        drop(in_use);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[&str]) -> Arc<[String]> {
        servers.iter().map(|server| (*server).to_owned()).collect()
    }

    /// As many as a link can take now.
    fn take(servers: &Arc<Servers>, link: usize, of: &Arc<[String]>) -> Vec<Slots> {
        std::iter::from_fn(|| servers.try_enter(link, of)).collect()
    }

    #[test]
    fn links_to_one_server_share_its_slots_and_leave_each_other_one() {
        let servers = Servers::new(4);
        let (silent, shared) = (names(&["silent"]), names(&["shared", "silent"]));
        let other = names(&["other", "shared"]);
        for (link, of) in [(0, &silent), (1, &shared), (2, &other)] {
            servers.join(link, of);
        }
        let first = take(&servers, 0, &silent);
        assert_eq!(first.len(), 3, "one is left for the other link of the server");
        let second = take(&servers, 1, &shared);
        assert_eq!(second.len(), 1);
        // A link of which one server is silent takes nothing from the others of its other server.
        let third = take(&servers, 2, &other);
        assert_eq!(third.len(), 3);
        drop(first);
        assert_eq!(take(&servers, 1, &shared).len(), 0, "the other server has no more");
        drop(third);
        assert_eq!(take(&servers, 1, &shared).len(), 2);
    }

    #[test]
    fn more_links_than_slots_have_one_each() {
        let servers = Servers::new(2);
        let one = names(&["one"]);
        (0..5).for_each(|link| servers.join(link, &one));
        let held: Vec<Vec<Slots>> = (0..5).map(|link| take(&servers, link, &one)).collect();
        assert!(held.iter().all(|held| held.len() == 1));
    }

    #[tokio::test]
    async fn a_slot_that_is_given_back_goes_to_a_link_that_waits() {
        let servers = Servers::new(1);
        let one = names(&["one"]);
        servers.join(0, &one);
        let held = servers.enter(0, &one).await;
        let (again, of) = (servers.clone(), one.clone());
        let waiting = tokio::spawn(async move { again.enter(0, &of).await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        drop(waiting.await.unwrap());
    }
}
