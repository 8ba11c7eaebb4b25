//! A stand-in for AWS STS and IAM on this machine. Its answers have the form of the examples in the API references, and
//! it verifies the signature of a presigned request as AWS does: over the headers that arrive.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use gitferry_iam::aws::{HOST_HEADER, PresignedCaller};
use gitferry_identity::aws::{Presigning, presign};

pub const ACCOUNT: &str = "123456789012";

/// Key of a caller: secret, session token, ARN, unique id.
#[derive(Clone)]
pub struct Key {
    pub id: &'static str,
    pub secret: &'static str,
    pub token: Option<&'static str>,
    pub arn: String,
    pub user_id: &'static str,
}

#[derive(Default)]
pub struct Aws {
    keys: BTreeMap<&'static str, Key>,
    /// Pages of `GetAccountAuthorizationDetails`.
    pages: Vec<String>,
    /// Requests to STS, each with the host that was signed.
    asked: Vec<String>,
    /// Actions of IAM.
    actions: Vec<String>,
    /// Answer to everything in place of the right one.
    fault: Option<Fault>,
    /// Id and content of the SSH public key of each user.
    ssh_key: SshKey,
}

struct SshKey(String, String);

impl Default for SshKey {
    fn default() -> SshKey {
        let content = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIhz2GK/XCUj4i6Q5yQJNL1MKZ8B7qXe4+eB3LzcmVh jane";
        SshKey("APKAJJJJJJJJJJJJJJJJJ".into(), content.into())
    }
}

#[derive(Clone, Copy)]
pub enum Fault {
    /// A status and the code of an error.
    Code(u16, &'static str),
    /// A redirect to another place.
    Redirect,
    /// More bytes than any answer has.
    Endless,
}

pub struct Fake {
    pub url: String,
    aws: Arc<Mutex<Aws>>,
    _runtime: tokio::runtime::Runtime,
}

impl Fake {
    pub fn start(keys: &[Key], pages: Vec<String>) -> Fake {
        let keys = keys.iter().map(|key| (key.id, key.clone())).collect();
        let aws = Arc::new(Mutex::new(Aws { keys, pages, ..Aws::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(aws.clone());
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move { axum_server::from_tcp(listener).unwrap().serve(router.into_make_service()).await });
        Fake { url, aws, _runtime: runtime }
    }

    pub fn set(&self, pages: Vec<String>) {
        self.aws.lock().unwrap().pages = pages;
    }

    pub fn fail(&self, fault: Option<Fault>) {
        self.aws.lock().unwrap().fault = fault;
    }

    /// Replaces the SSH public key of each user.
    pub fn set_ssh_key(&self, id: &str, content: &str) {
        self.aws.lock().unwrap().ssh_key = SshKey(id.into(), content.trim_end().into());
    }

    /// Forgets a key, as when it is deleted on AWS.
    pub fn forget(&self, id: &str) {
        self.aws.lock().unwrap().keys.remove(id);
    }

    /// Hosts that requests to STS were signed for.
    pub fn asked(&self) -> Vec<String> {
        self.aws.lock().unwrap().asked.clone()
    }

    pub fn actions(&self) -> Vec<String> {
        self.aws.lock().unwrap().actions.clone()
    }
}

async fn answer(State(aws): State<Arc<Mutex<Aws>>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Answer {
    let mut aws = aws.lock().unwrap();
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let is_sts = text("host").starts_with("sts.");
    if is_sts {
        aws.asked.push(text(HOST_HEADER));
    }
    match aws.fault {
        Some(Fault::Code(status, code)) => return error(status, code),
        Some(Fault::Redirect) => {
            return (StatusCode::FOUND, [("location", "http://169.254.169.254/".into())], String::new());
        }
        Some(Fault::Endless) => return ok("x".repeat(64 << 20)),
        None => {}
    }
    if is_sts { aws.caller(&uri, &text("host"), &text(HOST_HEADER)) } else { aws.iam(&text("authorization"), &body) }
}

type Answer = (StatusCode, [(&'static str, String); 1], String);

fn ok(body: String) -> Answer {
    (StatusCode::OK, [("content-type", "text/xml".into())], body)
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>no</Message></Error><RequestId>x</RequestId></ErrorResponse>"
    );
    (StatusCode::from_u16(status).unwrap(), [("content-type", "text/xml".into())], body)
}

impl Aws {
    /// `GetCallerIdentity`, if the signature is that of a known key over the two headers.
    fn caller(&self, uri: &Uri, host: &str, signed_for: &str) -> Answer {
        let url = format!("https://{host}{uri}");
        let sent = PresignedCaller::parse(&PresignedCaller::password_of(&url)).unwrap();
        let Some(key) = self.keys.get(sent.access_key_id()) else { return error(403, "InvalidClientTokenId") };
        let credentials = Credentials::new(key.id, key.secret, key.token.map(str::to_owned), None, "fake");
        let now = std::time::SystemTime::from(sent.expires()) - std::time::Duration::from_secs(900);
        let region = sent.endpoint().region();
        let (right, _) = presign(&Presigning { credentials, region, host: signed_for, now }).unwrap();
        if PresignedCaller::parse(right.expose()).unwrap().query() != sent.query() {
            return error(403, "SignatureDoesNotMatch");
        }
        ok(format!(
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <GetCallerIdentityResult>\n    <Arn>{}</Arn>\n    <UserId>{}</UserId>\n    <Account>{ACCOUNT}</Account>\n  \
             </GetCallerIdentityResult>\n  <ResponseMetadata>\n    <RequestId>01234567-89ab-cdef-0123-456789abcdef\
             </RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>",
            key.arn, key.user_id
        ))
    }

    fn iam(&mut self, authorization: &str, body: &Bytes) -> Answer {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let args: BTreeMap<&str, &str> = body.split('&').filter_map(|pair| pair.split_once('=')).collect();
        self.actions.push(args["Action"].to_owned());
        if !authorization.contains("Credential=AKIAHOSTHOSTHOSTHOST/") || !authorization.contains("/us-east-1/iam/") {
            return error(403, "AccessDenied");
        }
        match args["Action"] {
            "GetAccountAuthorizationDetails" => {
                let page: usize = args.get("Marker").map_or(0, |marker| marker.parse().unwrap());
                let more = page + 1 < self.pages.len();
                let next = if more { format!("<Marker>{}</Marker>", page + 1) } else { String::new() };
                ok(format!(
                    "<GetAccountAuthorizationDetailsResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
                     <GetAccountAuthorizationDetailsResult><IsTruncated>{more}</IsTruncated>{next}{}\
                     </GetAccountAuthorizationDetailsResult><ResponseMetadata><RequestId>x</RequestId>\
                     </ResponseMetadata></GetAccountAuthorizationDetailsResponse>",
                    self.pages[page]
                ))
            }
            "ListSSHPublicKeys" => ok(format!(
                "<ListSSHPublicKeysResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
                 <ListSSHPublicKeysResult><IsTruncated>false</IsTruncated><SSHPublicKeys><member>\
                 <UserName>{}</UserName><SSHPublicKeyId>{}</SSHPublicKeyId><Status>Active</Status>\
                 <UploadDate>2015-06-05T20:37:36Z</UploadDate></member></SSHPublicKeys></ListSSHPublicKeysResult>\
                 <ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></ListSSHPublicKeysResponse>",
                args["UserName"], self.ssh_key.0
            )),
            "GetSSHPublicKey" => ok(format!(
                "<GetSSHPublicKeyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
                 <GetSSHPublicKeyResult><SSHPublicKey><UploadDate>2015-06-05T20:37:36Z</UploadDate>\
                 <Fingerprint>7a:1d</Fingerprint><UserName>jane</UserName>\
                 <SSHPublicKeyId>{}</SSHPublicKeyId><Status>Active</Status><SSHPublicKeyBody>{}</SSHPublicKeyBody>\
                 </SSHPublicKey></GetSSHPublicKeyResult><ResponseMetadata><RequestId>x</RequestId>\
                 </ResponseMetadata></GetSSHPublicKeyResponse>",
                self.ssh_key.0, self.ssh_key.1
            )),
            other => panic!("{other} is not called"),
        }
    }
}
