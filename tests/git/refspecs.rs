//! Refspecs of links, beside `git fetch`.

use std::collections::BTreeMap;

use gitferry_git::refspec::Refspecs;
use gitferry_test_support::git::GitRepo;
use gix::bstr::BStr;

/// Refs by object: each ref of the source has an object of its own.
fn by_object(repo: &GitRepo) -> BTreeMap<String, String> {
    let listed = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
}

#[test]
fn refs_get_the_names_that_git_gives_them() {
    let dir = tempfile::tempdir().unwrap();
    let source = GitRepo::init(dir.path().join("source"), &[]);
    for name in ["heads/main", "heads/v", "heads/v1", "heads/x/main", "heads/x/y/main", "tags/v", "tags/1v", "notes/n"]
    {
        let id = source.commit("scratch", "file", name);
        source.git(&["update-ref", &format!("refs/{name}"), &id]);
    }
    source.git(&["update-ref", "-d", "refs/heads/scratch"]);
    let refs = by_object(&source);
    assert_eq!(refs.len(), 8);
    for (number, text) in [
        "refs/*:refs/all/*",
        "refs/heads/*:refs/mirror/heads/*",
        "refs/heads/main:refs/heads/trunk",
        "refs/heads/*/main:refs/up/*-main",
        "refs/heads/x/*:refs/heads/*",
        // The `*` stands for nothing, too.
        "refs/heads/v*:refs/tags/w*",
        "refs/tags/*v:refs/tags/x*",
        "refs/h*v:refs/h*v",
        // `refs/x/` is no name.
        "refs/heads/v*:refs/x/*",
        "refs/other/*:refs/heads/*",
    ]
    .into_iter()
    .enumerate()
    {
        let target = GitRepo::init(dir.path().join(number.to_string()), &[]);
        target.git(&["fetch", "-q", "--no-tags", source.path.to_str().unwrap(), text]);
        let fetched = by_object(&target);
        let refspecs = Refspecs::new(&[text.to_owned()]).unwrap();
        for (id, name) in &refs {
            let ours = refspecs.target_of(BStr::new(name)).map(|name| name.to_string());
            assert_eq!(ours.as_ref(), fetched.get(id), "{name} by {text}");
            if let Some(target) = ours {
                assert_eq!(refspecs.sources_of(BStr::new(&target)), [name.as_str()], "{target} by {text}");
            }
        }
    }
}
