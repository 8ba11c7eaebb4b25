//! Checks of objects against those of Git: the same findings, by the same names, for objects made by hand.

use std::collections::{BTreeMap, BTreeSet};

use gitferry::git::fsck::{Checker, Message, Report, Rules, Severity};
use gix::ObjectId;
use gix::objs::Kind;

use crate::git::{GitRepo, command};
use crate::server::Host;

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
        let id = crate::packs::id_of(&kind.to_string(), data);
        if self.objects.insert(id, (kind, data.to_owned())).is_none() {
            // As `git hash-object --literally -w` does, which would need a process for each.
            let hex = id.to_string();
            let path = self.repo.path.join("objects").join(&hex[..2]);
            std::fs::create_dir_all(&path).unwrap();
            let object = [format!("{kind} {}\0", data.len()).as_bytes(), data].concat();
            std::fs::write(path.join(&hex[2..]), crate::packs::deflate(&object)).unwrap();
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

    /// What Git says when it is to make such an object: the name of the first message.
    fn git_refuses(&self, id: ObjectId) -> Option<String> {
        let (kind, data) = &self.objects[&id];
        let file = self.repo.path.join("candidate");
        std::fs::write(&file, data).unwrap();
        let args = ["hash-object", "-t", &kind.to_string(), "candidate"];
        let output = command(&self.repo.path).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let message = text.split("object fails fsck: ").nth(1).and_then(|rest| rest.split(':').next());
        assert_eq!(message.is_none(), output.status.success(), "{text}");
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
fn commits() {
    let mut bad = Bad::new();
    let tree = bad.tree;
    let head = format!("tree {tree}\n");
    let ident = |author: &str| format!("{head}author {author}\ncommitter {WHO}\n\nm\n");
    let mut commits = vec![
        format!("{head}author {WHO}\ncommitter {WHO}\n\nfine\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\n"),
        format!("{head}author {WHO}\ncommitter {WHO}"),
        format!("{head}author {WHO}\ncommitter {WHO}\n\nNUL \0 in body\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\nx \0\n\nm\n"),
        String::new(),
        "\n".into(),
        "\n\n".into(),
        "nonsense\n".into(),
        format!("author {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "1".repeat(39)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "1".repeat(41)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "g".repeat(40)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", tree.to_string().to_uppercase()),
        format!("tree {tree} \nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}parent {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "2".repeat(39)),
        format!("{head}parent x\nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}committer {WHO}\n\nm\n"),
        format!("{head}author {WHO}\nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}author {WHO}\n\nm\n"),
        format!("{head}author {WHO}\nx {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}author {WHO}\ncommitter\n\nm\n"),
        format!("{head}author {WHO}\ncommitter broken\n\nm\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\nencoding x\nmergetag y\n\nm\n"),
    ];
    for author in [
        "",
        " ",
        "A",
        "A <",
        "A >",
        "<a> 1 +0000",
        " <a> 1 +0000",
        "A<a> 1 +0000",
        "A <a 1 +0000",
        "A <a<b> 1 +0000",
        "A <a>b> 1 +0000",
        "A> <a> 1 +0000",
        "A <a>1 +0000",
        "A <a>",
        "A <a> ",
        "A <a> x +0000",
        "A <a> 1",
        "A <a> 1 ",
        "A <a> 01 +0000",
        "A <a> 0 +0000",
        "A <a> 00 +0000",
        "A <a> 0",
        "A <a> -1 +0000",
        "A <a> +1 +0000",
        "A <a>  \t1 +0000",
        "A <a> 1  +0000",
        "A <a> 1+0000",
        "A <a> 1x +0000",
        "A <a> 1 0000",
        "A <a> 1 +000",
        "A <a> 1 +00000",
        "A <a> 1 +00a0",
        "A <a> 1 -9999",
        "A <a> 1 +0000 ",
        "A <a> 9223372036854775807 +0000",
        "A <a> 9223372036854775808 +0000",
        "A <a> 18446744073709551615 +0000",
        "A <a> 99999999999999999999999 +0000",
        "A <> 1 +0000",
        "A B C <a b c> 1 +0000",
        "\u{e4} <\u{fc}> 1 +0000",
    ] {
        commits.push(ident(author));
    }
    let mut seen = BTreeSet::new();
    for commit in commits {
        let id = bad.write(Kind::Commit, commit.as_bytes());
        let ours = bad.names(id).first().map(|name| (*name).to_owned());
        assert_eq!(ours, bad.git_refuses(id), "{commit:?}");
        seen.extend(ours);
    }
    assert!(seen.len() >= 17, "{seen:?}");
}

#[test]
fn tags() {
    let mut bad = Bad::new();
    let blob = bad.blob;
    let head = format!("object {blob}\ntype blob\ntag v1\n");
    let tags = [
        format!("{head}tagger {WHO}\n\nfine\n"),
        format!("{head}tagger {WHO}\n"),
        format!("{head}tagger {WHO}"),
        format!("{head}\nno tagger\n"),
        head.clone(),
        format!("{head}tagger {WHO}\ngarbage\n\nm\n"),
        format!("{head}tagger nobody\n\nm\n"),
        format!("{head}tagger A <a> 01 +0000\n\nm\n"),
        format!("{head}tagger {WHO}\n\nNUL \0\n"),
        format!("{head}tagger {WHO}\nx\0\n\n"),
        String::new(),
        "type blob\n".into(),
        "object x\ntype blob\ntag v1\n\n".into(),
        format!("object {blob} \ntype blob\ntag v1\n\n"),
        format!("object {blob}\ntag v1\n\n"),
        format!("object {blob}\ntype thing\ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype \ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blobs\ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\n"),
        format!("object {blob}\ntype blob\ntag \ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a..b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a/b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag /b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a.lock\ntagger {WHO}\n\n"),
    ];
    let mut seen = BTreeSet::new();
    for tag in tags {
        let id = bad.write(Kind::Tag, tag.as_bytes());
        let ours = bad.names(id).first().map(|name| (*name).to_owned());
        let git = bad.git_refuses(id);
        // What is ignored by default ends the check of `hash-object` all the same.
        if git.as_deref() != Some("extraHeaderEntry") {
            assert_eq!(ours, git, "{tag:?}");
        }
        seen.extend(ours);
    }
    assert!(seen.len() >= 11, "{seen:?}");
}

/// Names that some file system takes for one that Git itself reads, and names that look so and are not.
fn special_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let cases = [
        (".git", "git~", "GIT~"),
        (".gitmodules", "gitmod~", "GI7EBA~"),
        (".gitattributes", "gitatt~", "GI7D29~"),
        (".gitignore", "gitign~", "GI250A~"),
        (".mailmap", "mailma~", "MABA30~"),
    ];
    for (dot, short, hashed) in cases {
        let upper = dot.to_uppercase();
        let joined = format!(".{}\u{200c}{}", &dot[1..3], &dot[3..]);
        for name in [
            dot,
            &upper,
            &joined,
            &dot[1..],
            &format!("{dot}x"),
            &format!("x{dot}"),
            &format!("{dot} "),
            &format!("{dot}."),
            &format!("{dot} . ."),
            &format!("{dot}:"),
            &format!("{dot}::$INDEX_ALLOCATION"),
            &format!("{dot} :x"),
            &format!("{dot}.x"),
            &format!("{dot}\u{feff}"),
            &format!("\u{206a}{dot}"),
            &format!("\u{202e}{upper}"),
            &format!("{dot}\u{2030}"),
            &format!("a\\{dot}"),
            &format!("{dot}\\a"),
            &format!("\\{dot}"),
            &format!("a/{dot}"),
            &format!("{dot}/a"),
            &format!("{dot}\t"),
            &format!("{dot}~1"),
        ] {
            names.push(name.as_bytes().to_owned());
        }
        for number in ["0", "1", "2", "4", "5", "9", "10", "01", "1 ", "1.", "1:x", "1x", "", "a"] {
            names.push(format!("{short}{number}").into_bytes());
            names.push(format!("{}{number}", short.to_uppercase()).into_bytes());
            names.push(format!("{hashed}{number}").into_bytes());
            names.push(format!("a\\{short}{number}").into_bytes());
        }
        names.push([dot.as_bytes(), b"\xff"].concat());
        names.push([&dot.as_bytes()[..3], b"\xe2\x80", &dot.as_bytes()[3..]].concat());
        for cut in 1..hashed.len() - 1 {
            names.push(format!("{}~{}", &hashed[..cut], "1".repeat(7 - cut)).into_bytes());
            names.push(
                format!("{}~{}", &hashed[..cut].to_lowercase(), "123456789".get(..7 - cut).unwrap()).into_bytes(),
            );
        }
    }
    for name in [
        "",
        ".",
        "..",
        "...",
        "a",
        "a/b",
        "/",
        "\\",
        "a\\",
        "~1000000",
        "~0000000",
        "~1",
        "ordinary.name",
        "GIT",
        "x~1",
    ] {
        names.push(name.as_bytes().to_owned());
    }
    names.push(vec![b'n'; 4096]);
    names.push(vec![b'n'; 4097]);
    names.sort();
    names.dedup();
    names
}

#[test]
fn names_in_trees() {
    let mut bad = Bad::new();
    for name in special_names() {
        for mode in ["100644", "120000", "40000"] {
            bad.tree_of(mode, &name);
        }
    }
    bad.agree();
}

#[test]
fn modes_order_and_damage_of_trees() {
    let mut bad = Bad::new();
    for mode in [
        "100644", "100755", "100664", "100600", "0100644", "040000", "40000", "160000", "120000", "20000", "755",
        "40755",
    ] {
        bad.tree_of(mode, b"name");
    }
    let null = ObjectId::null(gix::hash::Kind::Sha1);
    let (blob, tree) = (bad.blob, bad.tree);
    let lists: Vec<Vec<(&str, &str)>> = vec![
        vec![("100644", "a"), ("100644", "b")],
        vec![("100644", "b"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a")],
        vec![("100644", "a"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a.b"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a-b"), ("100644", "a.b"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("100644", "a.c"), ("100644", "a0"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("40000", "a.b"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a-"), ("100644", "a--"), ("40000", "a-"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a b"), ("100644", "ab"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a0")],
        vec![("40000", "a0"), ("40000", "a")],
        vec![("100644", "a.b"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a.b")],
        vec![("100644", "ab"), ("40000", "a"), ("100644", "a")],
    ];
    for list in lists {
        let entry = |(mode, name): &(&str, &str)| {
            bad.entry(mode, name.as_bytes(), if *mode == "40000" { &tree } else { &blob })
        };
        let data: Vec<u8> = list.iter().flat_map(entry).collect();
        bad.write(Kind::Tree, &data);
    }
    let zero = bad.entry("160000", b"a", &null);
    bad.write(Kind::Tree, &zero);
    bad.agree();
    // Git cannot read these at all, so its fsck says other things; it refuses to make them.
    let good = bad.entry("100644", b"a", &blob);
    for data in [
        &good[..good.len() - 1],
        b"100644",
        b"100644 a",
        b" a\0aaaaaaaaaaaaaaaaaaaa",
        b"10x644 a\0aaaaaaaaaaaaaaaaaaaa",
    ] {
        let id = bad.write(Kind::Tree, data);
        assert!(bad.names(id).contains(&"badTree"), "{}", data.escape_ascii());
        let args = ["hash-object", "-t", "tree", "--stdin"];
        let mut child = command(&bad.repo.path)
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), data).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn gitmodules_and_gitattributes() {
    let mut bad = Bad::new();
    let module = |name: &str, rest: &str| format!("[submodule \"{name}\"]\n\t{rest}\n");
    let mut files: Vec<String> = vec![
        module("fine", "path = a\n\turl = https://example.com/a.git"),
        "[submodule]\n\tpath = -x\n".into(),
        "[submodule.name]\n\turl = -x\n".into(),
        "[other \"../x\"]\n\turl = -x\n".into(),
        "[broken\n".into(),
        "= x\n".into(),
        "[submodule \"a\"]\n\turl\n".into(),
        "[include]\n\tpath = /etc/passwd\n".into(),
        String::new(),
        "[SUBMODULE \"a\"]\n\tURL = -x\n".into(),
        module("a", "update = !rm"),
        module("a", "update = checkout"),
        module("a", "update"),
        module("a", "path = -x"),
        module("a", "path = x-y"),
        module("a", "url = a\n\turl = -x"),
    ];
    for name in ["", "..", ".", "a/..", "../a", "a/../b", "a\\\\..\\\\b", "..a", "a..", "a/..b", "...", "a b"] {
        files.push(module(name, "path = x"));
    }
    for url in [
        "-x",
        "--upload-pack=x",
        "./-x",
        "../-x",
        "https://example.com",
        "http://example.com/a%0ab",
        "https://%0aexample.com",
        "https://example.com/%0a",
        "https://example.com/%0A",
        "git://example.com/%0a",
        "ssh://example.com/%0a",
        "/a/b",
        "a/b",
        "user@host:path",
        "./a%0ab",
        "../a",
        "../..",
        "../:x",
        "../../:x",
        ".././:/x",
        "../a:b",
        "./:x",
        "..//x",
        ".//x",
        "..\\\\:x",
        "http:///example",
        "https://",
        "http:example.com",
        "http::https://example.com",
        "https::-x",
        "http::/x",
        "http::http://a%0a",
        "ftp://x",
        "ftps::https://:80/x",
        "https://:80/",
        "https://user@:80/",
        "https://user@host",
        "https://user:p@host/",
        "https:///",
        "file:///x",
        "ext::sh -c x",
        "https://example.com:99999/",
        "https://[::1]/x",
        "https://a b/",
        "https://exam%70le.com/",
        "a%0ab",
        "https://example.com/a b",
        "https://ex\\\\nample.com/",
        "../x\\\\ny",
        "HTTP://example.com/%0a",
        "http://?x",
        "http://#x",
        "https://example.com?%0a",
        "git://../:x",
        "git::../:x",
        "./../:x",
        "https://example.com:0/",
        "https://example.com:00443/",
        "https://example.com:65536/",
        "https://example.com:/x",
        "https://h:1x/",
        "https://example.com/../x",
        "https://example.com/a/../../x",
        "https://example.com/a//../../x",
        "https://example.com/%2e%2e/x",
        "https://example.com/./..",
        "https://example.com/a/..",
        "https://example.com/%zz",
        "https://example.com/%",
        "https://u%zz@h/",
        "https://example.com/?..%2",
        "https://h#%",
        "https://h_h/",
        "https://h!/",
        "https://u:p@h:1@x/",
        "https+x://h/",
        "http://h\\\\x/",
    ] {
        files.push(module("u", &format!("url = \"{url}\"")));
    }
    for file in &files {
        let id = bad.write(Kind::Blob, file.as_bytes());
        let tree = bad.entry("100644", b".gitmodules", &id);
        bad.write(Kind::Tree, &tree);
    }
    let long = |bytes: usize| format!("a b\n{} c\n", "x".repeat(bytes - 2));
    for (text, name) in [(long(2047), "2047"), (long(2048), "2048"), (long(2049), "2049"), ("x".repeat(2048), "no end")]
    {
        let id = bad.write(Kind::Blob, text.as_bytes());
        let mut tree = bad.entry("100644", b".gitattributes", &id);
        tree.extend(bad.entry("100644", name.as_bytes(), &id));
        bad.write(Kind::Tree, &tree);
    }
    // What is no blob.
    let (empty, missing) = (bad.tree, ObjectId::from_hex(&[b'7'; 40]).unwrap());
    for name in [&b".gitmodules"[..], b".gitattributes"] {
        let tree = bad.entry("40000", name, &empty);
        bad.write(Kind::Tree, &tree);
        let tree = bad.entry("160000", name, &missing);
        bad.write(Kind::Tree, &tree);
    }
    bad.agree();
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
