//! Splits a history that is too large for one push into slices: older commits first, under refs of gitferry's own that
//! are deleted in the end.
//!
//! The size of a slice shows only while it flows, so slices are bisected until they fit: several tips by count, the
//! history of one tip by depth.

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::BString;

use super::error::MirrorError;
use super::pass::MirrorPass;
use gitferry_git::client::PushReport;
use gitferry_git::own_refs::SLICES_PREFIX;
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefValue;

/// Largest depth of a history, in commits.
const MAX_DEPTH: u32 = 1 << 24;

impl MirrorPass<'_, '_> {
    /// Fetches and pushes the objects of these commands: in one push, or in slices if that is too large.
    pub(super) fn fetch_and_push_or_slice(
        &mut self,
        commands: &[Command],
        wants: &[ObjectId],
        mut haves: Vec<ObjectId>,
    ) -> Result<PushReport, MirrorError> {
        match self.fetch_and_push(commands, wants.to_vec(), haves.clone()) {
            Err(MirrorError::TooLarge { target_url, reason }) => {
                haves = self.require_depth(haves, &target_url, &reason)?;
                tracing::warn!(target = target_url, "{reason}: pushing the history in slices");
                self.outcome.remark("too large for one push to the target: the history went in slices");
                let mut slices = Slices { haves: &mut haves };
                slices.send(self, wants)?;
                // All objects are at the target; this push only sets the refs.
                self.fetch_and_push(commands, wants.to_vec(), haves)
            }
            result => result,
        }
    }

    /// Makes sure that histories can be split, switching to the detour if the source cannot. Returns the haves for that
    /// source.
    fn require_depth(
        &mut self,
        haves: Vec<ObjectId>,
        target_url: &str,
        reason: &str,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        if self.object_source.supports_depth()? {
            return Ok(haves);
        }
        match self.detour() {
            Some(detour) => {
                let name = detour.name();
                let remark = format!("the source cannot split its history, which went through region {name}");
                tracing::warn!(target = target_url, "{remark}");
                self.outcome.remark(&remark);
                self.switch_to(detour, haves)
            }
            None => Err(MirrorError::CannotSplit { target_url: target_url.into(), reason: reason.into() }),
        }
    }

    /// Returns a depth that no history goes beyond.
    fn depth_of(&mut self, wants: &[ObjectId]) -> Result<u32, MirrorError> {
        let mut depth = 2;
        while depth < MAX_DEPTH && !self.object_source.commits_at(wants, depth)?.is_empty() {
            depth *= 2;
        }
        Ok(depth)
    }

    /// Finds slices of earlier passes: the target has the objects that they name.
    pub(super) fn load_slices(&mut self) -> Result<(), MirrorError> {
        let left = self.target_refs.refs.with_prefix(SLICES_PREFIX.as_bytes());
        let left: Vec<Command> = left
            .filter_map(|row| self.target_refs.refs.get(row))
            .map(|entry| Command { name: entry.name.into(), old: self.target_refs.refs.object(&entry), new: None })
            .collect();
        if !left.is_empty() {
            let ids: Vec<ObjectId> = left.iter().filter_map(|command| command.old).collect();
            self.known.extend(self.object_source.known(&ids)?);
            for command in &left {
                self.target_hash.edit(&command.name, command.old.map(RefValue::Object).as_ref(), None);
            }
            self.slices = left;
        }
        Ok(())
    }

    /// Deletes slices once all refs are set. One that the target keeps does no harm, and is deleted by the next pass.
    pub(super) fn delete_slices(&mut self) -> Result<(), MirrorError> {
        let slices = std::mem::take(&mut self.slices);
        for commands in slices.chunks(self.task.limits.refs_per_push.max(1)) {
            let report = self.push(commands, None)?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    tracing::warn!(
                        target = self.target.url(),
                        "{} cannot be deleted, the next pass tries again: {reason}",
                        command.name
                    );
                    self.target_hash.edit(&command.name, None, command.old.map(RefValue::Object).as_ref());
                }
            }
        }
        Ok(())
    }
}

/// Sends histories in slices.
struct Slices<'h> {
    /// Objects that the target has by now.
    haves: &'h mut Vec<ObjectId>,
}

impl Slices<'_> {
    /// Sends some tips with their histories, bisecting them while they are too large.
    fn send(&mut self, pass: &mut MirrorPass<'_, '_>, tips: &[ObjectId]) -> Result<(), MirrorError> {
        match (self.push(pass, tips), tips) {
            (Err(error @ MirrorError::TooLarge { .. }), [tip]) => {
                let root = pass.depth_of(&[*tip])?;
                if root <= 2 {
                    return Err(error);
                }
                self.send_between(pass, *tip, root / 2, root)?;
                self.send_between(pass, *tip, 0, root / 2)
            }
            (Err(MirrorError::TooLarge { .. }), tips) => {
                let (some, others) = tips.split_at(tips.len() / 2);
                self.send(pass, some)?;
                self.send(pass, others)
            }
            (result, _) => result,
        }
    }

    /// Sends the commits between two depths below a tip, of which the older end is at the target: in one push, or else
    /// its older half first.
    fn send_between(
        &mut self,
        pass: &mut MirrorPass<'_, '_>,
        tip: ObjectId,
        newer: u32,
        older: u32,
    ) -> Result<(), MirrorError> {
        let commits = if newer == 0 { vec![tip] } else { pass.object_source.commits_at(&[tip], newer)? };
        match self.push(pass, &commits) {
            Err(MirrorError::TooLarge { .. }) if older - newer > 1 => {
                let middle = newer + (older - newer) / 2;
                self.send_between(pass, tip, middle, older)?;
                self.send_between(pass, tip, newer, middle)
            }
            Err(MirrorError::TooLarge { .. }) if commits.len() > 1 => {
                commits.iter().try_for_each(|commit| self.push(pass, std::slice::from_ref(commit)))
            }
            result => result,
        }
    }

    /// Pushes commits that the target does not have yet, under refs of gitferry's own.
    fn push(&mut self, pass: &mut MirrorPass<'_, '_>, ids: &[ObjectId]) -> Result<(), MirrorError> {
        let command =
            |id: &ObjectId| Command { name: format!("{SLICES_PREFIX}{id}").into(), old: None, new: Some(*id) };
        let made: HashSet<BString> = pass.slices.iter().map(|slice| slice.name.clone()).collect();
        let is_new = |command: &Command| !made.contains(&command.name);
        let missing = ids.iter().filter(|id| !self.haves.contains(id));
        let commands: Vec<Command> = missing.map(command).filter(is_new).collect();
        for commands in commands.chunks(pass.task.limits.refs_per_push.max(1)) {
            let wants = commands.iter().filter_map(|command| command.new).collect();
            let report = pass.fetch_and_push(commands, wants, self.haves.clone())?;
            for (command, outcome) in commands.iter().zip(report.refs) {
                if let Err(reason) = outcome.result {
                    let reason = format!("{} is refused, so that it cannot go in slices: {reason}", command.name);
                    return Err(MirrorError::Unpack { target_url: pass.target.url().into(), reason });
                }
                self.haves.extend(command.new);
                // Haves of later batches, and of this one after a bisection.
                if let Some(id) = command.new {
                    pass.target_objects.add(id);
                    pass.known.insert(id);
                }
                pass.slices.push(Command { name: command.name.clone(), old: command.new, new: None });
            }
        }
        Ok(())
    }
}
