//! Batch API: reports which objects are stored, and the hrefs to upload or download the others.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::action::LfsOperation;
use super::endpoint::{Endpoint, Endpoints};
use super::forward::forward_batch;
use super::json::json;
use super::refusal::LfsRefusal;
use super::repositories::Repositories;
use super::request::{parse, read_request};
use crate::auth::Principal;
use crate::client::Client;
use crate::forward::headers::{ForwardedRequest, check_repository_id};
use crate::push::policies::PushPolicies;
use crate::quotas::Quotas;
use gitferry_config::HostLimits;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::region::Region;
use gitferry_engine::region::lfs::LfsState;
use gitferry_git::lfs::{LfsOid, Pointer};

/// Most objects per request. (git-lfs sends 100.)
const MAX_BATCH_OBJECTS: usize = 1_000;

#[derive(Deserialize)]
struct Request {
    operation: LfsOperation,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<Wanted>,
}

/// An object as the client names it. Checked later, so that an invalid object does not fail the others.
#[derive(Deserialize)]
struct Wanted {
    oid: String,
    size: i64,
}

#[derive(Serialize)]
struct Answer {
    transfer: &'static str,
    objects: Vec<Offered>,
    hash_algo: &'static str,
}

#[derive(Serialize)]
struct Offered {
    oid: String,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Actions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ObjectError>,
}

#[derive(Default, Serialize)]
struct Actions {
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<Action>,
}

#[derive(Serialize)]
struct Action {
    href: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<ActionHeader>,
}

#[derive(Serialize)]
struct ActionHeader {
    #[serde(rename = "Authorization")]
    authorization: String,
}

#[derive(Serialize)]
struct ObjectError {
    code: u16,
    message: String,
}

/// Builds the actions for the objects of one repository.
struct Offers {
    operation: LfsOperation,
    /// LFS endpoint of the repository.
    endpoint: Endpoint,
    /// Largest object that is accepted, in bytes.
    limit: u64,
    /// Quotas, and the repository that they are about; `None` for one that does not exist yet.
    quotas: Arc<Quotas>,
    repository: Option<RepositoryId>,
}

/// The Batch API of a region.
#[derive(Debug)]
pub struct Batch {
    region: Region,
    repositories: Arc<Repositories>,
    endpoints: Endpoints,
    policies: Arc<PushPolicies>,
    idle_timeout: Duration,
}

impl Batch {
    /// The Batch API for the objects of `region`.
    pub fn new(
        region: Region,
        repositories: Arc<Repositories>,
        endpoints: Endpoints,
        policies: Arc<PushPolicies>,
        limits: &HostLimits,
    ) -> Self {
        Batch { region, repositories, endpoints, policies, idle_timeout: limits.request_silence }
    }

    /// Answers a batch request of a principal who may read. Uploads need the right to write.
    pub async fn answer(
        &self,
        principal: &Principal,
        name: &str,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, LfsRefusal> {
        let bytes = read_request(parts, body, self.idle_timeout).await?;
        let request: Request = parse(&bytes)?;
        let client = Client::current();
        if request.operation == LfsOperation::Upload {
            client.entry().action(gitferry_audit::Action::new("GitPush"));
        }
        client.entry().parameter("objects", request.objects.len());
        principal.authorize(name, request.operation.access())?;
        request.check()?;
        if request.operation == LfsOperation::Upload
            && let Some((primary, id)) = self.repositories.primary(name, &parts.headers).await?
        {
            let headers = parts.headers.clone();
            let request = ForwardedRequest { principal: principal.clone(), repository: name.to_owned(), id, headers };
            return forward_batch(&primary, &request, &self.region, bytes).await;
        }
        let endpoint = self.endpoints.of(parts)?;
        let pointers: Vec<Result<Pointer, String>> = request.objects.iter().map(pointer_of).collect();
        let valid: Vec<Pointer> = pointers.iter().flatten().copied().collect();
        let (repository, states) = self.look_up(principal, name, &parts.headers, request.operation, &valid).await?;
        let offers = Offers {
            operation: request.operation,
            endpoint,
            limit: self.policies.of(name).lfs_object_bytes,
            quotas: self.repositories.quotas().clone(),
            repository,
        };
        let objects = offers.answers(request.objects, pointers, states);
        Ok(json(StatusCode::OK, &Answer { transfer: "basic", objects, hash_algo: "sha256" }))
    }

    /// URL of the host to which uploads to a repository are forwarded; `None` if they are not.
    pub async fn uploads_go_to(&self, name: &str) -> Result<Option<String>, LfsRefusal> {
        let primary = self.repositories.primary(name, &HeaderMap::new()).await?;
        Ok(primary.map(|(primary, _)| primary.url().to_owned()))
    }

    /// Decides which objects a principal who may do the operation has to transfer, in their order. An upload that is
    /// refused later, with its reason, is to be transferred; a download that is not possible is not.
    pub async fn plan(
        &self,
        principal: &Principal,
        name: &str,
        operation: LfsOperation,
        pointers: &[Pointer],
    ) -> Result<Vec<bool>, LfsRefusal> {
        let limit = self.policies.of(name).lfs_object_bytes;
        let (_, states) = self.look_up(principal, name, &HeaderMap::new(), operation, pointers).await?;
        let mut states = states.into_iter();
        let mut transferred = |pointer: &Pointer| {
            let decided = is_transferred(operation, limit, *pointer, states.next());
            decided.unwrap_or(operation == LfsOperation::Upload)
        };
        Ok(pointers.iter().map(&mut transferred).collect())
    }

    /// The repository that an operation reads or writes in this region, with the states of objects in it; none if the
    /// operation would create the repository.
    async fn look_up(
        &self,
        principal: &Principal,
        name: &str,
        headers: &HeaderMap,
        operation: LfsOperation,
        pointers: &[Pointer],
    ) -> Result<(Option<RepositoryId>, Vec<LfsState>), LfsRefusal> {
        let item = match operation {
            LfsOperation::Upload => self.repositories.writable(name, headers).await?,
            LfsOperation::Download => self.repositories.readable(name, headers, principal).await?,
        };
        check_repository_id(headers, name, self.region.name(), item.as_ref().map(|item| item.id))?;
        let Some(item) = item else { return Ok((None, Vec::new())) };
        let oids: Vec<LfsOid> = pointers.iter().map(|pointer| pointer.oid).collect();
        let states = self.region.lfs().states(item.id, &oids).await?;
        if operation == LfsOperation::Upload {
            self.record_late(&item, &states, principal).await?;
        }
        Ok((Some(item.id), states))
    }

    /// Records the objects whose uploads were cut off before their change was written. No client uploads a stored
    /// object again.
    async fn record_late(&self, item: &HeadItem, states: &[LfsState], principal: &Principal) -> Result<(), LfsRefusal> {
        let late: Vec<LfsObject> = states.iter().filter(|state| state.awaited).filter_map(|state| state.held).collect();
        self.repositories.record(item, &late, principal).await
    }

    /// Verifies that an uploaded object is stored with the expected size.
    pub async fn verify(&self, name: &str, parts: &Parts, body: Body) -> Result<Response, LfsRefusal> {
        let wanted: Wanted = parse(&read_request(parts, body, self.idle_timeout).await?)?;
        let pointer = pointer_of(&wanted).map_err(LfsRefusal::unprocessable)?;
        self.check_stored(name, pointer).await?;
        Ok(json(StatusCode::OK, &serde_json::json!({})))
    }

    /// Refuses an object that is not stored, or has another size.
    pub async fn check_stored(&self, name: &str, pointer: Pointer) -> Result<(), LfsRefusal> {
        let item = self.repositories.existing(name).await?;
        match self.region.lfs().objects(item.id, &[pointer.oid]).await?.pop().flatten() {
            Some(held) if held.size == pointer.size => Ok(()),
            Some(held) => Err(LfsRefusal::unprocessable(other_size(&held))),
            None => Err(LfsRefusal::new(StatusCode::NOT_FOUND, format!("there is no object {}", pointer.oid))),
        }
    }
}

fn pointer_of(wanted: &Wanted) -> Result<Pointer, String> {
    let oid = wanted.oid.parse().map_err(|error: gitferry_git::lfs::BadLfsOid| error.to_string())?;
    let size = u64::try_from(wanted.size).map_err(|_| "the size is negative".to_owned())?;
    Ok(Pointer { oid, size })
}

fn other_size(held: &LfsObject) -> String {
    format!("the object has {} bytes", held.size)
}

impl Wanted {
    fn offered(self, offer: Result<Option<Actions>, (StatusCode, String)>) -> Offered {
        let Wanted { oid, size } = self;
        match offer {
            Ok(actions) => Offered { oid, size, actions, error: None },
            Err((code, message)) => {
                Offered { oid, size, actions: None, error: Some(ObjectError { code: code.as_u16(), message }) }
            }
        }
    }
}

impl Request {
    /// Refuses a request that is too large, or that names its objects by another hash than SHA-256.
    fn check(&self) -> Result<(), LfsRefusal> {
        if self.objects.len() > MAX_BATCH_OBJECTS {
            let reason = format!("a request names at most {MAX_BATCH_OBJECTS} objects");
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        if self.hash_algo.as_deref().is_some_and(|name| name != "sha256") {
            return Err(LfsRefusal::new(StatusCode::CONFLICT, "objects are named by sha256 here"));
        }
        Ok(())
    }
}

impl Offers {
    /// Answers for all objects of a request, in its order. `states` are those of the valid `pointers`; none if the
    /// repository does not exist yet.
    fn answers(
        &self,
        wanted: Vec<Wanted>,
        pointers: Vec<Result<Pointer, String>>,
        states: Vec<LfsState>,
    ) -> Vec<Offered> {
        let mut states = states.into_iter();
        let answer = |(wanted, pointer): (Wanted, Result<Pointer, String>)| {
            let offer = match pointer {
                Ok(pointer) => self.offer(pointer, states.next()),
                Err(reason) => Err((StatusCode::UNPROCESSABLE_ENTITY, reason)),
            };
            wanted.offered(offer)
        };
        wanted.into_iter().zip(pointers).map(answer).collect()
    }

    fn action(&self, href: String) -> Action {
        let authorization = self.endpoint.authorization.clone();
        Action { href, header: authorization.map(|authorization| ActionHeader { authorization }) }
    }

    /// Actions for one object; `None` for the upload of an object that is stored already.
    fn offer(&self, pointer: Pointer, state: Option<LfsState>) -> Result<Option<Actions>, (StatusCode, String)> {
        if !is_transferred(self.operation, self.limit, pointer, state)? {
            return Ok(None);
        }
        let objects = format!("{}/objects", self.endpoint.url);
        let object = format!("{objects}/{}", pointer.oid);
        Ok(Some(match self.operation {
            LfsOperation::Upload => {
                let no_room = |reason| (StatusCode::INSUFFICIENT_STORAGE, reason);
                self.quotas.check_lfs(self.repository, pointer.size).map_err(no_room)?;
                Actions {
                    upload: Some(self.action(format!("{object}?size={}", pointer.size))),
                    verify: Some(self.action(format!("{objects}/verify"))),
                    download: None,
                }
            }
            LfsOperation::Download => Actions { download: Some(self.action(object)), ..Actions::default() },
        }))
    }
}

/// Decides on an object of an operation: true if it is to be transferred, false for an upload of one that is stored. The
/// error is a status and a text for the client. Pure.
fn is_transferred(
    operation: LfsOperation,
    limit: u64,
    pointer: Pointer,
    state: Option<LfsState>,
) -> Result<bool, (StatusCode, String)> {
    let held = state.and_then(|state| state.held);
    if let Some(held) = held.filter(|held| held.size != pointer.size) {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, other_size(&held)));
    }
    match (operation, held) {
        (LfsOperation::Upload, Some(_)) => Ok(false),
        (LfsOperation::Upload, None) if pointer.size > limit => {
            Err((StatusCode::UNPROCESSABLE_ENTITY, format!("an object has at most {limit} bytes here")))
        }
        (LfsOperation::Upload, None) | (LfsOperation::Download, Some(_)) => Ok(true),
        (LfsOperation::Download, None) => Err((StatusCode::NOT_FOUND, "there is no such object in this region".into())),
    }
}
