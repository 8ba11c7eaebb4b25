//! An identity provider of the tests: discovery document and keys over HTTPS, and tokens signed with ES256.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

/// Name of the issuer.
pub const ISSUER: &str = "issuer.test";

/// A running issuer.
pub struct Issuer {
    pub address: SocketAddr,
    key: KeyPair,
    requests: Arc<Served>,
    runtime: tokio::runtime::Runtime,
}

struct Served {
    keys: Value,
    requests: AtomicUsize,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    served.requests.fetch_add(1, Ordering::SeqCst);
    let document = match request.uri().path() {
        "/.well-known/openid-configuration" => {
            json!({"issuer": format!("https://{ISSUER}"), "jwks_uri": format!("https://{ISSUER}/keys")})
        }
        "/keys" => served.keys.clone(),
        _ => return axum::http::StatusCode::NOT_FOUND.into_response(),
    };
    document.to_string().into_response()
}

impl Issuer {
    /// Starts an issuer, and writes its certificate to `issuer.pem` in a folder.
    pub fn start(folder: &Path) -> Issuer {
        // Fails if another test has installed one, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let point = key.der_bytes().to_vec();
        assert_eq!((point.len(), point[0]), (65, 4), "an uncompressed point");
        let keys = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": encode(&point[1..33]), "y": encode(&point[33..])}
        ]});
        let certificate = rcgen::generate_simple_self_signed(vec![ISSUER.into()]).unwrap();
        std::fs::write(folder.join("issuer.pem"), certificate.cert.pem()).unwrap();
        let served = Arc::new(Served { keys, requests: AtomicUsize::new(0) });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(served.clone());
        let (chain, private) = (certificate.cert.pem(), certificate.signing_key.serialize_pem());
        runtime.spawn(async move {
            let tls = RustlsConfig::from_pem(chain.into_bytes(), private.into_bytes()).await.unwrap();
            let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
            server.serve(router.into_make_service()).await.unwrap();
        });
        Issuer { address, key, requests: served, runtime }
    }

    /// Requests that the issuer has answered.
    pub fn requests(&self) -> usize {
        self.requests.requests.load(Ordering::SeqCst)
    }

    /// A token with these claims.
    pub fn token(&self, key_id: &str, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": key_id, "typ": "JWT"});
        let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.key.sign(text.as_bytes()).unwrap();
        format!("{text}.{}", encode(fixed(&signature)))
    }

    /// Stops the issuer.
    pub fn stop(self) {
        self.runtime.shutdown_background();
    }
}

/// The 64 bytes of an ECDSA signature in DER.
fn fixed(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        rest = &rest[2 + length..];
        let number = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - number.len()));
        fixed.extend_from_slice(number);
    }
    fixed
}
