//! The objects of a pass: where they come from, and which of them the source is known to have.

use gix::ObjectId;
use gix::bstr::{BStr, BString};

use super::error::MirrorError;
use super::find_haves::{Common, Found, Search};
use super::known_objects::KnownObjects;
use super::object_source::{Negotiation, ObjectSource, Pack, PackRequest, ServerSource};
use super::plan::{Edit, all_carried};
use super::policy::RefPolicy;
use super::report::MirrorOutcome;
use super::target::Target;
use super::via::{Detour, Taken};
use gitferry_git::receive_pack::Command;
use gitferry_git::view::RefTable;

/// Refs of the source, and the policy that mirrors them.
#[derive(Clone, Copy)]
pub(super) struct SourceRefs<'p> {
    /// URL of the source.
    pub url: &'p str,
    /// Refs of the source.
    pub refs: &'p RefTable,
    /// Refs that are mirrored.
    pub policy: &'p RefPolicy,
}

impl<'p> SourceRefs<'p> {
    /// Mirrored refs with their names at the target, or with their own where that name is not valid, and their values.
    /// Valid names are `Ok`.
    pub fn carried(&self) -> impl Iterator<Item = (Result<BString, &'p BStr>, ObjectId)> + use<'p> {
        let SourceRefs { refs, policy, .. } = *self;
        refs.iter().filter_map(move |entry| {
            let id = refs.object(&entry)?;
            let name = policy.target_of(entry.name)?;
            Some((name.map_err(|_| entry.name), id))
        })
    }
}

/// Supply of a pass with objects: from the source, or from the detour's region once the pass has switched to it.
pub(super) struct ObjectSupply<'p> {
    source: SourceRefs<'p>,
    from: Box<dyn ObjectSource + 'p>,
    /// Detour that the pass may still take.
    detour: Option<&'p dyn Detour>,
    /// Detour that the pass has taken.
    taken: Option<&'p dyn Detour>,
    /// Objects that the plan's refs name and the target lacks.
    missing: Vec<ObjectId>,
    /// Objects that the source has although none of its refs names them.
    objects: KnownObjects,
}

impl<'p> ObjectSupply<'p> {
    /// Supply from the source's upload-pack. `objects` were learned while the plan was made; `missing` are the objects
    /// that the plan's refs name and the target lacks.
    pub fn new(
        source: SourceRefs<'p>,
        from: ServerSource<'p>,
        objects: KnownObjects,
        missing: Vec<ObjectId>,
        detour: Option<&'p dyn Detour>,
    ) -> Self {
        ObjectSupply { source, from: Box::new(from), detour, taken: None, missing, objects }
    }

    pub fn source(&self) -> SourceRefs<'p> {
        self.source
    }

    /// Source of the objects.
    pub fn from(&mut self) -> &mut (dyn ObjectSource + 'p) {
        &mut *self.from
    }

    /// Tips of all refs that the policy mirrors.
    pub fn all_carried(&self) -> Vec<ObjectId> {
        all_carried(self.source.refs, self.source.policy)
    }

    /// Fails if the source is shallow, so that no pack of the missing objects would be complete.
    pub fn check_whole(&mut self) -> Result<(), MirrorError> {
        self.from.check_whole(&self.missing)
    }

    /// Asks the source which of these objects it has, and records the answer.
    pub fn learn(&mut self, ids: &[ObjectId]) -> Result<(), MirrorError> {
        self.objects.add(self.from.known(ids)?);
        Ok(())
    }

    /// Records an object that the source has sent.
    pub fn add_known(&mut self, id: ObjectId) {
        self.objects.add([id]);
    }

    /// The detour, unless the pass has switched to it already.
    pub fn detour(&self) -> Option<&'p dyn Detour> {
        self.detour
    }

    /// Finds the haves for the fetch of a batch. Switches to the detour, if there is one, where the source has none of
    /// the target's objects.
    pub fn haves(
        &mut self,
        edits: &[Edit<'_>],
        wanted: usize,
        target: &Target<'_>,
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        let search = Search {
            target: target.server(),
            target_objects: target.objects(),
            extra: target.extra_haves(),
            source: self.source.refs,
            known: self.objects.known(),
        };
        let Common { haves, known, found } = search.run(edits, &mut *self.from)?;
        self.objects.add(known);
        let (how, detour) = match (found, self.detour) {
            (Found::Empty | Found::Tips, _) => return Ok(haves),
            (Found::Ancestors(count), _) => (format!("but what they are built on: {count} commits are common"), None),
            (Found::Nothing, None) => ("and nothing that they are built on: everything is sent".into(), None),
            (Found::Nothing, Some(detour)) => {
                let name = detour.name();
                let how = format!("and nothing that they are built on: region {name} finds out what the target lacks");
                (how, Some(detour))
            }
        };
        let remark = format!("the source has none of the target's tips, {how}");
        tracing::warn!(target = target.url(), wanted, "{remark}");
        outcome.remark(&remark);
        match detour {
            Some(detour) => self.switch_to(detour, haves, target, outcome),
            None => Ok(haves),
        }
    }

    /// Makes sure that histories can be split, switching to the detour if the source cannot. Returns the haves for
    /// fetches from then on.
    ///
    /// # Errors
    /// [`MirrorError::CannotSplit`], with `reason`, if there is no detour either.
    pub fn require_depth(
        &mut self,
        haves: Vec<ObjectId>,
        reason: String,
        target: &Target<'_>,
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        if self.from.supports_depth()? {
            return Ok(haves);
        }
        let Some(detour) = self.detour else {
            return Err(MirrorError::CannotSplit { target_url: target.url().into(), reason });
        };
        let name = detour.name();
        let remark = format!("the source cannot split its history, which went through region {name}");
        tracing::warn!(target = target.url(), "{remark}");
        outcome.remark(&remark);
        self.switch_to(detour, haves, target, outcome)
    }

    /// Switches to the detour for the rest of the pass. Returns the haves for fetches from there.
    fn switch_to(
        &mut self,
        detour: &'p dyn Detour,
        haves: Vec<ObjectId>,
        target: &Target<'_>,
        outcome: &mut MirrorOutcome,
    ) -> Result<Vec<ObjectId>, MirrorError> {
        assert!(self.taken.is_none(), "a pass takes its detour once");
        let search = Search {
            target: target.server(),
            target_objects: target.objects(),
            extra: target.extra_haves(),
            source: self.source.refs,
            known: self.objects.known(),
        };
        let tips = search.tips();
        let Taken { object_source, tips, bytes } =
            detour.take(&mut *self.from, &self.missing, target.server(), &tips)?;
        tracing::info!(region = detour.name(), bytes, tips = tips.len(), "fetched into a region on the way");
        self.from = object_source;
        self.detour = None;
        self.taken = Some(detour);
        outcome.bytes_via += bytes;
        self.objects.add(tips.iter().copied());
        Ok(tips.into_iter().chain(haves).collect())
    }

    /// Deletes the refs that kept objects in the detour's region. A failure is logged only; the next detour cleans up.
    pub fn end_detour(&self) {
        let Some(detour) = self.taken else { return };
        if let Err(error) = detour.leave() {
            tracing::warn!(region = detour.name(), %error, "cannot delete the detour's refs; the next detour does");
        }
    }

    /// Requests the pack for a push of these commands, and has the source prove that it has the values that they
    /// replace.
    ///
    /// # Errors
    /// [`MirrorError::SourceRegressed`] if the source has lost one of them.
    pub fn fetch(&mut self, commands: &[Command], wanted: &PackRequest) -> Result<Pack<'_>, MirrorError> {
        let unproven = self.unproven(commands)?;
        let pack = self.from.pack(wanted)?;
        let has = |id: &ObjectId| pack.common.as_ref().is_some_and(|common| common.contains(id));
        if let Some(object) = unproven.iter().find(|id| !has(id)) {
            return Err(regressed(self.source.url, *object));
        }
        self.objects.add(unproven);
        Ok(pack)
    }

    /// Has the source prove that it has the values that these commands replace, without a fetch.
    ///
    /// # Errors
    /// [`MirrorError::SourceRegressed`] if the source has lost one of them.
    pub fn prove_replaced(&mut self, commands: &[Command]) -> Result<(), MirrorError> {
        let unproven = self.unproven(commands)?;
        self.prove(&unproven)
    }

    /// Old values of these commands that the source is only assumed to have, and that the negotiation of the fetch has
    /// to prove. A source that answers in a request of its own is asked here.
    fn unproven(&mut self, commands: &[Command]) -> Result<Vec<ObjectId>, MirrorError> {
        let unproven = self.objects.unproven(commands);
        match self.from.negotiation() {
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
        self.learn(unproven)?;
        match self.objects.first_unknown(unproven) {
            Some(object) => Err(regressed(self.source.url, object)),
            None => Ok(()),
        }
    }
}

fn regressed(source_url: &str, object: ObjectId) -> MirrorError {
    MirrorError::SourceRegressed { source_url: source_url.into(), object }
}
