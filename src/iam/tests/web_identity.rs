//! Tokens of identity providers, signed by `ring` as a test's issuer.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitferry_policy::Context;
use ring::rand::SystemRandom as RingRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use crate::edit::{NewOidcProvider, NewRole};
use crate::error::{Code, Result};
use crate::random::SystemRandom;
use crate::sts::{AssumeRole, AssumedRole, Sts};
use crate::tests::world::{BEGIN, World, trust};
use crate::web_identity::{Keys, UnverifiedToken, VerifiedToken};

const ISSUER: &str = "token.actions.githubusercontent.com";

/// An issuer with an RSA key `r` and a P-256 key `e`.
struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn new() -> Issuer {
        let rsa = RsaKeyPair::from_der(include_bytes!("fixtures/issuer_rsa.der")).unwrap();
        let random = RingRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Issuer { rsa, ec }
    }

    fn key_set(&self) -> Value {
        let rsa: ring::rsa::PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let point = self.ec.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": encode(&rsa.n), "e": encode(&rsa.e), "x5c": ["x"]},
            {"kty": "EC", "kid": "e", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])},
            {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "AA"},
            {"kty": 7}
        ]})
    }

    fn keys(&self) -> Keys {
        Keys::parse(self.key_set().to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let random = RingRandom::new();
        let signature = if header["alg"] == "ES256" {
            self.ec.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec()
        } else {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
            signature
        };
        format!("{text}.{}", encode(signature))
    }
}

fn claims() -> Value {
    json!({
        "iss": format!("https://{ISSUER}"), "aud": "sts.amazonaws.com",
        "sub": "repo:octo-org/octo-repo:ref:refs/heads/main", "repository": "octo-org/octo-repo", "run_attempt": 1,
        "iat": BEGIN, "nbf": BEGIN, "exp": BEGIN + 300
    })
}

fn world() -> World {
    let mut world = World::new();
    let provider = NewOidcProvider {
        url: format!("https://{ISSUER}"),
        client_ids: vec!["sts.amazonaws.com".into()],
        ..Default::default()
    };
    world.edit(|editor| editor.create_oidc_provider(provider));
    let federated = format!(r#"{{"Federated": "arn:aws:iam::111122223333:oidc-provider/{ISSUER}"}}"#);
    let condition = format!(
        r#", "Condition": {{"StringEquals": {{"{ISSUER}:aud": "sts.amazonaws.com"}}, "StringLike": {{"{ISSUER}:sub": "repo:octo-org/octo-repo:*"}}}}"#
    );
    let trust_policy = trust(&federated, &condition).replace("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity");
    world.edit(|editor| editor.create_role(NewRole { name: "ci".into(), trust_policy, ..NewRole::default() }));
    world
}

fn verify(world: &World, issuer: &Issuer, token: &str) -> Result<VerifiedToken> {
    let token = UnverifiedToken::parse(token)?;
    let provider = token.provider(&world.account)?;
    token.verify(&provider, &issuer.keys(), world.now())
}

fn assume(world: &World, token: &VerifiedToken) -> Result<AssumedRole> {
    let request = AssumeRole {
        role_arn: "arn:aws:iam::111122223333:role/ci".into(),
        session_name: "run-1".into(),
        ..Default::default()
    };
    let sts = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom);
    sts.assume_role_with_web_identity(token, &Context::default(), request)
}

#[test]
fn a_job_of_the_right_repository_assumes_the_role() {
    let (world, issuer) = (world(), Issuer::new());
    for header in [json!({"alg": "RS256", "kid": "r"}), json!({"alg": "ES256", "kid": "e"}), json!({"alg": "RS256"})] {
        let token = verify(&world, &issuer, &issuer.sign(&header, &claims())).unwrap();
        assert_eq!(
            (token.subject(), token.audience()),
            ("repo:octo-org/octo-repo:ref:refs/heads/main", "sts.amazonaws.com")
        );
        let assumed = assume(&world, &token).unwrap();
        let client = world.client_of(&assumed.credentials);
        let sent = client.sign(crate::tests::clients::Sent::new("POST", "/", "", b""), "sts", "us-east-1", world.now());
        let who = sent.with(|parts| world.host.authenticate(parts)).unwrap();
        assert_eq!(who.principal.arn(), "arn:aws:sts::111122223333:assumed-role/ci/run-1");
        let provider = who.principal.session().unwrap().provider.clone();
        assert_eq!(
            provider.as_deref(),
            Some("arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com")
        );
    }
    let header = json!({"alg": "RS256", "kid": "r"});
    let mut other = claims();
    other["sub"] = "repo:octo-org/other:ref:refs/heads/main".into();
    let token = verify(&world, &issuer, &issuer.sign(&header, &other)).unwrap();
    assert_eq!(assume(&world, &token).map(|assumed| assumed.arn).unwrap_err().code(), Code::AccessDenied);
    // Claims do not take the place of `sub` and `aud`.
    let mut doubled = claims();
    doubled["SUB"] = "repo:octo-org/octo-repo:x".into();
    doubled["sub"] = "repo:octo-org/other:x".into();
    let token = verify(&world, &issuer, &issuer.sign(&header, &doubled)).unwrap();
    assert_eq!(assume(&world, &token).map(|assumed| assumed.arn).unwrap_err().code(), Code::AccessDenied);
}

#[test]
fn tokens_of_others_for_others_or_of_another_time_are_refused() {
    let (mut world, issuer) = (world(), Issuer::new());
    let header = json!({"alg": "RS256", "kid": "r"});
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.sign(&header, &claims)
    };
    let code = |world: &World, token: &str| verify(world, &issuer, token).map(|_| ()).unwrap_err().code();
    for (name, value) in [
        ("iss", json!("https://gitlab.example.com")),
        ("iss", json!("http://token.actions.githubusercontent.com")),
        ("iss", json!("https://token.actions.githubusercontent.com/")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("exp", json!("soon")),
        ("nbf", json!(BEGIN + 301)),
        ("iat", json!(BEGIN + 301)),
    ] {
        assert_eq!(code(&world, &with(name, value.clone())), Code::InvalidIdentityToken, "{name} {value}");
    }
    verify(&world, &issuer, &with("aud", json!(["x", "sts.amazonaws.com"]))).unwrap();
    let token = issuer.sign(&header, &claims());
    world.clock.pass(599);
    verify(&world, &issuer, &token).unwrap();
    world.clock.pass(1);
    assert_eq!(code(&world, &token), Code::ExpiredToken);
    world.clock.pass(-600);
    let arn = format!("arn:aws:iam::111122223333:oidc-provider/{ISSUER}");
    world.edit(|editor| editor.delete_oidc_provider(&arn));
    assert_eq!(code(&world, &token), Code::InvalidIdentityToken);
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    let (world, issuer) = (world(), Issuer::new());
    let good = issuer.sign(&json!({"alg": "RS256", "kid": "r"}), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (_, body) = signed.split_once('.').unwrap();
    let forged = |header: Value, signature: &str| format!("{}.{body}.{signature}", encode(header.to_string()));
    // A signature with the public key as the secret of HMAC, and others.
    let public = issuer.key_set()["keys"][0]["n"].as_str().unwrap().to_owned();
    let hmac_header = json!({"alg": "HS256", "kid": "r"});
    let text = format!("{}.{body}", encode(hmac_header.to_string()));
    let mac = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes()), text.as_bytes());
    for token in [
        forged(json!({"alg": "none"}), ""),
        forged(json!({"alg": "None", "kid": "r"}), signature),
        forged(hmac_header, &encode(mac)),
        forged(json!({"alg": "ES256", "kid": "r"}), signature),
        forged(json!({"alg": "RS256", "kid": "e"}), signature),
        forged(json!({"alg": "RS256", "kid": "unknown"}), signature),
        forged(json!({"alg": "RS256", "kid": "r", "crit": ["b64"]}), signature),
        forged(json!({"alg": "RS512", "kid": "r"}), signature),
        issuer.sign(&json!({"alg": "ES256", "kid": "r"}), &claims()),
        Issuer::new().sign(&json!({"alg": "ES256", "kid": "e"}), &claims()),
        format!("{good}."),
        format!(".{good}"),
        good.replace('.', ""),
        good[..good.len() - 4].to_owned(),
        String::new(),
        "x".repeat(30_000),
    ] {
        let outcome = verify(&world, &issuer, &token).map(|_| ());
        assert_eq!(outcome.unwrap_err().code(), Code::InvalidIdentityToken, "{token}");
    }
    let flipped = good.replacen("eyJ", "eyK", 1);
    verify(&world, &issuer, &flipped).map(|_| ()).unwrap_err();
}

#[test]
fn key_sets_are_bounded_and_say_which_keys_they_have() {
    let issuer = Issuer::new();
    let keys = issuer.keys();
    assert!(keys.has(Some("r")) && keys.has(Some("e")) && !keys.has(Some("x")));
    for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
        Keys::parse(text.as_bytes()).unwrap_err();
    }
    let many = json!({"keys": vec![json!({"kty": "RSA"}); 101]});
    Keys::parse(many.to_string().as_bytes()).unwrap_err();
    let provider: Arc<_> = world().account.oidc_providers().next().unwrap().clone();
    assert_eq!(provider.url, ISSUER);
}
