//! One fetch and one push for some refs: what the target has already, and where what it lacks comes from.

use gix::ObjectId;

use super::common::{Common, Found, Search};
use super::error::RemotesError;
use super::plan::Edit;
use super::push::{Flow, PackSource, push};
use super::relay::Relay;
use super::supply::{Tells, Wanted};
use super::via::{Detour, Taken};
use gitferry_git::client::{PushReport, empty_pack};
use gitferry_git::receive_pack::Command;

impl<'s> Relay<'_, 's> {
    /// What the fetch for a batch says that the target has. Where the source has nothing of that, the pass turns to
    /// another way if there is one.
    pub(super) fn haves(&mut self, edits: &[Edit<'_>], wants: &[ObjectId]) -> Result<Vec<ObjectId>, RemotesError> {
        let extra = self.receive.extra_haves();
        let search = Search { target: self.target, held: &self.held, extra, source: self.source, known: &self.known };
        let Common { haves, known, found } = search.run(edits, &mut *self.supply)?;
        self.known.extend(known);
        let (how, detour) = match (found, self.detour()) {
            (Found::Empty | Found::Tips, _) => return Ok(haves),
            (Found::Ancestors(count), _) => (format!("but what they are built on: {count} told to it"), None),
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
        self.carried.remark(&remark);
        match detour {
            Some(detour) => self.turn_to(detour, haves),
            None => Ok(haves),
        }
    }

    /// Takes another way from here on. What the target has, as a fetch there says it.
    pub(super) fn turn_to(
        &mut self,
        detour: &'s dyn Detour,
        haves: Vec<ObjectId>,
    ) -> Result<Vec<ObjectId>, RemotesError> {
        let extra = self.receive.extra_haves();
        let search = Search { target: self.target, held: &self.held, extra, source: self.source, known: &self.known };
        let Taken { supply, tips, bytes } =
            detour.take(&mut *self.supply, &self.missing, self.target, &search.tips())?;
        tracing::info!(region = detour.name(), bytes, tips = tips.len(), "fetched into a region on the way");
        (self.supply, self.detoured) = (supply, true);
        self.carried.bytes_via += bytes;
        self.known.extend(&tips);
        Ok(tips.into_iter().chain(haves).collect())
    }

    /// The way that is still to be taken, if there is one.
    pub(super) fn detour(&self) -> Option<&'s dyn Detour> {
        self.task.detour.filter(|_| !self.detoured)
    }

    /// What was brought to the region has served.
    pub(super) fn end_detour(&mut self) {
        let Some(detour) = self.task.detour.filter(|_| self.detoured) else { return };
        if let Err(error) = detour.leave() {
            tracing::warn!(region = detour.name(), %error, "refs that kept objects on their way stay until the next time");
        }
    }

    /// One fetch, one push: the pack is passed on as it arrives.
    pub(super) fn relay(
        &mut self,
        commands: &[Command],
        wants: Vec<ObjectId>,
        haves: Vec<ObjectId>,
    ) -> Result<PushReport, RemotesError> {
        let capabilities = self.receive.capabilities();
        let (thin, ofs_delta) = (!capabilities.has("no-thin"), capabilities.has("ofs-delta"));
        let shallow = self.receive.shallow().to_vec();
        let unproven = self.unproven(commands)?;
        let mut pack = self.supply.pack(&Wanted { wants, haves, shallow, thin, ofs_delta, filter: None })?;
        let has = |id: &ObjectId| pack.common.as_ref().is_some_and(|common| common.contains(id));
        if let Some(object) = unproven.iter().find(|id| !has(id)) {
            return Err(RemotesError::Forgotten { source_url: self.source_url.clone(), object: *object });
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
        self.carried.packs += 1;
        self.carried.objects += objects;
        self.carried.bytes += bytes;
        Ok(report)
    }

    /// What a push failed with after so many bytes: that it was too large, where that has become likely and smaller ones can
    /// be had.
    fn judge_size(&mut self, error: RemotesError, bytes: u64) -> RemotesError {
        let target_url = self.target.url();
        if self.task.strain.add(&error, target_url, bytes)
            && (self.supply.gives_parts().unwrap_or(false) || self.detour().is_some())
        {
            let reason = format!("large pushes fail again and again, the last one after {bytes} bytes: {error}");
            return RemotesError::TooLarge { target_url: target_url.into(), reason };
        }
        with_blob_limit(error, self.task.limits.bytes_per_blob)
    }

    /// Old values that the source is believed to have, and of which its answer to a fetch for these commands has to show
    /// as much. A source that says so only when it is asked is asked here.
    fn unproven(&mut self, commands: &[Command]) -> Result<Vec<ObjectId>, RemotesError> {
        let moved = commands.iter().filter(|command| command.new.is_some()).filter_map(|command| command.old);
        let unproven: Vec<ObjectId> =
            moved.filter(|old| self.on_word.contains(old) && !self.known.contains(old)).collect();
        match self.supply.tells() {
            Tells::AsItIsFetched => Ok(unproven),
            Tells::WhenAsked => self.prove(&unproven).map(|()| Vec::new()),
            Tells::Never => Ok(Vec::new()),
        }
    }

    /// Asks the source about old values that it is believed to have.
    fn prove(&mut self, unproven: &[ObjectId]) -> Result<(), RemotesError> {
        if unproven.is_empty() {
            return Ok(());
        }
        self.known.extend(self.supply.known(unproven)?);
        match unproven.iter().find(|id| !self.known.contains(*id)) {
            Some(object) => Err(RemotesError::Forgotten { source_url: self.source_url.clone(), object: *object }),
            None => Ok(()),
        }
    }

    /// A push of refs among what the target has.
    pub(super) fn push_moves(&mut self, commands: &[Command]) -> Result<PushReport, RemotesError> {
        let unproven = self.unproven(commands)?;
        self.prove(&unproven)?;
        self.push_empty(commands)
    }

    pub(super) fn push_empty(&mut self, commands: &[Command]) -> Result<PushReport, RemotesError> {
        let pack = empty_pack(self.there.format);
        self.push(commands, Some(&mut |out| Ok(out.write_all(&pack)?)))
    }

    pub(super) fn push(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
    ) -> Result<PushReport, RemotesError> {
        self.task.before_push()?;
        push(&mut self.receive, commands, pack, self.atomic)
    }
}

/// Says how large a file may be, where a pack is refused and the provider is known to have such a limit: the pack flows
/// through unread, so that it cannot be told beforehand.
fn with_blob_limit(error: RemotesError, limit: Option<u64>) -> RemotesError {
    match (error, limit) {
        (RemotesError::Unpack { target_url, reason }, Some(limit)) => {
            let reason = format!("{reason} (files there may have {limit} bytes)");
            RemotesError::Unpack { target_url, reason }
        }
        (error, _) => error,
    }
}
