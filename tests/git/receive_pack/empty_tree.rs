//! The empty tree, which Git has built in: repositories need not hold it.

use std::sync::Arc;

use gitferry_engine::region::import::{ImportOptions, ImportProgress};
use gitferry_git::local::RefPatterns;
use gix::hash::Kind as Format;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;

#[test]
fn a_commit_of_it_can_be_imported() {
    for format in [Format::Sha1, Format::Sha256] {
        for packed in [false, true] {
            let host = Host::with_format(format);
            let source = GitRepo::init(host.dir.path().join("source"), &[&format!("--object-format={format}")]);
            let empty = source.git(&["hash-object", "-t", "tree", "/dev/null"]);
            let first = source.git(&["commit-tree", &empty, "-m", "nothing"]);
            source.git(&["update-ref", "refs/heads/main", &first]);
            source.git(&["update-ref", "refs/tags/tree", &empty]);
            if packed {
                source.git(&["repack", "-adq"]);
            }
            let import = || {
                let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "tests".into() };
                let progress = Arc::new(ImportProgress::default());
                host.runtime.block_on(host.region.importer().import(&source.path, "repo", &options, progress)).unwrap()
            };
            import();
            let clone = host.verified();
            assert_eq!(clone.git(&["cat-file", "-t", "main^{tree}"]), "tree");
            assert_eq!(clone.git(&["rev-parse", "tree"]), empty);
            // Once it is there, it comes no more.
            let packs = host.pack_keys().len();
            let next = source.git(&["commit-tree", &empty, "-p", &first, "-m", "still nothing"]);
            source.git(&["update-ref", "refs/heads/main", &next]);
            assert_eq!(import().packs, 1);
            assert_eq!(host.pack_keys().len(), packs + 1);
            host.verified();
        }
    }
}
