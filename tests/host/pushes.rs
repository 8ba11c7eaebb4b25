//! Pushes of all kinds over HTTP, beside what Git's own server makes of them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;

use crate::both::{FORMATS, VERSIONS};
use crate::said;
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, REGIONS, US};

/// A repository that is pushed to a host and, in the same way, to a bare repository of Git.
struct Target {
    pair: Pair,
    client: GitRepo,
    bare: GitRepo,
    ours: String,
}

impl Target {
    fn new(format: &str) -> Target {
        let pair = Pair::open();
        let format = format!("--object-format={format}");
        let client = GitRepo::with_history(pair.path("client.git"), &[&format]);
        let bare = GitRepo::init(pair.path("bare.git"), &[&format]);
        bare.git(&["config", "receive.advertisePushOptions", "true"]);
        bare.git(&["config", "receive.fsckObjects", "true"]);
        let ours = pair.url(US, "app");
        pair.ok(&["repo", "create", "app", "--region", REGIONS[US], &format]);
        Target { pair, client, bare, ours }
    }

    fn theirs(&self) -> String {
        format!("file://{}", self.bare.path.display())
    }

    /// Pushes to both. They end alike, say the same of each ref, and leave the same refs.
    fn push(&self, args: &[&str]) -> String {
        let both = [self.ours.clone(), self.theirs()].map(|url| {
            let args: Vec<&str> = args.iter().map(|arg| if *arg == "URL" { &url } else { *arg }).collect();
            let output = self.client.try_git(&[&["push", "--porcelain"], &args[..]].concat());
            // Remote tracking refs of one would be taken for those of the other.
            (output.status.code(), outcomes(&output), said(&output))
        });
        let [(code, refs, told), (their_code, their_refs, their_told)] = both;
        assert!(
            (code, &refs) == (their_code, &their_refs),
            "{args:?}: {code:?} {refs:?}\n{told}\ninstead of {their_code:?} {their_refs:?}\n{their_told}"
        );
        self.assert_same(args);
        told
    }

    fn assert_same(&self, what: &[&str]) {
        let list = |url: &str| self.client.git(&["ls-remote", "--symref", url]);
        assert_eq!(list(&self.ours), list(&self.theirs()), "{what:?}");
    }
}

/// What porcelain says of each ref, without the words that each server finds for its reasons.
fn outcomes(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let refs = text.lines().filter(|line| line.contains('\t'));
    let mut refs: Vec<String> = refs
        .map(|line| match line.find("[remote rejected]") {
            Some(at) => line[..at + "[remote rejected]".len()].into(),
            None => line.into(),
        })
        .collect();
    refs.sort();
    refs
}

#[test]
fn everything_that_can_be_pushed() {
    for (format, versions) in [(FORMATS[0], &VERSIONS[..]), (FORMATS[1], &VERSIONS[2..])] {
        for version in versions {
            let target = Target::new(format);
            let client = &target.client;
            client.git(&["config", "protocol.version", version]);
            for args in [
                &["URL", "main"][..],
                &["URL", "main"],
                &["URL", "side", "main:refs/heads/copy"],
                &["--follow-tags", "URL", "topic/deep/er"],
                &["--tags", "URL"],
                &["URL", "refs/notes/*:refs/notes/*"],
                &["URL", "main:refs/custom/a", "v2:refs/custom/tag", "main^{tree}:refs/tags/tree"],
                &["--dry-run", "URL", "main:refs/heads/dry"],
                &["--atomic", "URL", "main:refs/heads/x/1", "side:refs/heads/x/2"],
                // Refused by the server: a branch that is no commit, the current branch, folders and files.
                &["URL", "main^{tree}:refs/heads/tree", "main:refs/heads/beside"],
                &["--atomic", "URL", "main^{tree}:refs/heads/tree", "main:refs/heads/never"],
                &["URL", ":main", ":copy"],
                &["URL", "main:refs/heads/x", "main:refs/heads/fine"],
                &["URL", "main:refs/heads/fine/below"],
                &["URL", "--delete", "nothing"],
                // Backwards: refused by the client, then forced.
                &["URL", "main~3:side"],
                &["--force", "URL", "main~3:side"],
                &["URL", "+main~4:side"],
                &["--force-with-lease=side:main~4", "URL", "main~5:side"],
                &["--force-with-lease=side:main~4", "URL", "main~6:side"],
                &["--force-with-lease=brand-new:", "URL", "main:brand-new"],
                &["--force-with-lease=brand-new:", "URL", "+side:brand-new"],
                // One goes and makes room for another.
                &["URL", ":x/1", ":x/2"],
                &["URL", "main:refs/heads/x"],
                &["-o", "why=because", "-o", "two", "URL", "main:refs/heads/with-options"],
                &["--quiet", "URL", "main~1:refs/heads/quiet"],
                &["--prune", "URL", "refs/heads/*:refs/heads/*"],
                &["--thin", "URL", "main"],
                &["--mirror", "URL"],
            ] {
                let told = target.push(args);
                let quiet = !args.contains(&"--quiet") || !told.contains("remote:");
                assert!(quiet, "{told}");
            }
            client.commit("main", "dir/file0", "more\n");
            client.git(&["update-ref", "refs/heads/other", "main~2"]);
            target.push(&["--no-thin", "URL", "main", "other"]);
            target.pair.assert_clones_as(&target.bare, &target.ours);
            target.pair.ok(&["verify", "app", "--region", REGIONS[US], "--deep"]);
        }
    }
}

#[test]
fn the_first_push_decides_what_head_names() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["branch", "master", "side"]);
    for (name, pushed, expected) in [
        ("a", &["side", "main"][..], "refs/heads/main"),
        ("b", &["side", "master"], "refs/heads/master"),
        ("c", &["topic/deep/er", "side"], "refs/heads/topic/deep/er"),
        ("d", &["v1"], ""),
    ] {
        let url = pair.url(US, name);
        repo.git(&[&["push", "-q", &url], pushed].concat());
        let head = repo.git(&["ls-remote", "--symref", &url, "HEAD"]);
        let head = head.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        assert_eq!(head.unwrap_or_default(), expected, "{name}");
    }
}

/// Runs a push between the moment at which another learns about the refs and the one at which it is made.
fn push_in_between(pair: &Pair, slow: &GitRepo, args: &[&str], fast: &GitRepo, fast_args: &str, url: &str) -> Output {
    let hooks = pair.path("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("pre-push");
    let script = format!(
        "#!/bin/sh\nexec git -c core.hooksPath=/nowhere --git-dir={} push -q {url} {fast_args} >&2\n",
        fast.path.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = format!("core.hooksPath={}", hooks.display());
    slow.try_git(&[&["-c", &hooks, "push", "--porcelain"], args].concat())
}

#[test]
fn who_comes_second_is_told_to_fetch_first() {
    let pair = Pair::open();
    let slow = GitRepo::with_history(pair.path("slow.git"), &[]);
    let url = pair.url(US, "app");
    slow.git(&["push", "-q", "--mirror", &url]);
    let fast = GitRepo::at(pair.path("fast.git"));
    git::command(pair.dir()).args(["clone", "-q", "--mirror", &url]).arg(&fast.path).status().unwrap();
    let first = fast.commit("main", "first", "first\n");
    slow.commit("main", "second", "second\n");
    // The other ref of the same push is done.
    let output = push_in_between(&pair, &slow, &[&url, "main", "main:refs/heads/new"], &fast, "main", &url);
    let told = said(&output);
    assert!(!output.status.success() && told.contains("[rejected] (fetch first)"), "{told}");
    assert!(told.contains("refs/heads/new\t[new branch]"), "{told}");
    assert_eq!(slow.git(&["ls-remote", &url, "refs/heads/main"]), format!("{first}\trefs/heads/main"));
    // Even by force: what it would destroy it has not seen. And all of an atomic push.
    let second = fast.commit("main", "more", "more\n");
    let force = ["--force", "--atomic", &url, "main", "main:refs/heads/never"];
    let output = push_in_between(&pair, &slow, &force, &fast, "main", &url);
    let told = said(&output);
    assert!(!output.status.success() && told.contains("fetch first") && told.contains("atomic push failure"), "{told}");
    let heads = slow.git(&["ls-remote", &url, "refs/heads/*"]);
    assert!(heads.contains(&format!("{second}\trefs/heads/main")) && !heads.contains("never"), "{heads}");
    // A branch that somebody else has made, or deleted, meanwhile.
    let output = push_in_between(&pair, &slow, &[&url, "main:taken"], &fast, "main:refs/heads/taken", &url);
    assert!(said(&output).contains("fetch first"), "{}", said(&output));
    let output = push_in_between(&pair, &slow, &[&url, "main~1:new", "--force"], &fast, ":new", &url);
    assert!(said(&output).contains("fetch first"), "{}", said(&output));
    // As usual after a fetch.
    slow.git(&["fetch", "-q", &url, "main"]);
    slow.git(&["push", "-q", &url, "+FETCH_HEAD:main"]);
}

#[test]
fn clones_that_lack_something_push() {
    for format in FORMATS {
        let target = Target::new(format);
        target.push(&["--mirror", "URL"]);
        let kinds = [&["--depth=1"][..], &["--depth=3"], &["--filter=blob:none"], &["--filter=tree:0"]];
        for (number, options) in kinds.into_iter().enumerate() {
            let clone = target.pair.path(&format!("clone-{number}"));
            let mut command = git::command(target.pair.dir());
            command.args([&["clone", "-q", "--bare"], options, &[&target.ours]].concat());
            let output = command.arg(&clone).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            let clone = GitRepo::at(clone);
            clone.git(&["read-tree", "main"]);
            let blob = String::from_utf8(clone.feed(&["hash-object", "-w", "--stdin"], b"new\n")).unwrap();
            let entry = format!("100644,{},dir/new-{number}", blob.trim());
            clone.git(&["update-index", "--add", "--cacheinfo", &entry]);
            let tree = clone.git(&["write-tree", "--missing-ok"]);
            let commit = clone.git(&["commit-tree", &tree, "-p", "main", "-m", "from a clone"]);
            for url in [&target.ours, &target.theirs()] {
                clone.git(&[
                    "push",
                    "-q",
                    url,
                    &format!("{commit}:refs/heads/from-{number}"),
                    &format!("{commit}:main"),
                ]);
            }
            target.assert_same(options);
        }
        target.pair.assert_clones_as(&target.bare, &target.ours);
    }
}

#[test]
fn four_thousand_refs_in_one_push() {
    let target = Target::new("sha1");
    let client = &target.client;
    client.pack_many_refs("refs/heads/many/", 4_000, &client.git(&["rev-parse", "main"]));
    let told = target.push(&["--mirror", "URL"]);
    assert_eq!(told.lines().filter(|line| line.contains("[new branch]") && line.contains("many/")).count(), 4_000);
    // All but a few go, others move, some cannot.
    let id = client.commit("main", "x", "x\n");
    let lines: String = (0..3_990).map(|n| format!("delete refs/heads/many/{n:07}\n")).collect();
    client.update_refs(lines);
    client.pack_many_refs("refs/tags/other/", 1_500, &id);
    target.push(&["--mirror", "--atomic", "URL"]);
    let log = target.pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let totals: Vec<u64> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["edits_total"].as_u64().unwrap())
        .collect();
    assert_eq!(totals[..2], [5_491, 4_007], "each push is one change");
    target.pair.assert_clones_as(&target.bare, &target.ours);
}

#[test]
fn a_mirror_of_two_hundred_branches_with_histories_of_their_own() {
    let target = Target::new("sha1");
    let client = &target.client;
    let mut script = String::new();
    for branch in 0..200 {
        script += &format!("reset refs/heads/b/{branch}\nfrom main^0\n\n");
        for commit in 0..3 {
            let data = format!("{branch} {commit}\n").repeat(20);
            script += &format!(
                "commit refs/heads/b/{branch}\ncommitter C <c@example.com> {} +0000\ndata 1\nx\n",
                1_720_000_000 + commit
            );
            script += &format!("M 100644 inline b/{}/{branch}\ndata {}\n{data}\n", branch % 20, data.len());
        }
    }
    client.feed(&["fast-import", "--quiet"], script.as_bytes());
    target.push(&["--mirror", "URL"]);
    target.pair.assert_clones_as(client, &target.ours);
    // Half of it goes, and what is left is whole.
    let lines: String = (0..100).map(|n| format!("delete refs/heads/b/{n}\n")).collect();
    client.update_refs(lines);
    target.push(&["--mirror", "URL"]);
    target.pair.assert_clones_as(client, &target.ours);
    target.pair.wait_until_same(client, "app");
}

/// A repository that is deleted, or renamed, and made again under its name while a push is judged.
#[test]
fn a_push_never_goes_into_another_repository_of_the_name() {
    for gone in ["delete", "rename"] {
        let pair = Pair::configured(
            "[[push_policies]]\nrepositories = [\"app\"]\npre_receive = { command = [\"./swap\"] }\n",
            &[("swap", "")],
        );
        let repo = GitRepo::init(pair.path("src.git"), &[]);
        let url = pair.url(US, "app");
        repo.commit("main", "first", "first\n");
        let script = |lines: &str| {
            let path = pair.path("data/swap");
            std::fs::write(&path, format!("#!/bin/sh\nset -e\ncd {}\n{lines}\n", pair.path("data").display())).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script("");
        repo.git(&["push", "-q", &url, "main"]);
        let id = |name: &str| {
            let shown = pair.ok(&["repo", "show", name, "--region", "us-east-1", "--json"]);
            serde_json::from_str::<serde_json::Value>(&shown).unwrap()["id"].as_str().unwrap().to_owned()
        };
        let old = id("app");
        let gitferry = gitferry_test_support::paths::gitferry().display();
        let go = match gone {
            "delete" => format!("{gitferry} repo delete app --region us-east-1"),
            _ => format!("{gitferry} repo rename app away --region us-east-1"),
        };
        script(&format!("({go}; {gitferry} repo create app --region us-east-1) >&2"));
        // With a pack of its own, and with one that builds on what was there.
        repo.commit("main", "second", "second\n");
        let output = repo.try_git(&["push", "--porcelain", &url, "main", "main~1:refs/heads/old"]);
        let told = said(&output);
        assert!(!output.status.success(), "{gone}: {told}");
        assert!(told.contains("is no longer repository") && told.contains(&old), "{gone}: {told}");
        assert_ne!(id("app"), old);
        assert_eq!(repo.git(&["ls-remote", &url]), "", "{gone}: nothing is in the new one");
        pair.ok(&["verify", "app", "--region", "us-east-1", "--deep"]);
        pair.ok(&["verify", &old, "--region", "us-east-1", "--deep"]);
        // After that it is a push like any other.
        script("");
        repo.git(&["push", "-q", &url, "main"]);
        pair.assert_clones_as(&repo, &url);
    }
}
