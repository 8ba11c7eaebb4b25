//! HEAD, through stand-ins for the providers' APIs that look at every word of a request.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use gitferry_base::Kind;
use gitferry_git::refs::RefName;
use gitferry_remote::{HeadSet, RemoteError};

use crate::remote::place::Place;

/// What an API was asked: method, path, headers that matter, body.
type Asked = Arc<Mutex<Vec<(String, Vec<(String, String)>, String)>>>;

fn api(place: &Place, status: u16, answer: &'static str) -> (String, Asked) {
    let asked: Asked = Arc::default();
    let log = asked.clone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let respond = move |request: Request| {
        let log = log.clone();
        async move { respond(request, &log, status, answer).await }
    };
    place.runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, axum::Router::new().fallback(respond)).await.unwrap();
    });
    (format!("http://{address}"), asked)
}

async fn respond(request: Request, log: &Asked, status: u16, answer: &'static str) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 10_000).await.unwrap();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let first = format!("{} {}", parts.method, parts.uri);
    log.lock().unwrap().push((first, headers.collect(), String::from_utf8(body.to_vec()).unwrap()));
    (StatusCode::from_u16(status).unwrap(), answer).into_response()
}

fn set(place: &Place, lines: &str) -> Result<HeadSet, RemoteError> {
    let app = place.remote(lines).repository("team/app").unwrap();
    place.block_on(app.set_head(&RefName::new("refs/heads/trunk").unwrap()))
}

#[test]
fn tokens() {
    let place = Place::new();
    std::fs::write(place.path("token"), "secret-token").unwrap();
    let basic = "{ kind = \"basic\", user = \"ann\", token_file = \"token\" }";
    let bearer = "{ kind = \"bearer\", token_file = \"token\" }";
    let ssh = "{ kind = \"ssh\", key = \"k\", known_hosts = \"h\" }";
    let encoded = "Basic YW5uOnNlY3JldC10b2tlbg==";
    let token = "Bearer secret-token";
    for (provider, suffix, url, auth, first, authorization) in [
        ("github", "/api/v3", "https://h/{name}.git", basic, "PATCH /api/v3/repos/team/app", token),
        ("github", "", "https://h/{name}.git", bearer, "PATCH /repos/team/app", token),
        ("gitlab", "/api/v4", "https://h/{name}.git", basic, "PUT /api/v4/projects/team%2Fapp", token),
        ("gitea", "/api/v1", "https://h/{name}", basic, "PATCH /api/v1/repos/team/app", encoded),
        ("gitea", "/api/v1/", "https://h/{name}", bearer, "PATCH /api/v1/repos/team/app", token),
        ("gitea", "/api/v1", "git@h:{name}.git", ssh, "PATCH /api/v1/repos/team/app", token),
    ] {
        let (api, asked) = api(&place, 200, "{}");
        let mut lines = format!("url = \"{url}\"\nprovider = \"{provider}\"\napi = \"{api}{suffix}\"\nauth = {auth}\n");
        if auth == ssh {
            assert_eq!(set(&place, &lines).unwrap(), HeadSet::NoApi);
            lines += &format!("api_auth = {bearer}\n");
        }
        assert_eq!(set(&place, &lines).unwrap(), HeadSet::Done);
        let asked = asked.lock().unwrap();
        let [(line, headers, body)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((line.as_str(), body.as_str()), (first, "{\"default_branch\":\"trunk\"}"));
        let header = |name: &str| headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str());
        assert_eq!(header("authorization"), Some(authorization));
        assert_eq!(header("content-type"), Some("application/json"));
        assert!(header("user-agent").is_some());
        if provider == "github" {
            assert_eq!(header("accept"), Some("application/vnd.github+json"));
            assert_eq!(header("x-github-api-version"), Some("2022-11-28"));
        }
    }
}

#[test]
fn codecommit() {
    let place = Place::new();
    std::fs::write(place.path("aws"), "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = k\n")
        .unwrap();
    let (api, asked) = api(&place, 200, "");
    let lines = format!(
        "url = \"https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/{{name}}\"\nauth = {{ kind = \"codecommit\" }}\n\
         aws = {{ endpoint_url = \"{api}\" }}\n"
    );
    let done = crate::remote::place::with_aws(&place.path("aws"), || set(&place, &lines));
    assert_eq!(done.unwrap(), HeadSet::Done);
    let asked = asked.lock().unwrap();
    let [(line, headers, body)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(line, "POST /");
    assert_eq!(body, "{\"defaultBranchName\":\"trunk\",\"repositoryName\":\"team/app\"}");
    let header = |name: &str| headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str()).unwrap();
    assert_eq!(header("x-amz-target"), "CodeCommit_20150413.UpdateDefaultBranch");
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    let (time, authorization) = (header("x-amz-date"), header("authorization"));
    assert!(time.len() == 16 && time.ends_with('Z'), "{time}");
    // Signed again with botocore's rules, from what was sent.
    let signed = ["content-type", "host", "x-amz-date", "x-amz-target"];
    let canonical: String = signed.iter().map(|name| format!("{name}:{}\n", header(name))).collect();
    let digest = |text: &str| hex::encode(<sha2::Sha256 as sha2::Digest>::digest(text));
    let request = format!("POST\n/\n\n{canonical}\n{}\n{}", signed.join(";"), digest(body));
    let scope = format!("{}/eu-west-1/codecommit/aws4_request", &time[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", digest(&request));
    let mac = |key: &[u8], text: &str| {
        use hmac::{KeyInit as _, Mac as _};
        hmac::Hmac::<sha2::Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes().to_vec()
    };
    let key = [&time[..8], "eu-west-1", "codecommit", "aws4_request"];
    let key = key.iter().fold(b"AWS4k".to_vec(), |key, part| mac(&key, part));
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={}, Signature={}",
        signed.join(";"),
        hex::encode(mac(&key, &to_sign))
    );
    assert_eq!(authorization, expected);
}

#[test]
fn refusals() {
    let place = Place::new();
    std::fs::write(place.path("token"), "secret-token").unwrap();
    for (status, answer, kind, words) in [
        (422, "{\"message\":\"no such branch: secret-token\"}", Kind::Refused, "no such branch: ***"),
        (403, "{\"message\":\"API rate limit exceeded\"}", Kind::Transient, "rate limit"),
        (503, "later", Kind::Transient, "later"),
    ] {
        let (api, _) = api(&place, status, answer);
        let lines = format!(
            "url = \"https://h/{{name}}\"\nprovider = \"gitea\"\napi = \"{api}\"\n\
             auth = {{ kind = \"bearer\", token_file = \"token\" }}"
        );
        let error = set(&place, &lines).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret-token"));
        assert_eq!(error.kind(), kind, "{error}");
    }
    // Who may push need not be who may set HEAD.
    for (status, answer, words) in [
        (401, "", "Unauthorized"),
        (403, "{\"message\":\"not secret-token\"}", "not ***"),
        (404, "{\"message\":\"Not Found\"}", "Not Found"),
        (400, "{\"__type\":\"AccessDeniedException\"}", "AccessDenied"),
        (302, "", "302"),
    ] {
        let (api, _) = api(&place, status, answer);
        let lines = format!(
            "url = \"https://h/{{name}}\"\nprovider = \"gitea\"\napi = \"{api}\"\n\
             auth = {{ kind = \"bearer\", token_file = \"token\" }}"
        );
        let HeadSet::Denied(reason) = set(&place, &lines).unwrap() else { panic!("{status}") };
        assert!(reason.contains(words) && !reason.contains("secret-token"), "{reason}");
    }
    // Nobody's API, and nobody to ask as.
    for lines in ["url = \"https://h/{name}\"", "url = \"https://github.com/{name}\""] {
        assert_eq!(set(&place, lines).unwrap(), HeadSet::NoApi);
    }
    let gone = "url = \"https://h/{name}\"\nprovider = \"gitea\"\napi = \"http://127.0.0.1:1\"\n\
                auth = { kind = \"bearer\", token_file = \"token\" }";
    assert_eq!(set(&place, gone).unwrap_err().kind(), Kind::Transient);
}

#[test]
fn renamed() {
    let place = Place::new();
    std::fs::write(place.path("token"), "secret-token").unwrap();
    let (elsewhere, strangers) = api(&place, 200, "{}");
    for (to, done) in [("/repositories/7", true), ("/loop", false), (&*format!("{elsewhere}/x"), false)] {
        let asked: Asked = Arc::default();
        let (log, location) = (asked.clone(), to.to_owned());
        let router = axum::Router::new().fallback(move |request: Request| {
            let (log, location) = (log.clone(), location.clone());
            async move {
                let moved = request.uri().path() != "/repositories/7";
                let answer = respond(request, &log, if moved { 307 } else { 200 }, "").await;
                ([("location", location)], answer).into_response()
            }
        });
        let listener = place.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        place.runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let lines = format!(
            "url = \"https://h/{{name}}\"\nprovider = \"github\"\napi = \"http://{address}\"\n\
             auth = {{ kind = \"bearer\", token_file = \"token\" }}"
        );
        assert_eq!(set(&place, &lines).unwrap() == HeadSet::Done, done, "{to}");
        let asked = asked.lock().unwrap();
        let authorized = |(_, headers, _): &(String, Vec<(String, String)>, String)| {
            headers.iter().any(|(name, value)| name == "authorization" && value == "Bearer secret-token")
        };
        assert!(asked.iter().all(|call| call.0.starts_with("PATCH") && call.2.contains("trunk") && authorized(call)));
        assert_eq!(asked.len(), if to.starts_with('/') { 2 } else { 1 });
    }
    assert!(strangers.lock().unwrap().is_empty());
}
