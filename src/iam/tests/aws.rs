//! Accounts of AWS IAM: their documents, and the callers that STS names.

use std::sync::Arc;

use crate::account::Account;
use crate::authenticate::{Authenticator, SshLogin};
use crate::authenticated::{Authenticated, ClientFacts};
use crate::authentication_error::AuthenticationError;
use crate::aws::{AuthorizationDetails, Caller, GroupDetail, PolicyDetail, RoleDetail, SshKeyDetail, UserDetail};
use crate::delegation::{Bearer, Delegated};
use crate::model::Status;
use crate::principal::Credential;
use crate::random::SystemRandom;
use crate::tests::clients::Sent;
use crate::tests::world::{ACCOUNT, REGION, World, allow, deny, may};

const AIDA: &str = "AIDAJJJJJJJJJJJJJJJJJ";
const AROA: &str = "AROAJJJJJJJJJJJJJJJJJ";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const TEMPORARY: &str = "ASIAIOSFODNN7EXAMPLE";
const MANAGED: &str = "arn:aws:iam::aws:policy/service-role/Reader";

fn details() -> AuthorizationDetails {
    let path = || "/".to_owned();
    let key = include_str!("fixtures/ssh_keys.txt").lines().find_map(|line| line.strip_prefix("ed25519|")).unwrap();
    AuthorizationDetails {
        users: vec![UserDetail {
            name: "jane".into(),
            id: AIDA.into(),
            path: "/team/".into(),
            inline: vec![("no-push".into(), deny("codecommit:GitPush"))],
            groups: vec!["devs".into()],
            tags: [("team".to_owned(), "infra".to_owned())].into(),
            ..UserDetail::default()
        }],
        groups: vec![GroupDetail {
            name: "devs".into(),
            id: "AGPAJJJJJJJJJJJJJJJJJ".into(),
            path: path(),
            attached: vec![format!("arn:aws:iam::{ACCOUNT}:policy/push"), MANAGED.into()],
            ..GroupDetail::default()
        }],
        roles: vec![RoleDetail {
            name: "deploy".into(),
            id: AROA.into(),
            path: path(),
            trust: r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}"#.into(),
            attached: vec![MANAGED.into()],
            ..RoleDetail::default()
        }],
        policies: vec![
            PolicyDetail {
                name: "push".into(),
                id: "ANPAJJJJJJJJJJJJJJJJJ".into(),
                arn: format!("arn:aws:iam::{ACCOUNT}:policy/push"),
                path: path(),
                version: 3,
                text: allow("codecommit:GitPush"),
                ..PolicyDetail::default()
            },
            PolicyDetail {
                name: "Reader".into(),
                arn: MANAGED.into(),
                version: 7,
                text: allow("codecommit:GitPull"),
                ..PolicyDetail::default()
            },
        ],
        ssh_keys: vec![SshKeyDetail {
            user: "jane".into(),
            id: "APKAJJJJJJJJJJJJJJJJJ".into(),
            uploaded: jiff::Timestamp::UNIX_EPOCH,
            status: Status::Active,
            public_key: key.split_once('|').unwrap().1.to_owned(),
        }],
    }
}

/// A host that follows an account of AWS, and a clock.
fn follow(world: &World, region: &str, details: &AuthorizationDetails) -> Authenticator {
    let host = Authenticator::new(region, &["codecommit"], world.clock.clone());
    let account = Account::parse(details.documents(ACCOUNT.parse().unwrap(), world.keys.current_id())).unwrap();
    assert_eq!(account.damaged().next(), None);
    host.follow(Arc::new(account), world.keys.clone());
    host
}

fn caller(arn: &str, user_id: &str) -> Caller {
    Caller { account: ACCOUNT.parse().unwrap(), arn: arn.into(), user_id: user_id.into() }
}

fn jane() -> Caller {
    caller(&format!("arn:aws:iam::{ACCOUNT}:user/team/jane"), AIDA)
}

fn session() -> Caller {
    caller(&format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy/build-7"), &format!("{AROA}:build-7"))
}

fn client() -> ClientFacts {
    ClientFacts { address: "203.0.113.7".parse().unwrap(), secure: true, agent: "git/2.50".into() }
}

fn arrives(
    world: &World,
    host: &Authenticator,
    caller: &Caller,
    key: &str,
) -> Result<Authenticated, AuthenticationError> {
    host.authenticate_caller(caller, key, client(), world.now())
}

fn may_do(who: &Authenticated) -> [bool; 2] {
    let app = format!("arn:aws:codecommit:{REGION}:{ACCOUNT}:app");
    ["codecommit:GitPull", "codecommit:GitPush"].map(|action| may(who, action, &app))
}

#[test]
fn the_policies_of_aws_decide_on_its_users_and_sessions() {
    let world = World::new();
    let host = follow(&world, REGION, &details());
    let user = arrives(&world, &host, &jane(), KEY).unwrap();
    assert_eq!(user.principal.arn(), jane().arn);
    assert_eq!(user.principal.credential(), &Credential::Caller(KEY.into()));
    // The group's policy of AWS allows the one, the user's own denies what that of the account allows.
    assert_eq!(may_do(&user), [true, false]);
    let role = arrives(&world, &host, &session(), TEMPORARY).unwrap();
    assert_eq!(role.principal.arn(), session().arn);
    assert_eq!(may_do(&role), [true, false]);
    let root = arrives(&world, &host, &caller(&format!("arn:aws:iam::{ACCOUNT}:root"), ACCOUNT), KEY).unwrap();
    assert!(root.principal.is_root());
    let mut open = details();
    open.users[0].inline.clear();
    let host = follow(&world, REGION, &open);
    assert_eq!(may_do(&arrives(&world, &host, &jane(), KEY).unwrap()), [true, true]);
    let (fingerprint, _) = include_str!("fixtures/ssh_keys.txt")
        .lines()
        .find_map(|line| line.strip_prefix("ed25519|")?.split_once('|'))
        .unwrap();
    let login = SshLogin {
        user: "APKAJJJJJJJJJJJJJJJJJ",
        fingerprint,
        source: client().address,
        client: "OpenSSH_9.2",
        secure: true,
    };
    assert_eq!(may_do(&host.authenticate_ssh(&login).unwrap()), [true, true]);
}

#[test]
fn callers_that_the_account_does_not_have_are_unknown() {
    let world = World::new();
    let host = follow(&world, REGION, &details());
    let other_account = Caller { account: "999999999999".parse().unwrap(), ..jane() };
    let unknown = [
        other_account,
        // Deleted, and made anew under the same name.
        caller(&jane().arn, "AIDAKKKKKKKKKKKKKKKKK"),
        // Another user's ARN for the id.
        caller(&format!("arn:aws:iam::{ACCOUNT}:user/team/joe"), AIDA),
        caller(&session().arn, "AROAKKKKKKKKKKKKKKKKK:build-7"),
        caller(&session().arn, &format!("{AIDA}:build-7")),
        caller(&format!("arn:aws:sts::{ACCOUNT}:federated-user/joe"), &format!("{ACCOUNT}:joe")),
        caller(&format!("arn:aws:iam::{ACCOUNT}:root"), AIDA),
        caller("", ""),
    ];
    for caller in unknown {
        let refused = arrives(&world, &host, &caller, KEY).unwrap_err();
        assert_eq!(refused, AuthenticationError::UnknownCaller(caller.arn.clone()), "{caller:?}");
    }
}

#[test]
fn a_policy_that_revokes_older_sessions_denies_those_whose_begin_is_unknown() {
    let world = World::new();
    let mut revoked = details();
    // As the console of AWS writes it.
    let text = |at: &str| {
        format!(
            r#"{{"Version": "2012-10-17", "Statement": [{{"Effect": "Deny", "Action": ["*"], "Resource": ["*"],
                "Condition": {{"DateLessThan": {{"aws:TokenIssueTime": "{at}"}}}}}}]}}"#
        )
    };
    let ago = |hours: i64| (world.now() - jiff::SignedDuration::from_hours(hours)).to_string();
    // Sessions of roles are 12 hours long at most, those of users 36.
    for (hours, of_role, of_user) in [(0, false, false), (11, false, false), (13, true, false), (37, true, true)] {
        revoked.roles[0].inline = vec![("AWSRevokeOlderSessions".into(), text(&ago(hours)))];
        revoked.users[0].inline = revoked.roles[0].inline.clone();
        let host = follow(&world, REGION, &revoked);
        let pulls = |caller: &Caller, key: &str| may_do(&arrives(&world, &host, caller, key).unwrap())[0];
        assert_eq!(pulls(&session(), TEMPORARY), of_role, "{hours}");
        assert_eq!(pulls(&jane(), TEMPORARY), of_user, "{hours}");
        // A long-term key is no session.
        assert!(pulls(&jane(), KEY));
    }
}

#[test]
fn a_policy_that_cannot_be_read_denies_and_callers_are_delegated_like_others() {
    let world = World::new();
    let mut damaged = details();
    damaged.policies[1].text = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Nonsense": {"a": "b"}}}]}"#.into();
    let documents = damaged.documents(ACCOUNT.parse().unwrap(), world.keys.current_id());
    let account = Account::parse(documents).unwrap();
    assert_eq!(account.damaged().count(), 1);
    let host = Authenticator::new(REGION, &["codecommit"], world.clock.clone());
    host.follow(Arc::new(account), world.keys.clone());
    assert_eq!(may_do(&arrives(&world, &host, &session(), TEMPORARY).unwrap()), [false, false]);
    // Another host of the account takes the caller for what it is, in its own state.
    let host = follow(&world, REGION, &details());
    let there = follow(&world, "eu-west-1", &details());
    let to = Delegated {
        from: REGION,
        to: "eu-west-1",
        repository: "app",
        service: "/git-receive-pack",
        bearer: Bearer::Host,
    };
    for caller in [jane(), session()] {
        let here = arrives(&world, &host, &caller, TEMPORARY).unwrap();
        let token = here.delegate(&to, world.now(), &SystemRandom).unwrap();
        let sent = Sent { repository: Some("/app".into()), ..Sent::new("POST", "/app/git-receive-pack", "", b"") };
        let sent = sent.header("authorization", token.expose());
        let arrived = sent.with(|parts| there.authenticate(parts)).unwrap();
        assert_eq!(arrived.principal.arn(), caller.arn);
        assert_eq!(arrived.client, client());
    }
}
