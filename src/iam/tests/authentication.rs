//! Every way to prove a principal.

use crate::authenticate::SshLogin;
use crate::authentication_error::AuthenticationError;
use crate::documents;
use crate::edit::NewUser;
use crate::model::{EntityKind, GIT_SERVICE, Status};
use crate::policy_sets;
use crate::principal::Credential;
use crate::random::SystemRandom;
use crate::session::{self, TokenError};
use crate::sigv4::SignatureError;
use crate::sts::Sts;
use crate::tests::calls::{REPOSITORY, call, jane, try_as};
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{ACCOUNT, REGION, World, allow, may};
use crate::throttle::{FAILURE_WINDOW, MAX_FAILURES};
use std::collections::BTreeMap;

#[test]
fn a_git_credential_is_its_user_until_it_is_reset_deactivated_or_deleted() {
    let mut world = World::with_jane();
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    assert_eq!(made.user_name, format!("jane-at-{ACCOUNT}"));
    let sent = |password: &str| Sent::git(REPOSITORY, &made.user_name, password);
    assert_eq!(try_as(&world, &sent(made.password.expose())), jane());
    let who = sent(made.password.expose()).with(|parts| world.host.authenticate(parts)).unwrap();
    assert_eq!(who.principal.credential(), &Credential::GitCredential(made.id.clone()));

    let (edit, anew) = world.editor().reset_git_credential("jane", &made.id).unwrap();
    world.commit(&edit);
    assert_eq!(try_as(&world, &sent(made.password.expose())), Err(AuthenticationError::Wrong));
    assert_eq!(try_as(&world, &sent(anew.password.expose())), jane());
    world.edit(|editor| editor.update_git_credential("jane", &made.id, Status::Inactive));
    assert_eq!(try_as(&world, &sent(anew.password.expose())), Err(AuthenticationError::Wrong));
    world.edit(|editor| editor.update_git_credential("jane", &made.id, Status::Active));
    assert_eq!(try_as(&world, &sent(anew.password.expose())), jane());
    // The password is for Git alone.
    let api = Sent { repository: None, ..sent(anew.password.expose()) };
    assert_eq!(try_as(&world, &api), Err(AuthenticationError::Wrong));
    world.edit(|editor| editor.delete_git_credential("jane", &made.id));
    assert_eq!(try_as(&world, &sent(anew.password.expose())), Err(AuthenticationError::Wrong));
}

#[test]
fn a_request_without_credentials_is_anonymous_and_other_schemes_are_wrong() {
    let world = World::with_jane();
    let bare = Sent { repository: Some(REPOSITORY.into()), ..Sent::new("GET", REPOSITORY, "", b"") };
    assert_eq!(try_as(&world, &bare), Err(AuthenticationError::Anonymous));
    for value in ["Bearer x", "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Basic /w==", "", "AWS4-HMAC-SHA1 x"] {
        assert_eq!(
            try_as(&world, &bare.clone().header("authorization", value)),
            Err(AuthenticationError::Wrong),
            "{value}"
        );
    }
    let twice = bare.header("authorization", "Basic eDp5").header("authorization", "Basic eDp5");
    assert!(matches!(try_as(&world, &twice), Err(AuthenticationError::Signature(SignatureError::Repeated(_)))));
}

#[test]
fn a_host_that_follows_no_account_refuses_everyone() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let sent = client.sign(call(), "iam", REGION, world.now());
    assert_eq!(try_as(&world, &sent), jane());
    world.host.stop_following();
    assert!(matches!(try_as(&world, &sent), Err(AuthenticationError::Unavailable(_))));
}

#[test]
fn signed_and_presigned_calls_are_of_the_keys_user() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    for service in ["iam", "sts", "codecommit"] {
        assert_eq!(try_as(&world, &client.sign(call(), service, REGION, world.now())), jane());
    }
    let get = Sent::new("GET", "/", "Action=GetCallerIdentity&Version=2011-06-15", b"");
    let presigned = client.presign(get, "sts", world.now());
    assert_eq!(try_as(&world, &presigned), jane());
    world.clock.pass(900);
    assert_eq!(try_as(&world, &presigned), jane());
    world.clock.pass(1);
    assert!(matches!(try_as(&world, &presigned), Err(AuthenticationError::Signature(SignatureError::Expired { .. }))));
}

#[test]
fn a_key_ends_with_its_status_its_document_and_its_user() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let sent = client.sign(call(), "iam", REGION, world.now());
    let password = client.git(REPOSITORY, "git.example.com", world.now());
    let git = Sent::git(REPOSITORY, &password.0, &password.1);
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], [jane(), jane()]);
    let gone = [Err(AuthenticationError::UnknownAccessKey), Err(AuthenticationError::Wrong)];
    world.edit(|editor| editor.update_access_key("jane", &client.id, Status::Inactive));
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], gone);
    world.edit(|editor| editor.update_access_key("jane", &client.id, Status::Active));
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], [jane(), jane()]);
    world.edit(|editor| editor.delete_access_key("jane", &client.id));
    world.edit(|editor| editor.delete_user("jane"));
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], gone);
    world.edit(|editor| editor.create_user(NewUser::named("jane")));
    assert_eq!([try_as(&world, &sent), try_as(&world, &git)], gone);
}

#[test]
fn a_session_of_a_user_works_everywhere_and_ends_in_time() {
    let mut world = World::with_jane();
    let credentials = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom)
        .get_session_token(&world.principal("jane"), Some(900))
        .unwrap();
    let client = world.client_of(&credentials);
    let signed = client.sign(call(), "iam", REGION, world.now());
    let (user, password) = client.git(REPOSITORY, "git.example.com", world.now());
    let quoted = user.replacen('%', "%25", 1);
    let git = [Sent::git(REPOSITORY, &user, &password), Sent::git(REPOSITORY, &quoted, &password)];
    assert_eq!(try_as(&world, &signed), jane());
    git.iter().for_each(|sent| assert_eq!(try_as(&world, sent), jane()));
    world.clock.pass(899);
    assert_eq!(try_as(&world, &signed), jane());
    world.clock.pass(1);
    let expired = Err(AuthenticationError::Token(TokenError::Expired));
    assert_eq!(try_as(&world, &signed), expired);
    git.iter().for_each(|sent| assert_eq!(try_as(&world, sent), expired));
    world.clock.pass(-900);
    world.edit(|editor| editor.delete_user("jane"));
    let invalid = Err(AuthenticationError::Token(TokenError::Invalid));
    assert_eq!(try_as(&world, &signed), invalid);
    world.edit(|editor| editor.create_user(NewUser::named("jane")));
    assert_eq!(try_as(&world, &signed), invalid);
}

#[test]
fn an_ssh_login_is_the_user_of_the_key_under_its_own_id() {
    let mut world = World::with_jane();
    let lines: Vec<&str> = include_str!("fixtures/ssh_keys.txt").lines().collect();
    let keys: BTreeMap<&str, (&str, &str)> = lines
        .iter()
        .map(|line| {
            let mut parts = line.splitn(3, '|');
            (parts.next().unwrap(), (parts.next().unwrap(), parts.next().unwrap()))
        })
        .collect();
    let (fingerprint, key) = keys["ed25519"];
    let (edit, id) = world.editor().upload_ssh_key("jane", key).unwrap();
    world.commit(&edit);
    let login = |world: &World, user: &str, fingerprint: &str| {
        let source = "203.0.113.7".parse().unwrap();
        let login = SshLogin { user, fingerprint, source, client: "OpenSSH_9.2", secure: true };
        world.host.authenticate_ssh(&login).map(|who| who.principal.arn())
    };
    assert_eq!(login(&world, &id, fingerprint), jane());
    let wrong = Err(AuthenticationError::Wrong);
    assert_eq!(login(&world, &id, keys["rsa2048"].0), wrong);
    assert_eq!(login(&world, "jane", fingerprint), wrong);
    assert_eq!(login(&world, "git", fingerprint), wrong);
    // Wrong keys are no failures until a connection ends without a right one.
    for _ in 0..3 * MAX_FAILURES {
        assert_eq!(login(&world, &id, keys["rsa2048"].0), wrong);
    }
    assert_eq!(login(&world, &id, fingerprint), jane());
    for _ in 0..MAX_FAILURES {
        world.host.ssh_failed(&id, "203.0.113.7".parse().unwrap());
    }
    let refused = login(&world, &id, fingerprint).unwrap_err();
    assert!(matches!(refused, AuthenticationError::TooMany(_)), "{refused}");
    assert_eq!(login(&world, "unknown", fingerprint), wrong);
    world.clock.pass(FAILURE_WINDOW.as_secs());
    assert_eq!(login(&world, &id, fingerprint), jane());
    world.edit(|editor| editor.update_ssh_key("jane", &id, Status::Inactive));
    assert_eq!(login(&world, &id, fingerprint), wrong);
}

#[test]
fn a_warm_request_parses_nothing() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "pull", &allow("codecommit:GitPull")));
    let credentials = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom)
        .get_session_token(&world.principal("jane"), None)
        .unwrap();
    let clients = [world.client("jane"), world.client_of(&credentials)];
    let repository = format!("arn:aws:codecommit:{REGION}:{ACCOUNT}:MyDemoRepo");
    let request = |client: &Client| {
        let (user, password) = client.git(REPOSITORY, "git.example.com", world.now());
        let who = Sent::git(REPOSITORY, &user, &password).with(|parts| world.host.authenticate(parts)).unwrap();
        assert!(may(&who, "codecommit:GitPull", &repository));
        assert!(!may(&who, "codecommit:GitPush", &repository));
    };
    clients.iter().for_each(request);
    for client in &clients {
        let (((), documents), sets) = policy_sets::work::of(|| documents::work::of(|| request(client)));
        let ((), tokens) = session::work::of(|| request(client));
        assert_eq!((documents, sets, tokens), (0, 0, 0));
    }
}

#[test]
fn the_context_says_who_from_where_and_when() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.tag(EntityKind::User, "jane", vec![("team".into(), "infra".into())]));
    let client = world.client("jane");
    let sent = client.sign(call().header("user-agent", "aws-cli/2"), "iam", REGION, world.now());
    let who = sent.with(|parts| world.host.authenticate(parts)).unwrap();
    let allowed = |condition: &str| {
        let text = format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Action": "a:b", "Resource": "*", "Condition": {condition}}}]}}"#
        );
        let parsed = gitferry_policy::PolicyDocument::parse(&text, gitferry_policy::DocumentKind::Identity).unwrap();
        let identity = vec![gitferry_policy::NamedPolicy::new("test", parsed)];
        let set = gitferry_policy::PolicySet { identity, ..Default::default() };
        let request = gitferry_policy::Request { action: "a:b", resource: "*", context: &who.context };
        gitferry_policy::evaluate(&set, &request).is_allowed()
    };
    let user_id = world.account.user("jane").unwrap().record.id.clone();
    for condition in [
        r#"{"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#.to_owned(),
        r#"{"Bool": {"aws:SecureTransport": "true"}}"#.to_owned(),
        r#"{"StringEquals": {"aws:PrincipalTag/team": "infra", "aws:username": "jane", "aws:PrincipalType": "User"}}"#
            .to_owned(),
        format!(r#"{{"StringEquals": {{"aws:userid": "{user_id}", "aws:RequestedRegion": "{REGION}"}}}}"#),
        format!(r#"{{"ArnEquals": {{"aws:PrincipalArn": "arn:aws:iam::{ACCOUNT}:user/jane"}}}}"#),
        r#"{"StringLike": {"aws:UserAgent": "aws-cli/*"}}"#.to_owned(),
        format!(r#"{{"NumericEquals": {{"aws:EpochTime": "{}"}}}}"#, world.now().as_second()),
        r#"{"Null": {"aws:MultiFactorAuthPresent": "true", "aws:TokenIssueTime": "true"}}"#.to_owned(),
    ] {
        assert!(allowed(&condition), "{condition}");
    }
}
