//! Temporary credentials: who gets them, what they may do, when they end.

use crate::authenticated::Authenticated;
use crate::authentication_error::AuthenticationError;
use crate::edit::{NewPolicy, NewRole, NewUser};
use crate::error::{Code, IamError};
use crate::model::EntityKind;
use crate::random::SystemRandom;
use crate::session::TokenError;
use crate::sts::{AssumeRole, AssumedRole, Sts};
use crate::tests::clients::Sent;
use crate::tests::world::{ACCOUNT, REGION, World, allow, may, trust};

const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";
const JANE: &str = r#"{"AWS": "arn:aws:iam::111122223333:user/jane"}"#;

fn call() -> Sent {
    Sent::new("POST", "/", "", b"Action=GetCallerIdentity")
}

/// An account with jane and the role `deploy`, which may pull and push.
fn world(trust_policy: &str) -> World {
    let mut world = World::with_jane();
    let role = NewRole { name: "deploy".into(), trust_policy: trust_policy.into(), ..NewRole::default() };
    world.edit(|editor| editor.create_role(role));
    world.edit(|editor| editor.put_policy(EntityKind::Role, "deploy", "git", &allow("codecommit:Git*")));
    world
}

fn request() -> AssumeRole {
    AssumeRole { role_arn: ROLE.into(), session_name: "build-7".into(), ..AssumeRole::default() }
}

/// Jane, authenticated by a key of her own.
fn jane(world: &mut World) -> Authenticated {
    let client = world.client("jane");
    client.sign(call(), "sts", REGION, world.now()).with(|parts| world.host.authenticate(parts)).unwrap()
}

fn assume(world: &World, who: &Authenticated, request: AssumeRole) -> Result<AssumedRole, IamError> {
    Sts::new(&world.account, &world.keys, world.now(), &SystemRandom).assume_role(&who.principal, &who.context, request)
}

fn use_session(world: &World, assumed: &AssumedRole) -> Result<Authenticated, AuthenticationError> {
    let client = world.client_of(&assumed.credentials);
    client.sign(call(), "sts", REGION, world.now()).with(|parts| world.host.authenticate(parts))
}

fn code(outcome: Result<AssumedRole, IamError>) -> Code {
    outcome.map(|assumed| assumed.arn).unwrap_err().code()
}

#[test]
fn a_session_has_the_roles_rights_and_not_the_callers() {
    let mut world = world(&trust(JANE, ""));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "iam", &allow("iam:*")));
    let jane = jane(&mut world);
    let assumed = assume(&world, &jane, request()).unwrap();
    assert_eq!(assumed.arn, "arn:aws:sts::111122223333:assumed-role/deploy/build-7");
    let session = use_session(&world, &assumed).unwrap();
    assert_eq!(session.principal.arn(), assumed.arn);
    assert_eq!(session.principal.user_id(), assumed.assumed_role_id);
    assert!(may(&session, "codecommit:GitPush", "*"));
    assert!(!may(&session, "iam:GetUser", "*"));
    assert!(may(&jane, "iam:GetUser", "*"));
    assert_eq!(assumed.credentials.expires.as_second() - world.now().as_second(), 3_600);
    world.clock.pass(3_599);
    use_session(&world, &assumed).unwrap();
    world.clock.pass(1);
    assert_eq!(use_session(&world, &assumed).unwrap_err(), AuthenticationError::Token(TokenError::Expired));
}

#[test]
fn sessions_end_with_their_role_and_not_with_its_name() {
    let mut world = world(&trust(JANE, ""));
    let jane = jane(&mut world);
    let assumed = assume(&world, &jane, request()).unwrap();
    use_session(&world, &assumed).unwrap();
    world.edit(|editor| editor.delete_inline_policy(EntityKind::Role, "deploy", "git"));
    assert!(!may(&use_session(&world, &assumed).unwrap(), "codecommit:GitPush", "*"));
    world.edit(|editor| editor.delete_role("deploy"));
    let ended = AuthenticationError::Token(TokenError::Invalid);
    assert_eq!(use_session(&world, &assumed).unwrap_err(), ended);
    world.edit(|editor| {
        editor.create_role(NewRole { name: "deploy".into(), trust_policy: trust(JANE, ""), ..NewRole::default() })
    });
    assert_eq!(use_session(&world, &assumed).unwrap_err(), ended);
    assert_eq!(
        code(assume(&world, &jane, AssumeRole { role_arn: format!("{ROLE}s"), ..request() })),
        Code::AccessDenied
    );
}

#[test]
fn a_trusted_account_leaves_the_decision_to_its_own_policies() {
    let mut world = world(&trust(&format!(r#"{{"AWS": "{ACCOUNT}"}}"#), ""));
    let jane = jane(&mut world);
    assert_eq!(code(assume(&world, &jane, request())), Code::AccessDenied);
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "sts", &allow("sts:AssumeRole")));
    assume(&world, &jane, request()).unwrap();
    let never = allow("sts:AssumeRole").replace("Allow", "Deny");
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "never", &never));
    assert_eq!(code(assume(&world, &jane, request())), Code::AccessDenied);
}

#[test]
fn a_trust_policy_by_name_is_limited_by_denials_boundaries_and_damage() {
    let mut world = world(&trust(JANE, ""));
    let jane = jane(&mut world);
    assume(&world, &jane, request()).unwrap();
    let boundary = NewPolicy { name: "git-only".into(), document: allow("codecommit:*"), ..NewPolicy::default() };
    world.edit(|editor| editor.create_policy(boundary));
    let arn = format!("arn:aws:iam::{ACCOUNT}:policy/git-only");
    // The principal of a request is that of the state that proved it.
    world.edit(|editor| editor.set_boundary(EntityKind::User, "jane", Some(&arn)));
    let bounded = self::jane(&mut world);
    assert_eq!(code(assume(&world, &bounded, request())), Code::AccessDenied);
    world.edit(|editor| editor.set_boundary(EntityKind::User, "jane", None));
    world.write(vec![("users/jane/policies/x.json".into(), Some(b"{".to_vec()))]);
    let id = world.account.user("jane").unwrap().access_keys.keys().next().unwrap().clone();
    world.edit(|editor| editor.delete_access_key("jane", &id));
    let damaged = self::jane(&mut world);
    assert_eq!(code(assume(&world, &damaged, request())), Code::AccessDenied);
}

#[test]
fn a_user_made_anew_is_not_the_one_that_was_trusted() {
    let mut world = world(&trust(JANE, ""));
    world.edit(|editor| editor.delete_user("jane"));
    world.edit(|editor| editor.create_user(NewUser::named("jane")));
    let jane = jane(&mut world);
    assert_eq!(code(assume(&world, &jane, request())), Code::AccessDenied);
    world.edit(|editor| editor.update_trust_policy("deploy", &trust(JANE, "")));
    assume(&world, &jane, request()).unwrap();
    let nobody = trust(r#"{"AWS": "arn:aws:iam::111122223333:user/nobody"}"#, "");
    assert_eq!(world.refused(|editor| editor.update_trust_policy("deploy", &nobody)), Code::MalformedPolicyDocument);
}

#[test]
fn a_confused_deputy_does_not_have_the_external_id() {
    let condition = r#", "Condition": {"StringEquals": {"sts:ExternalId": "customer-17"}}"#;
    let mut world = world(&trust(JANE, condition));
    let jane = jane(&mut world);
    let with = |id: Option<&str>| assume(&world, &jane, AssumeRole { external_id: id.map(str::to_owned), ..request() });
    assert_eq!(code(with(None)), Code::AccessDenied);
    assert_eq!(code(with(Some("customer-18"))), Code::AccessDenied);
    assert_eq!(code(with(Some("x"))), Code::ValidationError);
    with(Some("customer-17")).unwrap();
}

#[test]
fn a_role_does_not_trust_itself_nor_grow_by_its_own_trust_policy() {
    // A role that may edit its trust policy, and a session limited to that.
    let mut world = world(&trust(JANE, ""));
    let jane = jane(&mut world);
    let limited = AssumeRole { policy: Some(allow("sts:AssumeRole")), ..request() };
    let session = use_session(&world, &assume(&world, &jane, limited).unwrap()).unwrap();
    assert_eq!(code(assume(&world, &session, request())), Code::AccessDenied);
    // The session's own policy limits it even after the role trusts itself by name.
    let itself = trust(&format!(r#"{{"AWS": ["{ROLE}", "arn:aws:iam::{ACCOUNT}:user/jane"]}}"#), "");
    world.edit(|editor| editor.update_trust_policy("deploy", &itself));
    let narrow = AssumeRole { policy: Some(allow("codecommit:GitPull")), ..request() };
    let narrow = use_session(&world, &assume(&world, &jane, narrow).unwrap()).unwrap();
    assert_eq!(code(assume(&world, &narrow, request())), Code::AccessDenied);
    // With a session that may assume roles, the new session has the role's rights and no more.
    let renewed = use_session(&world, &assume(&world, &session, request()).unwrap()).unwrap();
    assert!(may(&renewed, "codecommit:GitPush", "*"));
    assert!(!may(&renewed, "iam:UpdateAssumeRolePolicy", "*"));
}

#[test]
fn session_policies_limit_and_unknown_ones_deny() {
    let mut world = world(&trust(JANE, ""));
    let jane = jane(&mut world);
    let rights = |world: &World, request: AssumeRole| {
        let session = use_session(world, &assume(world, &jane, request).unwrap()).unwrap();
        ["codecommit:GitPull", "codecommit:GitPush", "iam:GetUser"].map(|action| may(&session, action, "*"))
    };
    let policy = |text: String| AssumeRole { policy: Some(text), ..request() };
    assert_eq!(rights(&world, policy(allow("codecommit:GitPull"))), [true, false, false]);
    assert_eq!(rights(&world, policy(allow("*"))), [true, true, false]);
    let arns =
        |arns: &[&str]| AssumeRole { policy_arns: arns.iter().map(|arn| (*arn).to_owned()).collect(), ..request() };
    let read_only = "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly";
    assert_eq!(rights(&world, arns(&[read_only])), [true, false, false]);
    assert_eq!(rights(&world, arns(&["arn:aws:iam::111122223333:policy/none"])), [false; 3]);
    assert_eq!(rights(&world, arns(&[read_only, "arn:aws:iam::111122223333:policy/none"])), [false; 3]);
    assert_eq!(code(assume(&world, &jane, policy("{}".into()))), Code::MalformedPolicyDocument);
    assert_eq!(code(assume(&world, &jane, policy(allow(&"a".repeat(2_048))))), Code::ValidationError);
    assert_eq!(code(assume(&world, &jane, arns(&[read_only; 11]))), Code::ValidationError);
}

#[test]
fn durations_are_those_of_the_role_and_an_hour_when_chained() {
    let mut world = world(&trust(&format!(r#"{{"AWS": ["{ACCOUNT}", "arn:aws:iam::{ACCOUNT}:user/jane"]}}"#), ""));
    world.edit(|editor| editor.put_policy(EntityKind::Role, "deploy", "sts", &allow("sts:*")));
    let jane = jane(&mut world);
    let with = |world: &World, who: &Authenticated, seconds| {
        assume(world, who, AssumeRole { duration_seconds: Some(seconds), ..request() })
    };
    with(&world, &jane, 900).unwrap();
    assert_eq!(code(with(&world, &jane, 899)), Code::ValidationError);
    assert_eq!(code(with(&world, &jane, 3_601)), Code::ValidationError);
    world.edit(|editor| editor.update_role("deploy", None, Some(43_200)));
    let long = use_session(&world, &with(&world, &jane, 43_200).unwrap()).unwrap();
    assert_eq!(code(with(&world, &jane, 43_201)), Code::ValidationError);
    with(&world, &long, 3_600).unwrap();
    assert_eq!(code(with(&world, &long, 3_601)), Code::ValidationError);
    let sts = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom);
    assert_eq!(sts.get_session_token(&long.principal, None).unwrap_err().code(), Code::AccessDenied);
    assert_eq!(sts.get_session_token(&jane.principal, Some(129_601)).unwrap_err().code(), Code::ValidationError);
    let root = crate::principal::Principal::root(&world.account);
    assert_eq!(sts.assume_role(&root, &jane.context, request()).map(|a| a.arn).unwrap_err().code(), Code::AccessDenied);
}

#[test]
fn tags_and_source_identity_need_permission_and_go_on_along_the_chain() {
    let tagging = trust(&format!(r#"{{"AWS": ["{ACCOUNT}", "arn:aws:iam::{ACCOUNT}:user/jane"]}}"#), "");
    let mut world = world(&tagging);
    let jane = jane(&mut world);
    let tag = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let tagged = || AssumeRole { tags: tag("team", "infra"), transitive_tag_keys: vec!["team".into()], ..request() };
    assert_eq!(code(assume(&world, &jane, tagged())), Code::AccessDenied);
    let named = || AssumeRole { source_identity: Some("jane.doe".into()), ..request() };
    assert_eq!(code(assume(&world, &jane, named())), Code::AccessDenied);
    let all =
        tagging.replace(r#""sts:AssumeRole""#, r#"["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]"#);
    world.edit(|editor| editor.update_trust_policy("deploy", &all));
    world.edit(|editor| editor.put_policy(EntityKind::Role, "deploy", "sts", &allow("sts:*")));
    let both = AssumeRole { source_identity: Some("jane.doe".into()), ..tagged() };
    let first = use_session(&world, &assume(&world, &jane, both).unwrap()).unwrap();
    let second = use_session(&world, &assume(&world, &first, request()).unwrap()).unwrap();
    let session = second.principal.session().unwrap();
    assert_eq!(session.tags.get("team").map(String::as_str), Some("infra"));
    assert_eq!(session.source_identity.as_deref(), Some("jane.doe"));
    let overridden = AssumeRole { tags: tag("TEAM", "other"), ..request() };
    assert_eq!(code(assume(&world, &first, overridden)), Code::ValidationError);
    let other = AssumeRole { source_identity: Some("mallory".into()), ..request() };
    assert_eq!(code(assume(&world, &first, other)), Code::AccessDenied);
    let untagged = AssumeRole { transitive_tag_keys: vec!["none".into()], ..request() };
    assert_eq!(code(assume(&world, &jane, untagged)), Code::ValidationError);
    let many = (0..50).map(|n| (format!("{n}{}", "k".repeat(120)), "v".repeat(256))).collect();
    assert_eq!(code(assume(&world, &jane, AssumeRole { tags: many, ..request() })), Code::PackedPolicyTooLarge);
}
