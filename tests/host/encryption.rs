//! Repositories whose KMS key cannot be used: clients get a sentence that says so.

use std::sync::Arc;

use gitferry_engine::region::cache::CacheOptions;
use gitferry_store::aws::KeyFault;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::objects::KeylessStore;

use crate::busy::{open, serve};
use crate::said;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_that_the_key_of_a_repository_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let region = open(dir.path());
    region.repositories().create("app", gix::hash::Kind::Sha1, "me").await.unwrap();
    let repo = GitRepo::init(dir.path().join("src.git"), &[]);
    repo.commit("main", "file", "one");
    let url = serve(region.clone()).await;
    let repo = tokio::task::spawn_blocking(move || {
        repo.git(&["push", "-q", &url, "main"]);
        repo
    });
    let mut repo = repo.await.unwrap();
    for (fault, sentence) in [
        (KeyFault::Disabled, "the encryption key of the repository is disabled"),
        (KeyFault::Denied, "the server may not use the encryption key of the repository"),
    ] {
        // A cache of its own, so that the pack is not there already.
        let cache = CacheOptions { dir: dir.path().join(format!("cache-{fault:?}")), max_bytes: 1 << 20 };
        let objects = Arc::new(KeylessStore::new(region.shared_objects().clone(), fault));
        let url = serve(region.with_objects(objects).with_cache(cache)).await;
        repo = tokio::task::spawn_blocking(move || {
            repo.commit("main", "file", &format!("{fault:?}"));
            let cloned = repo.try_git(&["clone", "-q", &url, &format!("clone-{fault:?}")]);
            assert!(!cloned.status.success() && said(&cloned).contains(sentence), "{}", said(&cloned));
            let pushed = repo.try_git(&["push", &url, "main"]);
            assert!(!pushed.status.success() && said(&pushed).contains(sentence), "{}", said(&pushed));
            repo
        })
        .await
        .unwrap();
    }
}
