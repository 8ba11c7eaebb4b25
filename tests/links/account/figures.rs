//! Figures of a large account.

use std::time::Instant;

use bytes::Bytes;
use gitferry_account::{AccountRepository, Edit};
use gitferry_engine::region::reserved::ACCOUNT;
use gitferry_test_support::pair::anonymous_mib;

use super::{ann, open, set};

/// Documents of the account: users, and policies of 4 KiB.
const USERS: usize = 10_000;
const POLICIES: usize = 1_000;

fn large() -> Edit {
    let user = |number: usize| {
        let text =
            format!("{{\"name\":\"user-{number}\",\"id\":\"AIDA{number:016}\",\"key\":\"{number:040}\"}}").repeat(4);
        (format!("users/user-{number:05}.json"), Some(Bytes::from(text)))
    };
    let policy =
        |number: usize| (format!("policies/policy-{number:04}.json"), Some(Bytes::from(format!("{number:04096}"))));
    let documents = (0..USERS).map(user).chain((0..POLICIES).map(policy)).collect();
    Edit { documents, message: "Many".into() }
}

/// Run alone: `cargo test --release --test links -- --ignored --nocapture a_large_account`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn a_large_account() {
    let folder = tempfile::tempdir().unwrap();
    let region = open("us", folder.path());
    let started = Instant::now();
    AccountRepository::create(&region, &ann(), large()).await.unwrap();
    eprintln!("{} documents are written in {:?}", USERS + POLICIES, started.elapsed());
    let region = open("us", folder.path());
    let memory = || anonymous_mib(std::process::id()).unwrap();
    let before = memory();
    let started = Instant::now();
    let account = AccountRepository::open(&region).await.unwrap();
    let documents = account.read().await.unwrap();
    let took = started.elapsed();
    let more = memory() - before;
    let bytes = documents.total_bytes();
    eprintln!("the first read takes {took:?} and {more} MiB of memory for {bytes} bytes of documents");
    let started = Instant::now();
    account.read().await.unwrap();
    eprintln!("a read without a change takes {:?}", started.elapsed());
    let other = AccountRepository::open(&region).await.unwrap();
    other.read().await.unwrap();
    for round in 0..3 {
        let started = Instant::now();
        set(&other, "users/user-00007.json", Some(&round.to_string())).await;
        let wrote = started.elapsed();
        let started = Instant::now();
        let newer = account.read().await.unwrap();
        let read = started.elapsed();
        let started = Instant::now();
        let changes = newer.changes_since(&documents).len();
        eprintln!("a change takes {wrote:?}, reading it {read:?}, finding {changes} {:?}", started.elapsed());
    }
    let item = region.repositories().get(ACCOUNT).await.unwrap();
    let (manifest, _) = region.reader().manifest(&item).await.unwrap();
    let sizes: Vec<u64> = manifest.packs.iter().map(|pack| pack.bytes + pack.index_bytes).collect();
    eprintln!("packs with their indexes have {sizes:?} bytes");
}
