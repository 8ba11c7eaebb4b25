//! HEAD of a repository at a Git server, which Git's protocol cannot set: through the provider's API.

use std::sync::Arc;
use std::time::Duration;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use gix::bstr::ByteSlice as _;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url, header};
use serde_json::{Value, json};

use super::credentials::{Credentials, Identity, codecommit};
use super::http::Clients;
use super::said;
use gitferry_base::error::chain;
use gitferry_config::{Provider, RepositoryUrl, in_url};
use gitferry_git::refs::RefName;

/// How long an API may take.
const TIME: Duration = Duration::from_secs(30);
/// Most bytes of an API's answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most redirects that are followed: a repository that was renamed has one.
const MAX_REDIRECTS: usize = 1;
/// What says that an answer of 403 is about how often one asks, and not about who.
const THROTTLED: [&str; 2] = ["rate limit", "abuse detection"];
/// What AWS's refusals are called that are about who asks, and those that pass.
const AWS_DENIED: [&str; 4] = ["AccessDenied", "UnrecognizedClient", "InvalidClientTokenId", "RepositoryDoesNotExist"];
const AWS_THROTTLED: [&str; 3] = ["Throttl", "TooManyRequests", "LimitExceeded"];
/// What CodeCommit's operation is called on the wire.
const UPDATE_DEFAULT_BRANCH: &str = "CodeCommit_20150413.UpdateDefaultBranch";
/// Where a host of gitferry's own takes a new `HEAD`, below the URL of a repository.
const HEAD_PATH: &str = "/info/head";
/// What precedes the names of CodeCommit's repositories in URLs.
const CODECOMMIT_PATH: &str = "/v1/repos/";

/// A request to a provider's API.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    method: Method,
    /// Where.
    pub url: Url,
    body: String,
    headers: Vec<(&'static str, &'static str)>,
    /// CodeCommit's requests are signed.
    region: Option<String>,
    /// Whether a token goes by itself.
    bearer: bool,
}

/// Why a request did not do what it was for.
#[derive(Debug, PartialEq, Eq)]
pub enum CallError {
    /// It cannot be made.
    Unusable(String),
    /// It cannot be made as somebody.
    Credentials(String),
    /// There was no answer.
    Connection(String),
    /// Whoever asks may not, or is not shown the repository.
    Denied(u16, String),
    /// It may do it later.
    Busy(u16, String),
    /// The answer is another refusal.
    Answer(u16, String),
}

/// What makes HEAD name a branch, or `None` where no API is known. `api` is where the configuration says that the
/// API is, `region` an AWS region.
pub fn call(
    provider: Provider,
    api: Option<&str>,
    repository: &RepositoryUrl,
    region: Option<&str>,
    branch: &RefName,
) -> Result<Option<Call>, String> {
    let short = branch.as_bstr().strip_prefix(b"refs/heads/").ok_or("HEAD can only name a branch here")?;
    let short = short.to_str().map_err(|_| "the branch's name is no UTF-8, which the provider's API needs")?;
    if provider == Provider::Gitferry {
        return Ok(gitferry_call(repository, short));
    }
    let (host, port, path) = place(repository);
    let origin = match port {
        Some(port) => format!("https://{host}:{port}"),
        None => format!("https://{host}"),
    };
    let json = ("content-type", "application/json");
    let (usual, headers) = match provider {
        Provider::None | Provider::Gitferry => return Ok(None),
        Provider::CodeCommit => {
            let region = region.ok_or("no AWS region is in the host's name, and none is configured")?;
            let fips = if host.starts_with("git-codecommit-fips.") { "-fips" } else { "" };
            let domain = if host.ends_with(".cn") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let content_type = ("content-type", "application/x-amz-json-1.1");
            (
                format!("https://codecommit{fips}.{region}.{domain}"),
                vec![content_type, ("x-amz-target", UPDATE_DEFAULT_BRANCH)],
            )
        }
        Provider::GitHub => {
            let usual = match host.as_str() {
                "github.com" => "https://api.github.com".into(),
                tenant if tenant.ends_with(".ghe.com") => format!("https://api.{tenant}"),
                _ => format!("{origin}/api/v3"),
            };
            (usual, vec![json, ("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")])
        }
        Provider::GitLab => (format!("{origin}/api/v4"), vec![json]),
        Provider::Gitea => (format!("{origin}/api/v1"), vec![json]),
    };
    let base = api.unwrap_or(&usual).trim_end_matches('/');
    let (method, url, body) = match provider {
        Provider::CodeCommit => {
            let name = path.rsplit_once(CODECOMMIT_PATH).map_or(path.trim_start_matches('/'), |(_, name)| name);
            (Method::POST, format!("{base}/"), json!({ "repositoryName": name, "defaultBranchName": short }))
        }
        Provider::GitLab => {
            let project = below(base, "/api/v4", &path).replace('/', "%2F");
            (Method::PUT, format!("{base}/projects/{project}"), json!({ "default_branch": short }))
        }
        _ => {
            let suffix = if provider == Provider::Gitea { "/api/v1" } else { "/api/v3" };
            let owner_and_name = below(base, suffix, &path);
            (Method::PATCH, format!("{base}/repos/{owner_and_name}"), json!({ "default_branch": short }))
        }
    };
    let url = Url::parse(&url).map_err(|error| format!("api: {error}"))?;
    let region = region.filter(|_| provider == Provider::CodeCommit).map(str::to_owned);
    let bearer = matches!(provider, Provider::GitHub | Provider::GitLab);
    Ok(Some(Call { method, url, body: body.to_string(), headers, region, bearer }))
}

/// Host, port where it is HTTP's, and path without `.git` of a repository.
fn place(repository: &RepositoryUrl) -> (String, Option<u16>, String) {
    let (host, port, path) = match repository {
        RepositoryUrl::Http(url) => (url.host_str().unwrap_or_default().to_owned(), url.port(), url.path().to_owned()),
        RepositoryUrl::Ssh(url) => (url.web_host(), None, in_url(&url.path)),
    };
    (host, port, path.strip_suffix(".git").unwrap_or(&path).into())
}

/// A repository's path below where the server's pages are, which is where its API is, too.
fn below<'a>(base: &str, suffix: &str, path: &'a str) -> &'a str {
    let prefix = base.strip_suffix(suffix).and_then(|pages| Url::parse(pages).ok());
    let prefix = prefix.map(|pages| pages.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    path.strip_prefix(prefix.as_str()).unwrap_or(path).trim_start_matches('/')
}

/// A host of gitferry's own takes a symbolic ref as it is in Git's file `HEAD`.
fn gitferry_call(repository: &RepositoryUrl, short: &str) -> Option<Call> {
    let RepositoryUrl::Http(url) = repository else { return None };
    let url = Url::parse(&format!("{url}{HEAD_PATH}")).ok()?;
    let (body, headers) = (format!("ref: refs/heads/{short}\n"), vec![("content-type", "text/plain; charset=utf-8")]);
    Some(Call { method: Method::PUT, url, body, headers, region: None, bearer: false })
}

/// Makes a request as somebody.
pub async fn ask(
    call: &Call,
    clients: &Clients,
    credentials: &Arc<Credentials>,
    now: Timestamp,
) -> Result<(), CallError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut login = credentials.login(&call.url);
    match (&call.region, credentials.aws()) {
        (Some(region), Some(aws)) => {
            let found = aws.credentials(now).await.map_err(CallError::Credentials)?;
            signed(call, region, found, now, &mut headers).map_err(CallError::Unusable)?;
        }
        (Some(_), None) => return Err(CallError::Credentials("CodeCommit's API wants kind = \"codecommit\"".into())),
        (None, _) => {
            let identity = login.identity().await.map_err(CallError::Credentials)?;
            if let Some(identity) = identity {
                let header = for_api(identity, call.bearer).header().map_err(CallError::Credentials)?;
                headers.insert(header::AUTHORIZATION, header);
            }
        }
    }
    let client = clients.of(&call.url).map_err(CallError::Unusable)?;
    let exchange = async {
        let mut url = call.url.clone();
        let mut redirects = 0..MAX_REDIRECTS;
        let mut answer = loop {
            let request = client.request(call.method.clone(), url).headers(headers.clone());
            let answer = request.body(call.body.clone()).send().await?;
            match moved(call, &answer).filter(|_| redirects.next().is_some()) {
                Some(to) => url = to,
                None => break answer,
            }
        };
        let status = answer.status();
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            text.extend_from_slice(&piece[..piece.len().min(MAX_ANSWER_BYTES - text.len())]);
            if text.len() == MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok::<_, reqwest::Error>((status, text))
    };
    let (status, text) = match tokio::time::timeout(TIME, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(CallError::Connection(chain(&error.without_url()))),
        Err(_) => return Err(CallError::Connection(format!("no answer in {} s", TIME.as_secs()))),
    };
    match status.is_success() {
        true => Ok(()),
        false => Err(refusal(status, login.scrub(reason(status, &text)))),
    }
}

/// Where the repository is now, if the API says so and nobody else would be told who asks. What AWS is told is signed
/// for one place.
fn moved(call: &Call, answer: &Response) -> Option<Url> {
    if call.region.is_some() || !answer.status().is_redirection() {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    answer.url().join(location).ok().filter(|to| to.origin() == call.url.origin())
}

/// What an answer means that is none.
fn refusal(status: StatusCode, reason: String) -> CallError {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let (later, denied) = match status.as_u16() {
        408 | 429 | 500.. => (true, false),
        403 => (says(&THROTTLED) || says(&AWS_THROTTLED), true),
        // It speaks of a place where the repository is not, or is not for these credentials.
        300..=399 | 401 | 404 | 410 => (false, true),
        _ => (says(&AWS_THROTTLED), says(&AWS_DENIED)),
    };
    match (later, denied) {
        (true, _) => CallError::Busy(status.as_u16(), reason),
        (false, true) => CallError::Denied(status.as_u16(), reason),
        (false, false) => CallError::Answer(status.as_u16(), reason),
    }
}

/// What an API is told: some want the token that is Git's password by itself.
fn for_api(identity: Identity, bearer: bool) -> Identity {
    match identity {
        Identity::Basic { password, .. } if bearer => Identity::Typed { scheme: "Bearer".into(), credential: password },
        other => other,
    }
}

/// Signs a request to AWS.
fn signed(
    call: &Call,
    region: &str,
    credentials: aws_credential_types::Credentials,
    now: Timestamp,
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(codecommit::SERVICE)
        .time(now.into())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| chain(&error))?;
    let body = SignableBody::Bytes(call.body.as_bytes());
    let request = SignableRequest::new(call.method.as_str(), call.url.as_str(), call.headers.iter().copied(), body)
        .map_err(|error| chain(&error))?;
    let signed = sign(request, &params.into()).map_err(|error| chain(&error))?;
    let (instructions, _) = signed.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| "a signature has no name")?;
        let mut value = HeaderValue::try_from(value).map_err(|_| "a signature is no header")?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// What an API says beside its refusal.
fn reason(status: StatusCode, text: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(text).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json.get(name)?.as_str()).map(str::to_owned);
    let words = ["message", "Message", "error"].into_iter().find_map(field);
    // The name of the exception, without the namespace before it.
    let exception = field("__type").map(|name| name.rsplit('#').next().unwrap_or_default().to_owned());
    let said = match (exception, words) {
        (Some(exception), Some(words)) => said::shown(format!("{exception}: {words}").as_bytes()),
        (Some(words), None) | (None, Some(words)) => said::shown(words.as_bytes()),
        (None, None) => said::shown(text),
    };
    said.unwrap_or_else(|| status.canonical_reason().unwrap_or("for a reason of its own").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_config::UrlTemplate;

    fn asked(provider: Provider, api: Option<&str>, template: &str, branch: &str) -> Result<Option<String>, String> {
        let repository = UrlTemplate::parse(template).unwrap().repository("team/app").unwrap();
        let branch = RefName::new(branch).unwrap();
        let call = call(provider, api, &repository, Some("eu-west-1"), &branch)?;
        Ok(call.map(|call| format!("{} {} {}", call.method, call.url, call.body)))
    }

    #[test]
    fn requests() {
        let branch = "{\"default_branch\":\"topic/x\"}";
        for (provider, api, template, expected) in [
            (
                Provider::CodeCommit,
                None,
                "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/{name}",
                "POST https://codecommit.eu-west-1.amazonaws.com/ \
                 {\"defaultBranchName\":\"topic/x\",\"repositoryName\":\"team/app\"}"
                    .to_owned(),
            ),
            (
                Provider::GitHub,
                None,
                "https://github.com/{name}.git",
                format!("PATCH https://api.github.com/repos/team/app {branch}"),
            ),
            (
                Provider::GitHub,
                None,
                "git@git.corp.example:{name}.git",
                format!("PATCH https://git.corp.example/api/v3/repos/team/app {branch}"),
            ),
            (
                Provider::GitHub,
                None,
                "ssh://git@ssh.github.com:443/{name}.git",
                format!("PATCH https://api.github.com/repos/team/app {branch}"),
            ),
            (
                Provider::GitLab,
                None,
                "https://gitlab.com/group/{name}.git",
                format!("PUT https://gitlab.com/api/v4/projects/group%2Fteam%2Fapp {branch}"),
            ),
            (
                Provider::GitLab,
                Some("https://corp.example/gitlab/api/v4/"),
                "https://corp.example/gitlab/{name}.git",
                format!("PUT https://corp.example/gitlab/api/v4/projects/team%2Fapp {branch}"),
            ),
            (
                Provider::Gitea,
                None,
                "ssh://git@codeberg.org/{name}.git",
                format!("PATCH https://codeberg.org/api/v1/repos/team/app {branch}"),
            ),
            (
                Provider::Gitea,
                Some("http://127.0.0.1:3000/git/api/v1"),
                "http://127.0.0.1:3000/git/{name}",
                format!("PATCH http://127.0.0.1:3000/git/api/v1/repos/team/app {branch}"),
            ),
        ] {
            let asked = asked(provider, api, template, "refs/heads/topic/x").unwrap();
            assert_eq!(asked.as_deref(), Some(expected.as_str()));
        }
        assert_eq!(asked(Provider::None, None, "https://h/{name}", "refs/heads/main"), Ok(None));
        assert!(asked(Provider::Gitea, None, "https://h/{name}", "refs/tags/v1").is_err());
    }

    #[test]
    fn refusals() {
        for (status, reason, expected) in [
            (401, "Bad credentials", "Denied"),
            (403, "Resource not accessible by personal access token", "Denied"),
            (403, "You have exceeded a secondary rate limit", "Busy"),
            (404, "Not Found", "Denied"),
            (302, "Found", "Denied"),
            (400, "AccessDeniedException: not authorized to perform codecommit:UpdateDefaultBranch", "Denied"),
            (400, "ThrottlingException: Rate exceeded", "Busy"),
            (400, "BranchDoesNotExistException: no", "Answer"),
            (422, "no such branch", "Answer"),
            (429, "", "Busy"),
            (503, "", "Busy"),
        ] {
            let refusal = format!("{:?}", refusal(StatusCode::from_u16(status).unwrap(), reason.into()));
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }

    #[test]
    fn reasons() {
        let status = StatusCode::BAD_REQUEST;
        for (text, expected) in [
            (&b"{\"message\":\"Not Found\"}"[..], "Not Found"),
            (
                b"{\"__type\":\"com.amazonaws#BranchDoesNotExistException\",\"message\":\"no\\nx\"}",
                "BranchDoesNotExistException: no x",
            ),
            (b"{\"__type\":\"Throttled\"}", "Throttled"),
            (b"plain", "plain"),
            (b"<html>", "Bad Request"),
            (b"", "Bad Request"),
        ] {
            assert_eq!(reason(status, text), expected);
        }
    }
}
