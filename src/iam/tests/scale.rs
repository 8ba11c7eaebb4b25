//! Figures for a large account: `cargo test --release -p gitferry-iam scale -- --ignored --nocapture`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::edit::{NewGroup, NewPolicy};
use crate::ids::IdKind;
use crate::model::{EntityKind, GIT_SERVICE};
use crate::random::SystemRandom;
use crate::tests::clients::Sent;
use crate::tests::world::{World, allow, may};

const USERS: usize = 10_000;
const POLICIES: usize = 1_000;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Documents of [`USERS`] users like jane and [`POLICIES`] policies like `pull`.
fn multiply(world: &World) -> BTreeMap<String, Vec<u8>> {
    let jane = world.account.user("jane").unwrap();
    let mut ids = vec![(jane.record.id.clone(), IdKind::User)];
    ids.extend(jane.access_keys.keys().map(|id| (id.clone(), IdKind::AccessKey)));
    ids.extend(jane.git_credentials.keys().map(|id| (id.clone(), IdKind::ServiceCredential)));
    let mut documents = world.documents.clone();
    let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
    for number in 1..USERS {
        let fresh: Vec<String> = ids.iter().map(|(_, kind)| kind.fresh(&SystemRandom).unwrap()).collect();
        for (path, bytes) in world.documents.iter().filter(|(path, _)| path.starts_with("users/jane/")) {
            let rename = |text: &str| {
                let named = text.replace("jane", &format!("user{number}"));
                ids.iter().zip(&fresh).fold(named, |text, ((old, _), new)| text.replace(old, new))
            };
            documents.insert(rename(path), rename(&text(bytes)).into_bytes());
        }
    }
    for number in 1..POLICIES {
        for (path, bytes) in world.documents.iter().filter(|(path, _)| path.starts_with("policies/pull/")) {
            let id = IdKind::Policy.fresh(&SystemRandom).unwrap();
            let own = &world.account.policy("pull").unwrap().record.id;
            let name = format!("policies/pull{number}/");
            documents.insert(path.replace("policies/pull/", &name), text(bytes).replace(own, &id).into_bytes());
        }
    }
    documents
}

#[test]
#[ignore = "figures of a large account; run it alone and with --release"]
fn ten_thousand_users_and_a_thousand_policies() {
    let mut world = World::with_jane();
    world.edit(|editor| editor.create_group(NewGroup { name: "dev".into(), path: None }));
    world.edit(|editor| editor.put_policy(EntityKind::Group, "dev", "push", &allow("codecommit:GitPush")));
    world.edit(|editor| editor.add_user_to_group("jane", "dev"));
    let pull = NewPolicy { name: "pull".into(), document: allow("codecommit:GitPull"), ..NewPolicy::default() };
    world.edit(|editor| editor.create_policy(pull));
    world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", "arn:aws:iam::111122223333:policy/pull"));
    let client = world.client("jane");
    let (edit, made) = world.editor().create_git_credential("jane", GIT_SERVICE).unwrap();
    world.commit(&edit);
    world.documents = multiply(&world);
    let bytes: usize = world.documents.values().map(Vec::len).sum();
    println!("{} documents, {} kB", world.documents.len(), bytes >> 10);

    let before = resident();
    let start = Instant::now();
    let account = Account::parse(&world.documents).unwrap();
    println!("parse: {:?}; memory: {} MB", start.elapsed(), (resident() - before) >> 20);
    assert_eq!((account.users().count(), account.policies().count(), account.damaged().count()), (USERS, POLICIES, 0));
    world.account = account.into();
    world.follow();

    let start = Instant::now();
    world.edit(|editor| editor.update_access_key("jane", &client.id, crate::model::Status::Active));
    println!("one changed key: {:?}", start.elapsed());

    let (user, password) = client.git("/v1/repos/x", "git.example.com", world.now());
    let signed = Sent::git("/v1/repos/x", &user, &password);
    let credential = Sent::git("/v1/repos/x", &made.user_name, made.password.expose());
    let api = client.sign(Sent::new("POST", "/", "", b"Action=GetUser"), "iam", "us-east-1", world.now());
    for (what, sent) in [("signature of Git", signed), ("Git credential", credential), ("signed call", api)] {
        let request = || {
            let who = sent.with(|parts| world.host.authenticate(parts)).unwrap();
            assert!(may(&who, "codecommit:GitPush", "*") && may(&who, "codecommit:GitPull", "*"));
        };
        request();
        let start = Instant::now();
        (0..1_000).for_each(|_| request());
        let each = start.elapsed() / 1_000;
        println!("{what}: {each:?} to authenticate and to authorize twice");
        assert!(each < Duration::from_millis(10), "{what}: {each:?}");
    }
}
