//! Refusals of pushes: Git's own words, with the path and id of the object at fault.

use gix::ObjectId;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pushed_packs::{COMMIT, TREE, id_of, pack_of, whole};
use gitferry_test_support::receiving::{Host, said};

const WHO: &str = "A <a@example.com> 1700000000 +0000";
const WORDS: &str = "report-status side-band-64k";

fn commit(tree: &ObjectId) -> Vec<u8> {
    format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\n\nm\n").into_bytes()
}

/// Lines of a server about single objects.
fn about_objects(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("remote: error: object "));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn malformed_objects_are_named_in_gits_words_and_with_their_path() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    let git = GitRepo::init(host.dir.path().join("git"), &["--shared=0600"]);
    git.git(&["config", "receive.fsckObjects", "true"]);
    let blob = client.feed(&["hash-object", "-w", "--stdin"], b"x\n");
    let blob = String::from_utf8(blob).unwrap().trim().to_owned();
    let mktree = |entries: &str| {
        let id = client.feed(&["mktree", "--missing"], entries.as_bytes());
        String::from_utf8(id).unwrap().trim().to_owned()
    };
    let modules = |content: &str| {
        let id = client.feed(&["hash-object", "-w", "--stdin"], content.as_bytes());
        format!("100644 blob {}\t.gitmodules\n", String::from_utf8(id).unwrap().trim())
    };
    let below = |tree: String| format!("040000 tree {tree}\tlib\n");
    for (entries, path) in [
        (modules("[submodule \"x\"]\n\turl = -u./payload\n\tpath = x\n"), "`.gitmodules`"),
        (modules("[submodule \"../x\"]\n\turl = https://example.com/x\n"), "`.gitmodules`"),
        (modules("[submodule \"x\"]\n\turl = https://example.com/x\n\tpath = -x\n"), "`.gitmodules`"),
        (modules("[submodule \"x\"]\n\turl = https://example.com/x\n\tupdate = !rm\n"), "`.gitmodules`"),
        (modules("[submodule \"x\"]\n\turl = https://example.com\\n/x%0a\n"), "`.gitmodules`"),
        (below(mktree(&below(mktree(&format!("100644 blob {blob}\t.GIT\n"))))), "`lib/lib`"),
        (below(mktree(&format!("120000 blob {blob}\t.gitmodules\n"))), "`lib`"),
        (below(mktree(&format!("160000 commit {}\tsub\n", "0".repeat(40)))), "`lib`"),
        (format!("100644 blob {blob}\t{}\n", "n".repeat(4097)), "the top directory"),
    ] {
        let tree = mktree(&entries);
        let tip = client.git(&["commit-tree", &tree, "-m", "bad", "-p", "main"]);
        let refspec = format!("{tip}:refs/heads/bad");
        let theirs = said(&client.try_git(&["push", git.path.to_str().unwrap(), "main", &refspec]));
        let ours = host.refuses(&client, &["main", &refspec], &[path, &format!("in commit {tip}")]);
        let (theirs, ours) = (about_objects(&theirs), about_objects(&ours));
        assert!(!theirs.is_empty(), "{entries}: Git takes it");
        for line in &theirs {
            assert!(ours.iter().any(|our| our.starts_with(line)), "Git: {line:?}\nours: {ours:?}");
        }
    }
    // Nothing of a name or a value moves the cursor.
    let tree = mktree(&modules("[submodule \"x\"]\n\turl = \"-u\u{1b}[31m\"\n"));
    let tip = client.git(&["commit-tree", &tree, "-m", "bad"]);
    let said = host.refuses(&client, &[&format!("{tip}:refs/heads/bad")], &["gitmodulesUrl", "\\u{1b}"]);
    assert!(!said.contains('\u{1b}'), "{said:?}");
    host.verified();
}

#[test]
fn what_is_missing_is_named_with_what_needs_it() {
    let host = Host::new();
    let absent = ObjectId::from_hex(&[b'5'; 40]).unwrap();
    let inner = [b"100644 file\0", absent.as_slice()].concat();
    let outer = [b"40000 dir\0", id_of("tree", &inner).as_slice()].concat();
    let tip = commit(&id_of("tree", &outer));
    let pack = pack_of(3, &[whole(TREE, &inner), whole(TREE, &outer), whole(COMMIT, &tip)]);
    let (tip, needs) = (id_of("commit", &tip), id_of("tree", &inner));
    let answer = host.talk_with(WORDS, &[format!("{} {tip} refs/heads/new", "0".repeat(40))], &pack);
    let told = format!(
        "error: blob {absent} is missing; {needs} needs it; reached from refs/heads/new; it is `dir/file` in commit {tip}"
    );
    assert!(answer.contains(&told) && answer.contains("ng refs/heads/new missing necessary objects"), "{answer}");
}

#[test]
fn directories_that_lie_too_deep_are_named_with_their_path() {
    let host = Host::new();
    let (mut id, mut entries) = (id_of("tree", b""), vec![whole(TREE, b"")]);
    for _ in 0..2049 {
        let tree = [b"40000 dir\0", id.as_slice()].concat();
        id = id_of("tree", &tree);
        entries.push(whole(TREE, &tree));
    }
    let tip = commit(&id);
    entries.push(whole(COMMIT, &tip));
    let tip = id_of("commit", &tip);
    let pack = pack_of(entries.len() as u32, &entries);
    let answer = host.talk_with(WORDS, &[format!("{} {tip} refs/heads/new", "0".repeat(40))], &pack);
    for part in ["core.maxTreeDepth", "`dir/dir/", "dir/…/dir", "a path of 8195 bytes,", &format!("in commit {tip}")]
    {
        assert!(answer.contains(part), "{part}: {answer}");
    }
}
