//! Repositories that git made, read whole into memory.

use std::path::Path;

use gitferry_content::Memory;
use gitferry_test_support::git::GitRepo;
use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;

/// All objects of a repository, by one process.
pub fn objects(repo: &GitRepo) -> Memory {
    let output = repo.try_git(&["cat-file", "--batch", "--batch-all-objects", "--unordered"]);
    assert!(output.status.success());
    let mut memory = Memory::new(Format::Sha1);
    let mut rest = &output.stdout[..];
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let header = std::str::from_utf8(&rest[..end]).unwrap();
        let [id, kind, size] = header.split(' ').collect::<Vec<_>>()[..] else { panic!("{header}") };
        let data = &rest[end + 1..][..size.parse().unwrap()];
        memory.insert(id_of(id), Kind::from_bytes(kind.as_bytes()).unwrap(), data);
        rest = &rest[end + 1 + data.len() + 1..];
    }
    memory
}

pub fn id_of(hex: &str) -> ObjectId {
    ObjectId::from_hex(hex.as_bytes()).unwrap()
}

/// A bare repository made by one `git fast-import`.
pub fn import(dir: &Path, script: &[u8]) -> GitRepo {
    let repo = GitRepo::init(dir.join("repo"), &[]);
    repo.feed(&["fast-import", "--quiet"], script);
    repo
}

/// Ids of `refs/heads/NAME` by name.
pub fn heads(repo: &GitRepo) -> std::collections::BTreeMap<String, ObjectId> {
    let listed = repo.git(&["for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads/"]);
    let pairs = listed.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(name, id)| (name.to_owned(), id_of(id))).collect()
}
