//! The path of one request, from its signature to its answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gitferry_audit::{Entry, UserIdentity};
use gitferry_engine::announce::Sink;
use gitferry_engine::region::Region;
use gitferry_iam::sigv4::Signed;
use gitferry_iam::{Authenticated, AuthenticationError, Authenticator, KeyRing, RequestParts, Subject};
use gitferry_identity::Identities;
use serde_json::Value;
use tokio::time::Instant;

use crate::audited;
use crate::call::Call;
use crate::changes::Changes;
use crate::error::{ApiError, Result, shown};
use crate::iam::operation::Ask;
use crate::iam::{self, Work};
use crate::json::{Asked, JsonApi};
use crate::protocol::parameters::Parameters;
use crate::protocol::{Answer, Protocol};
use crate::rates::{Counted, Rates};
use crate::service::{Service, no_operation};
use crate::sts::issuers::IssuerKeys;
use crate::sts::{self, AssumeWithWebIdentity, Stranger};

/// Media type of the forms of the query protocol.
const FORM: &str = "application/x-www-form-urlencoded";

/// A request with its whole body.
#[derive(Clone, Copy, Debug)]
pub struct ApiRequest<'a> {
    /// Everything that authentication reads; the payload is the hash of `body`.
    pub parts: RequestParts<'a>,
    /// The body, of at most [`MAX_BODY_BYTES`](crate::MAX_BODY_BYTES), or [`JsonApi::most_body_bytes`].
    pub body: &'a [u8],
    /// Id of the request, in the log and in the answer.
    pub id: &'a str,
    /// Entry of the request in the audit trail.
    pub entry: &'a Entry,
}

impl ApiRequest<'_> {
    /// Value of a header that a request carries at most once.
    ///
    /// # Errors
    /// `MalformedQueryString`: the header comes twice or is not text.
    fn header(&self, name: &str) -> Result<Option<&str>> {
        let mut values = self.parts.headers.iter().filter(|(header, _)| *header == name);
        let first = values.next().map(|(_, value)| std::str::from_utf8(value));
        if values.next().is_some() || matches!(first, Some(Err(_))) {
            return Err(ApiError::malformed(format!("The header {name} comes more than once, or is not text.")));
        }
        Ok(first.and_then(std::result::Result::ok))
    }

    fn protocol(&self) -> Protocol {
        let has_target = self.parts.headers.iter().any(|(name, _)| *name == "x-amz-target");
        if has_target { Protocol::Json } else { Protocol::Query }
    }

    /// Parameters in the query and in a form.
    fn parameters(&self) -> Result<Parameters> {
        let kind = self.header("content-type")?.unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !self.body.is_empty() && !kind.eq_ignore_ascii_case(FORM) {
            return Err(ApiError::malformed(format!("The Content-Type of a request's body is {FORM}.")));
        }
        Parameters::parse(self.parts.query, self.body)
    }
}

/// The APIs of the host of one region.
pub struct Apis {
    region: Region,
    identities: Arc<Identities>,
    changes: Changes,
    issuers: IssuerKeys,
    rates: Rates,
}

impl fmt::Debug for Apis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apis").field("region", &self.region.name()).finish_non_exhaustive()
    }
}

impl Apis {
    /// APIs of the host of `region`, whose account `identities` follow. `events` receives each change of the account;
    /// `urls` are those of the hosts, by region.
    pub fn new(
        region: Region,
        identities: Arc<Identities>,
        events: Arc<dyn Sink>,
        urls: BTreeMap<String, String>,
        issuers: IssuerKeys,
    ) -> Self {
        let changes = Changes::new(region.clone(), identities.clone(), events, urls);
        Apis { region, identities, changes, issuers, rates: Rates::default() }
    }

    /// Answers a request; `json` are the JSON APIs that the host offers beside.
    pub async fn answer(&self, request: &ApiRequest<'_>, json: &[Arc<dyn JsonApi>]) -> Answer {
        let mut call = Call::default();
        let outcome = self.perform(request, json, &mut call).await;
        self.finish(request, &call, outcome)
    }

    /// Every request of an API ends here, whether it was answered or refused.
    fn finish(&self, request: &ApiRequest<'_>, call: &Call, outcome: Result<Value>) -> Answer {
        audited::record(request.entry, call, &outcome);
        let action = call.full_action();
        let actor = call.actor();
        match &outcome {
            Ok(_) => tracing::info!(action, actor, reads_only = call.reads_only, "an API request is answered"),
            Err(error) => {
                tracing::info!(
                    action,
                    actor,
                    code = error.code(),
                    reason = error.message(),
                    "an API request is refused"
                );
            }
        }
        let protocol = request.protocol();
        let service = call.service.unwrap_or(Service::Iam);
        match outcome {
            Ok(result) => {
                let action = call.action.as_deref().unwrap_or_default();
                protocol.result(service, action, &result, request.id, actor)
            }
            Err(error) => protocol.error(service, &error, request.id, actor),
        }
    }

    async fn perform(&self, request: &ApiRequest<'_>, json: &[Arc<dyn JsonApi>], call: &mut Call) -> Result<Value> {
        let source = request.parts.source;
        if !self.rates.take(Counted::Network(source), Instant::now()) {
            return Err(ApiError::throttled());
        }
        let protocol = request.protocol();
        let refused = |error: AuthenticationError| refused(&error, protocol);
        let unavailable = || refused(AuthenticationError::Unavailable("the account cannot be read now"));
        let authenticator = self.identities.authenticator().map_err(|error| {
            tracing::error!(%error, "a request cannot be authenticated");
            unavailable()
        })?;
        if authenticator.account().is_none() {
            return Err(unavailable());
        }
        let signed = Signed::of(&request.parts).map_err(|error| refused(error.into()))?;
        let has_header = request.parts.headers.iter().any(|(name, _)| *name == "authorization");
        if signed.is_none() && !has_header && protocol == Protocol::Query {
            return self.answer_stranger(request, call, authenticator).await;
        }
        let caller = authenticator.authenticate(&request.parts).map_err(refused)?;
        call.caller = Some(caller.clone());
        // No request of a principal is performed that could not be recorded.
        request.entry.authenticated(&UserIdentity::of(&caller.principal)).await;
        let principal = &caller.principal;
        if !self.rates.take(Counted::Principal(principal.entity_id()), Instant::now()) {
            return Err(ApiError::throttled());
        }
        let signed_for = signed.as_ref().map(|signed| signed.scope().service);
        let keys = authenticator.keys().ok_or_else(ApiError::unavailable)?;
        match protocol {
            Protocol::Query => self.answer_query(request, call, caller, keys, signed_for).await,
            Protocol::Json => answer_json(request, json, call, caller, signed_for).await,
        }
    }

    /// Answers a request of a query API.
    async fn answer_query(
        &self,
        request: &ApiRequest<'_>,
        call: &mut Call,
        caller: Authenticated,
        keys: Arc<KeyRing>,
        signed_for: Option<&str>,
    ) -> Result<Value> {
        let parameters = request.parameters()?;
        let action = parameters.action.clone().ok_or_else(missing_action)?;
        let service = Service::of_version(&action, parameters.version.as_deref())?;
        check_service(service, signed_for, "SignatureDoesNotMatch")?;
        call.service = Some(service);
        call.parameters = Some(parameters.to_json());
        match service {
            Service::Sts => {
                call.reads_only = true;
                call.action = sts::OPERATIONS.contains(&action.as_str()).then(|| action.clone());
                let asked = sts::Call::parse(&action, &parameters)?;
                asked.answer(&caller, &keys, self.region.clock().now())
            }
            _ => {
                let operation = iam::find(&action);
                let operation = operation.ok_or_else(|| no_operation(&action, parameters.version.as_deref()))?;
                call.action = Some(action);
                call.reads_only = operation.reads_only;
                check_session(&caller)?;
                let ask = Ask { caller, keys, source: request.parts.source };
                self.perform_iam(ask, operation.parse(&parameters)?).await
            }
        }
    }

    /// Authorizes and performs an operation of IAM.
    async fn perform_iam(&self, ask: Ask, work: Work) -> Result<Value> {
        let demands = match &work {
            Work::Read(read) => read.demands(&ask)?,
            Work::Change(change) => change.demands(&ask)?,
        };
        assert!(!demands.is_empty(), "every operation of IAM demands a right");
        demands.iter().try_for_each(|demand| demand.authorize(&ask.caller))?;
        match work {
            // Simulations compute, and threads of the runtime serve connections.
            Work::Read(read) => {
                let span = tracing::Span::current();
                let reading = tokio::task::spawn_blocking(move || span.in_scope(|| read.read(&ask)));
                reading.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a request ended early");
                    Err(ApiError::unavailable())
                })
            }
            Work::Change(change) => self.changes.make(&ask, &*change).await,
        }
    }

    /// Answers a request without credentials: one operation of STS is proven by a token in its parameters.
    async fn answer_stranger(
        &self,
        request: &ApiRequest<'_>,
        call: &mut Call,
        authenticator: &Authenticator,
    ) -> Result<Value> {
        let now = Instant::now();
        if !self.rates.take(Counted::Stranger(request.parts.source), now) {
            return Err(ApiError::throttled());
        }
        let parameters = request.parameters()?;
        let action = parameters.action.clone().unwrap_or_default();
        let service = Service::of_version(&action, parameters.version.as_deref());
        if action != sts::ANONYMOUS || service != Ok(Service::Sts) {
            let text = "Request is missing Authentication Token";
            return Err(ApiError::new("MissingAuthenticationToken", 403, text));
        }
        call.service = Some(Service::Sts);
        call.action = Some(action);
        call.reads_only = true;
        call.parameters = Some(parameters.to_json());
        let input: AssumeWithWebIdentity = parameters.input()?;
        let stranger = authenticator.stranger(&request.parts).map_err(|error| refused(&error, Protocol::Query))?;
        let keys = authenticator.keys().ok_or_else(ApiError::unavailable)?;
        let of = Stranger { account: &stranger.account, keys: &keys, context: &stranger.context };
        input.answer(&of, &self.issuers, self.region.clock().now()).await
    }
}

/// Answers a request of a JSON API.
async fn answer_json(
    request: &ApiRequest<'_>,
    apis: &[Arc<dyn JsonApi>],
    call: &mut Call,
    caller: Authenticated,
    signed_for: Option<&str>,
) -> Result<Value> {
    let target = request.header("x-amz-target")?.unwrap_or_default();
    let unknown = || {
        let text = format!("The host has no operation {}.", shown(target));
        ApiError::new("UnknownOperationException", 400, text)
    };
    let (service, operation) = Service::of_target(target).ok_or_else(unknown)?;
    check_service(service, signed_for, "InvalidSignatureException")?;
    call.service = Some(service);
    let api = apis.iter().find(|api| api.service() == service).ok_or_else(unknown)?;
    api.answer(&Asked { caller, operation, body: request.body, entry: request.entry }, call).await
}

/// A signature for one service is none for another.
fn check_service(service: Service, signed_for: Option<&str>, code: &'static str) -> Result<()> {
    if signed_for == Some(service.name()) {
        return Ok(());
    }
    let text = format!("Credential should be scoped to correct service: '{}'.", service.name());
    Err(ApiError::new(code, 403, text))
}

/// Credentials of `GetSessionToken` call no operation of IAM, as on AWS, where they would need MFA to.
fn check_session(caller: &Authenticated) -> Result<()> {
    match caller.principal.session().map(|session| &session.subject) {
        Some(Subject::User(_)) => {
            let text = "Credentials of GetSessionToken call no operation of IAM: use the access key of the user.";
            Err(ApiError::new("InvalidClientTokenId", 403, text))
        }
        _ => Ok(()),
    }
}

fn missing_action() -> ApiError {
    ApiError::new("MissingAction", 400, "The request names no Action.")
}

/// Answer to a request whose principal is not proven.
fn refused(error: &AuthenticationError, protocol: Protocol) -> ApiError {
    let code = match protocol {
        Protocol::Query => error.code(),
        Protocol::Json => error.json_code(),
    };
    ApiError::new(code, error.status(), error.to_string())
}
