//! Real Git reads the account, and damage has a name.

use gitferry_account::{AccountError, AccountRepository, MAX_DOCUMENT_BYTES, MAX_FOLDER_DEPTH};
use gitferry_engine::region::RegionError;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::world::{SOURCE, World};

use super::{ARN, all, create, open, set};

#[test]
fn git_clones_an_export_with_one_commit_for_each_change() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let region = open(SOURCE, &world.path(SOURCE));
    let (documents, restored) = runtime.block_on(async {
        let account = create(&region).await;
        set(&account, "roles/ops/admin.json", Some("{\"a\": 1}")).await;
        set(&account, "roles/ops.json", Some("2")).await;
        let before = set(&account, "users/bob.json", None).await;
        set(&account, "roles/ops/admin.json", None).await;
        (before.clone(), account.restore(&super::ann(), before.commit()).await.unwrap())
    });
    let bare = world.fresh("export");
    world.ok(&["export", ACCOUNT, "--region", SOURCE, "--to", bare.to_str().unwrap()]);
    let clone = world.fresh("clone");
    let bare = GitRepo::at(&bare);
    bare.git(&["clone", "-q", bare.path.to_str().unwrap(), clone.to_str().unwrap()]);
    let clone = GitRepo::at(&clone);
    assert_eq!(clone.git(&["fsck", "--strict", "--full"]).trim(), "");
    let log = clone.git(&["log", "--reverse", "--format=%an|%ae|%cn|%s"]);
    let subjects = ["Create the account", "Set roles/ops/admin.json", "Set roles/ops.json", "Set users/bob.json"];
    let restore = format!("Restore the documents of commit {}", documents.commit());
    let subjects = subjects.into_iter().chain(["Set roles/ops/admin.json", restore.as_str()]);
    let expected: Vec<String> = subjects.map(|subject| format!("ann|{ARN}|ann|{subject}")).collect();
    assert_eq!(log.lines().collect::<Vec<_>>(), expected);
    assert_eq!(clone.git(&["rev-parse", "main"]).trim(), restored.commit().to_string());
    for (path, text) in all(&restored) {
        assert_eq!(std::fs::read_to_string(clone.path.join(&path)).unwrap(), text, "{path}");
    }
    assert_eq!(clone.git(&["ls-files"]).lines().count(), restored.len());
    assert_eq!(clone.git(&["status", "--porcelain"]), "");
    // Commands on repositories work on it.
    world.ok(&["verify", ACCOUNT, "--region", SOURCE, "--deep"]);
    assert!(world.ok(&["log", ACCOUNT, "--region", SOURCE]).contains(&format!("{ARN} from 192.0.2.1")));
    for command in [&["repo", "delete", ACCOUNT][..], &["repo", "rename", ACCOUNT, "mine"]] {
        let refused = world.ends(2, &[command, &["--region", SOURCE]].concat());
        assert!(refused.stderr.contains("gitferry iam"), "{}", refused.stderr);
    }
}

#[test]
fn an_import_brings_an_account_back() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let region = open(SOURCE, &world.path(SOURCE));
    let before = runtime.block_on(async { create(&region).await.read().await.unwrap() });
    let backup = world.fresh("backup");
    world.ok(&["export", ACCOUNT, "--region", SOURCE, "--to", backup.to_str().unwrap()]);
    let account = runtime.block_on(async {
        let account = AccountRepository::open(&region).await.unwrap();
        set(&account, "users/bob.json", None).await;
        account
    });
    // The branch goes back, as the reader of the deletion sees it.
    world.ok(&["import", backup.to_str().unwrap(), ACCOUNT, "--region", SOURCE]);
    let read = |account: &AccountRepository| runtime.block_on(account.read());
    assert_eq!(all(&read(&account).unwrap()), all(&before));
}

/// Trees that gitferry does not write. An import is the only way for them into an account.
#[test]
fn trees_with_other_things_than_documents_are_not_read() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let region = open(SOURCE, &world.path(SOURCE));
    let repo = GitRepo::init(world.path("foreign"), &[]);
    let said = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    let blob = |size: u64| said(repo.feed(&["hash-object", "-w", "--stdin"], &vec![b'x'; size as usize]));
    let tree = |entry: String| said(repo.feed(&["mktree"], entry.as_bytes()));
    let (small, large) = (blob(MAX_DOCUMENT_BYTES), blob(MAX_DOCUMENT_BYTES + 1));
    let nested = |depth: usize| {
        let inner = tree(format!("100644 blob {small}\tdocument\n"));
        (0..depth).fold(inner, |inner, _| tree(format!("040000 tree {inner}\td\n")))
    };
    let cases = [
        (tree(format!("120000 blob {small}\tlink\n")), Some("link (object")),
        (tree(format!("100755 blob {small}\tprogram\n")), Some("is neither a document nor a folder")),
        (tree(format!("100644 blob {large}\tlarge\n")), Some("large has 65537 bytes")),
        (nested(MAX_FOLDER_DEPTH + 1), Some("below more than 8 folders")),
        (nested(MAX_FOLDER_DEPTH), None),
    ];
    for (tree, expected) in cases {
        let commit = repo.git(&["commit-tree", "-m", "foreign", &tree]);
        repo.git(&["update-ref", "refs/heads/main", commit.trim()]);
        world.ok(&["import", repo.path.to_str().unwrap(), ACCOUNT, "--region", SOURCE]);
        let read = runtime.block_on(async { AccountRepository::open(&region).await.unwrap().read().await });
        match expected {
            None => assert_eq!(read.unwrap().len(), 1),
            Some(expected) => {
                let error = read.unwrap_err();
                assert!(matches!(error, AccountError::Damaged { .. } | AccountError::TooLarge { .. }), "{error}");
                assert!(error.to_string().contains(expected), "{error}");
            }
        }
    }
}

#[test]
fn damage_is_named_and_is_no_empty_account() {
    let world = World::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = world.path(SOURCE);
    let region = open(SOURCE, &folder);
    let key = runtime.block_on(async {
        create(&region).await;
        let item = region.repositories().get(ACCOUNT).await.unwrap();
        region.reader().manifest(&item).await.unwrap().0.packs[0].key.clone()
    });
    let pack = region.objects().local_path(&key).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let replaced = folder.join("replaced");
    std::fs::write(&replaced, &bytes).unwrap();
    std::fs::rename(&replaced, &pack).unwrap();
    let region = open(SOURCE, &folder);
    let error = runtime.block_on(async { AccountRepository::open(&region).await.unwrap().read().await.unwrap_err() });
    assert!(matches!(&error, AccountError::Region(RegionError::BadPack(_))), "{error}");
    let said = error.to_string();
    assert!(said.contains(&key) && said.contains(ACCOUNT) && said.contains("gitferry repair"), "{said}");
    std::fs::remove_file(&pack).unwrap();
    let region = open(SOURCE, &folder);
    let error = runtime.block_on(async { AccountRepository::open(&region).await.unwrap().read().await.unwrap_err() });
    assert!(error.to_string().contains("missing"), "{error}");
}
