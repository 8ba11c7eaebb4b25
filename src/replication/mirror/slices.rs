//! Splits a history that is too large for one push into slices: older commits first, under refs of gitferry's own that
//! are deleted in the end.
//!
//! The size of a slice shows only while it flows, so slices are bisected until they fit: several tips by count, the
//! history of one tip by depth.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::BString;

use super::channel::{Channel, Wanted};
use super::error::MirrorError;
use super::report::MirrorOutcome;
use super::target::Atomicity;
use gitferry_git::own_refs::SLICES_PREFIX;
use gitferry_git::receive_pack::Command;

/// Largest depth of a history, in commits.
const MAX_DEPTH: u32 = 1 << 24;

/// Refs of the target that hold slices, of this pass and of earlier ones.
#[derive(Default)]
pub(super) struct Slices {
    /// Deletions of these refs.
    deletions: Vec<Command>,
}

impl Slices {
    /// Finds slices of earlier passes: the target has the objects that they name.
    pub fn load(channel: &mut Channel<'_>) -> Result<Slices, MirrorError> {
        let refs = channel.target().refs_before();
        let left = refs.with_prefix(SLICES_PREFIX.as_bytes()).filter_map(|row| refs.get(row));
        let deletions: Vec<Command> =
            left.map(|entry| Command { name: entry.name.into(), old: refs.object(&entry), new: None }).collect();
        if !deletions.is_empty() {
            let ids: Vec<ObjectId> = deletions.iter().filter_map(|command| command.old).collect();
            channel.supply().learn(&ids)?;
        }
        Ok(Slices { deletions })
    }

    /// Sends some tips with their histories in slices. Returns the haves of the target from then on.
    pub fn send(
        &mut self,
        channel: &mut Channel<'_>,
        Wanted { wants, haves }: Wanted,
        atomicity: Atomicity,
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        let mut sending = Sending { channel, slices: self, haves, atomicity, outcome };
        sending.send(&wants)?;
        Ok(sending.haves)
    }

    /// Deletes slices once all refs are set. One that the target keeps does no harm, and is deleted by the next pass.
    pub fn delete(&mut self, channel: &mut Channel<'_>) -> Result<(), MirrorError> {
        let slices = std::mem::take(&mut self.deletions);
        for commands in slices.chunks(channel.batch()) {
            let report = channel.target_mut().push_deletions(commands)?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    let target = channel.target().url();
                    tracing::warn!(target, "{} cannot be deleted, the next pass tries again: {reason}", command.name);
                }
            }
        }
        Ok(())
    }

    /// Records a slice that the target has accepted.
    fn add(&mut self, creation: &Command) {
        debug_assert!(creation.old.is_none(), "a slice is created");
        debug_assert!(self.deletions.iter().all(|slice| slice.name != creation.name), "a slice is created once");
        self.deletions.push(Command { name: creation.name.clone(), old: creation.new, new: None });
    }
}

/// Histories that go in slices.
struct Sending<'h, 'p> {
    channel: &'h mut Channel<'p>,
    slices: &'h mut Slices,
    /// Objects that the target has by now.
    haves: Vec<ObjectId>,
    atomicity: Atomicity,
    outcome: &'h mut MirrorOutcome,
}

impl Sending<'_, '_> {
    /// Sends some tips with their histories, bisecting them while they are too large.
    fn send(&mut self, tips: &[ObjectId]) -> Result<(), MirrorError> {
        match (self.push(tips), tips) {
            (Err(error @ MirrorError::TooLarge { .. }), [tip]) => {
                let root = self.depth_of(&[*tip])?;
                if root <= 2 {
                    return Err(error);
                }
                self.send_between(*tip, root / 2, root)?;
                self.send_between(*tip, 0, root / 2)
            }
            (Err(MirrorError::TooLarge { .. }), tips) => {
                let (some, others) = tips.split_at(tips.len() / 2);
                self.send(some)?;
                self.send(others)
            }
            (result, _) => result,
        }
    }

    /// Returns a depth that the histories of these commits do not reach.
    fn depth_of(&mut self, wants: &[ObjectId]) -> Result<u32, MirrorError> {
        let mut depth = 2;
        while depth < MAX_DEPTH && !self.commits_at(wants, depth)?.is_empty() {
            depth *= 2;
        }
        Ok(depth)
    }

    fn commits_at(&mut self, tips: &[ObjectId], depth: u32) -> Result<Vec<ObjectId>, MirrorError> {
        self.channel.supply().from().commits_at(tips, depth)
    }

    /// Sends the commits between two depths below a tip. The target has the commits at the depth `older`. Where one push
    /// is too large for the target, the older half of the commits goes first.
    fn send_between(&mut self, tip: ObjectId, newer: u32, older: u32) -> Result<(), MirrorError> {
        let commits = if newer == 0 { vec![tip] } else { self.commits_at(&[tip], newer)? };
        match self.push(&commits) {
            Err(MirrorError::TooLarge { .. }) if older - newer > 1 => {
                let middle = newer + (older - newer) / 2;
                self.send_between(tip, middle, older)?;
                self.send_between(tip, newer, middle)
            }
            Err(MirrorError::TooLarge { .. }) if commits.len() > 1 => {
                commits.iter().try_for_each(|commit| self.push(std::slice::from_ref(commit)))
            }
            result => result,
        }
    }

    /// Pushes commits that the target does not have yet, under refs of gitferry's own.
    fn push(&mut self, ids: &[ObjectId]) -> Result<(), MirrorError> {
        let command =
            |id: &ObjectId| Command { name: format!("{SLICES_PREFIX}{id}").into(), old: None, new: Some(*id) };
        let made: HashSet<BString> = self.slices.deletions.iter().map(|slice| slice.name.clone()).collect();
        let is_new = |command: &Command| !made.contains(&command.name);
        let missing = ids.iter().filter(|id| !self.haves.contains(id));
        let commands: Vec<Command> = missing.map(command).filter(is_new).collect();
        for commands in commands.chunks(self.channel.batch()) {
            let wants = commands.iter().filter_map(|command| command.new).collect();
            let wanted = Wanted { wants, haves: self.haves.clone() };
            let report = self.channel.send(commands, wanted, self.atomicity, self.outcome)?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    let reason = format!("{} is refused, so that it cannot go in slices: {reason}", command.name);
                    return Err(MirrorError::Unpack { target_url: self.channel.target().url().into(), reason });
                }
                // Haves of later batches, and of this one after a bisection.
                self.haves.extend(command.new);
                if let Some(id) = command.new {
                    self.channel.supply().add_known(id);
                }
                self.slices.add(command);
            }
        }
        Ok(())
    }
}
