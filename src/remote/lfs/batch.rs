//! Requests and answers of the LFS Batch API (git-lfs `docs/api/batch.md`), without I/O.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use reqwest::Url;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::json;

use super::error::{is_missing, is_transient};
use crate::server_text;
use gitferry_git::lfs::Pointer;

/// Most objects per request, as in git-lfs.
pub const MAX_BATCH_OBJECTS: usize = 100;
/// Most headers per action.
const MAX_HEADERS: usize = 64;
/// Connection-specific headers of an action, which are not forwarded.
const CONNECTION_HEADERS: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING];

/// Direction of the transfers that a batch prepares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// From gitferry to the server.
    Upload,
    /// From the server to gitferry.
    Download,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Upload => "upload",
            Operation::Download => "download",
        }
    }
}

/// An HTTP request that the server asks the client to make.
#[derive(Clone, PartialEq, Eq)]
pub struct Action {
    /// Target of the request. The query may contain a signature.
    pub url: Url,
    /// Headers of the request. Values may contain credentials.
    pub headers: HeaderMap,
    /// True if the body must be sent without `Content-Length`.
    pub chunked: bool,
    /// True if the request needs no credentials besides those in `url` and `headers`.
    pub authenticated: bool,
}

impl fmt::Debug for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Action { url, headers, chunked, authenticated } = self;
        let mut out = out.debug_struct("Action");
        out.field("origin", &url.origin().ascii_serialization()).field("headers", &headers.len());
        out.field("chunked", chunked).field("authenticated", authenticated).finish()
    }
}

/// Answer of the server for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The server already has the object; no upload is needed.
    Done,
    /// The object can be transferred.
    Transfer {
        /// Request that uploads or downloads the object.
        action: Box<Action>,
        /// Request that confirms a finished upload, if the server wants one.
        verify: Option<Box<Action>>,
    },
    /// The server does not have the object.
    Missing,
    /// The server refuses the transfer; [`Offer::is_transient`] says if a retry may succeed.
    Refused {
        /// Error code of the object, an HTTP status.
        status: u16,
        /// Message of the server, in one line.
        reason: String,
    },
}

impl Offer {
    /// Returns true if asking again later may succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Offer::Refused { status, .. } if is_transient(*status))
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    transfer: Option<String>,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    authenticated: Option<bool>,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<ObjectError>,
}

#[derive(Default, Deserialize)]
struct Actions {
    #[serde(default)]
    upload: Option<RawAction>,
    #[serde(default)]
    verify: Option<RawAction>,
    #[serde(default)]
    download: Option<RawAction>,
}

#[derive(Deserialize)]
struct RawAction {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct ObjectError {
    code: u16,
    #[serde(default)]
    message: String,
}

/// Formats the body of a batch request.
pub fn request(operation: Operation, objects: &[Pointer]) -> String {
    let objects: Vec<_> =
        objects.iter().map(|Pointer { oid, size }| json!({ "oid": oid.to_string(), "size": size })).collect();
    let request = json!({
        "operation": operation.name(), "transfers": ["basic"], "objects": objects, "hash_algo": "sha256",
    });
    request.to_string()
}

/// Parses the answer into one offer per object, in the order of `objects`. URLs of actions are resolved against
/// `endpoint`.
///
/// # Errors
/// Returns the reason if the answer as a whole is unusable, lacks an object, or contains an unsafe action.
pub fn offers(answer: &[u8], operation: Operation, objects: &[Pointer], endpoint: &Url) -> Result<Vec<Offer>, String> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| malformed(&error))?;
    if let Some(transfer) = answer.transfer.filter(|transfer| transfer != "basic") {
        let shown = server_text::one_line(transfer.as_bytes()).unwrap_or_default();
        return Err(format!("the LFS server chose the transfer adapter `{shown}`; gitferry supports only `basic`"));
    }
    if let Some(hash) = answer.hash_algo.filter(|hash| hash != "sha256") {
        let shown = server_text::one_line(hash.as_bytes()).unwrap_or_default();
        return Err(format!("the LFS server uses the hash algorithm `{shown}`; gitferry supports only `sha256`"));
    }
    let mut answered: HashMap<String, Object> =
        answer.objects.into_iter().map(|object| (object.oid.to_ascii_lowercase(), object)).collect();
    let offer = |Pointer { oid, .. }: &Pointer| {
        let object = answered.remove(&oid.to_string());
        let object = object.ok_or_else(|| format!("the answer of the LFS server lacks object {oid}"))?;
        object.offer(operation, endpoint).map_err(|reason| format!("LFS object {oid}: {reason}"))
    };
    objects.iter().map(offer).collect()
}

/// Describes a malformed answer by position only, as its content may be secret.
fn malformed(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "does not have the fields of the Batch API" } else { "is not JSON" };
    format!("the answer of the LFS server {what} (line {}, column {})", error.line(), error.column())
}

impl Object {
    fn offer(self, operation: Operation, endpoint: &Url) -> Result<Offer, String> {
        if let Some(ObjectError { code, message }) = self.error {
            let reason = server_text::one_line(message.as_bytes()).unwrap_or_else(|| "no reason given".into());
            return Ok(match operation {
                Operation::Download if is_missing(code) => Offer::Missing,
                _ => Offer::Refused { status: code, reason },
            });
        }
        let authenticated = self.authenticated.unwrap_or(false);
        let Actions { upload, verify, download } = self.actions.unwrap_or_default();
        let action = match operation {
            Operation::Upload => upload,
            Operation::Download => download,
        };
        let Some(action) = action else {
            return match operation {
                Operation::Upload => Ok(Offer::Done),
                Operation::Download => Err("the answer has no download action".into()),
            };
        };
        let action = action.checked(authenticated, endpoint)?;
        let verify = verify.map(|verify| verify.checked(authenticated, endpoint)).transpose()?;
        Ok(Offer::Transfer { action, verify })
    }
}

impl RawAction {
    fn checked(self, authenticated: bool, endpoint: &Url) -> Result<Box<Action>, String> {
        let mut url = endpoint.join(&self.href).map_err(|error| format!("an action has an invalid URL: {error}"))?;
        let shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        match (endpoint.scheme(), url.scheme()) {
            ("https", "https") | ("http", "http" | "https") => {}
            _ => return Err(format!("refused an action at {shown}: it would downgrade from {}", endpoint.scheme())),
        }
        // Credentials in the URL are the server's, not the configured ones.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let mut headers = HeaderMap::new();
        let mut chunked = false;
        let header = self.header.unwrap_or_default();
        if header.len() > MAX_HEADERS {
            return Err(format!("an action has more than {MAX_HEADERS} headers"));
        }
        for (name, value) in header {
            let name = HeaderName::try_from(name).map_err(|_| "an action has an invalid header name")?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("an action has an invalid value of the header {name}"))?;
            value.set_sensitive(true);
            if name == header::TRANSFER_ENCODING {
                chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            if !CONNECTION_HEADERS.contains(&name) {
                headers.insert(name, value);
            }
        }
        Ok(Box::new(Action { url, headers, chunked, authenticated }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn pointer() -> Pointer {
        Pointer { oid: OID.parse().unwrap(), size: 5 }
    }

    fn offer(operation: Operation, object: serde_json::Value) -> Result<Offer, String> {
        let answer = json!({ "transfer": "basic", "objects": [object] }).to_string();
        let endpoint = Url::parse("https://lfs.example/app.git/info/lfs").unwrap();
        offers(answer.as_bytes(), operation, &[pointer()], &endpoint).map(|mut all| all.remove(0))
    }

    #[test]
    fn a_request_names_each_object() {
        let text = request(Operation::Upload, &[pointer()]);
        let expected = json!({
            "operation": "upload", "transfers": ["basic"], "hash_algo": "sha256",
            "objects": [{ "oid": OID, "size": 5 }],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }

    #[test]
    fn what_is_offered() {
        let there = offer(Operation::Upload, json!({ "oid": OID, "size": 5 }));
        assert_eq!(there, Ok(Offer::Done));
        assert_eq!(offer(Operation::Upload, json!({ "oid": OID, "actions": {} })), Ok(Offer::Done));
        for code in [404, 410] {
            let error = json!({ "oid": OID, "error": { "code": code, "message": "gone" } });
            assert_eq!(offer(Operation::Download, error), Ok(Offer::Missing));
        }
        let busy =
            offer(Operation::Upload, json!({ "oid": OID, "error": { "code": 503, "message": "a\nb" } })).unwrap();
        assert_eq!(busy, Offer::Refused { status: 503, reason: "a b".into() });
        assert!(busy.is_transient());
        let href = "https://store.example/x?signature=hunter2";
        let header = json!({ "Authorization": "RemoteAuth hunter2", "Host": "other", "Transfer-Encoding": "chunked" });
        let actions = json!({ "upload": { "href": href, "header": header }, "verify": { "href": "/verify" } });
        let all = json!({ "oid": OID, "authenticated": true, "actions": actions });
        let Ok(Offer::Transfer { action, verify: Some(verify) }) = offer(Operation::Upload, all) else { panic!() };
        assert_eq!((action.url.as_str(), action.chunked, action.authenticated), (href, true, true));
        assert_eq!(action.headers.keys().collect::<Vec<_>>(), ["authorization"]);
        assert_eq!(verify.url.as_str(), "https://lfs.example/verify");
        assert!(!format!("{action:?} {:?}", action.headers).contains("hunter2"));
    }

    #[test]
    fn answers_that_are_refused() {
        let to = |href: &str| json!({ "oid": OID, "actions": { "download": { "href": href } } });
        for bad in [
            json!({ "oid": OID.replace('4', "5") }),
            json!({ "oid": OID }),
            to("http://lfs.example/x"),
            to("file:///etc/passwd"),
            json!({ "oid": OID, "actions": { "download": { "href": "/x", "header": { "a b": "c" } } } }),
            json!({ "oid": OID, "actions": { "download": { "href": "/x", "header": { "a": "c\r\nd" } } } }),
        ] {
            assert!(offer(Operation::Download, bad.clone()).is_err(), "{bad}");
        }
        // More headers than a map of them can hold.
        let many: serde_json::Map<_, _> = (0..40_000).map(|row| (format!("x-{row}"), json!("v"))).collect();
        let many = json!({ "oid": OID, "actions": { "download": { "href": "/x", "header": many } } });
        assert!(offer(Operation::Download, many).unwrap_err().contains("64 headers"));
        let endpoint = Url::parse("https://lfs.example").unwrap();
        for whole in ["", "[]", "{\"transfer\":\"tus\",\"objects\":[]}", "{\"hash_algo\":\"md5\",\"objects\":[]}"] {
            assert!(offers(whole.as_bytes(), Operation::Download, &[], &endpoint).is_err(), "{whole}");
        }
        let secret = json!({ "oid": OID, "actions": { "download": { "href": "/x", "header": "hunter2" } } });
        assert!(!offer(Operation::Download, secret).unwrap_err().contains("hunter2"));
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(href in "[ -~]{0,40}", name in "[ -~]{0,10}", code in any::<u16>()) {
            let action = json!({ "href": href, "header": { name: "v" } });
            let _ = offer(Operation::Download, json!({ "oid": OID, "actions": { "download": action } }));
            let _ = offer(Operation::Upload, json!({ "oid": OID, "error": { "code": code } }));
        }
    }
}
