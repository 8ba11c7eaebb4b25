//! Differences beside `git diff-tree --raw --no-renames`, and lists of folders beside `git ls-tree`.

use gitferry_content::differences::{Blob, Difference, Side, differences};
use gitferry_content::folder::{FolderError, file, folder};
use gitferry_content::{Memory, Reader, RepoPath};
use gitferry_test_support::git::GitRepo;
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use super::random::{Flavor, Random, Script, change, tree};
use super::repo::{heads, id_of, import, objects};

fn trees(repo: &GitRepo) -> Vec<ObjectId> {
    repo.git(&["log", "--all", "--format=%T"]).lines().map(id_of).collect()
}

/// A repository with many trees.
fn many() -> (tempfile::TempDir, GitRepo) {
    let mut random = Random::new(7);
    let mut script = Script::default();
    let mut files = tree(&mut random, Flavor::Plain);
    let mut tip = script.commit("main", &files, &[]);
    for _ in 0..60 {
        change(&mut random, &mut files, Flavor::Plain);
        tip = script.commit("main", &files, &[tip]);
    }
    let dir = tempfile::tempdir().unwrap();
    let repo = import(dir.path(), &script.bytes);
    (dir, repo)
}

/// Line of `git diff-tree --raw`; the letter `T` of a changed type is the API's `M`.
fn line(difference: &Difference) -> String {
    let show = |blob: &Option<Blob>| match blob {
        Some(blob) => (blob.mode.octal(), blob.id.to_string()),
        None => ("000000", "0".repeat(40)),
    };
    let before = show(&difference.before);
    let after = show(&difference.after);
    let letter = difference.change().letter();
    format!(":{} {} {} {} {letter}\t{}", before.0, after.0, before.1, after.1, difference.place)
}

fn page(memory: &mut Memory, pair: [ObjectId; 2], resume: Option<&BString>, limit: usize) -> Vec<Difference> {
    let mut reader = Reader::new(memory, &|| false);
    let [before, after] = pair.map(|tree| Side { tree, path: None });
    let found = differences(&mut reader, Some(before), after, resume.map(|path| path.as_bstr())).unwrap();
    found.take(limit).map(Result::unwrap).collect()
}

#[test]
fn differences_are_those_of_git_on_every_page() {
    let (_dir, repo) = many();
    let trees = trees(&repo);
    let pairs: Vec<[ObjectId; 2]> = (0..trees.len()).map(|n| [trees[n], trees[n * 7 % trees.len()]]).collect();
    let input: String = pairs.iter().map(|[one, two]| format!("{one} {two}\n")).collect();
    let output = repo.feed(&["diff-tree", "-r", "--raw", "--no-renames", "--stdin"], input.as_bytes());
    let output = String::from_utf8(output).unwrap().replace(" T\t", " M\t");
    let mut memory = objects(&repo);
    let mut ours = String::new();
    for pair in pairs {
        ours.push_str(&format!("{} {}\n", pair[0], pair[1]));
        let mut resume = None;
        loop {
            let found = page(&mut memory, pair, resume.as_ref(), 3);
            let Some(last) = found.last() else { break };
            resume = Some(last.place.clone());
            found.iter().for_each(|difference| ours.push_str(&format!("{}\n", line(difference))));
        }
    }
    assert!(output.lines().count() > 300, "{} lines", output.lines().count());
    similar(&output, &ours);
}

fn similar(expected: &str, found: &str) {
    for (expected, found) in expected.lines().zip(found.lines()) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.lines().count(), found.lines().count());
}

#[test]
fn a_comparison_of_one_path_shows_what_is_below() {
    let (_dir, repo) = many();
    let all = trees(&repo);
    let [before, after] = [all[40], all[0]];
    let expected =
        repo.git(&["diff-tree", "-r", "--no-renames", &before.to_string(), &after.to_string(), "--", "x", "z"]);
    let mut memory = objects(&repo);
    let mut found = Vec::new();
    for path in ["x", "z"] {
        let path = RepoPath::to_read(path).unwrap();
        let side = |tree| Side { tree, path: Some(&path) };
        let mut reader = Reader::new(&mut memory, &|| false);
        let listed = differences(&mut reader, Some(side(before)), side(after), None).unwrap();
        for difference in listed.map(Result::unwrap) {
            let Difference { before, after, .. } = &difference;
            found.push(after.as_ref().or(before.as_ref()).unwrap().path.to_string());
        }
    }
    let mut expected: Vec<&str> = expected.lines().filter_map(|line| line.split('\t').nth(1)).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(!found.is_empty());
}

#[test]
fn folders_list_what_git_lists() {
    let (_dir, repo) = many();
    let tip = heads(&repo)["main"];
    let mut memory = objects(&repo);
    let mut reader = Reader::new(&mut memory, &|| false);
    let root = reader.commit(&tip).unwrap().tree;
    let mut paths = vec![None];
    let mut listed = 0;
    while let Some(path) = paths.pop() {
        let found = folder(&mut reader, root, path.as_ref()).unwrap();
        let spec = path.as_ref().map_or_else(|| tip.to_string(), |path: &RepoPath| format!("{tip}:{path}"));
        let expected = repo.git(&["ls-tree", &spec]);
        let mut ours: Vec<String> = Vec::new();
        for (kind, list) in [("tree", &found.folders), ("blob", &found.files), ("blob", &found.links)] {
            ours.extend(list.iter().map(|e| format!("{} {kind} {}\t{}", e.mode.octal(), e.id, e.relative)));
        }
        let mut expected: Vec<&str> = expected.lines().collect();
        expected.sort_unstable_by_key(|line| line.split('\t').nth(1));
        ours.sort_unstable_by_key(|line| line.split('\t').nth(1).map(str::to_owned));
        assert_eq!(ours, expected);
        listed += ours.len();
        paths.extend(found.folders.iter().map(|folder| Some(RepoPath::to_read(&folder.absolute).unwrap())));
        for listed in &found.files {
            let path = RepoPath::to_read(&listed.absolute).unwrap();
            assert_eq!(file(&mut reader, root, &path).unwrap().id, listed.id);
            let below = RepoPath::to_read(format!("{path}/below")).unwrap();
            let error = file(&mut reader, root, &below).unwrap_err();
            assert!(matches!(error, FolderError::Blocked { by, .. } if by == path));
        }
    }
    assert!(listed > 5);
}
