//! Edits with the errors of AWS.

use crate::edit::{NewGroup, NewOidcProvider, NewPolicy, NewRole, NewUser};
use crate::error::Code;
use crate::ids::IdKind;
use crate::model::{EntityKind, GIT_SERVICE, Quota, Status};
use crate::tests::world::{ACCOUNT, World, allow, trust};

const PULL: &str = "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly";

fn group(name: &str) -> NewGroup {
    NewGroup { name: name.into(), path: None }
}

fn policy(name: &str) -> NewPolicy {
    NewPolicy { name: name.into(), document: allow("codecommit:GitPull"), ..NewPolicy::default() }
}

fn role(name: &str) -> NewRole {
    NewRole { name: name.into(), trust_policy: trust(&format!(r#"{{"AWS": "{ACCOUNT}"}}"#), ""), ..NewRole::default() }
}

fn arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:policy/{name}")
}

#[test]
fn names_are_unique_whatever_their_case() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_group(group("dev")));
    world.edit(|editor| editor.create_role(role("ci")));
    world.edit(|editor| editor.create_policy(policy("pull")));
    let taken = [
        world.refused(|editor| editor.create_user(NewUser::named("JANE"))),
        world.refused(|editor| editor.create_group(group("Dev"))),
        world.refused(|editor| editor.create_role(role("CI"))),
        world.refused(|editor| editor.create_policy(policy("Pull"))),
    ];
    assert_eq!(taken, [Code::EntityAlreadyExists; 4]);
    world.edit(|editor| editor.create_group(group("jane")));
    for name in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
        assert_eq!(world.refused(|editor| editor.create_user(NewUser::named(name))), Code::ValidationError, "{name}");
    }
    assert!(IdKind::User.is_kind_of(&world.account.user("jane").unwrap().record.id));
}

#[test]
fn a_user_goes_only_without_credentials_policies_and_groups() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_group(group("dev")));
    let conflict = |world: &World| {
        assert_eq!(world.refused(|editor| editor.delete_user("jane")), Code::DeleteConflict);
    };
    let client = world.client("jane");
    conflict(&world);
    world.edit(|editor| editor.delete_access_key("jane", &client.id));
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    conflict(&world);
    world.edit(|editor| editor.delete_git_credential("jane", &made.id));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "p", &allow("a:b")));
    conflict(&world);
    world.edit(|editor| editor.delete_inline_policy(EntityKind::User, "jane", "p"));
    world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", PULL));
    conflict(&world);
    world.edit(|editor| editor.detach_policy(EntityKind::User, "jane", PULL));
    world.edit(|editor| editor.add_user_to_group("jane", "dev"));
    conflict(&world);
    assert_eq!(world.refused(|editor| editor.delete_group("dev")), Code::DeleteConflict);
    world.edit(|editor| editor.remove_user_from_group("jane", "dev"));
    world.write(vec![("users/jane/notes.txt".into(), Some(b"x".to_vec()))]);
    conflict(&world);
    world.write(vec![("users/jane/notes.txt".into(), None)]);
    world.edit(|editor| editor.delete_user("jane"));
    world.edit(|editor| editor.delete_group("dev"));
    assert_eq!(world.documents.len(), 2, "{:?}", world.documents.keys());
}

#[test]
fn credentials_have_the_quotas_and_forms_of_aws() {
    let mut world = World::with_jane();
    let one = world.client("jane");
    assert_eq!((one.id.len(), &one.id[..4], one.secret.len()), (20, "AKIA", 40));
    world.client("jane");
    let keys = world.keys.clone();
    assert_eq!(world.refused(|editor| editor.create_access_key("jane", &keys).map(|made| made.0)), Code::LimitExceeded);
    for number in 0..2 {
        let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
        world.commit(&edit);
        let name = ["jane-at-111122223333", "jane+1-at-111122223333"][number];
        assert_eq!((made.user_name.as_str(), made.password.expose().len(), &made.id[..4]), (name, 44, "ACCA"));
    }
    let more = world.refused(|editor| editor.create_git_credential("jane", GIT_SERVICE).map(|made| made.0));
    assert_eq!(more, Code::LimitExceeded);
    let other =
        world.refused(|editor| editor.create_git_credential("jane", "cassandra.amazonaws.com").map(|made| made.0));
    assert_eq!(other, Code::NotSupportedService);
    // Another user's generated name is not given twice.
    world.edit(|editor| editor.create_user(NewUser::named("jane+1")));
    let (_, made) = world.editor().create_git_credential("jane+1", GIT_SERVICE).unwrap();
    assert_eq!(made.user_name, "jane+1+1-at-111122223333");
    for (path, bytes) in &world.documents {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains(&one.secret) && !text.contains(made.password.expose()), "{path}");
    }
    assert!(!format!("{one:?}{:?}", world.account).contains(made.password.expose()));
    assert_eq!(
        world.refused(|editor| editor.update_access_key("jane", "AKIANONE", Status::Active)),
        Code::NoSuchEntity
    );
}

#[test]
fn ssh_keys_are_five_and_each_once() {
    let mut world = World::with_jane();
    let lines: Vec<&str> = include_str!("fixtures/ssh_keys.txt").lines().collect();
    let key = |at: usize| lines[at].rsplit('|').next().unwrap();
    for at in 0..5 {
        let (edit, id) = world.editor().upload_ssh_key("jane", key(at)).unwrap();
        world.commit(&edit);
        assert!(IdKind::SshKey.is_kind_of(&id));
    }
    let refused =
        |world: &World, text: &str| world.refused(|editor| editor.upload_ssh_key("jane", text).map(|made| made.0));
    assert_eq!(refused(&world, key(0)), Code::DuplicateSSHPublicKey);
    assert_eq!(refused(&world, key(5)), Code::LimitExceeded);
    assert_eq!(refused(&world, key(8)), Code::InvalidPublicKey);
    assert_eq!(refused(&world, "hello"), Code::UnrecognizedPublicKeyEncoding);
    let id = world.account.user("jane").unwrap().ssh_keys.keys().next().unwrap().clone();
    world.edit(|editor| editor.delete_ssh_key("jane", &id));
    assert_eq!(world.account.user("jane").unwrap().ssh_keys.len(), 4);
}

#[test]
fn policies_have_five_versions_and_numbers_are_not_given_again() {
    let mut world = World::new();
    world.edit(|editor| editor.create_policy(policy("p")));
    let arn = arn("p");
    for number in 2..=5 {
        let (edit, version) = world.editor().create_policy_version(&arn, &allow("a:b"), number == 3).unwrap();
        assert_eq!(version, number);
        world.commit(&edit);
    }
    assert_eq!(world.account.policy("p").unwrap().record.default_version, 3);
    let version = |world: &World| world.editor().create_policy_version(&arn, &allow("a:b"), true).map(|made| made.1);
    assert_eq!(version(&world).unwrap_err().code(), Code::LimitExceeded);
    assert_eq!(world.refused(|editor| editor.delete_policy_version(&arn, 3)), Code::DeleteConflict);
    assert_eq!(world.refused(|editor| editor.delete_policy_version(&arn, 9)), Code::NoSuchEntity);
    world.edit(|editor| editor.delete_policy_version(&arn, 5));
    assert_eq!(version(&world).unwrap(), 6);
    world.edit(|editor| editor.set_default_policy_version(&arn, 1));
    assert_eq!(world.refused(|editor| editor.delete_policy(&arn)), Code::DeleteConflict);
    for number in 2..=4 {
        world.edit(|editor| editor.delete_policy_version(&arn, number));
    }
    world.edit(|editor| editor.create_user(NewUser::named("jane")));
    world.edit(|editor| editor.set_boundary(EntityKind::User, "jane", Some(&arn)));
    assert_eq!(world.refused(|editor| editor.delete_policy(&arn)), Code::DeleteConflict);
    world.edit(|editor| editor.set_boundary(EntityKind::User, "jane", None));
    assert_eq!(world.refused(|editor| editor.set_boundary(EntityKind::User, "jane", None)), Code::NoSuchEntity);
    world.edit(|editor| editor.delete_policy(&arn));
    assert!(world.documents.keys().all(|path| !path.starts_with("policies/")));
    assert_eq!(world.refused(|editor| editor.delete_policy(PULL)), Code::UnmodifiableEntity);
}

#[test]
fn wrong_policies_are_malformed_and_large_ones_exceed_a_quota() {
    let mut world = World::with_jane();
    let put =
        |world: &World, text: &str| world.refused(|editor| editor.put_policy(EntityKind::User, "jane", "p", text));
    let trusting = trust(r#"{"AWS": "*"}"#, "");
    for text in ["", "{}", "x", &trusting, &allow("a:b").replace("Allow", "Permit")] {
        assert_eq!(put(&world, text), Code::MalformedPolicyDocument, "{text}");
    }
    let large = allow(&"a".repeat(1_990));
    assert_eq!(put(&world, &large), Code::LimitExceeded);
    let half = allow(&format!("a:{}", "b".repeat(900)));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "one", &half));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "two", &half));
    assert_eq!(put(&world, &half), Code::LimitExceeded);
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "two", &half.replace(' ', "  ")));
    let identity = NewRole { trust_policy: allow("a:b"), ..role("r") };
    assert_eq!(world.refused(|editor| editor.create_role(identity)), Code::MalformedPolicyDocument);
    let session = NewRole { max_session_seconds: Some(3_599), ..role("r") };
    assert_eq!(world.refused(|editor| editor.create_role(session)), Code::ValidationError);
}

#[test]
fn a_document_that_is_too_large_to_commit_is_refused() {
    let mut world = World::with_jane();
    let spacious = allow("a:b").replace(' ', &" ".repeat(10_000));
    let put = world.refused(|editor| editor.put_policy(EntityKind::User, "jane", "p", &spacious));
    assert_eq!(put, Code::LimitExceeded);
    let less = allow("a:b").replace(' ', &" ".repeat(1_000));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "p", &less));
}

#[test]
fn attaching_is_idempotent_and_needs_a_policy() {
    let mut world = World::with_jane();
    let attach = |arn: &str| world.editor().attach_policy(EntityKind::User, "jane", arn);
    assert_eq!(attach(&arn("none")).unwrap_err().code(), Code::NoSuchEntity);
    assert_eq!(attach("arn:aws:iam::aws:policy/Unheard").unwrap_err().code(), Code::NoSuchEntity);
    assert_eq!(world.refused(|editor| editor.detach_policy(EntityKind::User, "jane", PULL)), Code::NoSuchEntity);
    world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", PULL));
    assert!(world.editor().attach_policy(EntityKind::User, "jane", PULL).unwrap().is_empty());
    assert_eq!(world.account.attachments(PULL), 1);
    for number in 0..9 {
        world.edit(|editor| editor.create_policy(policy(&format!("p{number}"))));
        world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", &arn(&format!("p{number}"))));
    }
    world.edit(|editor| editor.create_policy(policy("p9")));
    assert_eq!(world.refused(|editor| editor.attach_policy(EntityKind::User, "jane", &arn("p9"))), Code::LimitExceeded);
    world.edit(|editor| editor.set_quota(Quota::AttachedPoliciesPerUser, 20));
    world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", &arn("p9")));
    assert_eq!(world.refused(|editor| editor.set_boundary(EntityKind::Group, "dev", Some(PULL))), Code::NoSuchEntity);
}

#[test]
fn a_rename_keeps_id_credentials_groups_and_sealed_secrets() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_group(group("dev")));
    world.edit(|editor| editor.add_user_to_group("jane", "dev"));
    world.edit(|editor| editor.put_policy(EntityKind::User, "jane", ".hidden", &allow("a:b")));
    let client = world.client("jane");
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let id = world.account.user("jane").unwrap().record.id.clone();
    world.edit(|editor| editor.update_user("jane", Some("jane.doe"), Some("/team/")));
    assert!(world.account.user("jane").is_none());
    let user = world.account.user("jane.doe").unwrap();
    assert_eq!((&user.record.id, user.arn.as_str()), (&id, "arn:aws:iam::111122223333:user/team/jane.doe"));
    assert!(user.inline.contains_key(".hidden"));
    assert_eq!(world.account.git_credential(&made.user_name).unwrap().0.name, "jane.doe");
    let sent = client.sign(crate::tests::clients::Sent::new("POST", "/", "", b""), "iam", "us-east-1", world.now());
    assert_eq!(sent.with(|parts| world.host.authenticate(parts)).unwrap().principal.user_name(), Some("jane.doe"));
    world.edit(|editor| editor.update_group("dev", Some("developers"), None));
    assert!(world.account.user("jane.doe").unwrap().record.groups.contains("developers"));
    world.edit(|editor| editor.update_user("jane.doe", Some("Jane.Doe"), None));
    assert_eq!(world.account.users().count(), 1);
    world.edit(|editor| editor.create_user(NewUser::named("bob")));
    assert_eq!(world.refused(|editor| editor.update_user("bob", Some("JANE.DOE"), None)), Code::EntityAlreadyExists);
    world.write(vec![("users/bob/access-keys/AKIAAAAAAAAAAAAAAAAA.json".into(), Some(b"{".to_vec()))]);
    assert_eq!(world.refused(|editor| editor.update_user("bob", Some("rob"), None)), Code::InvalidInput);
}

#[test]
fn quotas_of_the_account_are_those_of_its_settings() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.set_quota(Quota::Users, 2));
    world.edit(|editor| editor.create_user(NewUser::named("bob")));
    assert_eq!(world.refused(|editor| editor.create_user(NewUser::named("eve"))), Code::LimitExceeded);
    world.edit(|editor| editor.set_alias(Some("my-company")));
    assert_eq!(world.account.settings().alias.as_deref(), Some("my-company"));
    for alias in ["ab", "-abc", "abc-", "a--b", "Abc", "a_b"] {
        assert_eq!(world.refused(|editor| editor.set_alias(Some(alias))), Code::ValidationError, "{alias}");
    }
}

#[test]
fn tags_replace_those_of_the_same_key_in_other_letters() {
    let mut world = World::with_jane();
    let tag = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    world.edit(|editor| editor.tag(EntityKind::User, "jane", tag("Team", "a")));
    world.edit(|editor| editor.tag(EntityKind::User, "jane", tag("team", "b")));
    let tags = &world.account.user("jane").unwrap().record.tags;
    assert_eq!(tags.iter().collect::<Vec<_>>(), [(&"team".to_owned(), &"b".to_owned())]);
    world.edit(|editor| editor.untag(EntityKind::User, "jane", &["TEAM".to_owned()]));
    assert!(world.account.user("jane").unwrap().record.tags.is_empty());
    assert_eq!(world.refused(|editor| editor.tag(EntityKind::Group, "g", tag("a", "b"))), Code::NoSuchEntity);
}

#[test]
fn oidc_providers_have_a_url_audiences_and_thumbprints() {
    let mut world = World::new();
    let new = |url: &str| NewOidcProvider {
        url: url.into(),
        client_ids: vec!["sts.amazonaws.com".into()],
        ..Default::default()
    };
    world.edit(|editor| editor.create_oidc_provider(new("https://gitlab.example.com/ci/x")));
    let again = new("https://gitlab.example.com/ci/x");
    assert_eq!(world.refused(|editor| editor.create_oidc_provider(again)), Code::EntityAlreadyExists);
    for url in [
        "http://a.com",
        "https://",
        "https://A.com",
        "https://a.com:8443",
        "https://a.com/?x",
        "https://a.com/",
        "https://a.com/../b",
        "https://u@a.com",
        "a.com",
    ] {
        assert_eq!(world.refused(|editor| editor.create_oidc_provider(new(url))), Code::InvalidInput, "{url}");
    }
    let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/gitlab.example.com/ci/x");
    world.edit(|editor| editor.add_client_id(&provider, "other"));
    world.edit(|editor| editor.remove_client_id(&provider, "sts.amazonaws.com"));
    world.edit(|editor| editor.update_thumbprints(&provider, &["A".repeat(40)]));
    assert_eq!(world.refused(|editor| editor.update_thumbprints(&provider, &["x".repeat(40)])), Code::ValidationError);
    let stored = world.account.oidc_provider("gitlab.example.com/ci/x").unwrap();
    assert_eq!(stored.client_ids.iter().collect::<Vec<_>>(), ["other"]);
    world.edit(|editor| editor.delete_oidc_provider(&provider));
    assert_eq!(world.refused(|editor| editor.delete_oidc_provider(&provider)), Code::NoSuchEntity);
}
