//! Pushes over HTTP.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::admission::ComputePermit;
use super::auth::{Access, Identity};
use super::create_on_push::CreationSite;
use super::forward;
use super::maintenance::Backpressure;
use super::route::Route;
use super::views::{OpenRepository, QueuedStates, RepositoryStates};
use super::{Exchange, Host, Refusal, body, check_content_type, git_response, spawn_request_thread};
use gitferry_engine::announce::Event;
use gitferry_engine::ledger::head::{RepositoryId, Role};
use gitferry_engine::region::RegionError;
use gitferry_engine::region::push::{PushPolicy, PushStates, Serving, Unborn};
use gitferry_git::protocol::{
    AdvertisedRefs, PacketReader, PacketWriter, Service as GitService, Version, advertise_refs, announce_service,
};
use gitferry_git::receive_pack::{CAPABILITIES, HookError, HookInput, HookVerdict, PreReceive, PushRequest};
use gitferry_git::view::View;

/// Most decompressed bytes of a compressed push. Packs are compressed already, so clients compress no push, or (JGit)
/// only one that fits a small buffer.
const MAX_INFLATED_BYTES: u64 = 1 << 30;
/// Longest wait of a push for consolidation to reduce the packs of its repository.
const MAX_ROOM_WAIT: Duration = Duration::from_secs(30);
/// Interval at which such a push reads the number of packs again.
const ROOM_POLL_INTERVAL: Duration = Duration::from_millis(500);

impl Host {
    /// Answers with the advertisement of receive-pack. A replica forwards to the primary, or refuses and names it.
    pub(super) async fn advertise_push(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let opened = match self.views.open(repository).await {
            Err(RegionError::NoRepository { .. }) => return self.advertise_before_creation(repository, headers).await,
            opened => opened?,
        };
        let head = &opened.state.item.head;
        let id = Some(opened.state.item.id);
        forward::check_repository_id(headers, repository, &self.region.name, id)?;
        if let Some(primary) = self.forwards_to(head, headers) {
            return primary.advertisement(repository, id, headers, &self.region.name).await;
        }
        let refusal = (head.role == Role::Replica).then(|| {
            let primary = &head.epoch.region;
            // All regions may share one URL; then the URL of the primary is the one that the client uses already.
            let own = self.urls.get(&self.region.name);
            let elsewhere = self.urls.get(primary).filter(|url| Some(*url) != own);
            let place = elsewhere.map(|url| format!("{}/{repository}", url.trim_end_matches('/')));
            let place = place.unwrap_or_else(|| format!("a host of region {primary}"));
            match forward::forwarded_by(headers) {
                None => format!("{repository} is a replica here; push to {place}"),
                Some(other) => {
                    let here = &self.region.name;
                    format!("{other} forwarded the push to {here}, but {repository} is a replica in {here}, too")
                }
            }
        });
        let view = self.views.for_push(&opened, self.policies.of(repository).mirror).await?.view;
        self.advertisement(refusal.map_or(Ok(view), Err)).await
    }

    /// Answers with the advertisement for a missing repository: no refs. Creates nothing.
    async fn advertise_before_creation(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        forward::check_repository_id(headers, repository, &self.region.name, None)?;
        match self.creation_site(repository, headers)? {
            CreationSite::There(primary) => primary.advertisement(repository, None, headers, &self.region.name).await,
            CreationSite::Elsewhere(reason) => self.advertisement(Err(reason)).await,
            CreationSite::Here => {
                let unborn = self.region.unborn(repository, gix::hash::Kind::Sha1).await?;
                self.advertisement(Ok(unborn.state().view.clone())).await
            }
        }
    }

    /// Answers with the refs of a view, or with the reason for refusing pushes.
    async fn advertisement(&self, view: Result<View, String>) -> Result<Response, Refusal> {
        let answer = self.stream_response(&self.admission, move |out| {
            announce_service(GitService::ReceivePack, out)?;
            match view {
                Err(reason) => PacketWriter::new(out).error(&reason),
                Ok(view) => {
                    let refs = AdvertisedRefs { head: false, peeled: None, filter: false };
                    advertise_refs(&view, Version::V0, refs, CAPABILITIES, out)
                }
            }
        });
        git_response("application/x-git-receive-pack-advertisement".into(), answer.await?)
    }

    /// Answers a push once its packs are durable and its change is committed.
    pub(super) async fn receive_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        let identity = self.authorize(headers, &route.repository, Access::Write)?;
        check_content_type(headers, "application/x-git-receive-pack-request")?;
        let mut format = gix::hash::Kind::Sha1;
        let pushable = match self.views.open(&route.repository).await {
            Err(RegionError::NoRepository { .. }) => {
                forward::check_repository_id(headers, &route.repository, &self.region.name, None)?;
                match self.creation_site(&route.repository, headers)? {
                    CreationSite::There(primary) => {
                        return self.forward_push(primary, None, route.repository, headers, input).await;
                    }
                    CreationSite::Elsewhere(reason) => return Err(Refusal::Forbidden(reason)),
                    CreationSite::Here => {
                        let unborn = self.region.unborn(&route.repository, gix::hash::Kind::Sha1).await?;
                        Pushable::Unborn(Box::new(unborn))
                    }
                }
            }
            Err(error) => return Err(error.into()),
            Ok(opened) => {
                let id = opened.state.item.id;
                format = opened.state.view.format;
                forward::check_repository_id(headers, &route.repository, &self.region.name, Some(id))?;
                if let Some(primary) = self.forwards_to(&opened.state.item.head, headers) {
                    return self.forward_push(primary, Some(id), route.repository, headers, input).await;
                }
                self.wait_for_room(&route.repository, opened).await?;
                Pushable::Existing(id)
            }
        };
        let exchange = self.begin_exchange(&self.admission, headers, input, MAX_INFLATED_BYTES).await?;
        let Exchange { slot, input, mut sender, response, runtime } = exchange;
        let origin = PushOrigin { identity, format };
        spawn_request_thread(move || {
            let compute = slot.begin_compute(&runtime);
            let mut input = input();
            input.release_while_waiting(compute.clone());
            let states = self.states_of(&route.repository, pushable, &compute);
            let pushed = self.push(&*states, &origin, &mut input, &mut sender, &compute, &runtime);
            match pushed {
                Ok(()) => {
                    // The change is committed, even if the client does not receive the end of the response.
                    let _ = sender.finish();
                    input.drain();
                }
                Err(error) => {
                    tracing::debug!(repository = route.repository, %error, "a push ended early");
                    sender.fail(error.to_string());
                }
            }
            drop(slot);
        })?;
        git_response("application/x-git-receive-pack-result".into(), response)
    }

    /// Reports that the repository was replaced before the push was read, in the form that the client asked for.
    fn report_replaced(
        &self,
        error: &RegionError,
        origin: &PushOrigin,
        input: &mut (dyn BufRead + Send),
        output: &mut body::Sender,
        runtime: &Handle,
    ) -> std::io::Result<()> {
        let mut input = input;
        match PushRequest::read(&mut PacketReader::new(&mut input), origin.format) {
            Ok(Some(request)) => {
                let policy = PushPolicy::default();
                let region = &self.region;
                let serving =
                    Serving { region, runtime, policy: &policy, actor: &origin.identity.name, request: &request };
                serving.failed(error).report.write(&request.capabilities, output)
            }
            Ok(None) => Ok(()),
            Err(error) => PacketWriter::new(output).error(&error.to_string()),
        }
    }

    /// Applies backpressure: waits while a repository has so many packs that consolidation has to catch up. The wait
    /// holds no slot, only the connection. After [`MAX_ROOM_WAIT`] the push goes on; it is refused only if no pack fits
    /// into the manifest.
    async fn wait_for_room(
        &self,
        repository: &str,
        opened: Arc<OpenRepository>,
    ) -> Result<Arc<OpenRepository>, RegionError> {
        let deadline = Instant::now() + MAX_ROOM_WAIT;
        let mut opened = opened;
        loop {
            match Backpressure::of(opened.state.manifest.packs.len()) {
                Backpressure::Delay(Duration::ZERO) => return Ok(opened),
                Backpressure::Delay(delay) => {
                    tokio::time::sleep(delay).await;
                    return Ok(opened);
                }
                Backpressure::Full if Instant::now() >= deadline => return Ok(opened),
                Backpressure::Full => tokio::time::sleep(ROOM_POLL_INTERVAL).await,
            }
            opened = self.views.open_by_id(repository, opened.state.item.id).await?;
        }
    }

    /// The states of an existing repository, or of one that the push creates.
    fn states_of(&self, repository: &str, pushable: Pushable, compute: &Arc<ComputePermit>) -> Box<dyn PushStates> {
        match pushable {
            Pushable::Unborn(unborn) => unborn,
            Pushable::Existing(id) => {
                let mirror = self.policies.of(repository).mirror;
                let views = self.views.clone();
                Box::new(RepositoryStates { views, name: repository.into(), id, mirror, compute: compute.clone() })
            }
        }
    }

    fn push(
        &self,
        states: &dyn PushStates,
        origin: &PushOrigin,
        input: &mut (dyn BufRead + Send),
        output: &mut body::Sender,
        compute: &Arc<ComputePermit>,
        runtime: &Handle,
    ) -> std::io::Result<()> {
        let states = QueuedStates { states, views: &self.views, compute };
        let state = match runtime.block_on(states.state()) {
            Err(error @ RegionError::Replaced { .. }) => {
                return self.report_replaced(&error, origin, input, output, runtime);
            }
            state => state.map_err(std::io::Error::other)?,
        };
        let mut policy = self.policies.of(&state.item.head.name).clone();
        let mut input = input;
        let mut packets = PacketReader::new(&mut input);
        let request = match PushRequest::read(&mut packets, state.view.format) {
            Ok(Some(request)) => request,
            // A client that only probes its access sends no commands.
            Ok(None) => return Ok(()),
            Err(error) => return PacketWriter::new(&mut *output).error(&error.to_string()),
        };
        let region = &self.region;
        if let Some(hook) = policy.hook.clone() {
            let hook: Arc<dyn PreReceive> = Arc::new(ReleasingHook { hook, compute: compute.clone() });
            policy = Arc::new(PushPolicy { hook: Some(hook), ..PushPolicy::clone(&policy) });
        }
        let serving = Serving { region, runtime, policy: &policy, actor: &origin.identity.name, request: &request };
        let pushed = serving.serve(&states, &mut input, output)?;
        if let Some(item) = &pushed.item {
            let _within = runtime.enter();
            self.views.committed(item, state.manifest.packs.len() + 1);
            let event = Event { region: region.name.clone(), repository: item.id, seq: item.head.frontier.seq };
            self.events.publish(event);
        }
        Ok(())
    }
}

/// Sender of a push, and the object format of the repository with which the push began.
struct PushOrigin {
    identity: Identity,
    format: gix::hash::Kind,
}

/// Target of a push, fixed when the push begins.
enum Pushable {
    Existing(RepositoryId),
    /// A repository that the push creates.
    Unborn(Box<Unborn>),
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
