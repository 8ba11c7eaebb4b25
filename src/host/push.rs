//! Pushing over HTTP.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::auth::{Access, Identity};
use super::birthplace::Birthplace;
use super::forward;
use super::gate::Work;
use super::maintenance::Backpressure;
use super::route::Route;
use super::views::{InTurn, Opened, StatesOf};
use super::{Conversation, Host, Refusal, body, check_content_type, git_response, on_thread};
use gitferry_engine::announce::Event;
use gitferry_engine::ledger::head::{RepositoryId, Role};
use gitferry_engine::region::RegionError;
use gitferry_engine::region::push::{PushPolicy, PushStates, Serving, Unborn};
use gitferry_git::protocol::{
    AdvertisedRefs, PacketReader, PacketWriter, Service as GitService, Version, advertise_refs, announce_service,
};
use gitferry_git::receive_pack::{CAPABILITIES, HookError, HookInput, HookVerdict, PreReceive, PushRequest};
use gitferry_git::view::View;

/// Most bytes of a push that came compressed. Clients compress none, or (JGit) those that fit a small buffer: packs are
/// compressed already.
const MAX_INFLATED_BYTES: u64 = 1 << 30;
/// The longest wait of a push for room in the manifest of its repository.
const MAX_ROOM_WAIT: Duration = Duration::from_secs(30);
/// How often such a push looks.
const ROOM_POLL: Duration = Duration::from_millis(500);

impl Host {
    /// What there is to push onto. A replica says where to push instead.
    pub(super) async fn advertise_push(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        let opened = match self.views.open(repository).await {
            Err(RegionError::NoRepository { .. }) => return self.advertise_birth(repository, headers).await,
            opened => opened?,
        };
        let head = &opened.state.item.head;
        let id = Some(opened.state.item.id);
        forward::check_meant(headers, repository, &self.region.name, id)?;
        if let Some(primary) = self.forwards_to(head, headers) {
            return primary.advertisement(repository, id, headers, &self.region.name).await;
        }
        let refusal = (head.role == Role::Replica).then(|| {
            let primary = &head.epoch.region;
            // Behind one URL for all regions, the primary's URL is this host's own.
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

    /// What there is to push onto before a first push: nothing yet, and asking makes nothing.
    async fn advertise_birth(&self, repository: &str, headers: &HeaderMap) -> Result<Response, Refusal> {
        forward::check_meant(headers, repository, &self.region.name, None)?;
        match self.birthplace(repository, headers)? {
            Birthplace::There(primary) => primary.advertisement(repository, None, headers, &self.region.name).await,
            Birthplace::Elsewhere(reason) => self.advertisement(Err(reason)).await,
            Birthplace::Here => {
                let unborn = self.region.unborn(repository, gix::hash::Kind::Sha1).await?;
                self.advertisement(Ok(unborn.state().view.clone())).await
            }
        }
    }

    /// The refs that clients push onto, or the reason why they cannot push.
    async fn advertisement(&self, what: Result<View, String>) -> Result<Response, Refusal> {
        let answer = self.written(&self.gate, move |out| {
            announce_service(GitService::ReceivePack, out)?;
            match what {
                Err(reason) => PacketWriter::new(out).error(&reason),
                Ok(view) => {
                    let which = AdvertisedRefs { head: false, peeled: None, filter: false };
                    advertise_refs(&view, Version::V0, which, CAPABILITIES, out)
                }
            }
        });
        git_response("application/x-git-receive-pack-advertisement".into(), answer.await?)
    }

    /// Answers a push when its packs are durable and its change is committed.
    pub(super) async fn receive_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        let identity = self.authorize(headers, &route.repository, Access::Write)?;
        check_content_type(headers, "application/x-git-receive-pack-request")?;
        let states = match self.views.open(&route.repository).await {
            Err(RegionError::NoRepository { .. }) => {
                forward::check_meant(headers, &route.repository, &self.region.name, None)?;
                match self.birthplace(&route.repository, headers)? {
                    Birthplace::There(primary) => {
                        return self.forward_push(primary, None, route.repository, headers, input).await;
                    }
                    Birthplace::Elsewhere(reason) => return Err(Refusal::Forbidden(reason)),
                    Birthplace::Here => {
                        let unborn = self.region.unborn(&route.repository, gix::hash::Kind::Sha1).await?;
                        Pushable::Unborn(Box::new(unborn))
                    }
                }
            }
            Err(error) => return Err(error.into()),
            Ok(opened) => {
                let id = opened.state.item.id;
                forward::check_meant(headers, &route.repository, &self.region.name, Some(id))?;
                if let Some(primary) = self.forwards_to(&opened.state.item.head, headers) {
                    return self.forward_push(primary, Some(id), route.repository, headers, input).await;
                }
                self.wait_for_room(&route.repository, opened).await?;
                Pushable::Existing(id)
            }
        };
        let conversation = self.converse(&self.gate, headers, input, MAX_INFLATED_BYTES).await?;
        let Conversation { slot, input, mut sender, answer, runtime } = conversation;
        on_thread(move || {
            let work = slot.work(&runtime);
            let mut input = input();
            input.pause(work.clone());
            let states = self.states_of(&route.repository, states, &work);
            let pushed = self.push(&*states, &identity, &mut input, &mut sender, &work, &runtime);
            match pushed {
                Ok(()) => {
                    // It is committed, whether the client takes the last of it or not.
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
        git_response("application/x-git-receive-pack-result".into(), answer)
    }

    /// Waits while a repository has so many packs that consolidation has to catch up. Nothing is held meanwhile but the
    /// connection. A push that has waited long enough is let in: it is refused only where no pack fits any more.
    async fn wait_for_room(&self, repository: &str, opened: Arc<Opened>) -> Result<Arc<Opened>, RegionError> {
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
                Backpressure::Full => tokio::time::sleep(ROOM_POLL).await,
            }
            opened = self.views.open_same(repository, opened.state.item.id).await?;
        }
    }

    /// The states of a repository that is there, or of one that the push makes.
    fn states_of(&self, repository: &str, pushable: Pushable, work: &Arc<Work>) -> Box<dyn PushStates> {
        match pushable {
            Pushable::Unborn(unborn) => unborn,
            Pushable::Existing(id) => {
                let mirror = self.policies.of(repository).mirror;
                let (views, name) = (self.views.clone(), repository.into());
                Box::new(StatesOf { views, name, id, mirror, work: work.clone() })
            }
        }
    }

    fn push(
        &self,
        states: &dyn PushStates,
        identity: &Identity,
        input: &mut (dyn BufRead + Send),
        output: &mut body::Sender,
        work: &Arc<Work>,
        runtime: &Handle,
    ) -> std::io::Result<()> {
        let states = InTurn { states, views: &self.views, work };
        let state = match runtime.block_on(states.state()) {
            Err(error @ RegionError::Replaced { .. }) => {
                return PacketWriter::new(&mut *output).error(&error.to_string());
            }
            state => state.map_err(std::io::Error::other)?,
        };
        let mut policy = self.policies.of(&state.item.head.name).clone();
        let mut input = input;
        let mut packets = PacketReader::new(&mut input);
        let request = match PushRequest::read(&mut packets, state.view.format) {
            Ok(Some(request)) => request,
            // A client that only tries whether it may.
            Ok(None) => return Ok(()),
            Err(error) => return PacketWriter::new(&mut *output).error(&error.to_string()),
        };
        let region = &self.region;
        if let Some(hook) = policy.hook.clone() {
            let hook: Arc<dyn PreReceive> = Arc::new(PausedFor { hook, work: work.clone() });
            policy = Arc::new(PushPolicy { hook: Some(hook), ..PushPolicy::clone(&policy) });
        }
        let serving = Serving { region, runtime, policy: &policy, actor: &identity.name, request: &request };
        let pushed = serving.serve(&states, &mut input, output)?;
        if let Some(item) = &pushed.item {
            let _within = runtime.enter();
            self.views.committed(item, state.manifest.packs.len() + 1);
            let (region, repository, seq) = (region.name.clone(), item.id, item.head.frontier.seq);
            self.events.publish(Event { region, repository, seq });
        }
        Ok(())
    }
}

/// The repository that a push began with.
enum Pushable {
    Existing(RepositoryId),
    /// The push makes it.
    Unborn(Box<Unborn>),
}

/// A hook that lets others compute while it judges.
#[derive(Debug)]
struct PausedFor {
    hook: Arc<dyn PreReceive>,
    work: Arc<Work>,
}

impl PreReceive for PausedFor {
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError> {
        self.work.pause(|| self.hook.judge(push))
    }
}
