//! Where `gix-ref` reads other refs than Git: why gitferry reads loose and packed refs itself (decision 0034). A case
//! that fails because both agree is a reason to read that decision again.

use std::fs;
use std::path::Path;

use gitferry_base::Kind;
use gitferry_git::local::{RefPatterns, SourceError, SourceRepository};
use gix::refs::file::Store;

use crate::local_repository::git::{Place, git, words};

fn by_gitferry(path: &Path) -> Result<Vec<String>, SourceError> {
    let refs = SourceRepository::open(path)?.refs(&RefPatterns::all())?;
    refs.map(|entry| entry.map(|(name, _)| name.to_string())).collect()
}

fn by_git(path: &Path) -> Vec<String> {
    git(path, ["for-each-ref", "--format=%(refname)"]).to_string().lines().map(str::to_owned).collect()
}

fn store(path: &Path) -> Store {
    Store::at(path.join(".git"), gix::hash::Kind::Sha1)
}

/// Names; an error in the place of what cannot be read.
fn by_gix(path: &Path) -> Vec<Result<String, String>> {
    let store = store(path);
    let platform = store.iter().unwrap();
    let all = platform.all().unwrap();
    all.map(|entry| entry.map(|entry| entry.name.to_string()).map_err(|error| error.to_string())).collect()
}

fn names(listed: &[Result<String, String>]) -> Vec<String> {
    listed.iter().map(|entry| entry.clone().unwrap()).collect()
}

#[test]
fn both_agree_on_what_git_writes() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("pack-refs --all"));
    git(&path, words("update-ref refs/heads/main HEAD^"));
    git(&path, words("symbolic-ref refs/heads/alias refs/heads/main"));
    assert_eq!(by_gitferry(&path).unwrap(), by_git(&path));
    assert_eq!(names(&by_gix(&path)), by_git(&path));
}

#[test]
fn symbolic_links_are_refs_and_gix_omits_them() {
    let place = Place::new();
    let path = place.repository("work", "");
    std::os::unix::fs::symlink("main", path.join(".git/refs/heads/followed")).unwrap();
    let all = by_git(&path);
    assert!(all.contains(&"refs/heads/followed".into()), "{all:?}");
    assert_eq!(by_gitferry(&path).unwrap(), all);
    assert_eq!(names(&by_gix(&path)).len(), all.len() - 1);
}

#[test]
fn a_symbolic_ref_needs_no_blank_and_gix_cannot_read_it() {
    let place = Place::new();
    let path = place.repository("work", "");
    fs::write(path.join(".git/refs/heads/alias"), "ref:refs/heads/main\n").unwrap();
    assert_eq!(by_gitferry(&path).unwrap(), by_git(&path));
    assert_eq!(by_gix(&path).iter().filter(|entry| entry.is_err()).count(), 1);
}

#[test]
fn damage_is_named_and_gix_reads_over_it() {
    let place = Place::new();
    let path = place.repository("work", "");
    let file = path.join(".git/refs/heads/broken");
    let id = git(&path, words("rev-parse HEAD"));
    // Git: "ignoring broken ref", which in a copy would be a ref that is gone.
    fs::write(&file, format!("{id}rubbish\n")).unwrap();
    let error = by_gitferry(&path).unwrap_err();
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains("refs/heads/broken"), "{error}");
    assert!(names(&by_gix(&path)).contains(&"refs/heads/broken".into()));
    fs::remove_file(&file).unwrap();
    fs::write(path.join(".git/refs/heads/bad..name"), format!("{id}\n")).unwrap();
    let error = by_gitferry(&path).unwrap_err();
    assert!(error.to_string().contains("bad..name"), "{error}");
    assert_eq!(names(&by_gix(&path)), by_git(&path));
}

#[test]
fn a_wrong_order_is_damage_and_gix_gives_one_ref_twice() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("pack-refs --all"));
    git(&path, words("update-ref refs/heads/main HEAD^"));
    let packed = path.join(".git/packed-refs");
    let text = fs::read_to_string(&packed).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let main = lines.iter().position(|line| line.ends_with(" refs/heads/main")).unwrap();
    let line = lines.remove(main);
    lines.push(line);
    fs::write(&packed, lines.join("\n") + "\n").unwrap();
    let error = by_gitferry(&path).unwrap_err();
    assert!(error.kind() == Kind::Corrupt && error.to_string().contains("out of order"), "{error}");
    let main = names(&by_gix(&path)).iter().filter(|name| *name == "refs/heads/main").count();
    assert_eq!(main, 2, "the old value and the new one");
}

#[test]
fn refs_that_are_packed_meanwhile_stay_and_gix_misses_them() {
    let place = Place::new();
    let path = place.repository("work", "");
    let before = by_gitferry(&path).unwrap();
    let store = store(&path);
    // `packed-refs` is read here, and loose refs below: gitferry does it in the other order.
    let platform = store.iter().unwrap();
    git(&path, words("pack-refs --all"));
    assert_eq!(platform.all().unwrap().count(), 0);
    assert_eq!(by_gitferry(&path).unwrap(), before);
}

#[test]
fn a_head_that_is_a_link_is_symbolic_and_gix_detaches_it() {
    let place = Place::new();
    let path = place.repository("work", "");
    fs::remove_file(path.join(".git/HEAD")).unwrap();
    std::os::unix::fs::symlink("refs/heads/main", path.join(".git/HEAD")).unwrap();
    let head = SourceRepository::open(&path).unwrap().head().unwrap();
    assert_eq!(head.to_bytes(), "ref:refs/heads/main");
    let head = store(&path).try_find("HEAD").unwrap().unwrap();
    assert!(head.target.try_id().is_some(), "{head:?}");
}
