//! Batch API: reports which objects are stored, and the hrefs to upload or download the others.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::endpoint::{Endpoint, Endpoints};
use super::forward::forward_batch;
use super::json::json;
use super::refusal::LfsRefusal;
use super::repositories::Repositories;
use super::request::{parse, read_request};
use crate::auth::{Access, Principal};
use crate::client::Client;
use crate::forward::headers::check_repository_id;
use crate::push::policies::PushPolicies;
use crate::quotas::Quotas;
use gitferry_config::HostLimits;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::region::lfs::LfsState;
use gitferry_engine::region::{Region, RegionError};
use gitferry_git::lfs::{LfsOid, Pointer};

/// Most objects per request. (git-lfs sends 100.)
const MAX_BATCH_OBJECTS: usize = 1_000;

#[derive(Deserialize)]
struct Request {
    operation: Operation,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<Wanted>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Upload,
    Download,
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
    operation: Operation,
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
        if request.operation == Operation::Upload {
            client.entry().action(gitferry_audit::Action::new("GitPush"));
        }
        client.entry().parameter("objects", request.objects.len());
        principal.authorize(name, request.operation.access())?;
        request.check()?;
        let region = self.region.name();
        if request.operation == Operation::Upload
            && let Some((primary, id)) = self.repositories.primary(name, &parts.headers).await?
        {
            return forward_batch(&primary, name, id, &parts.headers, region, bytes).await;
        }
        let item = match request.operation {
            Operation::Upload => self.repositories.writable(name, &parts.headers).await?,
            Operation::Download => self.repositories.readable(name, &parts.headers, principal).await?,
        };
        check_repository_id(&parts.headers, name, region, item.as_ref().map(|item| item.id))?;
        let endpoint = self.endpoints.of(parts)?;
        let offers = Offers {
            operation: request.operation,
            endpoint,
            limit: self.policies.of(name).lfs_object_bytes,
            quotas: self.repositories.quotas().clone(),
            repository: item.as_ref().map(|item| item.id),
        };
        let pointers: Vec<Result<Pointer, String>> = request.objects.iter().map(pointer_of).collect();
        let states = match &item {
            Some(item) => self.states(item, &pointers).await?,
            None => Vec::new(),
        };
        if let (Operation::Upload, Some(item)) = (request.operation, &item) {
            self.record_late(item, &states, principal).await?;
        }
        let objects = offers.answers(request.objects, pointers, states);
        Ok(json(StatusCode::OK, &Answer { transfer: "basic", objects, hash_algo: "sha256" }))
    }

    /// The states of the objects with a valid pointer.
    async fn states(
        &self,
        item: &HeadItem,
        pointers: &[Result<Pointer, String>],
    ) -> Result<Vec<LfsState>, RegionError> {
        let oids: Vec<LfsOid> = pointers.iter().flatten().map(|pointer| pointer.oid).collect();
        self.region.lfs().states(item.id, &oids).await
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
        let item = self.repositories.existing(name).await?;
        match self.region.lfs().objects(item.id, &[pointer.oid]).await?.pop().flatten() {
            Some(held) if held.size == pointer.size => Ok(json(StatusCode::OK, &serde_json::json!({}))),
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

impl Operation {
    /// Access that the operation needs.
    fn access(self) -> Access {
        match self {
            Operation::Upload => Access::Write,
            Operation::Download => Access::Read,
        }
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
        let held = state.and_then(|state| state.held);
        if let Some(held) = held.filter(|held| held.size != pointer.size) {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, other_size(&held)));
        }
        let objects = format!("{}/objects", self.endpoint.url);
        let object = format!("{objects}/{}", pointer.oid);
        match (self.operation, held) {
            (Operation::Upload, Some(_)) => Ok(None),
            (Operation::Upload, None) if pointer.size > self.limit => {
                let reason = format!("an object has at most {} bytes here", self.limit);
                Err((StatusCode::UNPROCESSABLE_ENTITY, reason))
            }
            (Operation::Upload, None) => {
                let no_room = |reason| (StatusCode::INSUFFICIENT_STORAGE, reason);
                self.quotas.check_lfs(self.repository, pointer.size).map_err(no_room)?;
                Ok(Some(self.uploading(&objects, &object, pointer.size)))
            }
            (Operation::Download, Some(_)) => {
                Ok(Some(Actions { download: Some(self.action(object)), ..Actions::default() }))
            }
            (Operation::Download, None) => {
                Err((StatusCode::NOT_FOUND, "there is no such object in this region".into()))
            }
        }
    }

    fn uploading(&self, objects: &str, object: &str, size: u64) -> Actions {
        Actions {
            upload: Some(self.action(format!("{object}?size={size}"))),
            verify: Some(self.action(format!("{objects}/verify"))),
            download: None,
        }
    }
}
