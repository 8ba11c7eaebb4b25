//! Pushes edits with the objects that they need: with one pack, or in slices where that is too large.

use super::channel::{Channel, Wanted};
use super::error::MirrorError;
use super::plan::Edit;
use super::report::MirrorOutcome;
use super::slices::Slices;
use super::target::{Atomicity, Target};
use gitferry_git::client::PushReport;
use gitferry_git::receive_pack::Command;

/// Most bisections of one pass: enough to find one ref among as many as a push may name, and bounded because each half
/// is sent again.
const MAX_BISECTIONS: u32 = 20;
/// Text in Git's per-ref status when a hook has declined a ref or the whole push.
const DECLINED: &str = "hook declined";

/// Pushes the edits of a pass.
pub(super) struct Pusher<'p> {
    channel: Channel<'p>,
    slices: Slices,
    /// Number of times that a refused batch was bisected.
    bisections: u32,
}

impl<'p> Pusher<'p> {
    /// Pushes through this channel. Finds the slices that earlier passes have left at the target.
    pub fn open(mut channel: Channel<'p>) -> Result<Self, MirrorError> {
        let slices = Slices::load(&mut channel)?;
        Ok(Pusher { channel, slices, bisections: 0 })
    }

    pub fn channel(&mut self) -> &mut Channel<'p> {
        &mut self.channel
    }

    pub fn target(&self) -> &Target<'p> {
        self.channel.target()
    }

    pub fn target_mut(&mut self) -> &mut Target<'p> {
        self.channel.target_mut()
    }

    /// Most refs in one push; at least 1.
    pub fn batch(&self) -> usize {
        self.channel.batch()
    }

    /// Pushes some edits with one pack, or in slices if that is too large.
    pub fn push_edits(
        &mut self,
        edits: &[Edit<'_>],
        atomicity: Atomicity,
        outcome: &mut MirrorOutcome,
    ) -> Result<PushReport, MirrorError> {
        let commands: Vec<Command> = edits.iter().map(Edit::command).collect();
        let wants = self.target().objects().wants(edits);
        if !wants.is_empty() {
            let haves = self.channel.haves(edits, &wants, outcome)?;
            return self.send_or_slice(&commands, Wanted { wants, haves }, atomicity, outcome);
        }
        if edits.iter().all(|edit| edit.new.is_none()) {
            return self.target_mut().push(&commands, None, atomicity);
        }
        self.channel.push_moves(&commands, atomicity)
    }

    /// Fetches and pushes the objects of these commands: in one push, or in slices if that is too large.
    fn send_or_slice(
        &mut self,
        commands: &[Command],
        wanted: Wanted,
        atomicity: Atomicity,
        outcome: &mut MirrorOutcome,
    ) -> Result<PushReport, MirrorError> {
        match self.channel.send(commands, wanted.clone(), atomicity, outcome) {
            Err(MirrorError::TooLarge { target_url, reason }) => {
                let Wanted { wants, haves } = wanted;
                let haves = self.channel.require_depth(haves, reason.clone(), outcome)?;
                tracing::warn!(target = target_url, "{reason}: pushing the history in slices");
                outcome.remark("too large for one push to the target: the history went in slices");
                let wanted = Wanted { wants: wants.clone(), haves };
                let haves = self.slices.send(&mut self.channel, wanted, atomicity, outcome)?;
                // All objects are at the target; this push only sets the refs.
                self.channel.send(commands, Wanted { wants, haves }, atomicity, outcome)
            }
            result => result,
        }
    }

    /// Deletes the slices once all refs are set.
    pub fn delete_slices(&mut self) -> Result<(), MirrorError> {
        self.slices.delete(&mut self.channel)
    }

    /// Splits a batch that the target has refused as a whole, and counts one bisection. Returns `None` for a single
    /// item, or if the pass has used up [`MAX_BISECTIONS`].
    pub fn bisect<'b, T>(&mut self, refused: &'b [T]) -> Option<(&'b [T], &'b [T])> {
        if refused.len() < 2 || self.bisections >= MAX_BISECTIONS {
            return None;
        }
        self.bisections += 1;
        Some(refused.split_at(refused.len() / 2))
    }
}

/// Returns true if a hook has declined the push as a whole, and not single refs.
pub(super) fn declines_all(report: &PushReport) -> bool {
    let mut reasons = report.refs.iter().map(|outcome| outcome.result.as_ref().err());
    let first = reasons.next().flatten();
    first.is_some_and(|first| first.contains(DECLINED) && reasons.all(|reason| reason == Some(first)))
}
