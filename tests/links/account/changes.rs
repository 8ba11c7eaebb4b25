//! Changes of an account by one writer and by many.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use gitferry_account::{AccountError, AccountRepository, CommitError, Documents, Edit};
use gitferry_base::Kind;
use gitferry_base::clock::{Clock, SystemClock};
use gitferry_engine::ledger::change::ChangeHeader;
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_engine::region::{Region, RegionError};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::aws_region::AwsRegion;
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::faulty::{Intercepted, Sites, assert_sound, is_commit};
use gitferry_test_support::objects::MeteredStore;
use gitferry_test_support::table::MeteredTable;

use super::{ARN, all, ann, create, edit, first, open, set, text};

async fn headers(region: &Region) -> Vec<ChangeHeader> {
    let item = region.repositories().get(ACCOUNT).await.unwrap();
    let rows = region.reader().changes_above(&item, 0).await.unwrap();
    let log = region.log();
    let read = move || rows.iter().map(|row| log.read(item.id, row, |_, _| {}).unwrap()).collect();
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_is_created_once_and_never_by_reading() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let error = AccountRepository::open(&us).await.unwrap_err();
    assert!(matches!(error, AccountError::Absent { .. }) && error.to_string().contains("gitferry iam init"), "{error}");
    assert!(us.repositories().heads().await.unwrap().items.is_empty());
    create(&us).await;
    let account = AccountRepository::open(&us).await.unwrap();
    let documents = account.read().await.unwrap();
    let expected = [("settings.json", "{}"), ("users/ann.json", "1"), ("users/bob.json", "1")];
    assert_eq!(all(&documents), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    let error = AccountRepository::create(&us, &ann(), first()).await.unwrap_err();
    assert!(matches!(error, CommitError::Account(AccountError::Exists { .. })), "{error}");
    // The first documents and the repository are one change.
    let headers = headers(&us).await;
    assert_eq!(headers.len(), 1);
    assert_eq!(headers[0].actor, format!("{ARN} from 192.0.2.1"));
    assert_sound(&us).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_create_an_account_at_the_same_time_make_one() {
    let folder = tempfile::tempdir().unwrap();
    let regions = [open("us", folder.path()), open("us", folder.path())];
    let author = ann();
    let (one, other) = futures::join!(
        AccountRepository::create(&regions[0], &author, first()),
        AccountRepository::create(&regions[1], &author, first()),
    );
    let results = [one, other];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let lost = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(lost, CommitError::Account(AccountError::Exists { .. })), "{lost}");
    assert_eq!(regions[0].repositories().heads().await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_that_changes_nothing_or_is_refused_leaves_no_change() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let account = create(&us).await;
    let before = account.read().await.unwrap();
    let same = set(&account, "users/ann.json", Some("1")).await;
    assert_eq!((same.frontier(), same.commit()), (before.frontier(), before.commit()));
    let refused = account.commit(&ann(), |_| Err("there is no such user")).await;
    assert!(matches!(refused, Err(CommitError::Refused("there is no such user"))));
    let bad = account.commit(&ann(), |_| Ok::<_, Infallible>(edit("m", &[("../x", Some("1"))]))).await.unwrap_err();
    assert!(matches!(bad, CommitError::Edit(_)) && bad.kind(|_| Kind::Internal) == Kind::Usage, "{bad}");
    assert_eq!(headers(&us).await.len(), 1);
    let after = set(&account, "users/ann.json", Some("2")).await;
    assert_eq!(after.frontier().seq, 2);
    assert_eq!(AccountRepository::open(&us).await.unwrap().read().await.unwrap().frontier(), after.frontier());
}

/// Raises the number in a document. Returns how often the edit was asked.
async fn count_up(account: AccountRepository, rounds: u64) -> u64 {
    let asked = AtomicU64::new(0);
    for _ in 0..rounds {
        let raise = |documents: &Documents| {
            asked.fetch_add(1, Ordering::Relaxed);
            let number: u64 = text(documents, "counter").map_or(0, |text| text.parse().unwrap());
            Ok::<_, Infallible>(edit("Count", &[("counter", Some(&(number + 1).to_string()))]))
        };
        account.commit(&ann(), raise).await.unwrap();
    }
    asked.into_inner()
}

/// Two hosts with two handlers each: no change is lost, and none is made twice.
async fn many_writers(regions: [Region; 2], rounds: u64) {
    create(&regions[0]).await;
    let mut writers = tokio::task::JoinSet::new();
    for region in &regions {
        let account = AccountRepository::open(region).await.unwrap();
        for _ in 0..2 {
            writers.spawn(count_up(account.clone(), rounds));
        }
    }
    let asked: u64 = writers.join_all().await.into_iter().sum();
    for region in &regions {
        let documents = AccountRepository::open(region).await.unwrap().read().await.unwrap();
        assert_eq!(text(&documents, "counter"), Some((4 * rounds).to_string()), "asked {asked} times");
        assert_eq!(documents.frontier().seq, 1 + 4 * rounds);
    }
    assert_sound(&regions[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_two_hosts_at_the_same_time_are_each_made_once() {
    let folder = tempfile::tempdir().unwrap();
    many_writers([open("us", folder.path()), open("us", folder.path())], 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_of_two_hosts_on_aws_are_each_made_once() {
    let aws = AwsRegion::new("us").await;
    let caches = tempfile::tempdir().unwrap();
    let endpoint = Emulator::get().endpoint();
    let (one, other) = (caches.path().join("1"), caches.path().join("2"));
    many_writers([aws.open(endpoint, &one).await, aws.open(endpoint, &other).await], 3).await;
}

/// A clock that stands still, with fresh ids.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn new_id(&self) -> uuid::Uuid {
        SystemClock.new_id()
    }
}

/// The same change of the same documents at the same time by the same principal is two changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_changes_at_the_same_time_are_both_made() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us").with_clock(Arc::new(Still));
    create(&us).await;
    let other = AccountRepository::open(&us).await.unwrap();
    let first = async move {
        count_up(other, 1).await;
    };
    let table = Intercepted::before(us.shared_table(), is_commit, first);
    let account = AccountRepository::open(&us.with_table(table)).await.unwrap();
    assert_eq!(count_up(account, 1).await, 2);
    let documents = AccountRepository::open(&us).await.unwrap().read().await.unwrap();
    assert_eq!(text(&documents, "counter").as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_comes_second_decides_on_what_the_first_one_wrote() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let account = create(&us).await;
    let rival = account.clone();
    let other = AccountRepository::open(&us).await.unwrap();
    let first = async move { drop(set(&other, "users/bob.json", None).await) };
    let table = Intercepted::before(us.shared_table(), is_commit, first);
    let slow = AccountRepository::open(&us.with_table(table)).await.unwrap();
    let mut seen = Vec::new();
    let grant = |documents: &Documents| {
        seen.push(documents.get("users/bob.json").is_some());
        if documents.get("users/bob.json").is_none() {
            return Err("there is no user bob");
        }
        Ok(edit("Grant", &[("grants/bob", Some("1"))]))
    };
    let result = slow.commit(&ann(), grant).await;
    assert!(matches!(result, Err(CommitError::Refused("there is no user bob"))));
    assert_eq!(seen, [true, false]);
    assert!(rival.read().await.unwrap().get("grants/bob").is_none());
    assert_sound(&us).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_again_costs_what_changed() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let writer = create(&us).await;
    let many = (0..200).map(|number| (format!("users/{number}.json"), Some(Bytes::from(number.to_string())))).collect();
    let many = Edit { documents: many, message: "Many".into() };
    writer.commit(&ann(), |_| Ok::<_, Infallible>(many.clone())).await.unwrap();
    let meter = Arc::new(Meter::new());
    let objects = Arc::new(MeteredStore::new(us.shared_objects().clone(), meter.clone()));
    let table = Arc::new(MeteredTable::new(us.shared_table().clone(), meter.clone()));
    let reader = AccountRepository::open(&us.with_objects(objects).with_table(table)).await.unwrap();
    let before = reader.read().await.unwrap();
    let calls = || meter.snapshot().total().calls;
    let first = calls();
    reader.read().await.unwrap();
    assert_eq!(calls() - first, 1, "one read of the head");
    set(&writer, "users/7.json", Some("new")).await;
    let second = calls();
    let after = reader.read().await.unwrap();
    // The head, the change, the manifest.
    assert!(calls() - second <= 3, "{}", meter.snapshot());
    assert_eq!(meter.snapshot().of(Operation::ObjectGet).calls, 0, "packs are read in place");
    let changes = after.changes_since(&before);
    assert_eq!(changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), ["users/7.json"]);
    let shared = |path: &str| before.get(path).unwrap().bytes().as_ptr() == after.get(path).unwrap().bytes().as_ptr();
    assert!(shared("users/8.json") && shared("settings.json"), "unchanged documents are shared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_documents_are_a_new_change() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let account = create(&us).await;
    let before = account.read().await.unwrap();
    set(&account, "users/eve.json", Some("1")).await;
    let deleted = set(&account, "users/bob.json", None).await;
    let restored = account.restore(&ann(), before.commit()).await.unwrap();
    assert_eq!(all(&restored), all(&before));
    assert_eq!(restored.frontier().seq, 4);
    assert_ne!(restored.commit(), before.commit());
    let read = AccountRepository::open(&us).await.unwrap().read().await.unwrap();
    assert_eq!((all(&read), read.frontier()), (all(&before), restored.frontier()));
    // Any state of the past, that before the restoration as well.
    let again = account.restore(&ann(), deleted.commit()).await.unwrap();
    assert_eq!(all(&again), all(&deleted));
    for foreign in [gix::ObjectId::null(gix::hash::Kind::Sha1), again.get("users/ann.json").unwrap().id()] {
        let error = account.restore(&ann(), foreign).await.unwrap_err();
        assert!(matches!(error, CommitError::Account(AccountError::NoCommit { .. })), "{error}");
    }
    assert_sound(&us).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_is_neither_created_nor_renamed_nor_deleted_as_a_repository() {
    let sites = Sites::new(&["us"]);
    let us = sites.region("us");
    let repositories = us.repositories();
    let format = gix::hash::Kind::Sha1;
    let refused = |result: Result<_, RegionError>| {
        let error = result.map(|_: gitferry_engine::ledger::head::HeadItem| ()).unwrap_err();
        assert!(matches!(&error, RegionError::Refused { .. }) && error.to_string().contains("gitferry iam"), "{error}");
    };
    refused(repositories.create(ACCOUNT, format, "eve").await);
    repositories.create("app", format, "ann").await.unwrap();
    refused(repositories.rename("app", ACCOUNT, "eve").await);
    let id = create(&us).await.id().to_string();
    for name in [ACCOUNT, &id] {
        refused(repositories.rename(name, "mine", "eve").await);
        refused(repositories.delete(name, "eve").await);
    }
    assert_eq!(headers(&us).await.len(), 1);
}
