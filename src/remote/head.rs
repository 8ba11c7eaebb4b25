//! Sets `HEAD` of a repository through the provider's API, as Git's protocol cannot.

use std::sync::Arc;
use std::time::Duration;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use gix::bstr::ByteSlice as _;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url, header};
use serde_json::{Value, json};

use super::credentials::identity::Identity;
use super::credentials::{Credentials, codecommit};
use super::http::Clients;
use super::server_text;
use gitferry_base::error::chain;
use gitferry_config::{Provider, RepositoryUrl, host_of, in_url};
use gitferry_git::refs::RefName;

/// Limit for a request to an API, redirects included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an API answer that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most redirects that are followed: one, for a renamed repository.
const MAX_REDIRECTS: usize = 1;
/// Texts that mark a 403 as a rate limit instead of a denial.
const THROTTLED: [&str; 2] = ["rate limit", "abuse detection"];
/// AWS exceptions that deny the credentials, by prefix.
const AWS_DENIED: [&str; 4] = ["AccessDenied", "UnrecognizedClient", "InvalidClientTokenId", "RepositoryDoesNotExist"];
/// AWS exceptions that pass by themselves, by prefix.
const AWS_THROTTLED: [&str; 3] = ["Throttl", "TooManyRequests", "LimitExceeded"];
/// `X-Amz-Target` of CodeCommit's `UpdateDefaultBranch`.
const UPDATE_DEFAULT_BRANCH: &str = "CodeCommit_20150413.UpdateDefaultBranch";
/// Path below a repository's URL where a gitferry host accepts a new `HEAD`.
const HEAD_PATH: &str = "/info/head";
/// Path prefix of repositories in CodeCommit URLs.
const CODECOMMIT_PATH: &str = "/v1/repos/";

/// Names and values of headers.
type Headers = Vec<(&'static str, &'static str)>;

/// A request to a provider's API.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiRequest {
    method: Method,
    /// Endpoint of the operation.
    pub url: Url,
    body: String,
    headers: Headers,
    /// AWS region to sign for; `None` for providers other than CodeCommit.
    region: Option<String>,
    /// True if the API expects `Bearer` with the token that Git uses as its password.
    bearer: bool,
}

/// Failure of a request to a provider's API; `u16` is the HTTP status, `String` the reason.
#[derive(Debug, PartialEq, Eq)]
pub enum ApiError {
    /// The request cannot be built.
    Unusable(String),
    /// No credentials are available.
    Credentials(String),
    /// The API did not answer.
    Connection(String),
    /// The credentials lack permission, or the repository is hidden from them.
    Denied(u16, String),
    /// The API throttles or failed; trying again later may succeed.
    Busy(u16, String),
    /// Any other refusal.
    Answer(u16, String),
}

/// Builds the request that points `HEAD` at `branch`, or `None` if the provider has no known API. `api` overrides the
/// provider's base URL; `region` is the AWS region for CodeCommit.
pub fn request(
    provider: Provider,
    api: Option<&str>,
    repository: &RepositoryUrl,
    region: Option<&str>,
    branch: &RefName,
) -> Result<Option<ApiRequest>, String> {
    let short =
        branch.as_bstr().strip_prefix(b"refs/heads/").ok_or("the provider's API can only set HEAD to a branch")?;
    let short = short.to_str().map_err(|_| "the branch name is not UTF-8, which the provider's API requires")?;
    if provider == Provider::Gitferry {
        return Ok(gitferry_request(repository, short));
    }
    let (host, port, path) = place(repository);
    let origin = match port {
        Some(port) => format!("https://{host}:{port}"),
        None => format!("https://{host}"),
    };
    let Some((usual, headers)) = usual_api(provider, &host, &origin, region)? else { return Ok(None) };
    let base = api.unwrap_or(&usual).trim_end_matches('/');
    let (method, url, body) = call(provider, base, &path, short);
    let url = Url::parse(&url).map_err(|error| format!("api: {error}"))?;
    let region = region.filter(|_| provider == Provider::CodeCommit).map(str::to_owned);
    let bearer = matches!(provider, Provider::GitHub | Provider::GitLab);
    Ok(Some(ApiRequest { method, url, body: body.to_string(), headers, region, bearer }))
}

/// Returns the usual base URL of a provider's API, and the headers of a request; `None` without a known API.
fn usual_api(
    provider: Provider,
    host: &str,
    origin: &str,
    region: Option<&str>,
) -> Result<Option<(String, Headers)>, String> {
    let json = ("content-type", "application/json");
    Ok(Some(match provider {
        Provider::None | Provider::Gitferry => return Ok(None),
        Provider::CodeCommit => {
            let region = region.ok_or("the host name contains no AWS region and none is configured; set aws.region")?;
            let fips = if host.starts_with("git-codecommit-fips.") { "-fips" } else { "" };
            let domain = if host.ends_with(".cn") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let content_type = ("content-type", "application/x-amz-json-1.1");
            let base = format!("https://codecommit{fips}.{region}.{domain}");
            (base, vec![content_type, ("x-amz-target", UPDATE_DEFAULT_BRANCH)])
        }
        Provider::GitHub => {
            let base = match host {
                "github.com" => "https://api.github.com".into(),
                tenant if tenant.ends_with(".ghe.com") => format!("https://api.{tenant}"),
                _ => format!("{origin}/api/v3"),
            };
            (base, vec![json, ("accept", "application/vnd.github+json"), ("x-github-api-version", "2022-11-28")])
        }
        Provider::GitLab => (format!("{origin}/api/v4"), vec![json]),
        Provider::Gitea => (format!("{origin}/api/v1"), vec![json]),
    }))
}

/// Returns method, URL and body of the request that sets the default branch of the repository at `path`.
fn call(provider: Provider, base: &str, path: &str, branch: &str) -> (Method, String, Value) {
    match provider {
        Provider::CodeCommit => {
            let name = path.rsplit_once(CODECOMMIT_PATH).map_or(path.trim_start_matches('/'), |(_, name)| name);
            (Method::POST, format!("{base}/"), json!({ "repositoryName": name, "defaultBranchName": branch }))
        }
        Provider::GitLab => {
            let project = below(base, "/api/v4", path).replace('/', "%2F");
            (Method::PUT, format!("{base}/projects/{project}"), json!({ "default_branch": branch }))
        }
        _ => {
            let suffix = if provider == Provider::Gitea { "/api/v1" } else { "/api/v3" };
            let owner_and_name = below(base, suffix, path);
            (Method::PATCH, format!("{base}/repos/{owner_and_name}"), json!({ "default_branch": branch }))
        }
    }
}

/// Splits a repository URL into host, HTTP port and path without `.git`.
fn place(repository: &RepositoryUrl) -> (String, Option<u16>, String) {
    let (host, port, path) = match repository {
        RepositoryUrl::Http(url) => (host_of(url).to_owned(), url.port(), url.path().to_owned()),
        RepositoryUrl::Ssh(url) => (url.web_host(), None, in_url(&url.path)),
    };
    (host, port, path.strip_suffix(".git").unwrap_or(&path).into())
}

/// Returns the repository's path relative to the web root, which the API shares.
fn below<'a>(base: &str, suffix: &str, path: &'a str) -> &'a str {
    let prefix = base.strip_suffix(suffix).and_then(|pages| Url::parse(pages).ok());
    let prefix = prefix.map(|pages| pages.path().trim_end_matches('/').to_owned()).unwrap_or_default();
    path.strip_prefix(prefix.as_str()).unwrap_or(path).trim_start_matches('/')
}

/// Builds the request to a gitferry host, whose body is a symbolic ref in the format of Git's `HEAD` file.
fn gitferry_request(repository: &RepositoryUrl, short: &str) -> Option<ApiRequest> {
    let RepositoryUrl::Http(url) = repository else { return None };
    let url = Url::parse(&format!("{url}{HEAD_PATH}")).ok()?;
    let body = format!("ref: refs/heads/{short}\n");
    let headers = vec![("content-type", "text/plain; charset=utf-8")];
    Some(ApiRequest { method: Method::PUT, url, body, headers, region: None, bearer: false })
}

/// Authenticates and sends a request, and judges the answer.
pub async fn send(
    request: &ApiRequest,
    clients: &Clients,
    credentials: &Arc<Credentials>,
    now: Timestamp,
) -> Result<(), ApiError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut login = credentials.login(&request.url);
    match (&request.region, credentials.aws()) {
        (Some(region), Some(aws)) => {
            let found = aws.credentials(now).await.map_err(ApiError::Credentials)?;
            signed(request, region, found, now, &mut headers).map_err(ApiError::Unusable)?;
        }
        (Some(_), None) => {
            return Err(ApiError::Credentials("CodeCommit's API requires auth with kind = \"codecommit\"".into()));
        }
        (None, _) => {
            let identity = login.identity().await.map_err(ApiError::Credentials)?;
            if let Some(identity) = identity {
                let header = for_api(identity, request.bearer).header().map_err(ApiError::Credentials)?;
                headers.insert(header::AUTHORIZATION, header);
            }
        }
    }
    let client = clients.of(&request.url).map_err(ApiError::Unusable)?;
    let (status, text) = match tokio::time::timeout(REQUEST_TIMEOUT, exchange(client, request, &headers)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(ApiError::Connection(chain(&error.without_url()))),
        Err(_) => return Err(ApiError::Connection(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
    };
    if status.is_success() { Ok(()) } else { Err(refusal(status, login.scrub(reason(status, &text)))) }
}

/// Sends a request, follows redirects, and returns status and text of the answer.
async fn exchange(
    client: &Client,
    request: &ApiRequest,
    headers: &HeaderMap,
) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
    let mut url = request.url.clone();
    let mut redirects = 0..MAX_REDIRECTS;
    let mut answer = loop {
        let attempt = client.request(request.method.clone(), url).headers(headers.clone());
        let answer = attempt.body(request.body.clone()).send().await?;
        match moved(request, &answer).filter(|_| redirects.next().is_some()) {
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
    Ok((status, text))
}

/// Returns the target of a redirect within the same origin, so that credentials reach no other server. Signed requests
/// are never redirected, as the signature covers the URL.
fn moved(request: &ApiRequest, answer: &Response) -> Option<Url> {
    if request.region.is_some() || !answer.status().is_redirection() {
        return None;
    }
    let location = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    answer.url().join(location).ok().filter(|to| to.origin() == request.url.origin())
}

/// Classifies an unsuccessful answer.
fn refusal(status: StatusCode, reason: String) -> ApiError {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let (later, denied) = match status.as_u16() {
        408 | 429 | 500.. => (true, false),
        403 => (says(&THROTTLED) || says(&AWS_THROTTLED), true),
        // The repository has moved, is gone, or is hidden from these credentials.
        300..=399 | 401 | 404 | 410 => (false, true),
        _ => (says(&AWS_THROTTLED), says(&AWS_DENIED)),
    };
    match (later, denied) {
        (true, _) => ApiError::Busy(status.as_u16(), reason),
        (false, true) => ApiError::Denied(status.as_u16(), reason),
        (false, false) => ApiError::Answer(status.as_u16(), reason),
    }
}

/// Converts Git's credentials for an API that expects the password as a bearer token.
fn for_api(identity: Identity, bearer: bool) -> Identity {
    match identity {
        Identity::Basic { password, .. } if bearer => Identity::Typed { scheme: "Bearer".into(), credential: password },
        other => other,
    }
}

/// Adds the headers of AWS Signature Version 4 for the request.
fn signed(
    request: &ApiRequest,
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
    let body = SignableBody::Bytes(request.body.as_bytes());
    let headers_to_sign = request.headers.iter().copied();
    let signable = SignableRequest::new(request.method.as_str(), request.url.as_str(), headers_to_sign, body)
        .map_err(|error| chain(&error))?;
    let signed = sign(signable, &params.into()).map_err(|error| chain(&error))?;
    let (instructions, _) = signed.into_parts();
    for (name, value) in instructions.headers() {
        let name = HeaderName::try_from(name).map_err(|_| "the AWS signature has an invalid header name")?;
        let mut value = HeaderValue::try_from(value).map_err(|_| "the AWS signature has an invalid header value")?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// Extracts the message of a refusal, or else the name of its HTTP status.
fn reason(status: StatusCode, text: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(text).ok();
    let field = |name: &str| json.as_ref().and_then(|json| json.get(name)?.as_str()).map(str::to_owned);
    let words = ["message", "Message", "error"].into_iter().find_map(field);
    // The exception's name without its namespace.
    let exception = field("__type").map(|name| name.rsplit('#').next().unwrap_or_default().to_owned());
    let said = match (exception, words) {
        (Some(exception), Some(words)) => server_text::one_line(format!("{exception}: {words}").as_bytes()),
        (Some(words), None) | (None, Some(words)) => server_text::one_line(words.as_bytes()),
        (None, None) => server_text::one_line(text),
    };
    said.unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason given").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_config::UrlTemplate;

    fn asked(provider: Provider, api: Option<&str>, template: &str, branch: &str) -> Result<Option<String>, String> {
        let repository = UrlTemplate::parse(template).unwrap().repository("team/app").unwrap();
        let branch = RefName::new(branch).unwrap();
        let request = request(provider, api, &repository, Some("eu-west-1"), &branch)?;
        Ok(request.map(|request| format!("{} {} {}", request.method, request.url, request.body)))
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
