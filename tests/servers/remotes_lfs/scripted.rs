//! LFS servers that are unlike gitferry's own, beside Git's own server: other hosts, other headers, failures.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::remotes_lfs::git::GitRepo;
use gitferry_test_support::cgi;
use gitferry_test_support::lfs_work::{oid_of, with_pointer};
use gitferry_test_support::world::World;

const CONTENT: &[u8] = b"some content";

/// A request about LFS objects.
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Decides what to answer first, if not what the objects say.
type Rule = Box<dyn Fn(&Seen, usize) -> Option<Response> + Send + Sync>;

/// Makes an action of an object's URL.
type Actions = Box<dyn Fn(&str) -> Value + Send + Sync>;

/// An LFS server beside `git http-backend`, and what it was asked.
#[derive(Clone)]
struct Lfs(Arc<State>);

struct State {
    address: SocketAddr,
    objects: Mutex<HashMap<String, Bytes>>,
    seen: Mutex<Vec<Seen>>,
    rule: Mutex<Option<Rule>>,
    /// The actions of an object, made of its URL here.
    actions: Mutex<Actions>,
}

impl Lfs {
    fn serve(runtime: &Runtime, root: PathBuf) -> Lfs {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let lfs = Lfs(Arc::new(State {
            address: listener.local_addr().unwrap(),
            objects: Mutex::default(),
            seen: Mutex::default(),
            rule: Mutex::default(),
            actions: Mutex::new(Box::new(|url| json!({ "href": url }))),
        }));
        let answering = lfs.clone();
        let layer = from_fn(move |request: Request, next: Next| {
            let lfs = answering.clone();
            async move {
                if !request.uri().path().contains("lfs") {
                    return next.run(request).await;
                }
                let (parts, body) = request.into_parts();
                let Ok(body) = axum::body::to_bytes(body, 1 << 24).await else {
                    return StatusCode::BAD_REQUEST.into_response();
                };
                let path = parts.uri.path().to_owned();
                lfs.answer(Seen { method: parts.method, path, headers: parts.headers, body })
            }
        });
        let router = cgi::router(root).layer(layer);
        runtime.spawn(async move {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
        });
        lfs
    }

    fn answer(&self, seen: Seen) -> Response {
        let state = &*self.0;
        let number = state.seen.lock().unwrap().len();
        let ruled = state.rule.lock().unwrap().as_ref().and_then(|rule| rule(&seen, number));
        let answer = ruled.unwrap_or_else(|| self.usual(&seen));
        state.seen.lock().unwrap().push(seen);
        answer
    }

    fn usual(&self, seen: &Seen) -> Response {
        let oid = seen.path.rsplit('/').next().unwrap().to_owned();
        let mut objects = self.0.objects.lock().unwrap();
        match (&seen.method, oid.as_str()) {
            (&Method::POST, "batch") => {
                let asked: Value = serde_json::from_slice(&seen.body).unwrap();
                let operation = asked["operation"].as_str().unwrap().to_owned();
                let offer = |object: &Value| {
                    let oid = object["oid"].as_str().unwrap();
                    let url = format!("http://{}/lfs/{oid}", self.0.address);
                    let action = (self.0.actions.lock().unwrap())(&url);
                    let verify = json!({ "href": format!("http://{}/lfs/verify", self.0.address) });
                    match (operation.as_str(), objects.contains_key(oid)) {
                        ("upload", true) => json!({ "oid": oid }),
                        ("upload", false) => json!({ "oid": oid, "actions": { "upload": action, "verify": verify } }),
                        (_, true) => json!({ "oid": oid, "actions": { "download": action } }),
                        (_, false) => json!({ "oid": oid, "error": { "code": 404, "message": "no" } }),
                    }
                };
                let offers: Vec<Value> = asked["objects"].as_array().unwrap().iter().map(offer).collect();
                json!({ "objects": offers }).to_string().into_response()
            }
            (&Method::POST, "verify") => StatusCode::OK.into_response(),
            (&Method::PUT, _) => {
                objects.insert(oid, seen.body.clone());
                StatusCode::OK.into_response()
            }
            _ => match objects.get(&oid) {
                Some(content) => content.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
        }
    }

    fn put(&self, content: &'static [u8]) {
        self.0.objects.lock().unwrap().insert(oid_of(content), Bytes::from_static(content));
    }

    fn has(&self, content: &[u8]) -> bool {
        self.0.objects.lock().unwrap().get(&oid_of(content)).is_some_and(|kept| kept == content)
    }

    fn rule(&self, rule: impl Fn(&Seen, usize) -> Option<Response> + Send + Sync + 'static) {
        *self.0.rule.lock().unwrap() = Some(Box::new(rule));
    }

    fn actions(&self, actions: impl Fn(&str) -> Value + Send + Sync + 'static) {
        *self.0.actions.lock().unwrap() = Box::new(actions);
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The requests by method and the end of their path, with a header of each.
    fn seen(&self, name: &str) -> Vec<(String, Option<String>)> {
        let seen = self.0.seen.lock().unwrap();
        let text = |seen: &Seen| {
            let last = match seen.path.rsplit('/').next().unwrap() {
                oid if oid.len() == 64 => "object",
                other => other,
            };
            (format!("{} {last}", seen.method), seen.header(name).map(String::from))
        };
        seen.iter().map(text).collect()
    }
}

/// An object that breaks off.
fn cut_off() -> Response {
    let pieces = [Ok(Bytes::from_static(b"some con")), Err(std::io::Error::other("told to break off"))];
    Body::from_stream(futures::stream::iter(pieces)).into_response()
}

/// Two such servers, a pointer at the source, and a link.
struct Servers {
    world: World,
    runtime: Runtime,
    source: Lfs,
    target: Lfs,
    to: GitRepo,
}

impl Servers {
    fn start() -> Servers {
        let world = World::with(&[], "");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let from = with_pointer(&world.path("us/app"), CONTENT);
        from.git(&["config", "uploadpack.allowFilter", "true"]);
        let to = GitRepo::init(world.path("eu/app"), &[]);
        let (source, target) = (Lfs::serve(&runtime, world.path("us")), Lfs::serve(&runtime, world.path("eu")));
        source.put(CONTENT);
        std::fs::write(world.path("token"), "hunter2-hunter2").unwrap();
        let remote = |name: &str, lfs: &Lfs| {
            let auth = format!("auth = {{ kind = \"bearer\", token_file = \"{}\" }}", world.path("token").display());
            format!("[remotes.{name}]\nurl = \"{}/{{name}}\"\n{auth}\n", lfs.url())
        };
        let link = "[links.cc]\nsource = \"us\"\ntarget = \"eu\"\nrepositories = [\"app\"]\nlfs = \"copy\"\n";
        world.configure(&[], &[remote("us", &source), remote("eu", &target), link.into()].concat());
        Servers { world, runtime, source, target, to }
    }

    fn passes(&self) -> Value {
        let summary = self.world.json(&["replicate", "cc"]);
        assert!(self.target.has(CONTENT));
        assert_eq!(self.to.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
        summary["reports"][0]["carried"].clone()
    }

    fn refuses(&self, code: i32, words: &[&str]) {
        let run = self.world.ends(code, &["replicate", "cc"]);
        run.says(words);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
        assert_eq!(self.to.git(&["for-each-ref"]), "", "a ref moved");
    }
}

fn of<'s>(seen: &'s [(String, Option<String>)], what: &str) -> Vec<Option<&'s str>> {
    seen.iter().filter(|(name, _)| name == what).map(|(_, value)| value.as_deref()).collect()
}

#[test]
fn our_credentials_go_only_where_they_belong() {
    let ours = Some("Bearer hunter2-hunter2");
    let servers = Servers::start();
    servers.passes();
    let seen = servers.source.seen("authorization");
    assert_eq!((of(&seen, "POST batch"), of(&seen, "GET object")), (vec![ours], vec![ours]));
    let seen = servers.target.seen("authorization");
    // Asked, uploaded, verified, and asked again.
    assert_eq!(
        seen.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(),
        ["POST batch", "PUT object", "POST verify", "POST batch"]
    );
    assert!(seen.iter().all(|(_, who)| who.as_deref() == ours), "{seen:?}");
    let seen = servers.target.0.seen.lock().unwrap();
    assert_eq!((seen[1].header("content-length"), &seen[1].body[..]), (Some("12"), CONTENT));
    assert_eq!(seen[1].header("content-type"), Some("application/octet-stream"));
    let verified: Value = serde_json::from_slice(&seen[2].body).unwrap();
    assert_eq!(verified, json!({ "oid": oid_of(CONTENT), "size": 12 }));
}

#[test]
fn a_store_elsewhere_is_told_what_the_action_says_and_no_more() {
    let servers = Servers::start();
    let (from, to) = (
        Lfs::serve(&servers.runtime, servers.world.path("store")),
        Lfs::serve(&servers.runtime, servers.world.path("store")),
    );
    from.put(CONTENT);
    let elsewhere = |store: &Lfs, header: Value| {
        let store = store.url();
        move |url: &str| {
            let oid = url.rsplit('/').next().unwrap();
            json!({ "href": format!("{store}/lfs/{oid}?signature=hunter2"), "header": header })
        }
    };
    servers.source.actions(elsewhere(&from, json!({})));
    let headers = json!({ "X-Ticket": "one", "Authorization": "RemoteAuth own", "Transfer-Encoding": "chunked" });
    servers.target.actions(elsewhere(&to, headers));
    // What is stored there is known here.
    let (store, target) = (to.clone(), servers.target.clone());
    servers.target.rule(move |_, _| {
        if store.has(CONTENT) {
            target.put(CONTENT);
        }
        None
    });
    servers.passes();
    assert_eq!(from.seen("authorization"), [("GET object".into(), None)]);
    assert_eq!(to.seen("authorization"), [("PUT object".into(), Some("RemoteAuth own".into()))]);
    assert_eq!(to.seen("x-ticket"), [("PUT object".into(), Some("one".into()))]);
    assert_eq!(to.seen("transfer-encoding"), [("PUT object".into(), Some("chunked".into()))]);
}

#[test]
fn a_redirect_to_another_host_takes_nothing_along() {
    let servers = Servers::start();
    let store = Lfs::serve(&servers.runtime, servers.world.path("store"));
    store.put(CONTENT);
    let to = format!("{}/lfs/{}", store.url(), oid_of(CONTENT));
    servers.source.actions(|url| json!({ "href": url, "header": { "X-Ticket": "one" } }));
    servers.source.rule(move |seen, _| {
        (seen.method == Method::GET).then(|| (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response())
    });
    servers.passes();
    assert_eq!(store.seen("authorization"), [("GET object".into(), None)]);
    assert_eq!(store.seen("x-ticket"), [("GET object".into(), None)]);
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    let servers = Servers::start();
    // Each request fails the first time.
    for server in [&servers.source, &servers.target] {
        let failed: Mutex<Vec<String>> = Mutex::default();
        server.rule(move |seen, _| {
            let what = format!("{} {}", seen.method, seen.path);
            let mut failed = failed.lock().unwrap();
            let is_first = !failed.contains(&what);
            failed.push(what);
            is_first.then(|| match seen.method {
                Method::GET => cut_off(),
                _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            })
        });
    }
    servers.passes();
    let (source, target) = (servers.source.seen(""), servers.target.seen(""));
    // One download breaks off, one leads to an upload that fails, one arrives.
    assert_eq!((of(&source, "GET object").len(), of(&target, "PUT object").len()), (3, 2));
    // The target says what it has, so that the verification is not repeated where it has made up its mind.
    assert_eq!(of(&target, "POST verify").len(), 1);
}

#[test]
fn what_does_not_pass_is_not_tried_again() {
    let servers = Servers::start();
    for (status, code) in [(StatusCode::FORBIDDEN, 2), (StatusCode::NOT_FOUND, 2), (StatusCode::NOT_IMPLEMENTED, 2)] {
        servers.target.0.seen.lock().unwrap().clear();
        servers
            .target
            .rule(move |_, _| Some((status, "{\"message\":\"token hunter2-hunter2 is no good\"}").into_response()));
        servers.refuses(code, &["info/lfs", status.as_str(), "token *** is no good"]);
        assert_eq!(servers.target.seen("").len(), 1, "{status}");
    }
    // One object.
    servers.target.rule(|seen, _| {
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let oid = asked["objects"][0]["oid"].clone();
        let error = json!({ "code": 422, "message": "too large for us" });
        Some(json!({ "objects": [{ "oid": oid, "error": error }] }).to_string().into_response())
    });
    servers.refuses(2, &["does not take an LFS object", &oid_of(CONTENT), "422 too large for us"]);
}

#[test]
fn a_target_that_only_says_so_is_not_believed() {
    let servers = Servers::start();
    servers.target.rule(|seen, _| (seen.method == Method::PUT).then(|| StatusCode::OK.into_response()));
    servers.refuses(3, &["has taken LFS object", "says that it does not have it"]);
}

#[test]
fn a_source_whose_object_is_gone_after_all_is_missing_it() {
    let servers = Servers::start();
    servers.source.rule(|seen, _| (seen.method == Method::GET).then(|| StatusCode::NOT_FOUND.into_response()));
    servers.refuses(2, &["does not have an LFS object", &oid_of(CONTENT)]);
    for (body, words) in [
        ("some cantent", "its bytes are those of"),
        ("some", "it has 4 bytes, not 12"),
        ("some content!", "more than 12"),
    ] {
        servers.source.rule(move |seen, _| (seen.method == Method::GET).then(|| body.into_response()));
        servers.refuses(3, &["is damaged where it comes from", words]);
        assert!(servers.target.0.objects.lock().unwrap().is_empty(), "{body}");
    }
}

/// Answers to a question about uploads as if nothing were there.
fn offers_an_upload(seen: &Seen, url: &str) -> Option<Response> {
    let asked: Value = serde_json::from_slice(&seen.body).ok()?;
    if asked["operation"] != "upload" {
        return None;
    }
    let oid = asked["objects"][0]["oid"].as_str()?;
    let actions = json!({ "upload": { "href": format!("{url}/lfs/{oid}") } });
    Some(json!({ "objects": [{ "oid": oid, "actions": actions }] }).to_string().into_response())
}

#[test]
fn a_server_that_always_offers_an_upload_is_asked_for_what_it_has() {
    let servers = Servers::start();
    let url = servers.target.url();
    servers.target.rule(move |seen, _| offers_an_upload(seen, &url));
    servers.passes();
    let seen = servers.target.seen("");
    assert_eq!(of(&seen, "PUT object").len(), 1);
    assert_eq!(of(&seen, "POST batch").len(), 3);
}

#[test]
fn a_repository_that_was_renamed_is_followed() {
    let servers = Servers::start();
    for server in [&servers.source, &servers.target] {
        server.rule(|seen, _| {
            if seen.path.starts_with("/moved/") {
                return None;
            }
            let to = format!("/moved/lfs/{}", seen.path.rsplit('/').next().unwrap());
            let status = if seen.path.ends_with("batch") { 301 } else { 307 };
            Some((StatusCode::from_u16(status).unwrap(), [(header::LOCATION, to)]).into_response())
        });
    }
    servers.passes();
    let seen = servers.target.seen("authorization");
    assert_eq!(of(&seen, "PUT object").len(), 2);
    assert!(seen.iter().all(|(_, who)| who.as_deref() == Some("Bearer hunter2-hunter2")), "{seen:?}");
}

#[test]
fn a_server_that_moves_for_ever_is_not_followed_for_ever() {
    let servers = Servers::start();
    servers.target.rule(|seen, _| {
        let to = [(header::LOCATION, format!("{}/on/x", seen.path))];
        (seen.method == Method::PUT).then(|| (StatusCode::TEMPORARY_REDIRECT, to).into_response())
    });
    servers.refuses(2, &["redirects of an upload"]);
    assert_eq!(of(&servers.target.seen(""), "PUT x").len(), 5);
}
