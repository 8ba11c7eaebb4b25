//! Fetches and pushes the objects of some refs: negotiates haves, and picks the source of the objects.

use gix::ObjectId;

use super::error::MirrorError;
use super::find_haves::{Common, Found, Search};
use super::object_source::{Negotiation, PackRequest};
use super::pass::MirrorPass;
use super::plan::Edit;
use super::push::{Flow, PackSource, push};
use super::via::{Detour, Taken};
use gitferry_git::client::{PushReport, empty_pack};
use gitferry_git::receive_pack::Command;

impl<'s> MirrorPass<'_, 's> {
    /// Finds the haves for the fetch of a batch. Switches to the detour, if there is one, where the source has none of
    /// the target's objects.
    pub(super) fn haves(&mut self, edits: &[Edit<'_>], wants: &[ObjectId]) -> Result<Vec<ObjectId>, MirrorError> {
        let extra = self.receive.extra_haves();
        let search = Search {
            target: self.target,
            target_objects: &self.target_objects,
            extra,
            source: self.source,
            known: &self.known,
        };
        let Common { haves, known, found } = search.run(edits, &mut *self.object_source)?;
        self.known.extend(known);
        let (how, detour) = match (found, self.detour()) {
            (Found::Empty | Found::Tips, _) => return Ok(haves),
            (Found::Ancestors(count), _) => (format!("but what they are built on: {count} commits are common"), None),
            (Found::Nothing, None) => ("and nothing that they are built on: everything is sent".into(), None),
            (Found::Nothing, Some(detour)) => {
                let name = detour.name();
                (
                    format!("and nothing that they are built on: region {name} finds out what the target lacks"),
                    Some(detour),
                )
            }
        };
        let remark = format!("the source has none of the target's tips, {how}");
        tracing::warn!(target = self.target.url(), wanted = wants.len(), "{remark}");
        self.outcome.remark(&remark);
        match detour {
            Some(detour) => self.switch_to(detour, haves),
            None => Ok(haves),
        }
    }

    /// Switches to the detour for the rest of the pass. Returns the haves for fetches from there.
    pub(super) fn switch_to(
        &mut self,
        detour: &'s dyn Detour,
        haves: Vec<ObjectId>,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        let extra = self.receive.extra_haves();
        let search = Search {
            target: self.target,
            target_objects: &self.target_objects,
            extra,
            source: self.source,
            known: &self.known,
        };
        let Taken { object_source, tips, bytes } =
            detour.take(&mut *self.object_source, &self.missing, self.target, &search.tips())?;
        tracing::info!(region = detour.name(), bytes, tips = tips.len(), "fetched into a region on the way");
        self.object_source = object_source;
        self.detoured = true;
        self.outcome.bytes_via += bytes;
        self.known.extend(&tips);
        Ok(tips.into_iter().chain(haves).collect())
    }

    /// The detour, unless the pass has switched to it already.
    pub(super) fn detour(&self) -> Option<&'s dyn Detour> {
        self.task.detour.filter(|_| !self.detoured)
    }

    /// Deletes the refs that kept objects in the detour's region. A failure is logged only; the next detour cleans up.
    pub(super) fn end_detour(&mut self) {
        let Some(detour) = self.task.detour.filter(|_| self.detoured) else { return };
        if let Err(error) = detour.leave() {
            tracing::warn!(region = detour.name(), %error, "cannot delete the detour's refs; the next detour does");
        }
    }

    /// One fetch and one push: the pack is passed on as it arrives.
    pub(super) fn fetch_and_push(
        &mut self,
        commands: &[Command],
        wants: Vec<ObjectId>,
        haves: Vec<ObjectId>,
    ) -> Result<PushReport, MirrorError> {
        let capabilities = self.receive.capabilities();
        let thin = !capabilities.has("no-thin");
        let ofs_delta = capabilities.has("ofs-delta");
        let shallow = self.receive.shallow().to_vec();
        let unproven = self.unproven(commands)?;
        let mut pack =
            self.object_source.pack(&PackRequest { wants, haves, shallow, thin, ofs_delta, filter: None })?;
        let has = |id: &ObjectId| pack.common.as_ref().is_some_and(|common| common.contains(id));
        if let Some(object) = unproven.iter().find(|id| !has(id)) {
            return Err(MirrorError::SourceRegressed { source_url: self.source_url.clone(), object: *object });
        }
        self.known.extend(unproven);
        let objects = u64::from(pack.objects);
        let mut flow = Flow { progress: self.task.progress, limit: self.task.limits.bytes_per_push, bytes: 0 };
        self.task.before_push()?;
        let pushed =
            push(&mut self.receive, commands, Some(&mut |out| flow.pass_on(&mut *pack.bytes, out)), self.atomic);
        let bytes = flow.bytes;
        drop(pack);
        let report = pushed.map_err(|error| self.judge_size(error, bytes))?;
        self.outcome.packs += 1;
        self.outcome.objects += objects;
        self.outcome.bytes += bytes;
        Ok(report)
    }

    /// Turns the failure of a push after `bytes` into [`MirrorError::TooLarge`] where size has become the likely cause,
    /// and smaller pushes are possible.
    fn judge_size(&mut self, error: MirrorError, bytes: u64) -> MirrorError {
        let target_url = self.target.url();
        if self.task.large_push_failures.add(&error, target_url, bytes)
            && (self.object_source.supports_depth().unwrap_or(false) || self.detour().is_some())
        {
            let reason = format!("large pushes fail repeatedly, the last one after {bytes} bytes: {error}");
            return MirrorError::TooLarge { target_url: target_url.into(), reason };
        }
        with_blob_limit(error, self.task.limits.bytes_per_blob)
    }

    /// Old values of these commands that the source is only assumed to have, and that the negotiation of the fetch has
    /// to prove. A source that answers in a request of its own is asked here.
    fn unproven(&mut self, commands: &[Command]) -> Result<Vec<ObjectId>, MirrorError> {
        let moved = commands.iter().filter(|command| command.new.is_some()).filter_map(|command| command.old);
        let unproven: Vec<ObjectId> =
            moved.filter(|old| self.assumed.contains(old) && !self.known.contains(old)).collect();
        match self.object_source.negotiation() {
            Negotiation::DuringFetch => Ok(unproven),
            Negotiation::OnRequest => self.prove(&unproven).map(|()| Vec::new()),
            Negotiation::Unsupported => Ok(Vec::new()),
        }
    }

    /// Asks the source about old values that it is assumed to have.
    fn prove(&mut self, unproven: &[ObjectId]) -> Result<(), MirrorError> {
        if unproven.is_empty() {
            return Ok(());
        }
        self.known.extend(self.object_source.known(unproven)?);
        match unproven.iter().find(|id| !self.known.contains(*id)) {
            Some(object) => Err(MirrorError::SourceRegressed { source_url: self.source_url.clone(), object: *object }),
            None => Ok(()),
        }
    }

    /// Pushes refs that move only among objects that the target has.
    pub(super) fn push_moves(&mut self, commands: &[Command]) -> Result<PushReport, MirrorError> {
        let unproven = self.unproven(commands)?;
        self.prove(&unproven)?;
        self.push_empty(commands)
    }

    pub(super) fn push_empty(&mut self, commands: &[Command]) -> Result<PushReport, MirrorError> {
        let pack = empty_pack(self.target_refs.format);
        self.push(commands, Some(&mut |out| Ok(out.write_all(&pack)?)))
    }

    pub(super) fn push(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
    ) -> Result<PushReport, MirrorError> {
        self.task.before_push()?;
        push(&mut self.receive, commands, pack, self.atomic)
    }
}

/// Adds the provider's limit for a single file to the refusal of a pack. The pack flows through unread, so the limit
/// cannot be checked before.
fn with_blob_limit(error: MirrorError, limit: Option<u64>) -> MirrorError {
    match (error, limit) {
        (MirrorError::Unpack { target_url, reason }, Some(limit)) => {
            let reason = format!("{reason} (the provider's limit for a file is {limit} bytes)");
            MirrorError::Unpack { target_url, reason }
        }
        (error, _) => error,
    }
}
