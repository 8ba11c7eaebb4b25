//! Signatures of other implementations: `aws-sigv4` on random requests, and what botocore, git-remote-codecommit and
//! the AWS CLI made once (`tests/fixtures/sign.py`).

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use crate::secret::SecretText;
use crate::sigv4::{GitPassword, Signed, SigningKey};
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{BEGIN, REGION};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn verify(sent: &Sent) -> Result<(), crate::sigv4::SignatureError> {
    sent.with(|parts| {
        let signed = Signed::of(parts)?.unwrap();
        let key = SigningKey::derive(&SecretText::new(SECRET.into()), &signed.scope());
        signed.verify(parts, &key)
    })
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

prop_compose! {
    fn requests()(
        method in "GET|POST|PUT|DELETE",
        segments in prop::collection::vec("[a-zA-Z0-9_~äß %+=-]{1,6}", 0..4),
        slash in any::<bool>(),
        pairs in prop::collection::vec(("[a-zA-Z0-9 ä&=/+_.~-]{1,5}", "[a-zA-Z0-9 ä&=/+_.~-]{0,5}"), 0..5),
        headers in prop::collection::btree_map("x-amz-meta-[a-z]{1,3}|content-type|accept", "[!-~]([ -~]{0,8}[!-~])?", 0..4),
        body in any::<Vec<u8>>(),
    ) -> Sent {
        let path: Vec<String> = segments.iter().map(|segment| encoded(segment)).collect();
        let end = if slash && !path.is_empty() { "/" } else { "" };
        let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let sent = Sent::new(&method, &format!("/{}{end}", path.join("/")), &pairs.join("&"), &body);
        headers.into_iter().fold(sent, |sent, (name, value)| sent.header(&name, &value))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn what_the_sdk_signs_is_verified_and_nothing_else(sent in requests(), presigned in any::<bool>(), at in 0..100_000_i64, flip in any::<prop::sample::Index>()) {
        let at = Timestamp::from_second(BEGIN + at).unwrap();
        let client = Client::new("AKIAAAAAAAAAAAAAAAAA", SECRET, None);
        let signed = if presigned {
            client.presign(sent, "codecommit", at)
        } else {
            client.sign(sent, "codecommit", REGION, at)
        };
        prop_assert_eq!(verify(&signed), Ok(()), "{:?}", signed);
        let mut body = signed.clone();
        body.body.push(0);
        prop_assert!(verify(&body).is_err());
        let mut path = signed.clone();
        path.path += "x";
        prop_assert!(verify(&path).is_err());
        let mut query = signed.clone();
        query.query += "&q=1";
        prop_assert!(verify(&query).is_err());
        // Host and headers of AWS are always signed.
        let signed_headers = signed.headers.iter().filter(|(name, _)| name == "host" || (!presigned && name.starts_with("x-amz-")));
        let signed_headers: Vec<String> = signed_headers.map(|(name, _)| name.clone()).collect();
        let name = &signed_headers[flip.index(signed_headers.len())];
        let altered = signed.clone().replace(name, &format!("{}x", signed.value(name)));
        prop_assert!(verify(&altered).is_err(), "{}", name);
    }

    #[test]
    fn no_header_or_password_makes_the_reader_panic(authorization in "AWS4-HMAC-SHA256 [ -~]{0,80}", query in "[ -~]{0,60}", user in any::<String>(), password in "[0-9TZa-f]{0,90}") {
        let sent = Sent::new("GET", "/", &format!("X-Amz-Algorithm=AWS4-HMAC-SHA256&{query}"), b"");
        sent.with(|parts| drop(Signed::of(parts)));
        let sent = Sent::new("GET", "/", "", b"").header("authorization", &authorization).header("x-amz-date", "20261129T120000Z");
        sent.with(|parts| drop(Signed::of(parts)));
        drop(GitPassword::parse(&user, &password));
    }
}

fn recorded() -> Value {
    serde_json::from_str(include_str!("../tests/fixtures/signatures.json")).unwrap()
}

#[test]
fn git_passwords_of_real_clients_are_verified() {
    let recorded = recorded();
    let passwords = recorded["git"].as_array().unwrap();
    for password in passwords {
        let text = |name: &str| password[name].as_str().unwrap();
        let read = GitPassword::parse(text("user"), text("password")).unwrap();
        assert_eq!(read.access_key_id(), "AKIAAAAAAAAAAAAAAAAA");
        assert_eq!(read.token(), text("user").split_once('%').map(|(_, token)| token));
        assert_eq!(read.time().to_string(), recorded["now"].as_str().unwrap());
        let key = SigningKey::derive(&SecretText::new(SECRET.into()), &read.scope(REGION));
        read.verify(text("path"), text("host"), REGION, &key).unwrap_or_else(|error| panic!("{password}: {error}"));
        read.verify(text("path"), "other.example.com", REGION, &key).unwrap_err();
        read.verify("/v1/repos/Other", text("host"), REGION, &key).unwrap_err();
    }
    assert_eq!(passwords.len(), 6);
}

#[test]
fn requests_that_botocore_signs_are_verified() {
    let recorded = recorded();
    let requests = recorded["requests"].as_array().unwrap();
    for request in requests {
        let text = |name: &str| request[name].as_str().unwrap();
        let mut sent = Sent::new(text("method"), text("path"), text("query"), text("body").as_bytes());
        for header in request["headers"].as_array().unwrap() {
            sent = sent.replace(header[0].as_str().unwrap(), header[1].as_str().unwrap());
        }
        assert_eq!(verify(&sent), Ok(()), "{request}");
        sent.body.push(b'x');
        verify(&sent).unwrap_err();
    }
    assert_eq!(requests.len(), 5);
}
