//! What a request for a warm repository asks of the stores: the head, once.

use std::sync::Arc;

use gitferry_engine::region::Region;
use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_git::local::RefPatterns;
use gitferry_test_support::faults::{Meter, Operation};
use gitferry_test_support::objects::MeteredStore;
use gitferry_test_support::table::MeteredTable;

use crate::busy::serve;
use gitferry_test_support::git::GitRepo;

/// Requests of a clone in version 2: capabilities, ls-refs, fetch.
const REQUESTS_OF_A_CLONE: u64 = 3;

#[test]
fn a_warm_clone_reads_the_head_once_a_request_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::with_history(dir.path().join("app.git"), &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let meter = Arc::new(Meter::new());
    let region = Region::open_embedded("us", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
    let region = region
        .with_objects(Arc::new(MeteredStore::new(region.shared_objects().clone(), meter.clone())))
        .with_table(Arc::new(MeteredTable::new(region.shared_table().clone(), meter.clone())));
    let url = runtime.block_on(async {
        let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "test".into() };
        region.importer().import(&repo.path, "app", &options, Arc::new(ImportProgress::default())).await.unwrap();
        serve(region).await
    });
    let clone = |name: &str| {
        let to = dir.path().join(name);
        repo.git(&["-c", "protocol.version=2", "clone", "-q", "--mirror", &url, to.to_str().unwrap()]);
        assert_eq!(GitRepo::at(to).refs(), repo.refs());
    };
    clone("cold.git");
    let before = meter.snapshot();
    clone("warm.git");
    let after = meter.snapshot();
    let calls = |operation| after.of(operation).calls - before.of(operation).calls;
    assert_eq!(calls(Operation::TableGet), REQUESTS_OF_A_CLONE);
    assert_eq!(after.total().calls - before.total().calls, REQUESTS_OF_A_CLONE, "{before}{after}");
}
