//! Pushing over HTTP.

use std::io::{BufRead, Write as _};
use std::sync::Arc;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::runtime::Handle;

use super::auth::{Access, Identity};
use super::route::Route;
use super::views::{Opened, StatesOf};
use super::{Host, Refusal, body, git_response};
use crate::events::Event;
use crate::git::protocol::{
    AdvertisedRefs, PacketReader, PacketWriter, Service as GitService, Version, advertise_refs, announce_service,
};
use crate::git::receive_pack::{PushRequest, capabilities};
use crate::ledger::head::Role;
use crate::region::RegionError;
use crate::region::push::{PushStates as _, Serving};

impl Host {
    /// What there is to push onto. A replica says where to push instead.
    pub(super) async fn advertise_push(&self, repository: &str, identity: &Identity) -> Result<Response, Refusal> {
        let opened = match self.views.open(repository).await {
            Err(RegionError::NoRepository { .. }) if self.create_on_push => self.create(repository, identity).await?,
            opened => opened?,
        };
        let head = &opened.state.item.head;
        let refusal = (head.role == Role::Replica).then(|| {
            let primary = &head.epoch.region;
            let place = self.urls.get(primary).map(|url| format!("{}/{repository}", url.trim_end_matches('/')));
            let place = place.unwrap_or_else(|| format!("region {primary}"));
            format!("{repository} is a replica here; push to {place}")
        });
        let answer = self.written(move |out| {
            announce_service(GitService::ReceivePack, out)?;
            match refusal {
                Some(reason) => PacketWriter::new(out).error(&reason),
                None => {
                    let which = AdvertisedRefs { head: false, peeled: None };
                    advertise_refs(&opened.state.view, Version::V0, which, &capabilities(), out)
                }
            }
        });
        git_response("application/x-git-receive-pack-advertisement".into(), answer.await)
    }

    /// Makes the repository that somebody is about to push to.
    async fn create(&self, repository: &str, identity: &Identity) -> Result<Arc<Opened>, Refusal> {
        match self.region.create(repository, gix::hash::Kind::Sha1, &identity.name).await {
            Ok(_) | Err(RegionError::NameTaken { .. }) => Ok(self.views.open(repository).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers a push when its packs are durable and its change is committed.
    pub(super) async fn receive_pack(
        self: Arc<Self>,
        route: Route,
        headers: &HeaderMap,
        input: Body,
    ) -> Result<Response, Refusal> {
        let identity = self.authorize(headers, &route.repository, Access::Write)?;
        self.views.open(&route.repository).await?;
        let permit = self.gate.clone().acquire_owned().await;
        let (mut sender, answer) = body::channel();
        let runtime = Handle::current();
        let input = body::reader(headers, input).map_err(Refusal::Bad)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let mut input = input();
            match self.push(&route.repository, &identity, &mut input, &mut sender, &runtime) {
                Ok(()) => body::drain(&mut input),
                Err(error) => {
                    tracing::debug!(repository = route.repository, %error, "a push ended early");
                    sender.fail(error.to_string());
                }
            }
        });
        git_response("application/x-git-receive-pack-result".into(), answer)
    }

    fn push(
        &self,
        repository: &str,
        identity: &Identity,
        input: &mut (dyn BufRead + Send),
        output: &mut body::Sender,
        runtime: &Handle,
    ) -> std::io::Result<()> {
        let states = StatesOf { views: self.views.clone(), name: repository.into() };
        let state = runtime.block_on(states.state()).map_err(std::io::Error::other)?;
        let mut input = input;
        let mut packets = PacketReader::new(&mut input);
        let request = match PushRequest::read(&mut packets, state.view.format) {
            Ok(Some(request)) => request,
            // A client that only tries whether it may.
            Ok(None) => return output.flush(),
            Err(error) => {
                PacketWriter::new(&mut *output).error(&error.to_string())?;
                return output.flush();
            }
        };
        let region = &self.region;
        let serving =
            Serving { region, runtime, policy: self.policies.of(repository), actor: &identity.name, request: &request };
        let pushed = serving.serve(&states, &mut input, output)?;
        if let Some(item) = &pushed.item {
            let (region, repository, seq) = (region.name.clone(), item.id, item.head.frontier.seq);
            self.events.publish(Event { region, repository, seq });
        }
        output.flush()?;
        if let Some(item) = pushed.item {
            runtime.block_on(async {
                let item = region.maintain_snapshot(item).await;
                region.maintain_packs(item).await
            });
        }
        Ok(())
    }
}
