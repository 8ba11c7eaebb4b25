//! The path of one request.
//!
//! 1. [`Requests::answer`] identifies the client and opens the span of the log.
//! 2. `respond` makes a response of a refusal, and holds it back until the request's body has been read.
//! 3. `route` refuses what browsers were made to send, and finds the addressee.
//! 4. `git` and `lfs` find the action, authenticate and authorize the client, refuse the account's repository, and call
//!    the service of the action.

pub mod access_control;
pub mod account_guard;
mod audited;
pub mod browser_guard;
mod drain;
pub mod git_http;
pub mod refusal;
pub mod route;
pub mod urls;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use crate::apis::ApiDoor;
use crate::client::{Client, Clients};
use crate::fetch::{Fetches, QuarantineFetches};
use crate::frontier::Frontiers;
use crate::head::DefaultBranches;
use crate::lfs::{LfsAction, LfsRefusal, LfsService};
use crate::metrics::MetricsPage;
use crate::push::Pushes;
use crate::push::quarantines::without_secret;
use crate::readiness::Readiness;
use access_control::AccessControl;
use browser_guard::BrowserGuard;
use gitferry_audit::{UserIdentity, bounded};
use gitferry_config::HostLimits;
use refusal::Refusal;
use route::{Action, Route, Target};

/// Response header with the id of the request, which is also in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Services of a host. Each answers requests of one kind.
#[derive(Debug)]
pub struct Services {
    /// Readiness of the region's stores.
    pub readiness: Readiness,
    /// Metrics of the region.
    pub metrics: MetricsPage,
    /// Fetches from pushes in quarantine.
    pub quarantines: QuarantineFetches,
    /// Fetches from repositories.
    pub fetches: Fetches,
    /// Pushes to repositories.
    pub pushes: Pushes,
    /// Frontiers of repositories.
    pub frontiers: Frontiers,
    /// Default branches of repositories.
    pub default_branches: DefaultBranches,
    /// LFS objects of repositories.
    pub lfs: LfsService,
    /// APIs of AWS.
    pub apis: ApiDoor,
}

/// Answers the requests to a host.
#[derive(Debug)]
pub struct Requests {
    clients: Clients,
    guard: BrowserGuard,
    access: AccessControl,
    services: Services,
    limits: HostLimits,
}

impl Requests {
    /// Requests of `clients` that `guard` passes and `access` allows are answered by `services`.
    pub fn new(
        clients: Clients,
        guard: BrowserGuard,
        access: AccessControl,
        services: Services,
        limits: HostLimits,
    ) -> Self {
        Requests { clients, guard, access, services, limits }
    }

    /// Access to repositories.
    pub fn access(&self) -> &AccessControl {
        &self.access
    }

    /// The services of the host.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request) -> Response {
        let (mut request, body) = request.into_parts();
        let client = self.clients.identify(&mut request);
        audited::begin(&client, &request, self.access.is_secure(&client), self.access.authenticator.account());
        // At the highest level, so that messages of every level have it as context.
        let span = tracing::error_span!(
            "request",
            request_id = client.request_id(),
            address = client.address().map(tracing::field::display),
            method = %request.method,
            path = without_secret(request.uri.path()),
            repository = tracing::field::Empty,
            actor = tracing::field::Empty,
            client = tracing::field::Empty,
            forwarded_by = tracing::field::Empty,
        );
        self.respond(&client, &request, body).instrument(span).await
    }

    /// Routes a request. The response begins when the body has been read or dropped; see [`drain`].
    async fn respond(&self, client: &Arc<Client>, request: &Parts, body: Body) -> Response {
        let start = Instant::now();
        let path = without_secret(request.uri.path());
        let (body, delay) = drain::track(&request.headers, body);
        let routed = client.clone().scope(self.route(client, request, body)).await;
        let response = routed.unwrap_or_else(|refusal| {
            let (status, reason) = refusal.explain();
            audited::refused(client.entry(), status, &reason);
            refusal.into_response(path)
        });
        let idle_timeout = self.limits.request_silence;
        let busy = || Refusal::Busy.into_response(path);
        let mut response = delay.until_read(response, idle_timeout, || client.is_revoked(), busy).await;
        if let Ok(id) = HeaderValue::from_str(client.request_id()) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        client.entry().responded(response.status().as_u16());
        let milliseconds = start.elapsed().as_millis() as u64;
        tracing::info!(status = response.status().as_u16(), milliseconds, "answered");
        response
    }

    /// Finds the addressee of a request. Health checks are answered even when the host is busy.
    async fn route(&self, client: &Client, request: &Parts, body: Body) -> Result<Response, Refusal> {
        self.guard.check(request, client.asked_host())?;
        let target = Target::parse(request.uri.path());
        if client.may_only_check_health() && !target.as_ref().is_ok_and(Target::is_health_check) {
            return Err(Refusal::Busy);
        }
        let entry = client.entry();
        let target = target.inspect_err(|_| entry.parameter("path", bounded(without_secret(request.uri.path()))))?;
        match target {
            Target::Health => {
                entry.dispense();
                Ok("ok\n".into_response())
            }
            Target::Ready => {
                entry.dispense();
                Ok(self.services.readiness.answer().await)
            }
            Target::Metrics => self.services.metrics.answer(&request.method).await.inspect(|_| entry.dispense()),
            Target::Apis => self.services.apis.answer(&self.access.presented(client, request), body).await,
            Target::Quarantine(path) => {
                entry.action(gitferry_audit::Action::new("GitPull"));
                let answer = self.services.quarantines.answer(&path, request, body).await?;
                // The secret of the path, which the hook alone knows, is the proof.
                entry.authenticated(&UserIdentity::hook()).await;
                Ok(answer)
            }
            Target::Repository(route) => {
                Span::current().record("repository", &route.repository);
                audited::repository(entry, &route, request);
                if route.service.is_lfs() {
                    Ok(self.lfs(&route, request, body).await.unwrap_or_else(|refusal| {
                        audited::refused(entry, refusal.status(), refusal.message());
                        refusal.into_response()
                    }))
                } else {
                    self.git(&route, request, body).await
                }
            }
        }
    }

    /// Answers a request of the Git protocol.
    async fn git(&self, route: &Route, request: &Parts, body: Body) -> Result<Response, Refusal> {
        let Route { repository, service, .. } = route;
        let headers = &request.headers;
        let action = service.action(&request.method, request.uri.query())?;
        let principal = self.access.authorize(request, repository, action.access()).await?;
        let Services { fetches, pushes, frontiers, default_branches, .. } = &self.services;
        match action {
            Action::AdvertiseFetch => fetches.advertise(repository, headers).await,
            Action::AdvertisePush => pushes.advertise(&principal, repository, headers).await,
            Action::Fetch => fetches.serve(repository, headers, body).await,
            Action::Push => pushes.receive(&principal, repository, headers, body).await,
            Action::ReadFrontier => frontiers.answer(repository).await,
            Action::SetHead => default_branches.set(&principal, repository, headers, body).await,
        }
    }

    /// Answers a request of Git LFS.
    async fn lfs(&self, route: &Route, request: &Parts, body: Body) -> Result<Response, LfsRefusal> {
        let action = LfsAction::of(route, &request.method)?;
        let principal = self.access.authorize_lfs(request, &route.repository, action.access()).await?;
        self.services.lfs.serve(action, &principal, &route.repository, request, body).await
    }
}
