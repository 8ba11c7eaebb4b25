//! Rotation of data keys: everything stays readable between any two edits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::authentication_error::AuthenticationError;
use crate::edit::{MAX_DATA_KEYS, MAX_RESEALED, NewUser, RETIRE_AFTER_SECONDS, data_key_uses};
use crate::error::Code;
use crate::key_ring::KeyRing;
use crate::model::GIT_SERVICE;
use crate::random::SystemRandom;
use crate::session::{Credentials, TokenError};
use crate::sts::{MAX_USER_SECONDS, Sts};
use crate::tests::calls::{REPOSITORY, call, jane, try_anew};
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{REGION, World};

/// Makes a new data key the current one, as a rotation does, and has the host open it.
fn replace(world: &mut World) -> String {
    let fresh = KeyRing::fresh_key(&SystemRandom).unwrap();
    let id = fresh.id().to_owned();
    let wrapped = BTreeMap::from([("service".to_owned(), vec![1, 2, 3])]);
    world.edit(|editor| editor.replace_data_key(&id, wrapped));
    world.keys = Arc::new(world.keys.with(fresh).for_account(&world.account));
    world.follow();
    id
}

fn works(world: &World, client: &Client) -> bool {
    try_anew(world, &client.sign(call(), "iam", REGION, world.now())) == jane()
}

fn session(world: &World, seconds: u32) -> Credentials {
    let sts = Sts::new(&world.account, &world.keys, world.now(), &SystemRandom);
    sts.get_session_token(&world.principal("jane"), Some(seconds)).unwrap()
}

fn secrets_under(world: &World, id: &str) -> usize {
    data_key_uses(&world.account).into_iter().find(|key| key.id == id).unwrap().secrets
}

#[test]
fn keys_and_sessions_work_between_any_two_edits_of_a_rotation() {
    let mut world = World::with_jane();
    let old = world.keys.current_id().to_owned();
    let clients = [world.client("jane"), world.client("jane")];
    let token = session(&world, MAX_USER_SECONDS);
    let with_token = world.client_of(&token);
    let all_work = |world: &World| works(world, &with_token) && clients.iter().all(|client| works(world, client));
    assert!(all_work(&world));
    let new = replace(&mut world);
    assert!(all_work(&world));
    assert_eq!((secrets_under(&world, &old), secrets_under(&world, &new)), (2, 0));
    let keys = world.keys.clone();
    let (edit, done) = world.editor().reseal_access_keys(&keys).unwrap();
    assert_eq!((done.resealed, done.left, done.unreadable.len()), (2, 0, 0));
    world.commit(&edit);
    assert!(all_work(&world));
    assert_eq!((secrets_under(&world, &old), secrets_under(&world, &new)), (0, 2));
    assert_eq!(world.editor().reseal_access_keys(&keys).unwrap().1.resealed, 0);
    // The session outlives the rotation, and the key its last second.
    assert_eq!(world.editor().retire_data_keys().1, Vec::<String>::new());
    world.clock.pass(i64::from(MAX_USER_SECONDS) - 1);
    assert!(works(&world, &with_token));
    world.clock.pass(RETIRE_AFTER_SECONDS - i64::from(MAX_USER_SECONDS));
    assert_eq!(world.editor().retire_data_keys().1, Vec::<String>::new());
    world.clock.pass(1);
    let (edit, retired) = world.editor().retire_data_keys();
    assert_eq!(retired, [old.as_str()]);
    world.commit(&edit);
    world.keys = Arc::new(world.keys.for_account(&world.account));
    world.follow();
    assert!(world.account.data_key(&old).is_none() && world.keys.serves(&world.account));
    assert!(clients.iter().all(|client| works(&world, client)));
    let sent = with_token.sign(call(), "iam", REGION, world.now());
    assert_eq!(try_anew(&world, &sent), Err(AuthenticationError::Token(TokenError::Invalid)));
}

#[test]
fn a_data_key_that_seals_a_secret_or_may_do_so_stays() {
    let mut world = World::with_jane();
    let old = world.keys.current_id().to_owned();
    world.client("jane");
    let path = world.documents.keys().find(|path| path.contains("/access-keys/")).unwrap().clone();
    replace(&mut world);
    world.clock.pass(RETIRE_AFTER_SECONDS);
    assert_eq!(world.editor().unused_data_keys(), Vec::<String>::new(), "a secret is sealed under it");
    let keys = world.keys.clone();
    let (edit, _) = world.editor().reseal_access_keys(&keys).unwrap();
    world.commit(&edit);
    assert_eq!(world.editor().unused_data_keys(), [old]);
    let whole = world.documents[&path].clone();
    world.write(vec![(path.clone(), Some(whole[..whole.len() / 2].to_vec()))]);
    assert_eq!(world.editor().unused_data_keys(), Vec::<String>::new(), "a damaged document may be mended");
    // The key of a user who cannot be read counts, too.
    world.write(vec![(path, Some(whole)), ("users/jane/user.json".into(), Some(b"{".to_vec()))]);
    let current = world.keys.current_id().to_owned();
    assert_eq!(secrets_under(&world, &current), 1);
}

#[test]
fn a_secret_that_does_not_open_is_named_and_left_alone() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    replace(&mut world);
    // A ring that has the new key alone, as after the loss of the service that sealed the old one.
    let fresh = world.keys.key(world.keys.current_id()).unwrap();
    let alone = crate::secret::DataKey::new(fresh.id().to_owned(), zeroize::Zeroizing::new(*fresh.expose()));
    let (edit, done) = world.editor().reseal_access_keys(&KeyRing::of(alone)).unwrap();
    assert!(edit.is_empty() && done.resealed == 0);
    assert_eq!(done.unreadable.len(), 1);
    assert!(works(&world, &client));
}

#[test]
fn secrets_are_sealed_again_in_batches_of_a_named_size() {
    let mut world = World::new();
    let old = world.keys.current_id().to_owned();
    let number = MAX_RESEALED / 2 + 1;
    let keys = world.keys.clone();
    for number in 0..number {
        let name = format!("user{number}");
        world.edit(|editor| editor.create_user(NewUser::named(&name)));
        for _ in 0..2 {
            world.edit(|editor| editor.create_access_key(&name, &keys).map(|(edit, _)| edit));
        }
    }
    replace(&mut world);
    assert_eq!(world.editor().to_reseal(), 2 * number);
    let keys = world.keys.clone();
    let mut batches = Vec::new();
    while secrets_under(&world, &old) > 0 {
        let (edit, done) = world.editor().reseal_access_keys(&keys).unwrap();
        assert_eq!(edit.documents().count(), done.resealed);
        world.commit(&edit);
        batches.push((done.resealed, done.left));
    }
    assert_eq!(batches, [(MAX_RESEALED, 2), (2, 0)]);
}

#[test]
fn a_ring_from_before_seals_nothing_that_is_unreadable_later() {
    let mut world = World::with_jane();
    let before = world.keys.clone();
    let old = before.current_id().to_owned();
    replace(&mut world);
    // While the account has the key, a late writer may seal under it.
    world.editor().create_access_key("jane", &before).unwrap();
    assert_eq!(world.editor().reseal_access_keys(&before).unwrap_err().code(), Code::ServiceFailure);
    world.clock.pass(RETIRE_AFTER_SECONDS);
    let (edit, retired) = world.editor().retire_data_keys();
    world.commit(&edit);
    assert_eq!(retired, [old]);
    assert_eq!(world.editor().create_access_key("jane", &before).unwrap_err().code(), Code::ServiceFailure);
}

#[test]
fn data_keys_have_a_limit_and_a_seal() {
    let mut world = World::new();
    let refused = world.editor().replace_data_key("one", BTreeMap::new()).unwrap_err().code();
    assert_eq!(refused, Code::InvalidInput);
    for _ in 1..MAX_DATA_KEYS {
        replace(&mut world);
    }
    let wrapped = BTreeMap::from([("service".to_owned(), vec![1])]);
    assert_eq!(world.refused(|editor| editor.replace_data_key("one", wrapped)), Code::LimitExceeded);
    let seals = BTreeMap::from([
        (world.keys.current_id().to_owned(), BTreeMap::from([("other".to_owned(), vec![2])])),
        ("gone".to_owned(), BTreeMap::from([("other".to_owned(), vec![3])])),
    ]);
    world.edit(|editor| editor.add_seals(&seals));
    assert_eq!(data_key_uses(&world.account)[0].services, ["other", "service"]);
    assert!(world.account.data_key("gone").is_none());
}

#[test]
fn without_open_data_keys_only_what_they_seal_does_not_work() {
    let mut world = World::with_jane();
    let client = world.client("jane");
    let token = session(&world, 900);
    let (edit, password) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    let git = Sent::git(REPOSITORY, &password.user_name, password.password.expose());
    let signed = client.sign(call(), "iam", REGION, world.now());
    let with_token = world.client_of(&token).sign(call(), "iam", REGION, world.now());
    let open = world.keys.clone();
    world.keys = Arc::new(KeyRing::closed(&world.account));
    assert!(!world.keys.serves(&world.account));
    // A fresh host, which has no signing keys and sessions in memory.
    let clock = world.clock.clone();
    world.host = crate::authenticate::Authenticator::new(REGION, &["codecommit", "iam", "sts"], clock);
    world.follow();
    assert_eq!(try_anew(&world, &git), jane());
    for sent in [&signed, &with_token] {
        assert!(matches!(try_anew(&world, sent), Err(AuthenticationError::Unavailable(_))));
    }
    assert_eq!(
        world.refused(|editor| editor.create_access_key("jane", &world.keys).map(|(edit, _)| edit)),
        Code::ServiceFailure
    );
    world.keys = open;
    world.follow();
    for sent in [&git, &signed, &with_token] {
        assert_eq!(try_anew(&world, sent), jane());
    }
}
