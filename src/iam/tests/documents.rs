//! Accounts as documents: what is written is what is read, and a change is read as the whole.

use std::sync::Arc;

use gitferry_policy::{Context, Request, evaluate};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::account::{Account, AccountError};
use crate::arn::AccountId;
use crate::documents::work;
use crate::edit::{Founding, NewGroup, NewPolicy, NewRole, NewUser, found_with_administrator};
use crate::key_ring::{KeyRing, KeyRingError};
use crate::model::{EntityKind, GIT_SERVICE};
use crate::random::SystemRandom;
use crate::secret::{KeyService, LocalKeyFile};
use crate::tests::world::{BEGIN, World, allow, trust};

/// Everything that an account says, as text.
fn shown(account: &Account) -> String {
    let users: Vec<_> = account.users().collect();
    let groups: Vec<_> = account.groups().collect();
    let roles: Vec<_> = account.roles().collect();
    let policies: Vec<_> = account.policies().collect();
    let providers: Vec<_> = account.oidc_providers().collect();
    let damaged: Vec<_> = account.damaged().collect();
    let mut shown =
        format!("{users:#?}{groups:#?}{roles:#?}{policies:#?}{providers:#?}{damaged:#?}{:#?}", account.settings());
    for user in account.users() {
        for id in user.access_keys.keys() {
            shown += &format!("{id} {:?}\n", account.access_key(id).map(|(user, _)| &user.name));
        }
        for credential in user.git_credentials.values() {
            let found = account.git_credential(&credential.user_name).map(|(user, id, _)| (&user.name, id));
            shown += &format!("{} {found:?}\n", credential.user_name);
        }
        shown += &format!("{:?}\n", account.user_by_id(&user.record.id).map(|user| &user.name));
    }
    for role in account.roles() {
        shown += &format!("{:?}\n", account.role_by_id(&role.record.id).map(|role| &role.name));
    }
    shown
}

fn rich() -> World {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_user(NewUser { path: Some("/team/".into()), ..NewUser::named(".git") }));
    world.edit(|editor| editor.create_user(NewUser::named("jane.json")));
    world.edit(|editor| editor.create_group(NewGroup { name: "dev".into(), path: None }));
    world.edit(|editor| editor.add_user_to_group("jane", "dev"));
    world.edit(|editor| editor.put_policy(EntityKind::Group, "dev", "pull", &allow("codecommit:GitPull")));
    let trusted = trust(r#"{"AWS": "arn:aws:iam::111122223333:user/jane"}"#, "");
    world.edit(|editor| editor.create_role(NewRole { name: "ci".into(), trust_policy: trusted, ..NewRole::default() }));
    let policy = NewPolicy { name: "push".into(), document: allow("codecommit:GitPush"), ..NewPolicy::default() };
    world.edit(|editor| editor.create_policy(policy));
    world.edit(|editor| editor.attach_policy(EntityKind::Role, "ci", "arn:aws:iam::111122223333:policy/push"));
    world.client("jane");
    world.client(".git");
    let (edit, _) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    world
}

#[test]
fn the_documents_of_an_account_are_the_account() {
    let world = rich();
    let read = Account::parse(&world.documents).unwrap();
    assert_eq!(shown(&read), shown(&world.account));
    assert_eq!(read.damaged().count(), 0);
    assert_eq!(read.user(".git").unwrap().arn, "arn:aws:iam::111122223333:user/team/.git");
    for (path, bytes) in &world.documents {
        assert!(bytes.ends_with(b"}\n") && std::str::from_utf8(bytes).unwrap().contains("\"format\": 1"), "{path}");
    }
}

#[test]
fn a_change_reads_its_own_documents_only() {
    let world = rich();
    let edit = world.editor().add_user_to_group(".git", "dev").unwrap();
    let (next, read) = work::of(|| world.account.with(edit.documents()).unwrap());
    assert_eq!(read, 1);
    assert!(next.user(".git").unwrap().record.groups.contains("dev"));
    // The rest is the same value in memory.
    assert!(std::sync::Arc::ptr_eq(next.user("jane").unwrap(), world.account.user("jane").unwrap()));
}

#[test]
fn an_account_without_readable_settings_is_an_error() {
    let mut world = rich();
    let parse =
        |documents: &std::collections::BTreeMap<String, Vec<u8>>| Account::parse(documents).map(|account| account.id());
    let settings = String::from_utf8(world.documents.remove("account.json").unwrap()).unwrap();
    assert_eq!(parse(&world.documents), Err(AccountError::Missing));
    let newer = settings.replace("\"format\": 1", "\"format\": 2");
    for text in
        [newer.as_str(), "", "{}", "null", &settings.replace("111122223333", "1"), &settings.replace("created", "made")]
    {
        world.documents.insert("account.json".into(), text.into());
        assert!(matches!(parse(&world.documents), Err(AccountError::Damaged(_))), "{text}");
    }
    let Err(AccountError::Damaged(reason)) = world.account.with([("account.json", Some(newer))]) else { panic!() };
    assert!(reason.contains("newer gitferry"), "{reason}");
    let foreign = settings.replace("111122223333", "999999999999");
    let outcome = world.account.with([("account.json", Some(foreign))]).map(|account| account.id());
    assert!(matches!(outcome, Err(AccountError::Foreign { .. })));
    assert_eq!(world.account.with([("account.json", None::<&[u8]>)]).map(|a| a.id()), Err(AccountError::Missing));
}

#[tokio::test]
async fn an_account_begins_with_an_administrator_whose_keys_open_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> Arc<dyn KeyService> {
        Arc::new(LocalKeyFile::open_or_create(&folder.path().join(name)).unwrap())
    };
    let (here, there) = (file("here"), file("there"));
    let data_key = KeyRing::fresh_key(&SystemRandom).unwrap();
    let id = AccountId::fresh(&SystemRandom).unwrap();
    let wrapped = KeyRing::wrapped(&data_key, &id, &[here.clone(), there.clone()]).await.unwrap();
    let keys = KeyRing::of(data_key);
    let founding = Founding { account: id, alias: Some("demo".into()), keys: &keys, wrapped };
    let now = Timestamp::from_second(BEGIN).unwrap();
    let (edit, key) = found_with_administrator(founding, "admin", now, &SystemRandom).unwrap();
    let account = Account::parse(edit.documents().map(|(path, bytes)| (path, bytes.unwrap()))).unwrap();
    assert_eq!(account.damaged().count(), 0);
    let (user, stored) = account.access_key(&key.id).unwrap();
    let set = account.simulate_user(user);
    let request = Request { action: "iam:CreateUser", resource: "*", context: &Context::default() };
    assert!(evaluate(&set, &request).is_allowed());
    for service in [here, there] {
        let opened = KeyRing::open(&account, &[service]).await.unwrap();
        assert!(opened.serves(&account));
        let secret = opened.open_access_key(&id, &user.record.id, &key.id, &stored.secret).unwrap();
        assert_eq!(secret.expose(), key.secret.expose());
    }
    let error = KeyRing::open(&account, &[file("elsewhere")]).await.unwrap_err();
    assert!(matches!(error, KeyRingError::NotSealedHere { .. }), "{error}");
}

/// Random edits of few names, so that they meet.
fn edits() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    prop::collection::vec((0..10_u8, 0..3_u8, 0..3_u8), 1..40)
}

fn apply(world: &mut World, (what, one, other): (u8, u8, u8)) {
    let user = ["ann", "Bob", "..eve"][usize::from(one)];
    let group = ["dev", "ops", ".x"][usize::from(other)];
    let keys = world.keys.clone();
    let editor = world.editor();
    let edit = match what {
        0 | 1 => editor.create_user(NewUser::named(user)),
        2 => editor.create_group(NewGroup { name: group.into(), path: None }),
        3 => editor.add_user_to_group(user, group),
        4 => editor.remove_user_from_group(user, group),
        5 => editor.create_access_key(user, &keys).map(|(edit, _)| edit),
        6 => editor.create_git_credential(user, GIT_SERVICE).map(|(edit, _)| edit),
        7 => editor.delete_user(user),
        8 => editor.update_user(user, Some(["ann", "Bob", "..eve"][usize::from(other)]), None),
        _ => editor.put_policy(EntityKind::Group, group, user, &allow("a:b")),
    };
    if let Ok(edit) = edit
        && !edit.is_empty()
    {
        world.commit(&edit);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_state_after_changes_is_the_state_of_its_documents(edits in edits(), damage in any::<prop::sample::Index>()) {
        let mut world = World::new();
        for edit in edits {
            apply(&mut world, edit);
        }
        prop_assert_eq!(shown(&world.account), shown(&Account::parse(&world.documents).unwrap()));
        // The same holds with damage, and after it is mended.
        let before = shown(&world.account);
        let (path, bytes) = world.documents.iter().filter(|(path, _)| *path != "account.json").nth(damage.index(world.documents.len() - 1)).unwrap();
        let (path, bytes) = (path.clone(), bytes.clone());
        world.write(vec![(path.clone(), Some(bytes[..bytes.len() / 2].to_vec()))]);
        prop_assert_eq!(world.account.damaged().map(|(path, _)| path.to_owned()).collect::<Vec<_>>(), vec![path.clone()]);
        prop_assert_eq!(shown(&world.account), shown(&Account::parse(&world.documents).unwrap()));
        world.write(vec![(path, Some(bytes))]);
        prop_assert_eq!(shown(&world.account), before);
    }
}
