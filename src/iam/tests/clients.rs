//! Requests as clients send them, signed by the AWS SDK's own signer.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::request::{Payload, RequestParts};
use crate::secret::SecretText;
use crate::sigv4::{Scope, SigningKey};
use crate::tests::world::REGION;

/// Request as it goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) repository: Option<String>,
    pub(crate) source: IpAddr,
}

impl Sent {
    pub(crate) fn new(method: &str, path: &str, query: &str, body: &[u8]) -> Sent {
        Sent {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: vec![("host".into(), b"git.example.com:8443".to_vec())],
            body: body.to_vec(),
            repository: None,
            source: "203.0.113.7".parse().unwrap(),
        }
    }

    /// Request of Git for a repository, with user name and password.
    pub(crate) fn git(repository: &str, user: &str, password: &str) -> Sent {
        let sent = Sent::new("GET", &format!("{repository}/info/refs"), "service=git-upload-pack", b"");
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Sent { repository: Some(repository.into()), ..sent }.header("authorization", &basic)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Sent {
        self.headers.push((name.into(), value.as_bytes().to_vec()));
        self
    }

    /// Replaces a header.
    pub(crate) fn replace(mut self, name: &str, value: &str) -> Sent {
        self.headers.retain(|(header, _)| header != name);
        self.header(name, value)
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name).unwrap();
        std::str::from_utf8(value).unwrap()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&RequestParts<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let payload = if self.repository.is_some() { Payload::Unread } else { Payload::of(&self.body) };
        look(&RequestParts {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            authority: None,
            payload,
            repository_path: self.repository.as_deref(),
            source: self.source,
            secure: true,
        })
    }
}

/// Client with an access key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

pub(crate) fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(at.as_second().try_into().unwrap())
}

impl Client {
    pub(crate) fn new(id: &str, secret: &str, token: Option<String>) -> Client {
        Client { id: id.into(), secret: secret.into(), token }
    }

    /// Signs a request in its headers.
    pub(crate) fn sign(&self, sent: Sent, service: &str, region: &str, at: Timestamp) -> Sent {
        self.sign_with(sent, service, region, at, SigningSettings::default())
    }

    /// Signs a request in its query, for 900 seconds.
    pub(crate) fn presign(&self, sent: Sent, service: &str, at: Timestamp) -> Sent {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(900));
        self.sign_with(sent, service, REGION, at, settings)
    }

    fn sign_with(&self, mut sent: Sent, service: &str, region: &str, at: Timestamp, settings: SigningSettings) -> Sent {
        let identity = Credentials::new(&self.id, &self.secret, self.token.clone(), None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(system_time(at))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let query = if sent.query.is_empty() { String::new() } else { format!("?{}", sent.query) };
        let url = format!("https://{}{}{query}", sent.value("host"), sent.path);
        let headers: Vec<(&str, &str)> = sent
            .headers
            .iter()
            .filter(|(name, _)| name != "host")
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap()))
            .collect();
        let body = SignableBody::Bytes(&sent.body);
        let request = SignableRequest::new(&sent.method, &url, headers.into_iter(), body).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (new_headers, new_params) = instructions.into_parts();
        for header in new_headers {
            sent = sent.replace(header.name(), header.value());
        }
        for (name, value) in new_params {
            let encode = |text: &str| {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            };
            let pair = format!("{}={}", name, encode(&value));
            sent.query = if sent.query.is_empty() { pair } else { format!("{}&{pair}", sent.query) };
        }
        sent
    }

    /// User name and password for Git, as clients of CodeCommit make them.
    pub(crate) fn git(&self, path: &str, host: &str, at: Timestamp) -> (String, String) {
        let time = at.strftime("%Y%m%dT%H%M%S").to_string();
        let scope = Scope { date: &time[..8], region: REGION, service: "codecommit" };
        let key = SigningKey::derive(&SecretText::new(self.secret.clone()), &scope);
        let request = format!("GIT\n{path}\n\nhost:{host}\n\nhost\n");
        let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, request.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{}/{REGION}/codecommit/aws4_request\n{hash}", scope.date);
        let token = self.token.as_ref().map_or(String::new(), |token| format!("%{token}"));
        (format!("{}{token}", self.id), format!("{time}Z{}", key.sign(text.as_bytes())))
    }
}
