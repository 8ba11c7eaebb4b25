//! The target of a pass: what is known of its refs and objects, and the one way to change them.

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::hash::Kind as Format;

use super::checkpoint::hash;
use super::error::MirrorError;
use super::lease::Fence;
use super::plan::TargetObjects;
use super::push::{PackSource, push};
use gitferry_engine::ledger::hash::{Lattice, RefsDigest};
use gitferry_git::client::{PushReport, ReceivePack, RemoteRefs, Server, empty_pack};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefValue;
use gitferry_git::view::RefTable;

/// Refusals of single commands, and the commands pushed with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atomicity {
    /// The target accepts and refuses each command for itself.
    EachRef,
    /// One refused command refuses all. The target has to support that.
    AllOrNone,
}

/// Target of a pass. [`Target::push`] is the only function that changes its refs, and records what the target accepts.
pub(super) struct Target<'p> {
    server: &'p dyn Server,
    /// Refs before the first push.
    before: &'p RemoteRefs,
    receive: ReceivePack<'p>,
    objects: TargetObjects<'p>,
    /// Hash of the refs before the first push and of all commands that were accepted since.
    hash: Lattice,
    /// Asked for permission before each push.
    fence: Option<&'p dyn Fence>,
}

impl<'p> Target<'p> {
    /// A target with these refs, and the connection that has advertised them.
    pub fn new(
        server: &'p dyn Server,
        before: &'p RemoteRefs,
        receive: ReceivePack<'p>,
        fence: Option<&'p dyn Fence>,
    ) -> Self {
        let objects = TargetObjects::of(&before.refs);
        Target { server, before, receive, objects, hash: hash(&before.refs, None), fence }
    }

    pub fn server(&self) -> &'p dyn Server {
        self.server
    }

    pub fn url(&self) -> &'p str {
        self.server.url()
    }

    pub fn format(&self) -> Format {
        self.before.format
    }

    /// Refs before the first push.
    pub fn refs_before(&self) -> &'p RefTable {
        &self.before.refs
    }

    /// Objects that the target is known to have.
    pub fn objects(&self) -> &TargetObjects<'p> {
        &self.objects
    }

    /// Objects that the target advertises as `.have`.
    pub fn extra_haves(&self) -> &[ObjectId] {
        self.receive.extra_haves()
    }

    /// Commits of the target whose parents it does not have.
    pub fn shallow(&self) -> &[ObjectId] {
        self.receive.shallow()
    }

    /// Returns true if the target advertises this capability for pushes.
    pub fn can(&self, capability: &str) -> bool {
        self.receive.capabilities().has(capability)
    }

    /// Digest of the refs, as far as this pass knows them.
    pub fn digest(&self) -> RefsDigest {
        self.hash.digest()
    }

    /// Asks the fence for permission to change the target.
    ///
    /// # Errors
    /// Those of [`Fence::before_push`]; the pass must not change the target any more.
    pub fn check_fence(&self) -> Result<(), MirrorError> {
        self.fence.map_or(Ok(()), Fence::before_push)
    }

    /// Pushes commands, and records those that the target accepts.
    ///
    /// # Errors
    /// Those of the fence before anything is sent, those of the connection, and refusals of the whole push.
    pub fn push(
        &mut self,
        commands: &[Command],
        pack: Option<PackSource<'_>>,
        atomicity: Atomicity,
    ) -> Result<PushReport, MirrorError> {
        self.check_fence()?;
        let report = push(&mut self.receive, commands, pack, atomicity == Atomicity::AllOrNone)?;
        self.record(commands, &report, atomicity);
        Ok(report)
    }

    /// Pushes commands that move refs only among objects of the target, with an empty pack.
    pub fn push_empty(&mut self, commands: &[Command], atomicity: Atomicity) -> Result<PushReport, MirrorError> {
        let pack = empty_pack(self.format());
        self.push(commands, Some(&mut |out| Ok(out.write_all(&pack)?)), atomicity)
    }

    /// Pushes deletions, without a pack.
    pub fn push_deletions(&mut self, commands: &[Command]) -> Result<PushReport, MirrorError> {
        debug_assert!(commands.iter().all(|command| command.new.is_none()), "only deletions go without a pack");
        self.push(commands, None, Atomicity::EachRef)
    }

    /// Records the accepted commands of a push: the only place where the known state of the target changes.
    fn record(&mut self, commands: &[Command], report: &PushReport, atomicity: Atomicity) {
        assert_eq!(report.refs.len(), commands.len(), "a report has one outcome per command that was sent");
        if atomicity == Atomicity::AllOrNone && !report.is_ok() {
            return;
        }
        for (command, outcome) in commands.iter().zip(&report.refs) {
            assert_eq!(command.name, outcome.name, "the outcomes of a report are in the order of the commands");
            if outcome.result.is_err() {
                continue;
            }
            let old = command.old.map(RefValue::Object);
            let new = command.new.map(RefValue::Object);
            self.hash.edit(&command.name, old.as_ref(), new.as_ref());
            if let Some(new) = command.new {
                self.objects.add(new);
            }
        }
    }

    /// Reads the target's refs again. Returns the names of those refs whose values are not the old values of these
    /// commands.
    pub fn moved_meanwhile(&mut self, commands: &[Command]) -> Result<Vec<String>, MirrorError> {
        let unmoved = |command: &Command| Command { name: command.name.clone(), old: None, new: command.old };
        let unmoved: Vec<Command> = commands.iter().map(unmoved).collect();
        let report = self.receive.confirm(&unmoved)?;
        let moved = report.refs.iter().filter(|outcome| outcome.result.is_err());
        Ok(moved.map(|outcome| outcome.name.as_bstr().to_string()).collect())
    }
}
