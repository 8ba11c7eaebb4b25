//! Pushes over HTTP and SSH, from the request to the thread that receives the pack.

pub mod create_on_push;
pub mod destination;
mod hook;
pub mod policies;
pub mod quarantines;
pub mod receive_pack;
mod states;

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use tokio::time::Instant;

use crate::auth::{Access, Principal};
use crate::client::Client;
use crate::exchange::dialogue::{Dialogue, Failed};
use crate::exchange::response_body::Sender;
use crate::exchange::{Exchange, Exchanges};
use crate::forward::headers::ForwardedRequest;
use crate::forward::push::Forwarding;
use crate::quotas::Quotas;
use crate::request::git_http::{check_content_type, git_response};
use crate::request::refusal::Refusal;
use crate::views::maintenance::Backpressure;
use crate::views::{OpenRepository, Views};
use destination::{Destination, Destinations};
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::RegionError;
use gitferry_git::protocol::{AdvertisedRefs, PacketWriter, Service, Version, advertise_refs, announce_service};
use gitferry_git::receive_pack::CAPABILITIES;
use gitferry_git::view::View;
use receive_pack::{Push, ReceivePack};
use states::PushTarget;

/// Content type of a push.
const PUSH: &str = "application/x-git-receive-pack-request";
/// Most decompressed bytes of a compressed push. Packs are compressed already, so clients compress no push, or (JGit)
/// only one that fits a small buffer.
const MAX_INFLATED_BYTES: u64 = 1 << 30;
/// Longest wait of a push for consolidation to reduce the packs of its repository.
const MAX_ROOM_WAIT: Duration = Duration::from_secs(30);
/// Interval at which such a push reads the number of packs again.
const ROOM_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Pushes that reach the host of a region.
#[derive(Debug)]
pub struct Pushes {
    views: Arc<Views>,
    destinations: Destinations,
    forwarding: Arc<Forwarding>,
    exchanges: Arc<Exchanges>,
    receive_pack: Arc<ReceivePack>,
    quotas: Arc<Quotas>,
}

impl Pushes {
    /// Pushes to `destinations`.
    pub fn new(
        views: Arc<Views>,
        destinations: Destinations,
        forwarding: Arc<Forwarding>,
        exchanges: Arc<Exchanges>,
        receive_pack: Arc<ReceivePack>,
        quotas: Arc<Quotas>,
    ) -> Self {
        Pushes { views, destinations, forwarding, exchanges, receive_pack, quotas }
    }

    /// Answers with the advertisement of receive-pack. A replica forwards to the primary, or refuses and names it. For
    /// a missing repository, the advertisement has no refs.
    pub async fn advertise(
        &self,
        principal: &Principal,
        repository: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        match self.destinations.find(repository, headers).await? {
            Destination::Forwarded(primary, id) => {
                self.forwarding.advertise(&primary, &forwarded(principal, repository, id, headers)).await
            }
            Destination::Elsewhere(reason) => self.advertisement(Err(reason)).await,
            Destination::Unborn(unborn) => {
                principal.authorize(repository, Access::Create)?;
                self.quotas.check_new_repository()?;
                self.advertisement(Ok(unborn.state().view.clone())).await
            }
            Destination::Existing(opened) => {
                let refusal = self.destinations.refusal_of_replica(repository, &opened.state().item.head, headers);
                let mirror = self.receive_pack.policies().of(repository).mirror;
                let view = self.views.for_push(&opened, mirror).await?.view;
                self.advertisement(refusal.map_or(Ok(view), Err)).await
            }
        }
    }

    /// Answers with the refs of a view, or with the reason for refusing pushes.
    async fn advertisement(&self, view: Result<View, String>) -> Result<Response, Refusal> {
        let response = self.exchanges.respond(move |out| {
            announce_service(Service::ReceivePack, out)?;
            match view {
                Err(reason) => PacketWriter::new(out).error(&reason),
                Ok(view) => advertise(&view, out),
            }
        });
        Ok(git_response("application/x-git-receive-pack-advertisement", response.await?))
    }

    /// Answers a push once its packs are durable and its change is committed.
    pub async fn receive(
        &self,
        principal: &Principal,
        repository: &str,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        check_content_type(headers, PUSH)?;
        let (target, format) = match self.destinations.find(repository, headers).await? {
            Destination::Forwarded(primary, id) => {
                return self.forwarding.push(primary, forwarded(principal, repository, id, headers), input).await;
            }
            Destination::Elsewhere(reason) => return Err(Refusal::Forbidden(reason)),
            Destination::Unborn(unborn) => {
                principal.authorize(repository, Access::Create)?;
                self.quotas.check_new_repository()?;
                let format = unborn.state().view.format;
                (PushTarget::Unborn(unborn), format)
            }
            Destination::Existing(opened) => {
                let id = opened.state().item.id;
                Client::current().entry().repository_id(id);
                let format = opened.state().view.format;
                self.wait_for_room(repository, opened).await?;
                (PushTarget::Existing(id), format)
            }
        };
        let entry = Client::current().entry().clone();
        let push = Push { principal: principal.clone(), repository: repository.to_owned(), format, target, entry };
        let receive_pack = self.receive_pack.clone();
        let work = move |exchange| receive_pack.run(push, exchange);
        let response = self.exchanges.run(headers, input, MAX_INFLATED_BYTES, work).await?;
        Ok(git_response("application/x-git-receive-pack-result", response))
    }

    /// Receives a push as a conversation with state, from the advertisement on: into the repository that the name denotes
    /// at its beginning. A replica forwards to the primary, or refuses and names it. `software` is the client's.
    pub async fn converse(
        &self,
        principal: &Principal,
        repository: &str,
        software: &str,
        input: Body,
    ) -> Result<Dialogue, Refusal> {
        let headers = HeaderMap::new();
        let (target, view) = match self.destinations.find(repository, &headers).await? {
            Destination::Forwarded(primary, id) => {
                let request = forwarded(principal, repository, id, &headers_for_primary(software));
                let object_bytes = self.receive_pack.policies().of(repository).limits.object_bytes;
                return self.forwarding.converse(primary, request, object_bytes, input).await;
            }
            Destination::Elsewhere(reason) => return Err(Refusal::Forbidden(reason)),
            Destination::Unborn(unborn) => {
                principal.authorize(repository, Access::Create)?;
                self.quotas.check_new_repository()?;
                let view = unborn.state().view.clone();
                (PushTarget::Unborn(unborn), view)
            }
            Destination::Existing(opened) => {
                let state = opened.state();
                let id = state.item.id;
                Client::current().entry().repository_id(id);
                let refusal = self.destinations.refusal_of_replica(repository, &state.item.head, &headers);
                refusal.map_or(Ok(()), |reason| Err(Refusal::Forbidden(reason)))?;
                self.wait_for_room(repository, opened.clone()).await?;
                let mirror = self.receive_pack.policies().of(repository).mirror;
                (PushTarget::Existing(id), self.views.for_push(&opened, mirror).await?.view)
            }
        };
        let format = view.format;
        let entry = Client::current().entry().clone();
        let mut push = Push { principal: principal.clone(), repository: repository.to_owned(), format, target, entry };
        let receive_pack = self.receive_pack.clone();
        let views = self.views.clone();
        let work = move |mut exchange: Exchange| {
            exchange.output.release_while_waiting(exchange.compute.clone());
            let advertised = advertise(&view, &mut exchange.output);
            match advertised.and_then(|()| find_born(&mut push, &views, &mut exchange)) {
                Ok(()) => receive_pack.run(push, exchange),
                Err(error) => exchange.output.fail(error.to_string()),
            }
        };
        let output = self.exchanges.converse(input, work).await?;
        Ok(Dialogue::new(output, Failed::default()))
    }

    /// Applies backpressure: waits while a repository has so many packs that consolidation has to catch up. The wait
    /// holds no slot, only the connection. After [`MAX_ROOM_WAIT`] the push goes on; it is refused only if no pack fits
    /// into the manifest.
    async fn wait_for_room(&self, repository: &str, opened: Arc<OpenRepository>) -> Result<(), RegionError> {
        let deadline = Instant::now() + MAX_ROOM_WAIT;
        let mut opened = opened;
        loop {
            match Backpressure::of(opened.state().manifest.packs.len()) {
                Backpressure::Delay(Duration::ZERO) => return Ok(()),
                Backpressure::Delay(delay) => {
                    tokio::time::sleep(delay).await;
                    return Ok(());
                }
                Backpressure::Full if Instant::now() >= deadline => return Ok(()),
                Backpressure::Full => tokio::time::sleep(ROOM_POLL_INTERVAL).await,
            }
            opened = self.views.open_by_id(repository, opened.state().item.id).await?;
        }
    }
}

/// Request of a client for another host.
fn forwarded(
    principal: &Principal,
    repository: &str,
    id: Option<RepositoryId>,
    headers: &HeaderMap,
) -> ForwardedRequest {
    let repository = repository.to_owned();
    ForwardedRequest { principal: principal.clone(), repository, id, headers: headers.clone() }
}

/// Headers of the requests that stand for a command over SSH at the primary.
fn headers_for_primary(software: &str) -> HeaderMap {
    let push = (header::CONTENT_TYPE, HeaderValue::from_static(PUSH));
    let software = HeaderValue::from_str(software).ok().map(|software| (header::USER_AGENT, software));
    std::iter::once(push).chain(software).collect()
}

/// Waits for the commands of a push that creates its repository, and finds the repository if there is one by now: Git LFS
/// uploads objects, and creates the repository for them, between the advertisement and the commands.
fn find_born(push: &mut Push, views: &Views, exchange: &mut Exchange) -> io::Result<()> {
    if !matches!(push.target, PushTarget::Unborn(_)) {
        return Ok(());
    }
    exchange.input.fill_buf()?;
    if let Ok(opened) = exchange.runtime.block_on(views.open(&push.repository)) {
        push.target = PushTarget::Existing(opened.state().item.id);
        push.format = opened.state().view.format;
    }
    Ok(())
}

/// Writes the advertisement of receive-pack, in version 0, which clients of all versions read.
fn advertise(view: &View, out: &mut Sender) -> io::Result<()> {
    let refs = AdvertisedRefs { head: false, peeled: None, filter: false };
    advertise_refs(view, Version::V0, refs, CAPABILITIES, out)
}
