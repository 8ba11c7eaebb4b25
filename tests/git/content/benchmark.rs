//! Differences and histories of a large repository, in time beside git. Run by hand:
//! `GITFERRY_LARGE_REPO=PATH GITFERRY_LARGE_FILE=FILE cargo test --release --test git -- --ignored content::benchmark --nocapture`.

use std::path::PathBuf;
use std::time::Instant;

use gitferry_content::differences::{Side, differences};
use gitferry_content::history::History;
use gitferry_content::{Reader, RepoPath, ViewSource};
use gitferry_git::pack::PackSet;
use gitferry_test_support::git::GitRepo;
use gix::hash::Kind as Format;

use super::repo::id_of;

#[test]
#[ignore = "needs GITFERRY_LARGE_REPO: a bare repository whose objects are all packed"]
fn differences_and_histories_take_no_longer_than_those_of_git() {
    let path = PathBuf::from(std::env::var_os("GITFERRY_LARGE_REPO").expect("GITFERRY_LARGE_REPO"));
    let repo = GitRepo::at(&path);
    let mut packs = PackSet::new(Format::Sha1);
    for entry in std::fs::read_dir(path.join("objects/pack")).unwrap() {
        let index = entry.unwrap().path();
        if index.extension().is_some_and(|extension| extension == "idx") {
            packs.add(&index.with_extension("pack"), &index).unwrap();
        }
    }
    let mut source = ViewSource::of_packs(&packs).unwrap();
    let tip = id_of(&repo.git(&["rev-parse", "HEAD"]));
    let old = repo.git(&["rev-list", "--first-parent", "-n1", "--skip=500", "HEAD"]);

    let mut reader = Reader::new(&mut source, &|| false);
    let [before, after] = [id_of(&old), tip].map(|id| Side { tree: reader.commit(&id).unwrap().tree, path: None });
    let started = Instant::now();
    let count = differences(&mut reader, Some(before), after, None).unwrap().map(Result::unwrap).count();
    let ours = started.elapsed();
    let started = Instant::now();
    let listed = repo.git(&["diff-tree", "-r", "--raw", "--no-renames", &old, "HEAD"]);
    let theirs = started.elapsed();
    println!("differences: {count} paths, here {ours:?}, git {theirs:?} with its start");
    assert_eq!(count, listed.lines().count());

    let file = std::env::var("GITFERRY_LARGE_FILE").unwrap_or_else(|_| "README.md".to_owned());
    let mut reader = Reader::new(&mut source, &|| false);
    let started = Instant::now();
    let mut history = History::new(&mut reader, tip, &RepoPath::to_read(&file).unwrap()).unwrap();
    let mut versions = 0;
    loop {
        let page = history.page(1_000).unwrap();
        versions += page.versions.len();
        if page.rest.is_empty() {
            break;
        }
        history = History::resume(&mut reader, page.rest).unwrap();
    }
    let ours = started.elapsed();
    let started = Instant::now();
    let listed = repo.git(&["log", "--follow", "--format=%H", "--", &file]);
    let theirs = started.elapsed();
    println!(
        "history of {file}: {versions} versions, here {ours:?}; git {} versions, {theirs:?}",
        listed.lines().count()
    );
}
