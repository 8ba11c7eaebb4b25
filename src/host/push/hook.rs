//! Pre-receive hook at a URL.
//!
//! The host sends a `POST` with this JSON:
//!
//! ```json
//! { "repository": "team/app", "actor": "ann", "object_format": "sha1",
//!   "commands": [{ "ref": "refs/heads/main", "old": "<id>", "new": "<id>" }],
//!   "push_options": ["ci.skip"],
//!   "quarantine": "https://git.example/_quarantine/<secret>" }
//! ```
//!
//! `old` is null for a new ref, `new` for a deleted one; bytes of names that are not UTF-8 are replaced by U+FFFD.
//! Until the hook has answered, Git can fetch the repository as it would be after the push from `quarantine` (also with
//! `--filter=blob:none`). The hook answers with status 200 and
//!
//! ```json
//! { "accept": false, "messages": ["no binaries in this repository"] }
//! ```
//!
//! Any other answer, and none within the timeout, refuses the push.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::redirect;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::quarantines::Quarantines;
use gitferry_git::receive_pack::{Command, HookError, HookInput, HookVerdict, MAX_HOOK_OUTPUT_BYTES, PreReceive};

/// Time limit for connecting to a hook.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A hook that is asked over HTTP about each push.
#[derive(Debug)]
pub struct HttpHook {
    url: String,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    client: reqwest::Client,
    quarantines: Arc<Quarantines>,
    runtime: Handle,
}

#[derive(Serialize)]
struct HookRequest<'a> {
    repository: &'a str,
    actor: &'a str,
    object_format: String,
    commands: Vec<CommandPayload>,
    push_options: Vec<String>,
    quarantine: &'a str,
}

#[derive(Serialize)]
struct CommandPayload {
    #[serde(rename = "ref")]
    name: String,
    old: Option<String>,
    new: Option<String>,
}

#[derive(Deserialize)]
struct HookResponse {
    accept: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl HttpHook {
    /// Creates the hook at `url`. `token` is sent as a bearer token. Call it within a runtime.
    ///
    /// # Errors
    /// The URL or the token is not valid; the text names the configuration key.
    pub fn new(
        url: &str,
        token: Option<String>,
        timeout: Duration,
        quarantines: Arc<Quarantines>,
    ) -> Result<Self, String> {
        let authorization = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
        let mut authorization = authorization.map_err(|_| "the token cannot be sent in a header".to_owned())?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        // Follows no redirects: only the configured URL may accept a push.
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none());
        let client = client.build().map_err(|error| format!("pre_receive.url {url}: {error}"))?;
        reqwest::Url::parse(url).map_err(|error| format!("pre_receive.url {url}: {error}"))?;
        Ok(HttpHook { url: url.into(), authorization, timeout, client, quarantines, runtime: Handle::current() })
    }

    async fn ask(&self, payload: &HookRequest<'_>) -> Result<HookVerdict, HookError> {
        let mut request = self.client.post(&self.url).json(payload);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let failed = |error: reqwest::Error| HookError::Answer(error.without_url().to_string());
        let mut response = request.send().await.map_err(failed)?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(HookError::Answer(format!("the status was {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_HOOK_OUTPUT_BYTES {
                return Err(HookError::Answer(format!("the answer is longer than {MAX_HOOK_OUTPUT_BYTES} bytes")));
            }
        }
        let answer: HookResponse =
            serde_json::from_slice(&body).map_err(|error| HookError::Answer(error.to_string()))?;
        let output = answer.messages.iter().flat_map(|message| message.lines()).map(String::from).collect();
        Ok(HookVerdict { accepted: answer.accept, output })
    }
}

impl PreReceive for HttpHook {
    fn judge(&self, push: &HookInput<'_>) -> Result<HookVerdict, HookError> {
        let published = self.quarantines.publish(push.view_after()?);
        let id = |id: &Option<gix::ObjectId>| id.map(|id| id.to_string());
        let payload = |Command { name, old, new }: &Command| CommandPayload {
            name: name.to_string(),
            old: id(old),
            new: id(new),
        };
        let request = HookRequest {
            repository: push.repository,
            actor: push.actor,
            object_format: push.format.to_string(),
            commands: push.commands.iter().map(payload).collect(),
            push_options: push.options.iter().map(ToString::to_string).collect(),
            quarantine: &published.url,
        };
        let verdict = self.runtime.block_on(async { tokio::time::timeout(self.timeout, self.ask(&request)).await });
        verdict.unwrap_or(Err(HookError::Timeout(self.timeout)))
    }
}
