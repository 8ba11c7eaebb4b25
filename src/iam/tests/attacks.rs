//! Attacks on every way to prove a principal.

use crate::authentication_error::AuthenticationError;
use crate::edit::NewUser;
use crate::model::GIT_SERVICE;
use crate::random::SystemRandom;
use crate::secret::work as passwords;
use crate::session::TokenError;
use crate::sigv4::SignatureError;
use crate::sts::Sts;
use crate::tests::calls::{REPOSITORY, call, jane, signature, try_anew, try_as};
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{REGION, World};
use crate::throttle::MAX_FAILURES;

#[test]
fn an_unknown_user_looks_like_a_wrong_password_and_costs_the_same() {
    let mut world = World::with_jane();
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let known = passwords::of(|| try_as(&world, &Sent::git(REPOSITORY, &made.user_name, "wrong")));
    let unknown = passwords::of(|| try_as(&world, &Sent::git(REPOSITORY, "unknown", "wrong")));
    assert_eq!(known, (Err(AuthenticationError::Wrong), 1));
    assert_eq!(unknown, known);
}

#[test]
fn a_hundred_thousand_wrong_passwords_cost_twenty_hashes() {
    let mut world = World::with_jane();
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let wrong = Sent::git(REPOSITORY, &made.user_name, "wrong");
    let (_, hashes) = passwords::of(|| (0..100_000).for_each(|_| drop(try_as(&world, &wrong))));
    assert_eq!(hashes, u64::from(MAX_FAILURES));
    let right = Sent::git(REPOSITORY, &made.user_name, made.password.expose());
    assert!(matches!(try_as(&world, &right), Err(AuthenticationError::TooMany(_))));
    let elsewhere = Sent { source: "198.51.100.1".parse().unwrap(), ..right.clone() };
    assert_eq!(try_as(&world, &elsewhere), jane());
    world.clock.pass(60);
    assert_eq!(try_as(&world, &right), jane());
}

#[test]
fn a_signature_is_good_for_fifteen_minutes_around_its_time() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let at = world.now();
    let sent = client.sign(call(), "iam", REGION, at);
    let (user, password) = client.git(REPOSITORY, "git.example.com", at);
    let git = Sent::git(REPOSITORY, &user, &password);
    world.clock.pass(900);
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], [jane(), jane()]);
    world.clock.pass(1);
    let expired = SignatureError::Expired { signed: at, now: world.now() };
    assert_eq!(try_as(&world, &sent), signature(expired.clone()));
    assert_eq!(try_as(&world, &git), signature(expired));
    world.clock.pass(-1_801);
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], [jane(), jane()]);
    world.clock.pass(-1);
    let early = signature(SignatureError::Expired { signed: at, now: world.now() });
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], [early.clone(), early]);
}

#[test]
fn a_signature_is_for_one_method_path_query_host_and_body() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let get = Sent::new("GET", "/a/b", "x=1&y=2", b"");
    let sent = client.sign(get.header("x-amz-target", "Get"), "codecommit", REGION, world.now());
    assert_eq!(try_anew(&world, &sent), jane());
    let mismatch = signature(SignatureError::Mismatch);
    let method = Sent { method: "POST".into(), ..sent.clone() };
    let host = sent.clone().replace("host", "other.example.com");
    let port = sent.clone().replace("host", "git.example.com");
    let target = sent.clone().replace("x-amz-target", "Delete");
    for altered in [method, host, port, target] {
        assert_eq!(try_anew(&world, &altered), mismatch);
    }
    for path in
        ["/a/c", "/A/b", "/a/%62", "/a/b/", "/a%2Fb", "/%61/b", "/a/b%00", "/a/b%2e", "/a/%2e/b", "/x/%2e%2e/a/b"]
    {
        assert_eq!(try_anew(&world, &Sent { path: path.into(), ..sent.clone() }), mismatch, "{path}");
    }
    for path in ["/a/./b", "//a/b", "/a//b", "/x/../a/b", "/a/b/..", "/.", "a/b", "", "*"] {
        assert_eq!(
            try_anew(&world, &Sent { path: path.into(), ..sent.clone() }),
            signature(SignatureError::Path),
            "{path}"
        );
    }
    for query in ["x=1", "x=1&y=3", "x=1&y=2&z=3", "x=1&y=2&y=2", "x=%2531&y=2", "X=1&y=2", "x=1&y=2&x"] {
        assert_eq!(try_anew(&world, &Sent { query: query.into(), ..sent.clone() }), mismatch, "{query}");
    }
    // The same parameters in other letters are the same query.
    assert_eq!(try_anew(&world, &Sent { query: "y=%32&&x=1".into(), ..sent.clone() }), jane());
    assert_eq!(try_anew(&world, &Sent { body: b"x".to_vec(), ..sent }), mismatch);
}

#[test]
fn the_path_is_encoded_twice() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let sent = client.sign(Sent::new("GET", "/a%20b/%C3%A4", "", b""), "codecommit", REGION, world.now());
    assert_eq!(try_as(&world, &sent), jane());
    let decoded = Sent { path: "/a b/ä".into(), ..sent };
    assert_eq!(try_as(&world, &decoded), signature(SignatureError::Mismatch));
}

#[test]
fn headers_are_neither_left_unsigned_nor_repeated() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let sent = client.sign(call(), "iam", REGION, world.now());
    let added = |name: &str, value: &str| try_anew(&world, &sent.clone().header(name, value));
    assert_eq!(added("x-amz-target", "x"), signature(SignatureError::Unsigned("x-amz-target".into())));
    assert_eq!(added("host", "git.example.com:8443"), signature(SignatureError::Repeated("host")));
    let date = sent.value("x-amz-date").to_owned();
    assert_eq!(added("x-amz-date", &date), signature(SignatureError::Repeated("x-amz-date")));
    let authorization = sent.value("authorization").to_owned();
    assert!(matches!(
        added("authorization", &authorization),
        Err(AuthenticationError::Signature(SignatureError::Repeated(_)))
    ));
    assert_eq!(added("content-type", "text/plain"), signature(SignatureError::Mismatch));
    assert_eq!(added("x-amz-security-token", "x"), signature(SignatureError::Unsigned("x-amz-security-token".into())));
    assert_eq!(added("x-amzn-trace-id", "Root=1"), jane());
    let edit = |from: &str, to: &str| {
        let value = sent.value("authorization").replace(from, to);
        try_anew(&world, &sent.clone().replace("authorization", &value))
    };
    assert_eq!(edit(";host", ""), signature(SignatureError::Unsigned("host".into())));
    assert_eq!(edit(";x-amz-date", ""), signature(SignatureError::Unsigned("x-amz-date".into())));
    for (from, to) in [
        ("content-type;host", "host;content-type"),
        ("host;", "host;host;"),
        ("host;", "Host;"),
        ("Signature=", "Signature=A"),
        ("/aws4_request", ""),
        ("Credential=AKIA", "Credential=/AKIA"),
        ("SignedHeaders", "Signedheaders"),
        (&date[..8], "20200101"),
    ] {
        let outcome = edit(from, to);
        assert!(
            matches!(outcome, Err(AuthenticationError::Signature(SignatureError::Incomplete(_)))),
            "{from}: {outcome:?}"
        );
    }
    let authority = |authority: Option<&'static str>| {
        let sent = sent.clone();
        sent.with(|parts| {
            let parts = crate::request::RequestParts { authority, ..*parts };
            world.host.authenticate(&parts).map(|who| who.principal.arn())
        })
    };
    assert_eq!(authority(Some("git.example.com:8443")), jane());
    assert_eq!(authority(Some("evil.example.com")), signature(SignatureError::Repeated("host")));
}

#[test]
fn a_signature_in_both_places_or_an_unsigned_body_is_refused() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let get = Sent::new("GET", "/", "Action=GetCallerIdentity", b"");
    let presigned = client.presign(get.clone(), "sts", world.now());
    let both = client.sign(presigned.clone(), "sts", REGION, world.now());
    assert_eq!(try_anew(&world, &both), signature(SignatureError::Repeated("the signature")));
    let twice = Sent { query: format!("{0}&X-Amz-Expires=900", presigned.query), ..presigned.clone() };
    assert!(matches!(try_anew(&world, &twice), Err(AuthenticationError::Signature(SignatureError::Repeated(_)))));
    let long =
        Sent { query: presigned.query.replace("X-Amz-Expires=900", "X-Amz-Expires=604801"), ..presigned.clone() };
    assert!(matches!(try_anew(&world, &long), Err(AuthenticationError::Signature(SignatureError::Incomplete(_)))));
    let longer = Sent { query: presigned.query.replace("X-Amz-Expires=900", "X-Amz-Expires=604800"), ..presigned };
    assert_eq!(try_anew(&world, &longer), signature(SignatureError::Mismatch));
    for said in [
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        let sent = client.sign(call().header("x-amz-content-sha256", said), "iam", REGION, world.now());
        assert_eq!(try_anew(&world, &sent), signature(SignatureError::Payload), "{said}");
    }
    let unread = client.sign(call(), "iam", REGION, world.now());
    let unread = Sent { repository: Some(REPOSITORY.into()), ..unread };
    assert_eq!(try_anew(&world, &unread), signature(SignatureError::Payload));
}

#[test]
fn a_signature_is_for_this_region_and_its_services() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let scope = |service: &str, region: &str| try_anew(&world, &client.sign(call(), service, region, world.now()));
    assert_eq!(scope("codecommit", REGION), jane());
    for (service, region) in [("codecommit", "eu-west-1"), ("s3", REGION), ("iam", "eu-west-1"), ("sts", "eu-west-1")] {
        let outcome = scope(service, region);
        assert!(matches!(outcome, Err(AuthenticationError::Signature(SignatureError::Scope { .. }))), "{outcome:?}");
    }
}

#[test]
fn a_git_password_is_for_one_repository_of_one_host() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let git = |path: &str, host: &str, sent_to: &str| {
        let (user, password) = client.git(path, host, world.now());
        try_anew(&world, &Sent::git(sent_to, &user, &password))
    };
    let bare = REPOSITORY;
    let dotted = "/v1/repos/MyDemoRepo.git";
    for (path, sent_to) in [(bare, bare), (dotted, dotted), (bare, dotted), (dotted, bare)] {
        for host in ["git.example.com", "git.example.com:8443"] {
            assert_eq!(git(path, host, sent_to), jane(), "{path} {host} {sent_to}");
        }
    }
    let others = [
        "/v1/repos/Other",
        "/v1/repos/mydemorepo",
        "/v1/repos/%4DyDemoRepo",
        "/v1/repos/./MyDemoRepo",
        "/v1/repos/MyDemoRepo.git.git",
        "/v1/repos/MyDemoRepo/",
    ];
    for other in others {
        assert_eq!(git(bare, "git.example.com", other), Err(AuthenticationError::Wrong), "{other}");
    }
    for host in ["other.example.com", "git.example.com:443", "git.example.com:", "example.com"] {
        assert_eq!(git(bare, host, bare), Err(AuthenticationError::Wrong), "{host}");
    }
    let (user, password) = client.git(bare, "git.example.com", world.now());
    for wrong in
        [password.replace('Z', "z"), password.to_uppercase(), format!("{password}0"), password[..79].to_owned()]
    {
        assert_eq!(try_anew(&world, &Sent::git(bare, &user, &wrong)), Err(AuthenticationError::Wrong));
    }
}

#[test]
fn a_changed_token_or_one_of_another_key_is_refused() {
    let mut world = World::with_jane();
    let sts = |world: &World| {
        let sts = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom);
        sts.get_session_token(&world.principal("jane"), None).unwrap()
    };
    let (one, two) = (sts(&world), sts(&world));
    let token = one.token.expose();
    let invalid = Err(AuthenticationError::Token(TokenError::Invalid));
    let with_token = |token: String| {
        let client = Client { token: Some(token), ..world.client_of(&one) };
        let sent = client.sign(call(), "iam", REGION, world.now());
        try_anew(&world, &sent)
    };
    assert_eq!(with_token(token.to_owned()), jane());
    assert_eq!(with_token(two.token.expose().to_owned()), invalid);
    for at in 0..token.len() {
        let mut changed = token.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(with_token(String::from_utf8(changed).unwrap()), invalid, "{at}");
        if at > 0 {
            assert_eq!(with_token(token[..at].to_owned()), invalid, "{at}");
        }
    }
    let other = World::with_jane();
    assert_eq!(with_token(sts(&other).token.expose().to_owned()), invalid);
    // A long-term key brings no token.
    let long_term = Client { token: Some(token.to_owned()), ..world.client("jane") };
    let sent = long_term.sign(call(), "iam", REGION, world.now());
    assert_eq!(try_as(&world, &sent), Err(AuthenticationError::Token(TokenError::Invalid)));
    // Temporary credentials without their token are unknown.
    let without = Client { token: None, ..world.client_of(&one) };
    let sent = without.sign(call(), "iam", REGION, world.now());
    assert_eq!(try_as(&world, &sent), Err(AuthenticationError::UnknownAccessKey));
}

#[test]
fn a_sealed_secret_that_is_copied_opens_for_no_other_key() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_user(NewUser::named("mallory")));
    let (jane, mallory) = (world.client("jane"), world.client("mallory"));
    let path = |user: &str, key: &str| format!("users/{user}/access-keys/{key}.json");
    let (to_jane, to_mallory) = (path("jane", &jane.id), path("mallory", &mallory.id));
    let own = world.documents[&to_mallory].clone();
    // Warm: the signing key of mallory is kept.
    try_as(&world, &mallory.sign(call(), "iam", REGION, world.now())).unwrap();
    // Mallory's seal, whose secret she knows, in Jane's document.
    world.write(vec![(to_jane, Some(own.clone()))]);
    let as_jane = Client { id: jane.id.clone(), ..mallory.clone() };
    let sent = as_jane.sign(call(), "iam", REGION, world.now());
    assert!(matches!(try_as(&world, &sent), Err(AuthenticationError::Unavailable(_))));
    // The whole document of her key in Jane's folder, and gone from her own.
    world.write(vec![(path("jane", &mallory.id), Some(own.clone())), (to_mallory.clone(), None)]);
    let sent = mallory.sign(call(), "iam", REGION, world.now());
    assert!(matches!(try_as(&world, &sent), Err(AuthenticationError::Unavailable(_))));
    // In both folders, the key finds neither user.
    world.write(vec![(to_mallory, Some(own))]);
    assert_eq!(try_as(&world, &sent), Err(AuthenticationError::UnknownAccessKey));
}
