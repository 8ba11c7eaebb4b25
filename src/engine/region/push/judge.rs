//! Judging a push: all checks that do not depend on concurrent pushes. Blocking.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;
use std::path::Path;

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::Kind;

use super::authorization::{self, authorize, authorize_early};
use super::decide::{Fact, decide};
use super::policy::PushPolicy;
use super::quota::Reserved;
use super::rejection::{Refused, Rejection};
use super::room::Room;
use super::state::PushState;
use crate::ledger::change::Actor;
use crate::region::new_pack::NewPack;
use crate::region::{RegionError, Result};
use gitferry_base::printable::Printable;
use gitferry_git::connectivity::missing_from;
use gitferry_git::fsck::{self, Severity};
use gitferry_git::lfs::{MAX_POINTERS, Pointer};
use gitferry_git::pack::{CheckProgress, PackError, PackSet};
use gitferry_git::receive_pack::{
    Command, HookInput, IngestError, IngestOptions, PlaceInPush, PushRequest, Quarantine, Received, ReceivedPack,
    Required, TooDeep, check_special_blobs, ingest, is_ancestor, places_of, too_deep, unproven,
};

/// Most commands for which missing objects are attributed to single commands; a larger push is refused as a whole.
pub const MAX_SEPARATE_WALKS: usize = 256;
/// Most findings that are reported to a client.
const MAX_REPORTED_FINDINGS: usize = 20;
const MISSING: &str = "missing necessary objects";

/// Progress of a push. Any thread may read it, or cancel the push.
#[derive(Debug, Default)]
pub struct PushProgress {
    /// Progress of receiving the pack.
    pub arriving: CheckProgress,
    /// Progress of checking the pack.
    pub checking: CheckProgress,
}

/// Result of judging a push.
#[derive(Debug)]
pub struct Judged {
    /// One fact for each command.
    pub facts: Vec<Fact>,
    /// The pack, in quarantine.
    pub(crate) pack: Option<NewPack>,
    /// LFS pointers in blobs that are new to the client: sorted, each once.
    pub(crate) pointers: Vec<Pointer>,
    /// Error that concerns the pack as a whole.
    pub unpack: std::result::Result<(), String>,
    /// Messages for the client's user.
    pub messages: Vec<String>,
    /// Room for the pack, if quotas limit it.
    pub reserved: Option<Reserved>,
}

/// Receives the pack of a push and judges it. Faults of the push are in the result; an error means that the push could
/// not be judged. `spool` is the folder for files of the quarantine.
pub fn judge(
    state: &PushState,
    policy: &PushPolicy,
    request: &PushRequest,
    actor: &str,
    input: &mut dyn BufRead,
    spool: &Path,
    progress: &PushProgress,
) -> Result<Judged> {
    let mut judged = Judged {
        facts: request.commands.iter().map(|command| first_fact(state, policy, command)).collect(),
        pack: None,
        pointers: Vec::new(),
        unpack: Ok(()),
        messages: Vec::new(),
        reserved: None,
    };
    let is_refused = |fact: &Fact| fact.refused.is_some();
    if judged.facts.iter().all(is_refused) || request.capabilities.atomic && judged.facts.iter().any(is_refused) {
        // The pack would change nothing.
        return Ok(judged);
    }
    let near: Vec<ObjectId> = request.commands.iter().filter_map(|command| command.old).collect();
    let room = Room::of(state, policy);
    let options = IngestOptions { limits: room.limits(policy), rules: policy.rules.clone() };
    let mut received = Received::default();
    if request.has_pack() {
        match ingest(input, &state.view, &near, &options, spool, &progress.arriving, &progress.checking) {
            Ok(some) => received = some,
            Err(IngestError::Held(error)) => return Err(error.into()),
            Err(error) if room.is_exceeded(policy, &error) => {
                judged.refuse_all(Rejection::Quota, room.refusal());
                return Ok(judged);
            }
            Err(error) => {
                let mut rejection = Rejection::Pack;
                if error.kind() == gitferry_base::Kind::Environment {
                    tracing::error!(%error, "a push could not be stored");
                    rejection = Rejection::Server;
                }
                judged.refuse_all(rejection, error.for_client());
                return Ok(judged);
            }
        }
    }
    let Received { pack, checker } = received;
    // A push that brings no objects takes no room.
    if let Some(pack) = pack.as_ref().filter(|pack| pack.checked.objects > 0) {
        match room.reserve(pack.checked.bytes) {
            Ok(reserved) => judged.reserved = reserved,
            Err(reason) => {
                judged.refuse_all(Rejection::Quota, reason);
                return Ok(judged);
            }
        }
    }
    // Malformed objects are known before connectivity is.
    let checker = match checker {
        Some(checker) if checker.errors() > 0 => {
            let report = checker.into_report();
            let objects = Objects::new(state, pack.as_ref(), &request.commands, spool)?;
            let Err(reason) = judged.report_findings(&report, &objects.places_of_findings(&report)?) else {
                unreachable!("a report with errors refuses the push");
            };
            judged.refuse_all(Rejection::Pack, reason);
            return Ok(judged);
        }
        checker => checker,
    };
    if pack.as_ref().is_some_and(|pack| pack.checked.pointers.more) {
        judged.refuse_all(Rejection::Pack, format!("pack: more than {MAX_POINTERS} pointers of Git LFS"));
        return Ok(judged);
    }
    let objects = Objects::new(state, pack.as_ref(), &request.commands, spool)?;
    let Connected { closed, failed } = objects.connect(&request.commands, &mut judged)?;
    if let Some(checker) = checker {
        let is_visible = |id: &ObjectId| objects.needs(id) && !failed.contains(id);
        let findings = check_special_blobs(checker, &objects.new, &state.view, &is_visible)?;
        if let Err(reason) = judged.report_findings(&findings, &objects.places_of_findings(&findings)?) {
            judged.refuse_all(Rejection::Pack, reason);
            return Ok(judged);
        }
    }
    objects.check_depths(&request.commands, &mut judged)?;
    objects.check_steps(policy, &request.commands, &mut judged.facts)?;
    ask_hook(state, policy, request, actor, spool, pack.as_ref(), &mut judged)?;
    judged.pointers = objects.new_pointers()?;
    drop(objects);
    judged.pack = pack.map(|pack| {
        let ReceivedPack { file, index, checked, crc64, index_crc64, .. } = pack;
        NewPack { file, index, checked, crc64, index_crc64, closed }
    });
    Ok(judged)
}

fn first_fact(state: &PushState, policy: &PushPolicy, command: &Command) -> Fact {
    let name = command.name.as_bstr();
    let leads_to = state.refs.follow(name).filter(|target| *target != name).map(ToOwned::to_owned);
    let mut fact = Fact { leads_to, ..Fact::default() };
    if let Some(authorizer) = &policy.authorizer {
        fact.refused = authorize_early(&**authorizer, command, &fact.names(command));
    }
    fact
}

impl Judged {
    /// Refuses all commands because of the pack.
    fn refuse_all(&mut self, rejection: Rejection, reason: String) {
        self.unpack = Err(reason);
        self.pack = None;
        for fact in &mut self.facts {
            fact.refused = Some(Refused::new(rejection, "unpacker error"));
        }
    }

    /// Reports malformed objects with their places in the push. Fails if they refuse the push.
    fn report_findings(&mut self, report: &fsck::Report, places: &Places) -> std::result::Result<(), String> {
        for finding in report.findings.iter().take(MAX_REPORTED_FINDINGS) {
            let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
            let place = places.get(&finding.id).map(|place| format!("; it is {}", Printable(place)));
            self.messages.push(format!("{severity}: {finding}{}", place.unwrap_or_default()));
        }
        if report.errors == 0 {
            return Ok(());
        }
        let first = report.findings.iter().find(|finding| finding.severity == Severity::Error);
        let first = first.map_or_else(|| "objects are malformed".to_owned(), ToString::to_string);
        let more = match report.errors - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        Err(format!("{first}{more}"))
    }
}

/// Places of objects in a push.
type Places = HashMap<ObjectId, PlaceInPush>;

/// The objects of a push and of the repository.
struct Objects<'a> {
    state: &'a PushState,
    new: PackSet,
    received: Option<&'a ReceivedPack>,
    /// Objects that refs will name.
    tips: Vec<ObjectId>,
    /// Objects that refs name now, as the client claims.
    near: Vec<ObjectId>,
}

/// Result of the connectivity check.
struct Connected {
    /// True if every link of the pack leads into closed packs.
    closed: bool,
    /// Objects that are needed and not reachable from refs that the client sees.
    failed: HashSet<ObjectId>,
}

impl<'a> Objects<'a> {
    fn new(
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
    fn places_of_findings(&self, report: &fsck::Report) -> Result<Places> {
        let reported = report.findings.iter().take(MAX_REPORTED_FINDINGS).map(|finding| finding.id);
        self.places(reported.collect())
    }

    fn places(&self, wanted: HashSet<ObjectId>) -> Result<Places> {
        if wanted.is_empty() {
            return Ok(Places::new());
        }
        Ok(places_of(wanted, &self.new, self.tips.iter().copied())?)
    }

    /// Returns true if the pack links to an object that it does not bring.
    fn needs(&self, id: &ObjectId) -> bool {
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
    fn new_pointers(&self) -> Result<Vec<Pointer>> {
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
    fn connect(&self, commands: &[Command], judged: &mut Judged) -> Result<Connected> {
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
    fn check_depths(&self, commands: &[Command], judged: &mut Judged) -> Result<()> {
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
    fn check_steps(&self, policy: &PushPolicy, commands: &[Command], facts: &mut [Fact]) -> Result<()> {
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

/// Asks the hook about the commands that would be accepted otherwise.
fn ask_hook(
    state: &PushState,
    policy: &PushPolicy,
    request: &PushRequest,
    actor: &str,
    spool: &Path,
    received: Option<&ReceivedPack>,
    judged: &mut Judged,
) -> Result<()> {
    let Some(hook) = &policy.hook else { return Ok(()) };
    let decision = decide(&request.commands, &judged.facts, state, policy, request.capabilities.atomic);
    let done = request.commands.iter().zip(&decision.outcomes).filter(|(_, outcome)| outcome.is_ok());
    let commands: Vec<Command> = done.map(|(command, _)| command.clone()).collect();
    if commands.is_empty() {
        return Ok(());
    }
    let held = state.local.packs.iter().map(|pack| (pack.pack.clone(), pack.index.clone()));
    let new = received.map(|pack| (&*pack.file, &*pack.index));
    let quarantine = Quarantine::create(spool, &state.view, held, new).map_err(RegionError::Io)?;
    let push = HookInput {
        repository: &state.item.head.name,
        actor: Actor::parse(actor).name(),
        format: state.view.format,
        commands: &commands,
        options: &request.options,
        quarantine: &quarantine,
        view: &state.view,
    };
    let declined = match hook.judge(&push) {
        Ok(verdict) => {
            judged.messages.extend(verdict.output);
            (!verdict.accepted).then(|| Refused::new(Rejection::Hook, "pre-receive hook declined"))
        }
        Err(error) => {
            tracing::error!(%error, repository = push.repository, "the pre-receive hook failed; the push is declined");
            judged.messages.push(format!("error: {error}"));
            Some(Refused::new(Rejection::HookFailed, "pre-receive hook failed"))
        }
    };
    if let Some(refused) = declined {
        judged.facts.iter_mut().for_each(|fact| fact.refused = Some(refused.clone()));
    }
    Ok(())
}
