//! A history that is too large for one push goes in slices: its older part first, under refs of gitferry's own that are
//! deleted in the end.
//!
//! How large a part is shows only when it flows. So whatever is too large is parted in the middle until the parts fit:
//! several tips into fewer, the history of one by the number of commits below it.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::BString;

use super::error::RemotesError;
use super::relay::Relay;
use gitferry_git::client::PushReport;
use gitferry_git::own_refs::SLICES_PREFIX;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefValue;

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
                haves = self.find_parts(haves, &target_url, &reason)?;
                tracing::warn!(target = target_url, "{reason}: the history goes in slices");
                self.carried.remark("more than the target takes in one push: the history went in slices");
                let mut slices = Slices { haves: &mut haves };
                slices.send(self, wants)?;
                // All that is left is that the refs get their names.
                self.relay(commands, wants.to_vec(), haves)
            }
            result => result,
        }
    }

    /// Sees to it that histories can be had in parts: by way of a region, where the source cannot give them. What the
    /// target has.
    fn find_parts(
        &mut self,
        haves: Vec<ObjectId>,
        target_url: &str,
        reason: &str,
    ) -> Result<Vec<ObjectId>, RemotesError> {
        if self.supply.gives_parts()? {
            return Ok(haves);
        }
        match self.detour() {
            Some(detour) => {
                let name = detour.name();
                let remark = format!("the source gives histories only as a whole: they went through region {name}");
                tracing::warn!(target = target_url, "{remark}");
                self.carried.remark(&remark);
                self.turn_to(detour, haves)
            }
            None => Err(RemotesError::Whole { target_url: target_url.into(), reason: reason.into() }),
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

/// Histories on their way in slices.
struct Slices<'h> {
    /// What the target has by now.
    haves: &'h mut Vec<ObjectId>,
}

impl Slices<'_> {
    /// Sends some tips with their histories, in parts where they are too large together.
    fn send(&mut self, relay: &mut Relay<'_, '_>, tips: &[ObjectId]) -> Result<(), RemotesError> {
        match (self.push(relay, tips), tips) {
            (Err(error @ RemotesError::TooLarge { .. }), [tip]) => {
                let root = relay.depth_of(&[*tip])?;
                if root <= 2 {
                    return Err(error);
                }
                self.send_between(relay, *tip, root / 2, root)?;
                self.send_between(relay, *tip, 0, root / 2)
            }
            (Err(RemotesError::TooLarge { .. }), tips) => {
                let (some, others) = tips.split_at(tips.len() / 2);
                self.send(relay, some)?;
                self.send(relay, others)
            }
            (result, _) => result,
        }
    }

    /// Sends what lies between two depths below a tip, of which the older one is there already: at once, or else its
    /// older half first.
    fn send_between(
        &mut self,
        relay: &mut Relay<'_, '_>,
        tip: ObjectId,
        newer: u32,
        older: u32,
    ) -> Result<(), RemotesError> {
        let commits = if newer == 0 { vec![tip] } else { relay.supply.commits_at(&[tip], newer)? };
        match self.push(relay, &commits) {
            Err(RemotesError::TooLarge { .. }) if older - newer > 1 => {
                let middle = newer + (older - newer) / 2;
                self.send_between(relay, tip, middle, older)?;
                self.send_between(relay, tip, newer, middle)
            }
            Err(RemotesError::TooLarge { .. }) if commits.len() > 1 => {
                commits.iter().try_for_each(|commit| self.push(relay, std::slice::from_ref(commit)))
            }
            result => result,
        }
    }

    /// Pushes commits that are not there yet, under names of their own.
    fn push(&mut self, relay: &mut Relay<'_, '_>, ids: &[ObjectId]) -> Result<(), RemotesError> {
        let command =
            |id: &ObjectId| Command { name: format!("{SLICES_PREFIX}{id}").into(), old: None, new: Some(*id) };
        let made: HashSet<BString> = relay.slices.iter().map(|slice| slice.name.clone()).collect();
        let is_new = |command: &Command| !made.contains(&command.name);
        let missing = ids.iter().filter(|id| !self.haves.contains(id));
        let commands: Vec<Command> = missing.map(command).filter(is_new).collect();
        for commands in commands.chunks(relay.task.limits.refs_per_push.max(1)) {
            let wants = commands.iter().filter_map(|command| command.new).collect();
            let report = relay.relay(commands, wants, self.haves.clone())?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    let reason = format!("{} is refused, so that it cannot go in slices: {reason}", command.name);
                    return Err(RemotesError::Unpack { target_url: relay.target.url().into(), reason });
                }
                self.haves.extend(command.new);
                // Also for the batches that come after, and when this one is parted.
                if let Some(id) = command.new {
                    relay.held.add(id);
                    relay.known.insert(id);
                }
                relay.slices.push(Command { name: command.name.clone(), old: command.new, new: None });
            }
        }
        Ok(())
    }
}
