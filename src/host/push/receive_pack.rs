//! Receive-pack on the thread of a push: commands, policy, pack, commit, report.

use std::io::{self, BufRead};
use std::sync::Arc;

use gix::hash::Kind as Format;
use tokio::runtime::Handle;

use super::policies::PushPolicies;
use super::states::{CommitQueues, PushTarget, QueuedStates};
use crate::admission::ComputePermit;
use crate::announcer::Announcer;
use crate::auth::Principal;
use crate::exchange::Exchange;
use crate::exchange::response_body::Sender;
use crate::metrics::Metrics;
use crate::quotas::Quotas;
use crate::views::Views;
use gitferry_audit::{Entry, Reference, References};
use gitferry_engine::region::push::{PushPolicy, PushStates as _, Pushed, Rejection, Serving};
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::protocol::{PacketReader, PacketWriter};
use gitferry_git::receive_pack::{Command, HookError, HookInput, HookVerdict, Outcome, PreReceive, PushRequest};

/// Receives pushes into the repositories of a region.
#[derive(Debug)]
pub struct ReceivePack {
    region: Region,
    views: Arc<Views>,
    policies: Arc<PushPolicies>,
    announcer: Announcer,
    metrics: Arc<Metrics>,
    queues: CommitQueues,
    quotas: Arc<Quotas>,
}

/// A push whose commands have not been read yet.
#[derive(Debug)]
pub struct Push {
    /// Principal in whose name the change is made, and who may change its refs.
    pub principal: Principal,
    /// Name of the repository.
    pub repository: String,
    /// Object format of the repository with which the push began.
    pub format: Format,
    /// Target of the push.
    pub target: PushTarget,
    /// Entry of the request in the audit trail.
    pub entry: Entry,
}

impl ReceivePack {
    /// Receives pushes under `policies`, and announces the changes that they commit.
    pub fn new(
        region: Region,
        views: Arc<Views>,
        policies: Arc<PushPolicies>,
        announcer: Announcer,
        metrics: Arc<Metrics>,
        quotas: Arc<Quotas>,
    ) -> Arc<Self> {
        Arc::new(ReceivePack { region, views, policies, announcer, metrics, queues: CommitQueues::default(), quotas })
    }

    /// Policies of the repositories.
    pub fn policies(&self) -> &PushPolicies {
        &self.policies
    }

    /// Receives a push and writes its report.
    pub fn run(&self, push: Push, exchange: Exchange) {
        let Exchange { mut input, mut output, compute, runtime } = exchange;
        let Push { principal, repository, format, target, entry } = push;
        let mirror = self.policies.of(&repository).mirror;
        let views = &*self.views;
        let queues = &self.queues;
        let states = QueuedStates { target, name: &repository, mirror, views, queues, compute: &compute };
        let actor = principal.actor();
        let receiving = Receiving {
            receive_pack: self,
            principal: &principal,
            actor: &actor,
            format,
            compute: &compute,
            runtime: &runtime,
            entry: &entry,
        };
        match receiving.receive(&states, &mut input, &mut output) {
            Ok(()) => {
                // The change is committed, even if the client does not receive the end of the response.
                let _ = output.finish();
                input.drain();
            }
            Err(error) => {
                tracing::debug!(repository, %error, "a push ended early");
                entry.aborted("the push ended early: the client hung up, or the host failed");
                output.fail(error.to_string());
            }
        }
    }
}

/// A push on its thread.
struct Receiving<'a> {
    receive_pack: &'a ReceivePack,
    principal: &'a Principal,
    /// Actor of the change in the ledger.
    actor: &'a str,
    format: Format,
    compute: &'a Arc<ComputePermit>,
    runtime: &'a Handle,
    entry: &'a Entry,
}

impl Receiving<'_> {
    fn receive(
        &self,
        states: &QueuedStates<'_>,
        input: &mut (impl BufRead + Send),
        output: &mut Sender,
    ) -> io::Result<()> {
        let ReceivePack { region, views, announcer, .. } = self.receive_pack;
        let runtime = self.runtime;
        let state = match runtime.block_on(states.state()) {
            Err(error @ RegionError::Replaced { .. }) => return self.report_replaced(&error, input, output),
            state => state.map_err(io::Error::other)?,
        };
        let policy = self.policy(&state.item.head.name);
        let request = match PushRequest::read(&mut PacketReader::new(&mut *input), state.view.format) {
            Ok(Some(request)) => request,
            // A client that only probes its access sends no commands.
            Ok(None) => return Ok(()),
            Err(error) => {
                let reason = error.to_string();
                self.entry.refused("ValidationException", &reason);
                return PacketWriter::new(output).error(&reason);
            }
        };
        let serving = Serving { region, runtime, policy: &policy, actor: self.actor, request: &request };
        serving.serve_and_record(states, input, output, &mut |pushed| {
            self.record(&request, pushed);
            if let Some(item) = &pushed.item {
                let _within = runtime.enter();
                views.committed(item, state.manifest.packs.len() + 1);
                announcer.committed(item);
            }
        })?;
        Ok(())
    }

    /// The policy of a repository, with what the principal may do on single refs and the quotas on packs. Its hook is
    /// asked without holding the permit to compute.
    fn policy(&self, repository: &str) -> Arc<PushPolicy> {
        let policy = self.receive_pack.policies.of(repository);
        let authorizer = self.principal.on_refs(repository);
        let storage = self.receive_pack.quotas.on_packs();
        if authorizer.is_none() && storage.is_none() && policy.hook.is_none() {
            return policy.clone();
        }
        let hook = policy
            .hook
            .clone()
            .map(|hook| -> Arc<dyn PreReceive> { Arc::new(ReleasingHook { hook, compute: self.compute.clone() }) });
        Arc::new(PushPolicy { authorizer, storage, hook, ..PushPolicy::clone(policy) })
    }

    /// Records the outcome of a push in the metrics and the audit trail.
    fn record(&self, request: &PushRequest, pushed: &Pushed) {
        self.receive_pack.metrics.pushed(request, pushed);
        self.entry.references(references(request, pushed));
        if request.has_pack() {
            self.entry.data_transferred();
        }
        if let Some(item) = &pushed.item {
            self.entry.repository_id(item.id);
        }
        let Some(rejection) = pushed.rejection else { return self.entry.succeeded() };
        let code = if rejection == Rejection::Unauthorized { "AccessDenied" } else { "PushRejected" };
        let reason = pushed.report.refs.iter().find_map(|outcome| outcome.result.as_ref().err());
        let reason = reason.or_else(|| pushed.report.unpack.as_ref().err());
        self.entry.refused(code, reason.map_or(rejection.name(), String::as_str));
    }

    /// Reports that the repository was replaced before the push was read, in the form that the client asked for.
    fn report_replaced(
        &self,
        error: &RegionError,
        input: &mut (impl BufRead + Send),
        output: &mut Sender,
    ) -> io::Result<()> {
        let ReceivePack { region, .. } = self.receive_pack;
        match PushRequest::read(&mut PacketReader::new(input), self.format) {
            Ok(Some(request)) => {
                let policy = &PushPolicy::default();
                let serving = Serving { region, runtime: self.runtime, policy, actor: self.actor, request: &request };
                let failed = serving.failed(error);
                self.record(&request, &failed);
                failed.report.write(&request.capabilities, output)
            }
            Ok(None) => Ok(()),
            Err(error) => PacketWriter::new(output).error(&error.to_string()),
        }
    }
}

/// The refs of a push with their outcomes. A pack that was refused refuses all of them.
fn references(request: &PushRequest, pushed: &Pushed) -> References {
    let unpack = pushed.report.unpack.as_ref().err();
    let of = |(command, outcome): (&Command, &Outcome)| Reference {
        name: command.name.to_string(),
        old: command.old.map(|id| id.to_string()),
        new: command.new.map(|id| id.to_string()),
        refused: outcome.result.as_ref().err().or(unpack).cloned(),
    };
    References::of(request.commands.iter().zip(&pushed.report.refs).map(of))
}

/// A hook during which the push releases its permit to compute.
#[derive(Debug)]
struct ReleasingHook {
    hook: Arc<dyn PreReceive>,
    compute: Arc<ComputePermit>,
}

impl PreReceive for ReleasingHook {
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError> {
        self.compute.release_while(|| self.hook.judge(push))
    }
}
