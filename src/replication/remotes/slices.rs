//! A history that is too large for one push goes in slices: its older part first, under refs of gitferry's own that are
//! deleted in the end.
//!
//! How large a part is shows only when it flows. So whatever is too large is parted in the middle, by the number of
//! commits below the tips, until the parts fit.

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::error::RemotesError;
use super::relay::Relay;
use crate::git::client::PushReport;
use crate::git::receive_pack::Command;
use crate::git::refs::RefValue;

/// Where slices are named while the rest is on its way.
const SLICES_PREFIX: &str = "refs/gitferry/slices/";
/// No history is looked at deeper than this, in commits.
const MAX_DEPTH: u32 = 1 << 24;

impl Relay<'_, '_> {
    /// Fetches and pushes what some commands need: at once, or in slices where that is too large.
    pub(super) fn relay_all(
        &mut self,
        commands: &[Command],
        wants: &[ObjectId],
        mut haves: Vec<ObjectId>,
    ) -> Result<PushReport, RemotesError> {
        match self.relay(commands, wants.to_vec(), haves.clone()) {
            Err(RemotesError::TooLarge { target_url, reason }) => {
                tracing::warn!(target = target_url, "{reason}: the history goes in slices");
                self.carried.remark("more than the target takes in one push: the history went in slices");
                let root = self.depth_of(wants)?;
                let mut slices = Slices { commands, wants, haves: &mut haves };
                let middle = root / 2;
                slices.send(self, middle, root)?;
                slices.send(self, 0, middle)
            }
            result => result,
        }
    }

    /// A depth at which no history goes on.
    fn depth_of(&mut self, wants: &[ObjectId]) -> Result<u32, RemotesError> {
        let mut depth = 2;
        while depth < MAX_DEPTH && !self.supply.commits_at(wants, depth)?.is_empty() {
            depth *= 2;
        }
        Ok(depth)
    }

    /// Slices that a pass before has left: the target has what they name.
    pub(super) fn find_slices(&mut self) -> Result<(), RemotesError> {
        let left = self.there.refs.with_prefix(SLICES_PREFIX.as_bytes());
        let left: Vec<Command> = left
            .filter_map(|row| self.there.refs.get(row))
            .map(|entry| Command { name: entry.name.into(), old: self.there.refs.object(&entry), new: None })
            .collect();
        if !left.is_empty() {
            let ids: Vec<ObjectId> = left.iter().filter_map(|command| command.old).collect();
            self.known.extend(self.supply.known(&ids)?);
            for command in &left {
                self.after.edit(&command.name, command.old.map(RefValue::Object).as_ref(), None);
            }
            self.slices = left;
        }
        Ok(())
    }

    /// Slices have served when all refs are there. One that stays does no harm, and goes with the next pass.
    pub(super) fn delete_slices(&mut self) -> Result<(), RemotesError> {
        let slices = std::mem::take(&mut self.slices);
        for commands in slices.chunks(self.task.limits.refs_per_push.max(1)) {
            let report = self.push(commands, None)?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    tracing::warn!(target = self.target.url(), "{} could not be deleted: {reason}", command.name);
                    self.after.edit(&command.name, None, command.old.map(RefValue::Object).as_ref());
                }
            }
        }
        Ok(())
    }
}

/// A history on its way in slices.
struct Slices<'w> {
    commands: &'w [Command],
    wants: &'w [ObjectId],
    /// What the target has by now.
    haves: &'w mut Vec<ObjectId>,
}

impl Slices<'_> {
    /// Sends what lies between two depths, the older of which is there already: at once, or else its older half first.
    fn send(&mut self, relay: &mut Relay<'_, '_>, newer: u32, older: u32) -> Result<PushReport, RemotesError> {
        let (commands, wants) = match newer {
            0 => (self.commands.to_vec(), self.wants.to_vec()),
            _ => self.slice(relay, newer)?,
        };
        if wants.is_empty() {
            return Ok(PushReport { unpack: Ok(()), refs: Vec::new(), messages: Vec::new() });
        }
        match relay.relay(&commands, wants.clone(), self.haves.clone()) {
            Ok(report) if newer == 0 => Ok(report),
            Ok(report) => {
                for (command, outcome) in commands.into_iter().zip(&report.refs) {
                    if outcome.result.is_ok() {
                        self.haves.extend(command.new);
                        relay.slices.push(Command { name: command.name, old: command.new, new: None });
                    }
                }
                Ok(report)
            }
            Err(RemotesError::TooLarge { .. }) if older - newer > 1 => {
                let middle = newer + (older - newer) / 2;
                self.send(relay, middle, older)?;
                self.send(relay, newer, middle)
            }
            Err(error) => Err(error),
        }
    }

    /// Commits at a depth that are not there yet, and the commands that name them.
    fn slice(&self, relay: &mut Relay<'_, '_>, depth: u32) -> Result<(Vec<Command>, Vec<ObjectId>), RemotesError> {
        let mut ids = relay.supply.commits_at(self.wants, depth)?;
        ids.retain(|id| !self.haves.contains(id));
        ids.truncate(relay.task.limits.refs_per_push.max(1));
        let command =
            |id: &ObjectId| Command { name: format!("{SLICES_PREFIX}{id}").into(), old: None, new: Some(*id) };
        let commands: Vec<Command> = ids.iter().map(command).collect();
        let is_new = |command: &Command| relay.there.refs.find(command.name.as_bstr()).is_none();
        let commands: Vec<Command> = commands.into_iter().filter(is_new).collect();
        let ids = commands.iter().filter_map(|command| command.new).collect();
        Ok((commands, ids))
    }
}
