//! Judging a push: all checks that do not depend on concurrent pushes. Blocking.

use std::io::BufRead;
use std::path::Path;

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::authorization::authorize_early;
use super::decide::{Fact, decide};
use super::judged::Judged;
use super::objects::{Connected, Objects};
use super::policy::PushPolicy;
use super::rejection::{Refused, Rejection};
use super::room::Room;
use super::state::PushState;
use crate::ledger::change::Actor;
use crate::region::new_pack::NewPack;
use crate::region::{RegionError, Result};
use gitferry_git::fsck;
use gitferry_git::lfs::MAX_POINTERS;
use gitferry_git::pack::{CheckProgress, PackError};
use gitferry_git::receive_pack::{
    Command, HookInput, IngestError, IngestOptions, PushRequest, Quarantine, Received, ReceivedPack,
    check_special_blobs, ingest,
};

/// Progress of a push. Any thread may read it, or cancel the push.
#[derive(Debug, Default)]
pub struct PushProgress {
    /// Progress of receiving the pack.
    pub arriving: CheckProgress,
    /// Progress of checking the pack.
    pub checking: CheckProgress,
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
    let mut judged = Judged::new(request.commands.iter().map(|command| first_fact(state, policy, command)).collect());
    let is_refused = |fact: &Fact| fact.refused.is_some();
    if judged.facts.iter().all(is_refused) || request.capabilities.atomic && judged.facts.iter().any(is_refused) {
        // The pack would change nothing.
        return Ok(judged);
    }
    let push = Push { state, policy, request, actor, spool };
    match push.check(input, progress, &mut judged) {
        Ok(()) => {}
        Err(Stop::Refused(rejection, reason)) => judged.refuse_all(rejection, reason),
        Err(Stop::Failed(error)) => return Err(error),
    }
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

/// A push, with the state and policy that it is judged by.
struct Push<'a> {
    state: &'a PushState,
    policy: &'a PushPolicy,
    request: &'a PushRequest,
    actor: &'a str,
    spool: &'a Path,
}

/// End of the checks before the last one.
enum Stop {
    /// The pack is refused, and all commands with it.
    Refused(Rejection, String),
    /// The push cannot be judged.
    Failed(RegionError),
}

impl From<RegionError> for Stop {
    fn from(error: RegionError) -> Self {
        Stop::Failed(error)
    }
}

impl From<PackError> for Stop {
    fn from(error: PackError) -> Self {
        Stop::Failed(error.into())
    }
}

impl Push<'_> {
    /// Receives and checks the pack, and completes the facts about the commands.
    fn check(
        &self,
        input: &mut dyn BufRead,
        progress: &PushProgress,
        judged: &mut Judged,
    ) -> std::result::Result<(), Stop> {
        let commands = &self.request.commands;
        let room = Room::of(self.state, self.policy);
        let options = IngestOptions { limits: room.limits(self.policy), rules: self.policy.rules.clone() };
        let Received { pack, checker } = self.receive(input, &options, &room, progress)?;
        // A push that brings no objects takes no room.
        if let Some(pack) = pack.as_ref().filter(|pack| pack.checked.objects > 0) {
            let reserved = room.reserve(pack.checked.bytes);
            judged.reserved = reserved.map_err(|reason| Stop::Refused(Rejection::Quota, reason))?;
        }
        let objects = Objects::new(self.state, pack.as_ref(), commands, self.spool)?;
        // Malformed objects are known before connectivity is.
        let checker = match checker {
            Some(checker) if checker.errors() > 0 => {
                let refused = report(&objects, &checker.into_report(), judged);
                assert!(refused.is_err(), "a report with errors refuses the push");
                return refused;
            }
            checker => checker,
        };
        if pack.as_ref().is_some_and(|pack| pack.checked.pointers.more) {
            let reason = format!("pack: more than {MAX_POINTERS} pointers of Git LFS");
            return Err(Stop::Refused(Rejection::Pack, reason));
        }
        let Connected { closed, failed } = objects.connect(commands, judged)?;
        if let Some(checker) = checker {
            let is_visible = |id: &ObjectId| objects.needs(id) && !failed.contains(id);
            let findings = check_special_blobs(checker, objects.new_objects(), &self.state.view, &is_visible)?;
            report(&objects, &findings, judged)?;
        }
        objects.check_depths(commands, judged)?;
        objects.check_steps(self.policy, commands, &mut judged.facts)?;
        self.ask_hook(pack.as_ref(), judged)?;
        judged.pointers = objects.new_pointers()?;
        drop(objects);
        judged.pack = pack.map(|pack| {
            let ReceivedPack { file, index, checked, crc64, index_crc64, .. } = pack;
            NewPack { file, index, checked, crc64, index_crc64, closed }
        });
        Ok(())
    }

    /// Receives the pack, if the push has one.
    fn receive<'o>(
        &self,
        input: &mut dyn BufRead,
        options: &'o IngestOptions,
        room: &Room<'_>,
        progress: &PushProgress,
    ) -> std::result::Result<Received<'o>, Stop> {
        if !self.request.has_pack() {
            return Ok(Received::default());
        }
        let near: Vec<ObjectId> = self.request.commands.iter().filter_map(|command| command.old).collect();
        let received =
            ingest(input, &self.state.view, &near, options, self.spool, &progress.arriving, &progress.checking);
        received.map_err(|error| match error {
            IngestError::Held(error) => error.into(),
            error if room.is_exceeded(self.policy, &error) => Stop::Refused(Rejection::Quota, room.refusal()),
            error if error.kind() == gitferry_base::Kind::Environment => {
                tracing::error!(%error, "a push could not be stored");
                Stop::Refused(Rejection::Server, error.for_client())
            }
            error => Stop::Refused(Rejection::Pack, error.for_client()),
        })
    }

    /// Asks the hook about the commands that would be accepted otherwise.
    fn ask_hook(&self, received: Option<&ReceivedPack>, judged: &mut Judged) -> Result<()> {
        let Some(hook) = &self.policy.hook else { return Ok(()) };
        let decision =
            decide(&self.request.commands, &judged.facts, self.state, self.policy, self.request.capabilities.atomic);
        let done = self.request.commands.iter().zip(&decision.outcomes).filter(|(_, outcome)| outcome.is_ok());
        let commands: Vec<Command> = done.map(|(command, _)| command.clone()).collect();
        if commands.is_empty() {
            return Ok(());
        }
        let held = self.state.local.packs.iter().map(|pack| (pack.pack.clone(), pack.index.clone()));
        let new = received.map(|pack| (&*pack.file, &*pack.index));
        let quarantine = Quarantine::create(self.spool, &self.state.view, held, new).map_err(RegionError::Io)?;
        let push = HookInput {
            repository: &self.state.item.head.name,
            actor: Actor::parse(self.actor).name(),
            format: self.state.view.format,
            commands: &commands,
            options: &self.request.options,
            quarantine: &quarantine,
            view: &self.state.view,
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
}

/// Reports malformed objects with their places in the push. Stops if they refuse the push.
fn report(objects: &Objects<'_>, report: &fsck::Report, judged: &mut Judged) -> std::result::Result<(), Stop> {
    let places = objects.places_of_findings(report)?;
    judged.report_findings(report, &places).map_err(|reason| Stop::Refused(Rejection::Pack, reason))
}
