//! Repositories that a link carries, by its names and by the links that deliver them already.

use super::link::Link;
use gitferry_config::LinkMode;
use gitferry_engine::ledger::head::{Head, HeadItem};
use gitferry_engine::region::reserved::is_account;

impl Link {
    /// Returns true if the link carries a repository: its current name matches, or the link has delivered it before.
    /// A repository that was renamed out of the globs keeps being delivered.
    pub fn carries(&self, source: &Head, target: Option<&HeadItem>) -> bool {
        let fed = target.and_then(|item| item.head.fed_by.as_ref());
        if is_account(&source.name) {
            // Every link carries the account's repository by default. Where several have the same target, the link that
            // delivered it first goes on.
            return self.repositories.is_match(&source.name) && self.rival(target.map(|item| &item.head)).is_none();
        }
        self.repositories.is_match(&source.name) || fed == Some(&self.name)
    }

    /// Returns another active link that delivers a repository of the target, if this link is active as well.
    pub(super) fn rival<'t>(&self, target: Option<&'t Head>) -> Option<&'t String> {
        let feeder = target.and_then(|head| head.fed_by.as_ref());
        let is_account = target.is_some_and(|head| is_account(&head.name));
        let active = if is_account { &self.account_links } else { &self.active_links };
        let is_rival = |other: &&String| **other != self.name && active.contains(*other);
        feeder.filter(is_rival).filter(|_| self.mode == LinkMode::Active)
    }
}
