//! The calls of AWS IAM by which an account is read: three of the query API, signed with the host's own credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use gitferry_base::clock::Clock;
use gitferry_base::error::chain;
use gitferry_iam::aws::{AuthorizationDetails, SshKeyDetail};
use gitferry_iam::model::Status;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{bounded, http_client, xml};

/// Region and host of IAM, which all regions share.
const REGION: &str = "us-east-1";
const HOST: &str = "iam.amazonaws.com";
/// Version of the query API.
const VERSION: &str = "2010-05-08";
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts at a call, and the wait after the first that fails; it doubles.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Largest page of an answer, in bytes.
pub const MAX_PAGE_BYTES: usize = 32 << 20;
/// Largest number of pages of one listing.
pub const MAX_PAGES: usize = 1_000;
/// Entities on a page.
const PAGE_ITEMS: &str = "500";

/// The account cannot be read from AWS IAM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The host has no credentials for AWS.
    #[error("the host has no credentials for AWS: {0}")]
    Credentials(String),
    /// AWS refuses a call.
    #[error("AWS IAM refuses {action}: {code}; the host needs a policy that allows iam:{action}")]
    Refused {
        /// Name of the call.
        action: &'static str,
        /// Code of the error.
        code: String,
    },
    /// AWS does not answer, or not as documented.
    #[error("{action} of AWS IAM failed: {reason}")]
    Failed {
        /// Name of the call.
        action: &'static str,
        /// Reason for the operator.
        reason: String,
    },
}

/// Public keys by id: they never change.
pub(super) type KnownKeys = BTreeMap<String, String>;

/// Client of AWS IAM.
#[derive(Debug)]
pub(super) struct IamApi {
    client: reqwest::Client,
    sdk: SdkConfig,
    /// URL of a stand-in, for tests.
    stand_in: Option<String>,
    clock: Arc<dyn Clock>,
}

/// Calls with the credentials of one reading.
struct Reading<'a> {
    api: &'a IamApi,
    credentials: Credentials,
}

impl IamApi {
    pub(super) fn new(sdk: SdkConfig, stand_in: Option<String>, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        Ok(IamApi { client: http_client(TIMEOUT)?, sdk, stand_in, clock })
    }

    /// Reads the account. SSH public keys are read if `ssh_keys` has those that are known, and new ones are added there.
    pub(super) async fn read(&self, ssh_keys: Option<&mut KnownKeys>) -> Result<AuthorizationDetails, ApiError> {
        let provider = self.sdk.credentials_provider().ok_or_else(|| ApiError::Credentials("none are set".into()))?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| ApiError::Credentials(chain(&error)))?;
        let reading = Reading { api: self, credentials };
        let mut details = reading.details().await?;
        if let Some(known) = ssh_keys {
            let users: Vec<String> = details.users.iter().map(|user| user.name.clone()).collect();
            for user in users {
                details.ssh_keys.extend(reading.ssh_keys(&user, known).await?);
            }
            known.retain(|id, _| details.ssh_keys.iter().any(|key| key.id == *id));
        }
        Ok(details)
    }
}

impl Reading<'_> {
    async fn details(&self) -> Result<AuthorizationDetails, ApiError> {
        const ACTION: &str = "GetAccountAuthorizationDetails";
        let mut all = AuthorizationDetails::default();
        let mut pages = Pages::new(ACTION);
        while let Some(marker) = pages.next()? {
            let page: xml::DetailsAnswer = self.call(ACTION, &paged(&[], marker.as_deref())).await?;
            let page = page.get_account_authorization_details_result;
            all.users.extend(page.user_detail_list.into_vec().into_iter().map(Into::into));
            all.groups.extend(page.group_detail_list.into_vec().into_iter().map(Into::into));
            all.roles.extend(page.role_detail_list.into_vec().into_iter().map(Into::into));
            all.policies.extend(page.policies.into_vec().into_iter().map(xml::XmlPolicy::into_detail));
            pages.read(page.is_truncated, page.marker)?;
        }
        Ok(all)
    }

    async fn ssh_keys(&self, user: &str, known: &mut KnownKeys) -> Result<Vec<SshKeyDetail>, ApiError> {
        const LIST: &str = "ListSSHPublicKeys";
        let mut listed = Vec::new();
        let mut pages = Pages::new(LIST);
        while let Some(marker) = pages.next()? {
            let page: xml::KeysAnswer = self.call(LIST, &paged(&[("UserName", user)], marker.as_deref())).await?;
            listed.extend(page.result.keys.into_vec());
            pages.read(page.result.is_truncated, page.result.marker)?;
        }
        let mut keys = Vec::new();
        for xml::ListedKey { id, status, uploaded } in listed {
            if !known.contains_key(&id) {
                let args = [("UserName", user), ("SSHPublicKeyId", &id), ("Encoding", "SSH")];
                let answer: xml::KeyAnswer = self.call("GetSSHPublicKey", &args).await?;
                known.insert(id.clone(), answer.result.key.body);
            }
            let public_key = known.get(&id).cloned().unwrap_or_default();
            // A state that is not known counts as inactive.
            let status = Status::parse(&status).unwrap_or(Status::Inactive);
            keys.push(SshKeyDetail { user: user.to_owned(), id, uploaded, status, public_key });
        }
        Ok(keys)
    }

    /// Makes a call, and repeats it while AWS does not answer or asks to come again.
    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        action: &'static str,
        args: &[(&str, &str)],
    ) -> Result<T, ApiError> {
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            match self.once(action, args).await {
                Err(ApiError::Failed { reason, .. }) if attempt < ATTEMPTS => {
                    tracing::debug!(action, reason, "a call of AWS IAM is tried again");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                outcome => {
                    return outcome
                        .and_then(|text| xml::parse(&text).map_err(|reason| ApiError::Failed { action, reason }));
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn once(&self, action: &'static str, args: &[(&str, &str)]) -> Result<String, ApiError> {
        let failed = |reason: String| ApiError::Failed { action, reason };
        let net = |error: reqwest::Error| failed(chain(&error.without_url()));
        let mut body = format!("Action={action}&Version={VERSION}");
        for (name, value) in args {
            body.push_str(&format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        }
        let signed = self.sign(&body).map_err(failed)?;
        let base = self.api.stand_in.clone().unwrap_or_else(|| format!("https://{HOST}"));
        let mut request = self.api.client.post(format!("{base}/")).header("host", HOST);
        request = request.header("content-type", FORM);
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await.map_err(net)?;
        let status = answer.status();
        let text = bounded(answer, MAX_PAGE_BYTES).await.map_err(net)?;
        let text = text.ok_or_else(|| failed(format!("a page has more than {MAX_PAGE_BYTES} bytes")))?;
        if status.is_success() {
            return Ok(text);
        }
        let code = xml::error_code(&text).unwrap_or_else(|| status.as_u16().to_string());
        if !status.is_client_error() || status.as_u16() == 429 || xml::is_throttling(&code) {
            return Err(failed(format!("it answers {code}")));
        }
        Err(ApiError::Refused { action, code })
    }

    /// Headers of a signature over a body.
    fn sign(&self, body: &str) -> Result<Vec<(String, String)>, String> {
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder().identity(&identity).region(REGION).name("iam");
        let params = params.time(SystemTime::from(self.api.clock.now())).settings(SigningSettings::default()).build();
        let params = params.map_err(|error| error.to_string())?.into();
        let headers = [("content-type", FORM)].into_iter();
        let url = format!("https://{HOST}/");
        let request = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(body.as_bytes()));
        let request = request.map_err(|error| error.to_string())?;
        let (instructions, _) = sign(request, &params).map_err(|error| error.to_string())?.into_parts();
        let (headers, _) = instructions.into_parts();
        Ok(headers.iter().map(|header| (header.name().to_owned(), header.value().to_owned())).collect())
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

/// Arguments of a call for one page.
fn paged<'a>(args: &[(&'a str, &'a str)], marker: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut all = args.to_vec();
    all.push(("MaxItems", PAGE_ITEMS));
    all.extend(marker.map(|marker| ("Marker", marker)));
    all
}

/// Pages of one listing, which comes to an end.
struct Pages {
    action: &'static str,
    next: Option<Option<String>>,
    read: usize,
}

impl Pages {
    fn new(action: &'static str) -> Self {
        Pages { action, next: Some(None), read: 0 }
    }

    /// Marker of the next page, `None` inside for the first; `None` after the last.
    fn next(&mut self) -> Result<Option<Option<String>>, ApiError> {
        if self.next.is_some() && self.read >= MAX_PAGES {
            let reason = format!("the listing has more than {MAX_PAGES} pages");
            return Err(ApiError::Failed { action: self.action, reason });
        }
        Ok(self.next.clone())
    }

    fn read(&mut self, is_truncated: bool, marker: Option<String>) -> Result<(), ApiError> {
        let failed = |reason: &str| Err(ApiError::Failed { action: self.action, reason: reason.to_owned() });
        let next = match (is_truncated, marker.filter(|marker| !marker.is_empty())) {
            (false, _) => None,
            (true, None) => return failed("a page that is cut short names no next one"),
            (true, Some(marker)) if self.next.as_ref().is_some_and(|last| last.as_ref() == Some(&marker)) => {
                return failed("a page names itself as the next one");
            }
            (true, Some(marker)) => Some(Some(marker)),
        };
        self.next = next;
        self.read += 1;
        Ok(())
    }
}
