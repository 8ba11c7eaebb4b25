//! Histories of files beside `git log --follow`.

use gitferry_content::history::{History, Page, Version};
use gitferry_content::{Memory, Reader, RepoPath};
use gix::ObjectId;

use super::random::{Flavor, Random, Script, Tree, change, tree};
use super::repo::{heads, id_of, import, objects};

/// All versions, page by page.
fn versions(memory: &mut Memory, tip: ObjectId, path: &str, limit: usize) -> Vec<Version> {
    let mut reader = Reader::new(memory, &|| false);
    let path = RepoPath::to_read(path).unwrap();
    let mut found = Vec::new();
    let mut page = History::new(&mut reader, tip, &path).unwrap().page(limit).unwrap();
    loop {
        let Page { versions, rest } = page;
        assert!(versions.len() <= limit);
        found.extend(versions);
        if rest.is_empty() {
            return found;
        }
        page = History::resume(&mut reader, rest).unwrap().page(limit).unwrap();
    }
}

#[test]
fn linear_histories_with_renames_are_those_of_git() {
    let mut random = Random::new(3);
    let mut script = Script::default();
    let mut last: Vec<Tree> = Vec::new();
    for name in 0..12 {
        let mut files = tree(&mut random, Flavor::Renames);
        let mut tip = script.commit(&name.to_string(), &files, &[]);
        for _ in 0..25 {
            change(&mut random, &mut files, Flavor::Renames);
            tip = script.commit(&name.to_string(), &files, &[tip]);
        }
        last.push(files);
    }
    let dir = tempfile::tempdir().unwrap();
    let repo = import(dir.path(), &script.bytes);
    let heads = heads(&repo);
    let mut memory = objects(&repo);
    let mut renamed = 0;
    for (name, files) in last.iter().enumerate() {
        // A path that was renamed, if there is one.
        let Some(path) = files.keys().rfind(|path| path.starts_with("new")) else { continue };
        let tip = heads[&name.to_string()];
        let log = repo.git(&["log", "--follow", "--format=%H", &tip.to_string(), "--", path]);
        let expected: Vec<ObjectId> = log.lines().map(id_of).collect();
        let found = versions(&mut memory, tip, path, 4);
        let commits: Vec<ObjectId> = found.iter().map(|version| version.commit).collect();
        assert_eq!(commits, expected, "{path} of {tip}");
        renamed += usize::from(found.iter().any(|version| version.path.to_string() != *path));
        for pair in found.windows(2) {
            assert_eq!(pair[1].children, [pair[0].commit]);
        }
    }
    assert!(renamed > 4, "{renamed} files have an older name");
}

#[test]
fn merged_histories_are_those_of_git() {
    let mut random = Random::new(5);
    let mut script = Script::default();
    let mut trees = [tree(&mut random, Flavor::Plain), Tree::new()];
    trees[1] = trees[0].clone();
    let root = script.commit("main", &trees[0], &[]);
    let mut tips = [root, root];
    for round in 0..60 {
        let side = random.below(2);
        change(&mut random, &mut trees[side], Flavor::Plain);
        tips[side] = script.commit("main", &trees[side], &[tips[side]]);
        if round % 9 == 8 {
            // The merge takes one side as it is: no file differs from both.
            tips[side] = script.commit("main", &trees[side], &tips);
        }
    }
    script.commit("main", &trees[0], &tips);
    let dir = tempfile::tempdir().unwrap();
    let repo = import(dir.path(), &script.bytes);
    let tip = heads(&repo)["main"];
    let mut memory = objects(&repo);
    let mut walked = 0;
    for path in ["a", "b", "c.txt", "d", "x/a", "y/a", "y/b.txt"] {
        // Without `--follow`, as git would go on with one path for all lines of history after a rename on one of them.
        let log = repo.git(&["log", "--full-history", "--no-merges", "--format=%H", "main", "--", path]);
        let mut expected: Vec<ObjectId> = log.lines().map(id_of).collect();
        let found = versions(&mut memory, tip, path, 5);
        let mut commits: Vec<ObjectId> =
            found.iter().filter(|version| version.path.to_string() == path).map(|version| version.commit).collect();
        expected.sort_unstable();
        commits.sort_unstable();
        if found.iter().all(|version| version.path.to_string() == path) {
            assert_eq!(commits, expected, "{path}");
            walked += commits.len();
        }
    }
    assert!(walked > 20, "{walked} versions");
}
