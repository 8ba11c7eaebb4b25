//! Delegations: hosts that act for clients of other hosts, and attacks on them.

use std::sync::Arc;

use crate::authenticate::{Authenticator, SshLogin};
use crate::authenticated::Authenticated;
use crate::authentication_error::AuthenticationError;
use crate::delegation::{Bearer, Delegated, DelegationError, HOST_LIFETIME, MAX_HOST_SKEW, NotDelegated};
use crate::edit::NewUser;
use crate::key_ring::KeyRing;
use crate::model::{GIT_SERVICE, Status};
use crate::random::SystemRandom;
use crate::session::TokenError;
use crate::sts::Sts;
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{REGION, World};

const THERE: &str = "eu-west-1";
const APP: &str = "/team/app";

type Outcome = Result<Authenticated, AuthenticationError>;

/// A host in another region, with the state of the account of now.
fn there(world: &World) -> Authenticator {
    let host = Authenticator::new(THERE, &["codecommit"], world.clock.clone());
    host.follow(world.account.clone(), world.keys.clone());
    host
}

fn to_there(bearer: Bearer) -> Delegated<'static> {
    Delegated { from: REGION, to: THERE, repository: "team/app", service: "/git-receive-pack", bearer }
}

fn delegation(world: &World, who: &Authenticated, to: &Delegated<'_>) -> String {
    who.delegate(to, world.now(), &SystemRandom).unwrap().expose().to_owned()
}

/// A request as a host sends it, from an address of its own.
fn sent(path: &str, service: &str, authorization: &str) -> Sent {
    let sent = Sent::new("POST", &format!("{path}{service}"), "", b"");
    let sent = Sent { repository: Some(path.into()), source: "198.51.100.9".parse().unwrap(), ..sent };
    sent.header("authorization", authorization).header("user-agent", "another host")
}

fn push(authorization: &str) -> Sent {
    sent(APP, "/git-receive-pack", authorization)
}

fn arrives(host: &Authenticator, sent: &Sent) -> Outcome {
    sent.with(|parts| host.authenticate(parts))
}

fn refused(error: DelegationError) -> AuthenticationError {
    AuthenticationError::Delegation(error)
}

/// Jane, by a signature in the password of Git.
fn jane_signs(world: &World, client: &Client) -> Authenticated {
    let (user, password) = client.git(APP, "git.example.com", world.now());
    let sent = Sent::git(APP, &user, &password).header("user-agent", "git/2.50");
    sent.with(|parts| world.host.authenticate(parts)).unwrap()
}

#[test]
fn a_delegated_client_is_the_same_principal_with_its_own_address_for_every_credential() {
    let mut world = World::with_jane();
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let key = include_str!("fixtures/ssh_keys.txt").lines().find_map(|line| line.strip_prefix("ed25519|")).unwrap();
    let (fingerprint, key) = key.split_once('|').unwrap();
    let (edit, key_id) = world.editor().upload_ssh_key("jane", key).unwrap();
    world.commit(&edit);
    let session = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom)
        .get_session_token(&world.principal("jane"), None)
        .unwrap();
    let client = world.client("jane");
    let source = "203.0.113.7".parse().unwrap();
    let login = SshLogin { user: &key_id, fingerprint, source, client: "OpenSSH_9.2", secure: true };
    let proven = [
        jane_signs(&world, &client),
        jane_signs(&world, &world.client_of(&session)),
        arrives(&world.host, &Sent::git(APP, &made.user_name, made.password.expose())).unwrap(),
        world.host.authenticate_ssh(&login).unwrap(),
    ];
    let host = there(&world);
    for here in proven {
        let arrived = arrives(&host, &push(&delegation(&world, &here, &to_there(Bearer::Host)))).unwrap();
        assert_eq!(arrived.principal.arn(), here.principal.arn());
        assert_eq!(arrived.principal.credential(), here.principal.credential());
        assert_eq!(arrived.client, here.client);
        assert_eq!(arrived.delegated_by.as_deref(), Some(REGION));
        // All keys but the region of the host are those of the first host.
        let keys = |who: &Authenticated| who.context.to_builder().requested_region("").build();
        assert_eq!(keys(&arrived), keys(&here));
        // It goes no further.
        let again = arrived.delegate(&to_there(Bearer::Host), world.now(), &SystemRandom);
        assert_eq!(again.unwrap_err(), NotDelegated::Delegated);
        // In the hands of the client, the address is the one that the host sees.
        let own = delegation(&world, &here, &to_there(Bearer::Client));
        for _ in 0..2 {
            let arrived = arrives(&host, &push(&own)).unwrap();
            assert_eq!(arrived.principal.arn(), here.principal.arn());
            assert_eq!(arrived.client.address.to_string(), "198.51.100.9");
        }
    }
}

#[test]
fn a_delegation_is_for_one_region_repository_and_service_and_a_host_uses_it_once() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let jane = jane_signs(&world, &client);
    let host = there(&world);
    let token = delegation(&world, &jane, &to_there(Bearer::Host));
    let other = refused(DelegationError::OtherRequest);
    // The host that made it is of another region.
    assert_eq!(arrives(&world.host, &push(&token)).unwrap_err(), other);
    for (path, service) in [
        ("/team/app2", "/git-receive-pack"),
        ("/team", "/app/git-receive-pack"),
        ("/team/app/x", "/git-receive-pack"),
        ("/v1/repos/team/app", "/git-receive-pack"),
        ("/team/app.git", "/git-receive-pack"),
        ("/team/app", "/git-upload-pack"),
        ("/team/app", "/git-receive-packs"),
        ("/team/app", "/info/refs"),
        ("/team%2fapp", "/git-receive-pack"),
    ] {
        assert_eq!(arrives(&host, &sent(path, service, &token)).unwrap_err(), other, "{path} {service}");
    }
    // An API is no repository.
    let api = Sent { repository: None, ..push(&token) };
    assert_eq!(arrives(&host, &api).unwrap_err(), other);
    // No refusal has used it up, and now it is.
    assert!(arrives(&host, &push(&token)).is_ok());
    assert_eq!(arrives(&host, &push(&token)).unwrap_err(), refused(DelegationError::Used));
    // A service may have paths below it.
    let lfs = Delegated { service: "/info/lfs", ..to_there(Bearer::Client) };
    let lfs = delegation(&world, &jane, &lfs);
    for (service, covered) in
        [("/info/lfs/objects/batch", true), ("/info/lfs/objects/0123", true), ("/info/lfsx", false), ("/info", false)]
    {
        assert_eq!(arrives(&host, &sent(APP, service, &lfs)).is_ok(), covered, "{service}");
    }
}

#[test]
fn a_delegation_expires_and_allows_for_clocks_that_differ() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let jane = jane_signs(&world, &client);
    let host = there(&world);
    let token = || delegation(&world, &jane, &to_there(Bearer::Host));
    let (life, skew) = (HOST_LIFETIME.as_secs(), MAX_HOST_SKEW.as_secs());
    for (seconds, accepted) in [(life + skew - 1, true), (life + skew, false), (-skew, true), (-skew - 1, false)] {
        let token = token();
        world.clock.pass(seconds);
        let outcome = arrives(&host, &push(&token)).map(drop);
        world.clock.pass(-seconds);
        let expected = if accepted { Ok(()) } else { Err(refused(DelegationError::Expired)) };
        assert_eq!(outcome, expected, "{seconds}");
    }
}

#[test]
fn a_credential_that_is_gone_where_it_arrives_is_refused() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let session = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom)
        .get_session_token(&world.principal("jane"), Some(900))
        .unwrap();
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let by_key = jane_signs(&world, &client);
    let by_session = jane_signs(&world, &world.client_of(&session));
    let by_password = arrives(&world.host, &Sent::git(APP, &made.user_name, made.password.expose())).unwrap();
    let arrives_now = |world: &World, who: &Authenticated| {
        let token = delegation(world, who, &to_there(Bearer::Host));
        arrives(&there(world), &push(&token)).map(|who| who.principal.arn())
    };
    world.edit(|editor| editor.update_access_key("jane", &client.id, Status::Inactive));
    assert_eq!(arrives_now(&world, &by_key), Err(AuthenticationError::UnknownAccessKey));
    let id = by_password.principal.credential().id().unwrap().to_owned();
    world.edit(|editor| editor.update_git_credential("jane", &id, Status::Inactive));
    assert_eq!(arrives_now(&world, &by_password), Err(AuthenticationError::Wrong));
    assert!(arrives_now(&world, &by_session).is_ok());
    world.clock.pass(901);
    assert_eq!(arrives_now(&world, &by_session), Err(AuthenticationError::Token(TokenError::Expired)));
    world.clock.pass(-901);
    // A user of the same name is another one.
    let all: Vec<String> = world.documents.keys().filter(|path| path.starts_with("users/jane/")).cloned().collect();
    world.write(all.into_iter().map(|path| (path, None)).collect());
    world.edit(|editor| editor.create_user(NewUser::named("jane")));
    assert_eq!(arrives_now(&world, &by_session), Err(AuthenticationError::Token(TokenError::Invalid)));
    assert_eq!(arrives_now(&world, &by_password), Err(AuthenticationError::Wrong));
}

#[test]
fn a_token_that_no_host_of_the_account_has_made_is_refused() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let jane = jane_signs(&world, &client);
    let host = there(&world);
    let token = delegation(&world, &jane, &to_there(Bearer::Host));
    let invalid = refused(DelegationError::Invalid);
    let (scheme, sealed) = token.split_once(' ').unwrap();
    for at in [0, 1, 20, sealed.len() / 2, sealed.len() - 2] {
        let mut changed = sealed.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = format!("{scheme} {}", String::from_utf8(changed).unwrap());
        assert_eq!(arrives(&host, &push(&changed)).unwrap_err(), invalid, "{at}");
    }
    for wrong in ["", "A", "AA", "AQ", &"A".repeat(9_000), "%", "=="] {
        assert_eq!(arrives(&host, &push(&format!("{scheme} {wrong}"))).unwrap_err(), invalid, "{wrong}");
    }
    // A session token is sealed under the same key, for another purpose.
    let session = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom)
        .get_session_token(&world.principal("jane"), None)
        .unwrap();
    assert_eq!(arrives(&host, &push(&format!("{scheme} {}", session.token.expose()))).unwrap_err(), invalid);
    // Nor does a delegation open as a session.
    let as_session = Client { token: Some(sealed.to_owned()), ..client.clone() };
    let (user, password) = as_session.git(APP, "git.example.com", world.now());
    assert_eq!(arrives(&world.host, &Sent::git(APP, &user, &password)).unwrap_err(), AuthenticationError::Wrong);
    // Two headers are two requests to two readers.
    let twice = push(&token).header("authorization", "Basic eA==");
    assert!(matches!(arrives(&host, &twice), Err(AuthenticationError::Signature(_))));
    // Under another data key, and in another account.
    let foreign = Authenticator::new(THERE, &["codecommit"], world.clock.clone());
    let keys = KeyRing::of(KeyRing::fresh_key(&SystemRandom).unwrap());
    foreign.follow(world.account.clone(), Arc::new(keys));
    assert_eq!(arrives(&foreign, &push(&token)).unwrap_err(), invalid);
    assert!(!format!("{jane:?}").contains(&client.secret));
}

#[test]
fn git_lfs_signs_for_its_own_endpoint() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let signed = |path: &str, request: &str| {
        let (user, password) = client.git(path, "git.example.com", world.now());
        let sent = Sent { path: request.into(), ..Sent::git(APP, &user, &password) };
        arrives(&world.host, &sent).is_ok()
    };
    assert!(signed("/team/app/info/lfs", "/team/app/info/lfs/objects/batch"));
    assert!(signed("/team/app", "/team/app/info/lfs/objects/batch"));
    // Not for Git, nor for another repository.
    assert!(!signed("/team/app/info/lfs", "/team/app/info/refs"));
    assert!(!signed("/team/app2/info/lfs", "/team/app/info/lfs/objects/batch"));
}
