//! Merges beside `git merge-tree --write-tree`.

use std::collections::BTreeSet;

use gitferry_content::merge::{Level, Renaming, merge};
use gitferry_content::{Reader, Source};
use gitferry_test_support::git::{GitRepo, run};
use gix::ObjectId;

use super::random::{Flavor, Random, Script, change, tree};
use super::repo::{heads, import, objects};

/// Result of one merge: the tree if it is clean, the paths in conflict otherwise.
type Outcome = Result<ObjectId, BTreeSet<String>>;

/// Two tips with a common past: one base, or two after a criss-cross merge.
fn history(random: &mut Random, script: &mut Script, name: usize, flavor: Flavor) {
    let root = tree(random, flavor);
    let base = script.commit(&format!("{name}/base"), &root, &[]);
    let mut trees = [root.clone(), root];
    let mut tips = [base, base];
    let crossed = random.below(3) == 0;
    for round in 0..=usize::from(crossed) {
        for side in 0..2 {
            change(random, &mut trees[side], flavor);
            tips[side] = script.commit(&format!("{name}/{side}"), &trees[side], &[tips[side]]);
        }
        if crossed && round == 0 {
            // Each side merges the other in its own way.
            let [one, two] = tips;
            tips[0] = script.commit(&format!("{name}/0"), &trees[0], &[one, two]);
            tips[1] = script.commit(&format!("{name}/1"), &trees[1], &[two, one]);
        }
    }
}

/// `git merge-tree` for many pairs, in one process.
fn by_git(repo: &GitRepo, pairs: &[[ObjectId; 2]]) -> Vec<Outcome> {
    let input: String = pairs.iter().map(|[one, two]| format!("{one} {two}\n")).collect();
    let merge_tree = ["merge-tree", "--write-tree", "--stdin", "--name-only", "--no-messages"];
    let args = [["-c", "merge.directoryRenames=false"].as_slice(), &merge_tree].concat();
    let output = run(&repo.path, &args, input.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split('\0');
    let mut outcomes = Vec::new();
    while let Some(status) = words.next().filter(|status| !status.is_empty()) {
        let tree = ObjectId::from_hex(words.next().unwrap().as_bytes()).unwrap();
        let paths: BTreeSet<String> = words
            .by_ref()
            .take_while(|path| !path.is_empty())
            // A file beside a folder of the same name is moved to `NAME~COMMIT`.
            .map(|path| path.split('~').next().unwrap().to_owned())
            .collect();
        outcomes.push(if status == "1" { Ok(tree) } else { Err(paths) });
    }
    assert_eq!(outcomes.len(), pairs.len());
    outcomes
}

fn by_us(source: &mut dyn Source, [one, two]: [ObjectId; 2]) -> Outcome {
    let mut reader = Reader::new(source, &|| false);
    let merged = merge(&mut reader, one, two, Level::Line, Renaming::Follow).unwrap();
    merged.tree().ok_or_else(|| merged.conflicts.iter().map(|conflict| conflict.path.to_string()).collect())
}

/// Compares many merges; returns descriptions of those that differ, and how many were clean.
fn compare(seed: u64, count: usize, flavor: Flavor) -> (Vec<String>, usize) {
    let mut random = Random::new(seed);
    let mut script = Script::default();
    for name in 0..count {
        history(&mut random, &mut script, name, flavor);
    }
    let dir = tempfile::tempdir().unwrap();
    let repo = import(dir.path(), &script.bytes);
    let heads = heads(&repo);
    let pairs: Vec<[ObjectId; 2]> =
        (0..count).map(|name| [0, 1].map(|side| heads[&format!("{name}/{side}")])).collect();
    let expected = by_git(&repo, &pairs);
    let mut source = objects(&repo);
    let mut differing = Vec::new();
    for (name, (pair, expected)) in pairs.iter().zip(&expected).enumerate() {
        let found = by_us(&mut source, *pair);
        if found != *expected {
            differing.push(format!("{name}: {pair:?}\n  git: {expected:?}\n  here: {found:?}"));
        }
    }
    if !differing.is_empty() && std::env::var_os("KEEP_REPO").is_some() {
        println!("kept {}", dir.keep().display());
    }
    (differing, expected.iter().filter(|outcome| outcome.is_ok()).count())
}

fn assert_same(seed: u64, count: usize, flavor: Flavor) {
    let (differing, clean) = compare(seed, count, flavor);
    assert!(clean > count / 10 && clean < count * 9 / 10, "{clean} of {count} are clean");
    let shown = differing.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    // Several renames of one file between two merge bases: git's choices among them are not all followed.
    let tolerated = if flavor == Flavor::Renames { count / 500 } else { 0 };
    assert!(differing.len() <= tolerated, "{} of {count} merges differ:\n{shown}", differing.len());
}

#[test]
fn random_histories_merge_as_git_merges_them() {
    assert_same(1, 600, Flavor::Plain);
}

#[test]
fn renamed_files_merge_as_git_merges_them() {
    assert_same(2, 300, Flavor::Renames);
}

#[test]
#[ignore = "takes minutes"]
fn very_many_random_histories_merge_as_git_merges_them() {
    for seed in 10..20 {
        assert_same(seed, 3_000, Flavor::Plain);
        assert_same(seed, 2_000, Flavor::Renames);
    }
}
