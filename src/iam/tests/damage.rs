//! Documents that cannot be read never give more rights.

use crate::edit::{NewGroup, NewPolicy, NewRole, NewUser};
use crate::error::Code;
use crate::model::EntityKind;
use crate::tests::clients::{Client, Sent};
use crate::tests::world::{REGION, World, allow, deny, may, trust};

const POLICY: &str = "arn:aws:iam::111122223333:policy/everything";
const NEVER: &str = "arn:aws:iam::111122223333:policy/never";

/// Jane may do everything but `iam:DeleteUser`, which a policy denies in one of several ways.
fn world() -> (World, Client) {
    let mut world = World::with_jane();
    world.edit(|editor| {
        editor.create_policy(NewPolicy { name: "everything".into(), document: allow("*"), ..NewPolicy::default() })
    });
    let never = NewPolicy { name: "never".into(), document: deny("iam:DeleteUser"), ..NewPolicy::default() };
    world.edit(|editor| editor.create_policy(never));
    world.edit(|editor| editor.create_group(NewGroup { name: "dev".into(), path: None }));
    world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", POLICY));
    let client = world.client("jane");
    (world, client)
}

fn rights(world: &World, client: &Client) -> Vec<bool> {
    let sent = client.sign(Sent::new("POST", "/", "", b""), "iam", REGION, world.now());
    let who = sent.with(|parts| world.host.authenticate(parts)).unwrap();
    ["iam:GetUser", "iam:DeleteUser"].iter().map(|action| may(&who, action, "*")).collect()
}

#[test]
fn a_damaged_policy_denies_everything_to_those_who_have_it() {
    type Prepare = fn(&mut World);
    let ways: [(&str, Prepare); 7] = [
        ("policies/never/versions/v1.json", |world| {
            world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", NEVER));
        }),
        ("policies/never/policy.json", |world| {
            world.edit(|editor| editor.attach_policy(EntityKind::User, "jane", NEVER));
        }),
        ("users/jane/policies/never.json", |world| {
            world.edit(|editor| editor.put_policy(EntityKind::User, "jane", "never", &deny("iam:DeleteUser")));
        }),
        ("groups/dev/policies/never.json", |world| {
            world.edit(|editor| editor.put_policy(EntityKind::Group, "dev", "never", &deny("iam:DeleteUser")));
            world.edit(|editor| editor.add_user_to_group("jane", "dev"));
        }),
        ("groups/dev/group.json", |world| {
            world.edit(|editor| editor.attach_policy(EntityKind::Group, "dev", NEVER));
            world.edit(|editor| editor.add_user_to_group("jane", "dev"));
        }),
        ("policies/never/versions/v1.json", |world| {
            world.edit(|editor| editor.attach_policy(EntityKind::Group, "dev", NEVER));
            world.edit(|editor| editor.add_user_to_group("jane", "dev"));
        }),
        ("policies/never/versions/v2.json", |world| {
            let more = deny("iam:DeleteUser")
                .replace(r#""Statement": ["#, r#""Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, "#);
            let (edit, _) = world.editor().create_policy_version(NEVER, &more, true).unwrap();
            world.commit(&edit);
            world.edit(|editor| editor.set_boundary(EntityKind::User, "jane", Some(NEVER)));
        }),
    ];
    for (path, prepare) in ways {
        let (mut world, client) = world();
        assert_eq!(rights(&world, &client), [true, true], "{path}");
        prepare(&mut world);
        assert_eq!(rights(&world, &client), [true, false], "{path}");
        let good = world.documents[path].clone();
        let newer = String::from_utf8(good.clone()).unwrap().replace("\"format\": 1", "\"format\": 7").into_bytes();
        let unknown = String::from_utf8(good.clone()).unwrap().replacen('{', "{\"extra\": 1,", 1).into_bytes();
        for damage in [Some(b"{".to_vec()), Some(newer), Some(unknown), Some(Vec::new()), Some(vec![b' '; 300_000])] {
            world.write(vec![(path.into(), damage)]);
            assert_eq!(world.account.damaged().map(|(path, _)| path).collect::<Vec<_>>(), [path]);
            assert_eq!(rights(&world, &client), [false, false], "{path}");
        }
        world.write(vec![(path.into(), Some(good))]);
        assert_eq!(rights(&world, &client), [true, false], "{path}");
        // A policy that is lost denies as well; an inline one is gone by its owner's word.
        if !path.contains("/policies/never.json") {
            world.write(vec![(path.into(), None)]);
            assert_eq!(rights(&world, &client), [false, false], "{path}");
        }
    }
}

#[test]
fn a_document_of_a_kind_to_come_in_a_folder_denies() {
    let (mut world, client) = world();
    world.write(vec![("users/jane/restrictions/r1.json".into(), Some(b"{}".to_vec()))]);
    assert_eq!(rights(&world, &client), [false, false]);
    world.write(vec![("users/jane/restrictions/r1.json".into(), None), ("README.md".into(), Some(b"x".to_vec()))]);
    assert_eq!(rights(&world, &client), [true, true]);
    assert_eq!(world.account.damaged().count(), 0);
}

#[test]
fn a_damaged_user_has_no_credentials_and_keeps_its_name() {
    let (mut world, client) = world();
    world.write(vec![("users/jane/user.json".into(), Some(b"{}".to_vec()))]);
    let sent = client.sign(Sent::new("POST", "/", "", b""), "iam", REGION, world.now());
    sent.with(|parts| world.host.authenticate(parts)).unwrap_err();
    assert_eq!(world.refused(|editor| editor.create_user(NewUser::named("JANE"))), Code::EntityAlreadyExists);
    assert_eq!(world.refused(|editor| editor.delete_user("jane")), Code::NoSuchEntity);
}

#[test]
fn a_damaged_trust_policy_trusts_nobody() {
    let (mut world, _) = world();
    let role =
        NewRole { name: "ci".into(), trust_policy: trust(r#"{"AWS": "111122223333"}"#, ""), ..NewRole::default() };
    world.edit(|editor| editor.create_role(role));
    let text = String::from_utf8(world.documents["roles/ci/role.json"].clone()).unwrap();
    world.write(vec![(
        "roles/ci/role.json".into(),
        Some(text.replace("sts:AssumeRole", "sts AssumeRole").into_bytes()),
    )]);
    assert!(world.account.role("ci").is_none());
    assert_eq!(world.account.damaged().count(), 1);
}
