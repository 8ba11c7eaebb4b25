//! The objects of a push: connectivity, depth, and the steps that refs make with them.

use std::collections::HashSet;
use std::path::Path;

use gix::ObjectId;
use gix::objs::Kind;

use super::authorization::{self, authorize};
use super::decide::Fact;
use super::judged::{Judged, MAX_REPORTED_FINDINGS, Places};
use super::policy::PushPolicy;
use super::rejection::{Refused, Rejection};
use super::state::PushState;
use crate::region::Result;
use gitferry_base::printable::Printable;
use gitferry_git::connectivity::missing_from;
use gitferry_git::fsck;
use gitferry_git::lfs::Pointer;
use gitferry_git::pack::{PackError, PackSet};
use gitferry_git::receive_pack::{
    Command, ReceivedPack, Required, TooDeep, is_ancestor, places_of, too_deep, unproven,
};

/// Most commands for which missing objects are attributed to single commands; a larger push is refused as a whole.
pub const MAX_SEPARATE_WALKS: usize = 256;
const MISSING: &str = "missing necessary objects";

/// The objects of a push and of the repository.
pub(super) struct Objects<'a> {
    state: &'a PushState,
    /// Objects that the push brings.
    new: PackSet,
    received: Option<&'a ReceivedPack>,
    /// Objects that refs will name.
    tips: Vec<ObjectId>,
    /// Objects that refs name now, as the client claims.
    near: Vec<ObjectId>,
}

/// Result of the connectivity check.
pub(super) struct Connected {
    /// True if every link of the pack leads into closed packs.
    pub closed: bool,
    /// Objects that are needed and not reachable from refs that the client sees.
    pub failed: HashSet<ObjectId>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(
        state: &'a PushState,
        received: Option<&'a ReceivedPack>,
        commands: &[Command],
        spool: &Path,
    ) -> Result<Self> {
        let mut new = PackSet::new(state.view.format).with_spool(spool.to_owned());
        if let Some(pack) = received {
            new.add(&pack.file, &pack.index)?;
        }
        let tips = commands.iter().filter_map(|command| command.new).collect();
        let near = commands.iter().filter_map(|command| command.old).collect();
        Ok(Objects { state, new, received, tips, near })
    }

    /// Returns the places of the reported objects.
    pub(super) fn places_of_findings(&self, report: &fsck::Report) -> Result<Places> {
        let reported = report.findings.iter().take(MAX_REPORTED_FINDINGS).map(|finding| finding.id);
        self.places(reported.collect())
    }

    fn places(&self, wanted: HashSet<ObjectId>) -> Result<Places> {
        if wanted.is_empty() {
            return Ok(Places::new());
        }
        Ok(places_of(wanted, &self.new, self.tips.iter().copied())?)
    }

    pub(super) fn new_objects(&self) -> &PackSet {
        &self.new
    }

    /// Returns true if the pack links to an object that it does not bring.
    pub(super) fn needs(&self, id: &ObjectId) -> bool {
        self.received.is_some_and(|pack| pack.checked.unresolved.binary_search_by(|link| link.id.cmp(id)).is_ok())
    }

    /// Returns the objects of `required` that are not reachable from refs that the client sees.
    fn unproven(&self, required: &[Required]) -> Result<HashSet<ObjectId>> {
        if required.is_empty() {
            return Ok(HashSet::new());
        }
        Ok(unproven(&self.state.view, &self.new, &self.tips, &self.near, required)?)
    }

    /// Returns the pointers in blobs that are new to the client: blobs that the client sees have brought their LFS
    /// objects before, or were accepted without.
    pub(super) fn new_pointers(&self) -> Result<Vec<Pointer>> {
        let Some(pack) = self.received else { return Ok(Vec::new()) };
        let is_base = |blob: &ObjectId| pack.completed_with.binary_search(blob).is_ok();
        let found = pack.checked.pointers.found.iter().map(|found| found.blob);
        let sent_again = found.filter(|blob| !is_base(blob) && self.state.view.packs.contains(blob));
        let required: Vec<Required> = sent_again.map(|id| Required { id, kind: Some(Kind::Blob) }).collect();
        let hidden = self.unproven(&required)?;
        let is_held = |blob: &ObjectId| self.state.view.packs.contains(blob) && !hidden.contains(blob);
        Ok(pack.checked.pointers.of_blobs(|blob| !is_held(blob)))
    }

    /// Checks connectivity and refuses the commands that lack objects.
    pub(super) fn connect(&self, commands: &[Command], judged: &mut Judged) -> Result<Connected> {
        let mut required: Vec<Required> = Vec::new();
        let mut sound = true;
        if let Some(ReceivedPack { checked, .. }) = self.received {
            required.extend(checked.unresolved.iter().map(|link| Required { id: link.id, kind: Some(link.kind) }));
            sound = checked.mismatched.is_empty() && checked.unparsable_count == 0;
        }
        let outside = self.tips.iter().filter(|tip| !self.new.contains(tip));
        required.extend(outside.map(|tip| Required { id: *tip, kind: None }));
        let failed = self.unproven(&required)?;
        if sound && failed.is_empty() {
            return Ok(Connected { closed: self.is_closed(), failed });
        }
        self.refuse_incomplete(commands, judged, &failed)?;
        Ok(Connected { closed: false, failed })
    }

    /// Returns true if everything that the pack needs is in closed packs.
    fn is_closed(&self) -> bool {
        let Some(received) = self.received else { return true };
        let closed = self.state.local.packs.iter().map(|pack| pack.live.closed);
        let indices: Vec<_> =
            self.state.view.packs.indices().zip(closed).filter(|(_, closed)| *closed).map(|(index, _)| index).collect();
        let held = |id: &ObjectId| indices.iter().any(|index| index.row_of(id).is_some());
        received.checked.unresolved.iter().all(|link| held(&link.id))
    }

    /// Refuses the commands whose objects need an object in `failed`, or take an object for another type.
    ///
    /// The message about the first such object follows from the pack alone, so hidden objects are not revealed.
    fn refuse_incomplete(&self, commands: &[Command], judged: &mut Judged, failed: &HashSet<ObjectId>) -> Result<()> {
        let together = commands.len() > MAX_SEPARATE_WALKS;
        let proven = |id: &gix::oid| !failed.contains(id) && !self.new.contains(id);
        let mut reported = Vec::new();
        for (command, fact) in commands.iter().zip(&mut judged.facts) {
            let Some(new) = command.new else { continue };
            let name = command.name.to_string();
            let missing = if together { Vec::new() } else { missing_from([(name, new)], &self.new, &proven)? };
            if fact.refused.is_none() && (together || !missing.is_empty()) {
                fact.refused = Some(Refused::new(Rejection::Objects, MISSING));
            }
            let more = MAX_REPORTED_FINDINGS.saturating_sub(reported.len()).min(1);
            reported.extend(missing.into_iter().take(more));
        }
        let places = self.places(reported.iter().map(|missing| missing.id).collect())?;
        for missing in reported {
            let place = places.get(&missing.id).map(|place| format!("; it is {}", Printable(place)));
            judged.messages.push(format!("error: {}{}", Printable(&missing), place.unwrap_or_default()));
        }
        Ok(())
    }

    /// Refuses histories and trees that are too deep to be served afterwards.
    pub(super) fn check_depths(&self, commands: &[Command], judged: &mut Judged) -> Result<()> {
        let view = &self.state.view;
        let new = &self.new;
        let facts = &mut judged.facts;
        let tips = commands.iter().zip(&*facts).filter(|(_, fact)| fact.refused.is_none());
        let tips: Vec<ObjectId> = tips.filter_map(|(command, _)| command.new).filter(|tip| !view.is_tip(tip)).collect();
        let Some(first) = too_deep(&view.packs, new, view.format, tips)? else { return Ok(()) };
        let together = commands.len() > MAX_SEPARATE_WALKS;
        if let TooDeep::Tree(tree) = first
            && let Some(place) = self.places([tree].into())?.remove(&tree)
        {
            judged.messages.push(format!("error: {first}; it is {}", Printable(place)));
        }
        for (command, fact) in commands.iter().zip(facts).filter(|(_, fact)| fact.refused.is_none()) {
            let reason = if together { Some(first) } else { too_deep(&view.packs, new, view.format, command.new)? };
            fact.refused = reason.map(|reason| Refused::new(Rejection::Pack, reason.to_string()));
        }
        Ok(())
    }

    /// Objects from which the facts of authorization are read.
    fn facts_from(&self) -> authorization::Objects<'_> {
        let view = &self.state.view;
        authorization::Objects { arrived: &self.new, held: &view.packs, default_branch: view.head_object() }
    }

    /// Checks the steps of refs: the pusher may make them, branches must name commits, and protected refs only move
    /// forward.
    pub(super) fn check_steps(&self, policy: &PushPolicy, commands: &[Command], facts: &mut [Fact]) -> Result<()> {
        for (command, fact) in commands.iter().zip(facts).filter(|(_, fact)| fact.refused.is_none()) {
            let names = fact.names(command);
            if let Some(authorizer) = &policy.authorizer
                && let Some(refused) = authorize(&**authorizer, command, &names, self.facts_from())?
            {
                fact.refused = Some(refused);
                continue;
            }
            let Some(new) = command.new else { continue };
            if names.iter().any(|name| name.starts_with(b"refs/heads/")) && self.kind(&new)? != Some(Kind::Commit) {
                fact.refused = Some(Refused::new(Rejection::Objects, "a branch must name a commit"));
                continue;
            }
            let guarded =
                policy.protections.iter().any(|p| p.no_force && names.iter().any(|name| p.refs.matches(name)));
            if let (true, Some(old)) = (guarded, command.old) {
                fact.fast_forward = Some(is_ancestor(&old, &new, [&self.new, &*self.state.view.packs])?);
            }
        }
        Ok(())
    }

    fn kind(&self, id: &ObjectId) -> Result<Option<Kind>> {
        for set in [&self.new, &*self.state.view.packs] {
            if let Some(location) = set.locate(id) {
                let finder = set.finder().map_err(|fault| PackError { path: "?".into(), fault })?;
                return Ok(Some(finder.kind(location)?));
            }
        }
        Ok(None)
    }
}
