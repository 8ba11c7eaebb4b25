//! Batch API: reports which objects are stored, and the hrefs to upload or download the others.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{Endpoint, LfsRefusal, MAX_BATCH_OBJECTS, json, parse, read_request};
use crate::auth::Access;
use crate::create_on_push::CreationSite;
use crate::forward::{OtherHost, check_repository_id};
use crate::{Host, Refusal};
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::{HeadItem, RepositoryId};
use gitferry_engine::region::is_visible;
use gitferry_engine::region::lfs::LfsState;
use gitferry_git::lfs::{LfsOid, Pointer};

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
}

impl Host {
    pub(super) async fn lfs_batch(&self, name: &str, parts: &Parts, body: Body) -> Result<Response, LfsRefusal> {
        // The body is read only for clients with read access.
        self.authorize(&parts.headers, name, Access::Read)?;
        let bytes = read_request(parts, body, self.limits.request_silence).await?;
        let request: Request = parse(&bytes)?;
        let access = match request.operation {
            Operation::Upload => Access::Write,
            Operation::Download => Access::Read,
        };
        let identity = self.authorize(&parts.headers, name, access)?;
        if request.objects.len() > MAX_BATCH_OBJECTS {
            let reason = format!("a request names at most {MAX_BATCH_OBJECTS} objects");
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason));
        }
        if request.hash_algo.as_deref().is_some_and(|name| name != "sha256") {
            return Err(LfsRefusal::new(StatusCode::CONFLICT, "objects are named by sha256 here"));
        }
        if access == Access::Write
            && let Some((primary, id)) = self.lfs_primary(name, &parts.headers).await?
        {
            return primary.lfs_batch(name, id, &parts.headers, &self.region.name, bytes).await;
        }
        let item = match request.operation {
            Operation::Upload => self.lfs_writable(name, &parts.headers).await?,
            Operation::Download => self.lfs_readable(name, &parts.headers).await?,
        };
        check_repository_id(&parts.headers, name, &self.region.name, item.as_ref().map(|item| item.id))?;
        let endpoint = self.lfs_endpoint(parts)?;
        let offers = Offers { operation: request.operation, endpoint, limit: self.policies.of(name).lfs_object_bytes };
        let pointers: Vec<Result<Pointer, String>> = request.objects.iter().map(pointer_of).collect();
        let oids: Vec<LfsOid> = pointers.iter().flatten().map(|pointer| pointer.oid).collect();
        let states = match &item {
            Some(item) => self.region.lfs_states(item.id, &oids).await?,
            None => Vec::new(),
        };
        if let (Operation::Upload, Some(item)) = (request.operation, &item) {
            // Uploads that were cut off before their change was written. No client uploads a stored object again.
            let late: Vec<LfsObject> =
                states.iter().filter(|state| state.awaited).filter_map(|state| state.held).collect();
            self.lfs_record(item, &late, &identity).await?;
        }
        let mut states = states.into_iter();
        let mut objects = Vec::with_capacity(pointers.len());
        for (wanted, pointer) in request.objects.into_iter().zip(pointers) {
            let offer = match pointer {
                Ok(pointer) => offers.offer(pointer, states.next()),
                Err(reason) => Err((StatusCode::UNPROCESSABLE_ENTITY, reason)),
            };
            objects.push(wanted.offered(offer));
        }
        Ok(json(StatusCode::OK, &Answer { transfer: "basic", objects, hash_algo: "sha256" }))
    }

    /// The repository that objects are downloaded from; `None` if it does not exist and a push of this client would
    /// create it. Clients ask for the missing objects of such a repository before they upload them.
    async fn lfs_readable(&self, name: &str, headers: &HeaderMap) -> Result<Option<HeadItem>, LfsRefusal> {
        if let Some(item) = self.region.find(name).await?.filter(|item| is_visible(&item.head)) {
            return Ok(Some(item));
        }
        self.authorize(headers, name, Access::Write).map_err(|_| Refusal::NotFound)?;
        self.creation_site(name, headers)?;
        Ok(None)
    }

    /// The host to which batch requests for uploads are forwarded, with the repository of that name in this region;
    /// `None` if they are answered here.
    async fn lfs_primary(
        &self,
        name: &str,
        headers: &HeaderMap,
    ) -> Result<Option<(Arc<OtherHost>, Option<RepositoryId>)>, LfsRefusal> {
        match self.region.find(name).await?.filter(|item| is_visible(&item.head)) {
            Some(item) => Ok(self.forwards_to(&item.head, headers).map(|primary| (primary, Some(item.id)))),
            None => match self.creation_site(name, headers)? {
                CreationSite::There(primary) => Ok(Some((primary, None))),
                CreationSite::Here | CreationSite::Elsewhere(_) => Ok(None),
            },
        }
    }

    /// Verifies that an uploaded object is stored with the expected size.
    pub(super) async fn lfs_verify(&self, name: &str, parts: &Parts, body: Body) -> Result<Response, LfsRefusal> {
        self.authorize(&parts.headers, name, Access::Write)?;
        let wanted: Wanted = parse(&read_request(parts, body, self.limits.request_silence).await?)?;
        let pointer = pointer_of(&wanted).map_err(LfsRefusal::unprocessable)?;
        let item = self.lfs_repository(name).await?;
        match self.region.lfs_objects(item.id, &[pointer.oid]).await?.pop().flatten() {
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

impl Offers {
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
            (Operation::Upload, None) => Ok(Some(Actions {
                upload: Some(self.action(format!("{object}?size={}", pointer.size))),
                verify: Some(self.action(format!("{objects}/verify"))),
                download: None,
            })),
            (Operation::Download, Some(_)) => {
                Ok(Some(Actions { download: Some(self.action(object)), ..Actions::default() }))
            }
            (Operation::Download, None) => Err((StatusCode::NOT_FOUND, "the object is not here".into())),
        }
    }
}
