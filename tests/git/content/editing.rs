//! Edits of files beside `git fast-import`.

use gitferry_content::commit::{NewCommit, Person};
use gitferry_content::edit::{Edit, PutFile, SourceFile, edit};
use gitferry_content::{Mode, Reader, RepoPath};
use gitferry_test_support::git::GitRepo;
use gix::ObjectId;

use super::random::{Flavor, Random, Script, Tree, tree};
use super::repo::{heads, id_of, import, objects};

fn path(path: &str) -> RepoPath {
    RepoPath::to_write(path).unwrap()
}

/// A repository with two branches, and their trees.
fn two(before: &Tree, after: &Tree) -> (tempfile::TempDir, GitRepo, [ObjectId; 2]) {
    let mut script = Script::default();
    script.commit("before", before, &[]);
    script.commit("after", after, &[]);
    let dir = tempfile::tempdir().unwrap();
    let repo = import(dir.path(), &script.bytes);
    let tree = |name: &str| id_of(&repo.git(&["rev-parse", &format!("{name}^{{tree}}")]));
    let trees = [tree("before"), tree("after")];
    (dir, repo, trees)
}

#[test]
fn an_edit_makes_the_tree_that_git_makes() {
    let mut random = Random::new(11);
    for _ in 0..8 {
        let mut before = tree(&mut random, Flavor::Renames);
        before.insert("moved/from".into(), ("100755", b"moved".to_vec()));
        before.insert("only/child".into(), ("100644", b"goes".to_vec()));
        before.insert("mode".into(), ("100644", b"mode".to_vec()));
        before.retain(|path, _| !path.starts_with("deep"));
        before.insert("a".into(), ("100755", b"old bytes".to_vec()));
        let mut after = before.clone();
        let first = before.keys().next().unwrap().clone();
        after.insert(first.clone(), ("100755", b"new bytes".to_vec()));
        after.insert("deep/er/file".into(), ("120000", b"target".to_vec()));
        let moved = after.remove("moved/from").unwrap();
        after.insert("moved.to".into(), moved);
        after.remove("only/child");
        after.insert("only/.gitkeep".into(), ("100644", Vec::new()));
        after.insert("moved/.gitkeep".into(), ("100644", Vec::new()));
        after.insert("mode".into(), ("100755", b"mode".to_vec()));
        let (_dir, repo, [old, new]) = two(&before, &after);
        let put = |to: &str, mode, content: Option<&[u8]>, source| PutFile {
            path: path(to),
            mode,
            content: content.map(<[u8]>::to_vec),
            source,
        };
        let source = SourceFile { path: path("moved/from"), is_move: true };
        let change = Edit {
            put: vec![
                put(&first, None, Some(b"new bytes"), None),
                put("deep/er/file", Some(Mode::Symlink), Some(b"target"), None),
                put("moved.to", None, None, Some(source)),
            ],
            delete: vec![path("only/child")],
            modes: vec![(path("mode"), Mode::Executable)],
            keep_empty_folders: true,
        };
        let mut memory = objects(&repo);
        let mut reader = Reader::new(&mut memory, &|| false);
        let edited = edit(&mut reader, Some(old), &change).unwrap();
        assert_eq!(edited.tree, new);
        assert_eq!((edited.added.len(), edited.updated.len(), edited.deleted.len()), (2, 2, 2));
    }
}

#[test]
fn commits_pass_the_checks_of_git() {
    let (_dir, repo, [old, _]) = two(&Tree::from([("a".into(), ("100644", vec![1]))]), &Tree::new());
    let parent = heads(&repo)["before"];
    let person = Person { name: "Ann <x>\n".into(), email: "ann@example.com".into(), seconds: 1, offset_minutes: 330 };
    for message in ["", "subject", "subject\n\nbody\n"] {
        let commit = NewCommit {
            tree: old,
            parents: vec![parent],
            author: person.clone(),
            committer: person.clone(),
            message: message.into(),
        };
        let bytes = commit.bytes().unwrap();
        let id = repo.feed(&["hash-object", "-t", "commit", "-w", "--stdin"], &bytes);
        let id = id_of(std::str::from_utf8(&id).unwrap().trim());
        let shown = repo.git(&["log", "-1", "--format=%an|%ae|%ai|%s|%P", &id.to_string()]);
        let subject = message.lines().next().unwrap_or("");
        assert_eq!(shown, format!("Ann  x|ann@example.com|1970-01-01 05:30:01 +0530|{subject}|{parent}"));
    }
}
