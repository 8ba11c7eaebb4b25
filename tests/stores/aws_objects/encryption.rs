//! Encryption at rest: the KMS key that every kind of write names, objects under another key, and keys that cannot be
//! used.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gitferry_base::Kind;
use gitferry_base::clock::SystemClock;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_engine::region::cache::CacheOptions;
use gitferry_engine::region::encryption::{KEPT_FOR, RepositoryKeys};
use gitferry_git::lfs::LfsOid;
use gitferry_store::aws::KeyFault;
use gitferry_store::objects::{Crc64, KmsKeys, ObjectError, ObjectStore, PART_BYTES, Reencrypted, S3Options};
use gitferry_store::table::SqliteTable;
use gitferry_test_support::faulty::link;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::objects::DelayedStore;
use sha2::{Digest as _, Sha256};

use crate::aws_objects::regions::import;
use crate::aws_objects::wire::{Answer, Wire, bucket};

const KEY_HEADER: &str = "x-amz-server-side-encryption-aws-kms-key-id";

fn arn(number: u32) -> String {
    format!("arn:aws:kms:us-east-1:000000000000:key/11111111-2222-3333-4444-{number:012}")
}

struct Site {
    wire: Wire,
    region: Region,
}

/// A region whose configuration names a key.
async fn site(dir: &Path, name: &str, default: &str) -> Site {
    let wire = Wire::default();
    let table = Arc::new(SqliteTable::open(dir.join(format!("{name}.db")), name).unwrap());
    let keys = RepositoryKeys::new(table.clone());
    let options = S3Options { kms_key: Some(default.into()), ..bucket().await };
    let objects: Arc<dyn ObjectStore> = Arc::new(wire.store(options).await.with_kms_keys(keys.clone()));
    let cache = CacheOptions { dir: dir.join(format!("{name}-cache")), max_bytes: 1 << 30 };
    let region = Region::new(name, objects, table, SystemClock::shared()).with_cache(cache).with_repository_keys(keys);
    Site { wire, region }
}

impl Site {
    async fn repo(&self) -> HeadItem {
        self.region.repositories().get("repo").await.unwrap()
    }

    async fn set_key(&self, key: Option<&str>) {
        self.region.encryption().set_key(&self.repo().await, key).await.unwrap();
    }

    /// Keys that the requests of an operation have named.
    fn named(&self, operation: &str) -> Vec<String> {
        let keys = self.wire.headers(operation, KEY_HEADER).into_iter().map(Option::unwrap_or_default).collect();
        let algorithms = self.wire.headers(operation, "x-amz-server-side-encryption");
        assert!(algorithms.iter().all(|algorithm| algorithm.as_deref() == Some("aws:kms")), "{algorithms:?}");
        let bucket_keys = self.wire.headers(operation, "x-amz-server-side-encryption-bucket-key-enabled");
        assert!(bucket_keys.iter().all(|enabled| enabled.as_deref() == Some("true")), "{bucket_keys:?}");
        keys
    }

    async fn other_keys(&self) -> Vec<String> {
        let verified = self.region.verifier().verify(&self.repo().await, true, Default::default()).await.unwrap();
        assert_eq!(verified.findings, Vec::<String>::new());
        verified.other_keys
    }
}

fn file(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

fn source(dir: &Path) -> GitRepo {
    let source = GitRepo::init(dir.join("source.git"), &[]);
    source.commit("main", "file", "one");
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_write_names_the_key_of_its_repository() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us", &arn(0)).await;
    let source = source(dir.path());
    import(&us.region, &source).await;
    assert_eq!(us.named("PutObject"), [arn(0), arn(0)], "pack and index");
    us.set_key(Some(&arn(1))).await;
    us.wire.reset();
    source.commit("main", "file", "two");
    import(&us.region, &source).await;
    assert_eq!(us.named("PutObject"), [arn(1), arn(1)]);
    let id = us.repo().await.id;
    let objects = us.region.objects();
    us.wire.reset();
    let lfs = keys::lfs_object(id, LfsOid::of(Sha256::new().chain_update(b"lfs")));
    objects.put(&lfs, Bytes::from_static(b"lfs")).await.unwrap();
    objects.put("outside", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(us.named("PutObject"), [arn(1), arn(0)]);
    let prefix = keys::object_prefix(id);
    objects.put_file(&format!("{prefix}/large"), file(&noise(1, 2 * PART_BYTES as usize + 1))).await.unwrap();
    let upload = objects.begin(&format!("{prefix}/upload")).await.unwrap();
    objects.abort(&upload).await.unwrap();
    assert_eq!(us.named("CreateMultipartUpload"), [arn(1), arn(1)]);
    let copy = objects.copy_from(objects, &lfs, &format!("{prefix}/copy"), 3, Crc64::of(b"lfs")).await.unwrap();
    assert!(copy.is_some());
    assert_eq!(us.named("CopyObject"), [arn(1)]);
    for key in [lfs, format!("{prefix}/large"), format!("{prefix}/copy")] {
        assert_eq!(objects.head(&key).await.unwrap().unwrap().kms_key, Some(arn(1)), "{key}");
    }
    us.set_key(None).await;
    assert_eq!(us.region.encryption().key(&us.repo().await).await.unwrap(), Some(arn(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_region_encrypts_under_its_own_key() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us", &arn(0)).await;
    let eu = site(dir.path(), "eu", &arn(10)).await;
    let source = source(dir.path());
    import(&us.region, &source).await;
    us.set_key(Some(&arn(1))).await;
    let id = us.repo().await.id;
    let link = link(us.region.clone(), eu.region.clone());
    link.deliver(id).await.unwrap().unwrap();
    assert_eq!(eu.named("CopyObject"), [arn(10), arn(10)]);
    // A replica has a key of its own as well, and carries on with it.
    eu.set_key(Some(&arn(11))).await;
    source.commit("main", "file", "two");
    import(&us.region, &source).await;
    eu.wire.reset();
    link.deliver(id).await.unwrap().unwrap();
    assert_eq!(eu.named("CopyObject"), [arn(11), arn(11)]);
    // Bytes that pass this process are put under it, too.
    source.commit("main", "file", "three");
    import(&us.region, &source).await;
    eu.wire.reset();
    eu.wire.answer(Answer::error("CopyObject", 403, "AccessDenied"));
    link.deliver(id).await.unwrap().unwrap();
    assert_eq!(eu.named("PutObject"), [arn(11), arn(11)]);
    assert_eq!(us.region.encryption().key(&us.repo().await).await.unwrap(), Some(arn(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_under_another_key_are_named_and_encrypted_anew() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us", &arn(0)).await;
    let source = source(dir.path());
    import(&us.region, &source).await;
    source.commit("main", "file", "two");
    import(&us.region, &source).await;
    assert_eq!(us.other_keys().await, Vec::<String>::new());
    us.set_key(Some(&arn(1))).await;
    let named = us.other_keys().await;
    assert_eq!(named.len(), 4, "two packs with their indexes: {named:?}");
    assert!(
        named[0].contains(&arn(0)) && named[0].contains(&arn(1)) && named[0].contains("repositories/"),
        "{named:?}"
    );
    let encryption = us.region.encryption();
    let repo = us.repo().await;
    let planned = encryption.reencrypt(&repo, true).await.unwrap();
    assert_eq!((planned.objects, planned.reencrypted), (4, 4));
    assert_eq!(us.other_keys().await.len(), 4, "a dry run copies nothing");
    // A key that cannot be used stops it.
    us.wire.reset();
    us.wire.answer(Answer::error("CopyObject", 400, "KMS.DisabledException"));
    let error = encryption.reencrypt(&repo, false).await.unwrap_err();
    assert_eq!((error.key_fault(), error.kind()), (Some(KeyFault::Disabled), Kind::Environment), "{error}");
    us.wire.reset();
    let done = encryption.reencrypt(&repo, false).await.unwrap();
    assert_eq!((done.objects, done.reencrypted, done.too_large.len()), (4, 4, 0));
    assert_eq!(us.named("CopyObject"), vec![arn(1); 4]);
    assert_eq!(us.other_keys().await, Vec::<String>::new());
    assert_eq!(encryption.reencrypt(&repo, false).await.unwrap().reencrypted, 0);
    assert_eq!(us.region.objects().reencrypt("repositories/gone").await.unwrap(), Reencrypted::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_above_the_limit_of_copies_is_left_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let wire = Wire::default();
    let table = Arc::new(SqliteTable::open(dir.path().join("us.db"), "us").unwrap());
    let keys = RepositoryKeys::new(table.clone());
    let options = S3Options { kms_key: Some(arn(0)), ..bucket().await };
    let store = wire.store(options).await.with_max_copy(100).with_kms_keys(keys.clone());
    let region = Region::new("us", Arc::new(store), table, SystemClock::shared()).with_repository_keys(keys);
    import(&region, &source(dir.path())).await;
    let repo = region.repositories().get("repo").await.unwrap();
    region.encryption().set_key(&repo, Some(&arn(1))).await.unwrap();
    let done = region.encryption().reencrypt(&repo, false).await.unwrap();
    assert_eq!((done.reencrypted, done.too_large.len()), (0, 2), "{done:?}");
    assert_eq!(wire.count("CopyObject"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_used_is_told_from_other_faults() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us", &arn(0)).await;
    let objects = us.region.objects();
    for (code, fault) in [
        ("KMS.DisabledException", KeyFault::Disabled),
        ("KMS.NotFoundException", KeyFault::NotFound),
        ("KMS.KMSInvalidStateException", KeyFault::NotReady),
    ] {
        us.wire.reset();
        us.wire.answer(Answer::error("PutObject", 400, code));
        let error = objects.put("a", Bytes::from_static(b"a")).await.unwrap_err();
        assert!(matches!(&error, ObjectError::KmsKey { fault: found, .. } if *found == fault), "{error}");
        assert!(error.to_string().contains("aws kms"), "it says what to do: {error}");
        assert_eq!(us.wire.count("PutObject"), 1, "{code}: trying again does not help");
    }
    us.wire.reset();
    us.wire.answer(Answer::error("PutObject", 400, "KMS.ThrottlingException"));
    let error = objects.put("a", Bytes::from_static(b"a")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient);
    // An answer to HEAD has no body: a read tells the cause.
    us.wire.reset();
    objects.put("b", Bytes::from_static(b"b")).await.unwrap();
    let bare = |operation, status| Answer { body: String::new(), ..Answer::error(operation, status, "") };
    us.wire.answer(bare("HeadObject", 400));
    us.wire.answer(Answer::error("GetObject", 400, "KMS.DisabledException"));
    let error = objects.head("b").await.unwrap_err();
    assert!(matches!(error, ObjectError::KmsKey { fault: KeyFault::Disabled, .. }), "{error}");
    us.wire.reset();
    us.wire.answer(bare("HeadObject", 403));
    let error = objects.head("b").await.unwrap_err();
    assert!(matches!(error, ObjectError::Environment { .. }), "{error}");
}

#[tokio::test]
async fn other_processes_use_a_new_key_after_a_named_time() {
    let dir = tempfile::tempdir().unwrap();
    let us = site(dir.path(), "us", &arn(0)).await;
    import(&us.region, &source(dir.path())).await;
    let key = format!("{}/x", keys::object_prefix(us.repo().await.id));
    let elsewhere = RepositoryKeys::new(us.region.shared_table().clone());
    assert_eq!(elsewhere.kms_key(&key).await.unwrap(), None);
    us.set_key(Some(&arn(1))).await;
    assert_eq!(us.region.objects().kms_key(&key).await.unwrap(), Some(arn(1)), "at once in this process");
    assert_eq!(elsewhere.kms_key(&key).await.unwrap(), None);
    tokio::time::pause();
    tokio::time::advance(KEPT_FOR + Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(elsewhere.kms_key(&key).await.unwrap(), Some(arn(1)));
    assert_eq!(elsewhere.kms_key("identity").await.unwrap(), None);
    // Decorators of tests ask the store behind them.
    let behind = DelayedStore::new(us.region.shared_objects().clone(), Duration::ZERO);
    assert_eq!(behind.kms_key(&key).await.unwrap(), Some(arn(1)));
}

#[tokio::test]
async fn objects_in_files_have_no_keys() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::open_embedded("us", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
    import(&region, &source(dir.path())).await;
    let repo = region.repositories().get("repo").await.unwrap();
    assert_eq!(region.encryption().key(&repo).await.unwrap(), None);
    for refused in [
        region.encryption().set_key(&repo, Some(&arn(1))).await.map(drop),
        region.encryption().reencrypt(&repo, false).await.map(drop),
    ] {
        assert_eq!(refused.unwrap_err().kind(), Kind::Refused);
    }
    assert_eq!(
        region.verifier().verify(&repo, false, Default::default()).await.unwrap().other_keys,
        Vec::<String>::new()
    );
}
