//! Checks of objects against those of Git: the same findings, by the same names, for objects made by hand.

mod commits;
mod mutated;
mod trees;

use std::collections::{BTreeMap, BTreeSet};

use gitferry_git::fsck::{Checker, Message, Report, Rules, Severity};
use gix::ObjectId;
use gix::objs::Kind;

use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::receiving::Host;

const WHO: &str = "A <a@example.com> 1700000000 +0000";

/// Objects written into a repository, whatever is wrong with them.
struct Bad {
    _dir: tempfile::TempDir,
    repo: GitRepo,
    objects: BTreeMap<ObjectId, (Kind, Vec<u8>)>,
    blob: ObjectId,
    tree: ObjectId,
}

impl Bad {
    fn new() -> Bad {
        let dir = tempfile::tempdir().unwrap();
        let repo = GitRepo::init(dir.path().join("bad"), &[]);
        let null = ObjectId::null(gix::hash::Kind::Sha1);
        let mut bad = Bad { _dir: dir, repo, objects: BTreeMap::new(), blob: null, tree: null };
        bad.blob = bad.write(Kind::Blob, b"content\n");
        bad.tree = bad.write(Kind::Tree, b"");
        bad
    }

    fn write(&mut self, kind: Kind, data: &[u8]) -> ObjectId {
        let id = gitferry_test_support::pushed_packs::id_of(&kind.to_string(), data);
        if self.objects.insert(id, (kind, data.to_owned())).is_none() {
            // As `git hash-object --literally -w` does, which would need a process for each.
            let hex = id.to_string();
            let path = self.repo.path.join("objects").join(&hex[..2]);
            std::fs::create_dir_all(&path).unwrap();
            let object = [format!("{kind} {}\0", data.len()).as_bytes(), data].concat();
            std::fs::write(path.join(&hex[2..]), gitferry_test_support::pushed_packs::deflate(&object)).unwrap();
        }
        id
    }

    fn entry(&self, mode: &str, name: &[u8], id: &ObjectId) -> Vec<u8> {
        [mode.as_bytes(), b" ", name, b"\0", id.as_slice()].concat()
    }

    /// A tree of one entry that names the blob, or the empty tree.
    fn tree_of(&mut self, mode: &str, name: &[u8]) -> ObjectId {
        let id = if mode.ends_with("40000") { self.tree } else { self.blob };
        let data = self.entry(mode, name, &id);
        self.write(Kind::Tree, &data)
    }

    fn check(&self, rules: &Rules, ids: &[ObjectId]) -> Report {
        let mut checker = Checker::new(rules, gix::hash::Kind::Sha1);
        for id in ids {
            let (kind, data) = &self.objects[id];
            checker.object(*id, *kind, data);
        }
        let read = |id: &ObjectId| Ok::<_, ()>(self.objects.get(id).map(|(kind, data)| (*kind, Some(data.clone()))));
        checker.finish(read).unwrap()
    }

    /// What is found in one object and the blobs that it names.
    fn names(&self, id: ObjectId) -> Vec<&'static str> {
        self.check(&Rules::default(), &[id]).findings.iter().map(|finding| finding.message.name()).collect()
    }

    /// What `git fsck --strict` finds: severity, object, message.
    fn git_fsck(&self) -> BTreeSet<(String, ObjectId, String)> {
        let output = self.repo.try_git(&["fsck", "--strict", "--no-dangling", "--no-progress"]);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let parse = |line: &str| {
            // error in tree <id>: <message>: <text>
            let mut words = line.split(' ');
            let severity = words.next().filter(|word| matches!(*word, "error" | "warning"))?;
            words.next().filter(|word| *word == "in")?;
            words.next()?;
            let id = ObjectId::from_hex(words.next()?.strip_suffix(':')?.as_bytes()).ok()?;
            Some((severity.to_owned(), id, words.next()?.strip_suffix(':')?.to_owned()))
        };
        text.lines().filter_map(parse).collect()
    }

    /// What we find in all objects, in the same form.
    fn our_fsck(&self) -> BTreeSet<(String, ObjectId, String)> {
        let mut found = BTreeSet::new();
        for id in self.objects.keys() {
            for finding in self.check(&Rules::default(), &[*id]).findings {
                let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
                found.insert((severity.to_owned(), finding.id, finding.message.name().to_owned()));
            }
        }
        found
    }

    /// Name of the first message of Git when it is to make such an object.
    fn git_refuses(&self, id: ObjectId) -> Option<String> {
        let (kind, data) = &self.objects[&id];
        let file = self.repo.path.join("candidate");
        std::fs::write(&file, data).unwrap();
        let args = ["hash-object", "-t", &kind.to_string(), "candidate"];
        let output = command(&self.repo.path).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = text.split("object fails fsck: ").nth(1).and_then(|rest| rest.split(':').next());
        // Git forgets a bad tagger when an unknown header follows, which it ignores: it reports the tag and takes it.
        assert!(message.is_some() || output.status.success(), "{text}");
        message.map(str::to_owned)
    }

    /// Both sides agree on everything that was written.
    fn agree(&self) {
        let (git, ours) = (self.git_fsck(), self.our_fsck());
        let show = |(severity, id, message): &(String, ObjectId, String)| {
            let data = self.objects.get(id).map(|(_, data)| data.escape_ascii().to_string()).unwrap_or_default();
            format!("{severity} {message} in {}", &data[..data.len().min(150)])
        };
        let only_git: Vec<String> = git.difference(&ours).map(show).collect();
        let only_ours: Vec<String> = ours.difference(&git).map(show).collect();
        assert!(only_git.is_empty() && only_ours.is_empty(), "only Git: {only_git:#?}\nonly we: {only_ours:#?}");
        assert!(!git.is_empty());
    }
}

#[test]
fn every_message_of_git_is_known() {
    let repo = Bad::new();
    let known: BTreeSet<&str> = Message::ALL.iter().map(|message| message.name()).collect();
    let listed = repo.repo.git(&["help", "--config-for-completion"]);
    let not_of_objects = ["skipList", "badRefFiletype", "badRefName", "unknownType"];
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix("fsck.")).collect();
    assert!(names.len() > 50);
    for name in names {
        assert!(known.contains(name) || not_of_objects.contains(&name), "{name}");
    }
}

#[test]
fn repositories_may_say_otherwise() {
    let mut bad = Bad::new();
    let tree = bad.tree_of("40000", b".git");
    let findings = |rules: &Rules| bad.check(rules, &[tree]);
    assert_eq!(findings(&Rules::default()).errors, 1);
    let mut rules = Rules::default();
    rules.set(Message::HasDotgit, Severity::Warn).unwrap();
    assert_eq!((findings(&rules).errors, findings(&rules).findings.len()), (0, 1));
    rules.set("hasdotgit".parse().unwrap(), Severity::Ignore).unwrap();
    assert!(findings(&rules).findings.is_empty());
    let mut rules = Rules::default();
    rules.skip(tree);
    assert!(findings(&rules).findings.is_empty());
    assert!(rules.set(Message::NulInHeader, Severity::Ignore).is_err());
    // What is let through does not hide what comes after it.
    let commit = format!("tree x\nauthor A <a> x +0000\ncommitter {WHO}\nfoo\n\nNUL \0\n");
    let commit = bad.write(Kind::Commit, commit.as_bytes());
    let mut rules = Rules::default();
    rules.set(Message::BadTreeSha1, Severity::Warn).unwrap();
    rules.set(Message::BadDate, Severity::Ignore).unwrap();
    let report = bad.check(&rules, &[commit]);
    let names: Vec<_> = report.findings.iter().map(|finding| finding.message.name()).collect();
    assert_eq!((names, report.errors), (vec!["badTreeSha1", "nulInCommit"], 1));
}

#[test]
fn a_push_is_refused_for_what_is_found() {
    let host = Host::new();
    let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
    host.push(&client, &["main"]);
    let before = (host.head().head.frontier, host.pack_keys());
    let push_tree = |tree: &[u8], expected: &str| {
        let tree = client.feed(&["hash-object", "-t", "tree", "--literally", "-w", "--stdin"], tree);
        let tree = String::from_utf8(tree).unwrap();
        let commit = client.git(&["commit-tree", tree.trim(), "-p", "main", "-m", "bad"]);
        let refspec = format!("{commit}:refs/heads/bad");
        host.refuses(&client, &[&refspec], &["remote: error: object", expected, "unpacker error"]);
        refspec
    };
    let blob = hex::decode(client.git(&["rev-parse", "main:dir/file1"])).unwrap();
    let tree = hex::decode(client.git(&["rev-parse", "main:dir"])).unwrap();
    push_tree(&[b"40000 .git\0", &tree[..]].concat(), "hasDotgit");
    push_tree(&[b"40000 .GIT\0", &tree[..]].concat(), "hasDotgit");
    push_tree(&[b"120000 .gitmodules\0", &blob[..]].concat(), "gitmodulesSymlink");
    // The blob was there before, under a name that nobody looks at.
    client.commit("main", "harmless", "[submodule \"../../x\"]\n\tpath = x\n\turl = y\n");
    host.push(&client, &["main"]);
    let before = (host.head().head.frontier, [before.1, host.pack_keys()].concat().len());
    let modules = hex::decode(client.git(&["rev-parse", "main:harmless"])).unwrap();
    let refspec = push_tree(&[b"100644 .gitmodules\0", &modules[..]].concat(), "gitmodulesName");
    assert_eq!(host.head().head.frontier, before.0);
    let id = client.git(&["rev-parse", "main:harmless"]);
    host.accept(|policy| policy.rules.as_mut().unwrap().skip(ObjectId::from_hex(id.as_bytes()).unwrap()));
    host.push(&client, &[&refspec]);
    // What is only odd is told and let through.
    let commit = client.git(&["rev-parse", "main"]);
    let tag = format!("object {commit}\ntype commit\ntag old\n\nno tagger\n");
    let tag = client.feed(&["hash-object", "-t", "tag", "--literally", "-w", "--stdin"], tag.as_bytes());
    let tag = String::from_utf8(tag).unwrap();
    let said = host.push(&client, &[&format!("{}:refs/tags/old", tag.trim())]);
    assert!(said.contains("remote: warning: object") && said.contains("missingTaggerEntry"), "{said}");
}
