//! What clients fetch, in every version of the protocol, beside what Git itself gives them.

use crate::both::{Both, Client, FORMATS, VERSIONS};
use crate::said;
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::pair::{Pair, US};

/// Files of the repository that partial clones check out.
const FILES: usize = 2_500;
/// Commits of each side of a diverged history: several rounds of haves.
const DIVERGED: usize = 1_200;

#[test]
fn clones_of_all_shapes() {
    for format in FORMATS {
        let both = Both::new(Pair::open(), format);
        both.publish();
        for options in [
            &[][..],
            &["--mirror"],
            &["--bare"],
            &["--single-branch", "--branch", "side"],
            &["--single-branch", "--branch", "v2"],
            &["--no-tags"],
            &["--depth=1"],
            &["--depth=3", "--no-single-branch"],
            &["--shallow-exclude=side"],
            &["--depth=2", "--branch", "v1"],
            &["--filter=blob:none", "--no-checkout"],
            &["--filter=blob:limit=40", "--bare"],
            &["--filter=tree:0", "--bare"],
            &["--filter=tree:2", "--depth=2", "--bare"],
            &["--filter=combine:tree:3+blob:limit=1k", "--bare"],
        ] {
            let versions = if format == FORMATS[0] { &VERSIONS[..] } else { &VERSIONS[2..] };
            for version in versions {
                both.compare(&format!("clone {options:?} {format}"), version, |client| client.clone(options));
            }
        }
    }
}

#[test]
fn fetches_after_changes_of_all_kinds() {
    for format in FORMATS {
        let both = Both::new(Pair::open(), format);
        both.publish();
        let repo = &both.repo;
        let clones = VERSIONS.map(|version| {
            [&both.ours, &both.theirs].map(|url| {
                let dir = both.pair.path(&format!("kept-{version}-{}", url.starts_with("file")));
                std::fs::create_dir(&dir).unwrap();
                let client = Client { dir, url: url.clone(), version: version.into() };
                client.clone(&[]);
                client
            })
        });
        let changes: [(&str, &dyn Fn()); 5] = [
            ("new commits", &|| {
                repo.commit("main", "dir/file0", "more\n");
                repo.commit("new/branch", "x", "x\n");
            }),
            ("a tag of a new commit follows it", &|| {
                repo.commit("main", "dir/file0", "tagged\n");
                repo.git(&["tag", "-am", "three", "v3", "main"]);
                repo.git(&["tag", "elsewhere", &repo.commit("aside", "y", "y\n")]);
                repo.git(&["update-ref", "-d", "refs/heads/aside"]);
            }),
            ("a force-push", &|| {
                repo.git(&["update-ref", "refs/heads/main", "main~4"]);
                repo.commit("main", "dir/file1", "another way\n");
            }),
            ("deleted branches", &|| drop(repo.git(&["branch", "-D", "side", "new/branch"]))),
            ("a branch where a folder was", &|| drop(repo.git(&["branch", "new", "main"]))),
        ];
        for (what, change) in changes {
            change();
            both.publish();
            for [ours, theirs] in &clones {
                ours.at(&["fetch", "-q", "--prune"]);
                theirs.at(&["fetch", "-q", "--prune"]);
                assert_eq!(ours.state(), theirs.state(), "{what}, {format}, version {}", ours.version);
            }
        }
    }
}

/// A chain of commits on a branch, a minute apart, each with a file of its own.
fn chain(repo: &GitRepo, branch: &str, from: Option<&str>, commits: usize, files: usize) {
    let mut script = String::new();
    for number in 0..commits {
        let time = 1_710_000_000 + 60 * number;
        script += &format!("commit refs/heads/{branch}\ncommitter C <c@example.com> {time} +0000\ndata 1\nx\n");
        if let (0, Some(from)) = (number, from) {
            script += &format!("from {from}\n");
        }
        let count = if number == 0 { files.max(1) } else { 1 };
        for file in 0..count {
            let data = format!("{branch} {number} {file}\n");
            script += &format!("M 100644 inline {branch}/{}/{file}\ndata {}\n{data}\n", file % 50, data.len());
        }
        script += "\n";
    }
    repo.feed(&["fast-import", "--quiet"], script.as_bytes());
}

#[test]
fn diverged_histories_need_many_rounds() {
    let both = Both::new(Pair::open(), "sha1");
    chain(&both.repo, "ours", Some("main^0"), DIVERGED, 1);
    both.publish();
    let own = GitRepo::at(both.pair.path("own.git"));
    git::command(both.pair.dir()).args(["clone", "-q", "--bare"]).arg(&both.repo.path).arg(&own.path).status().unwrap();
    own.git(&["update-ref", "-d", "refs/heads/ours"]);
    // The client has as much that the server has never seen.
    chain(&own, "theirs", Some("main^0"), DIVERGED, 1);
    for (algorithm, version) in ["consecutive", "skipping"].into_iter().flat_map(|a| VERSIONS.map(|v| (a, v))) {
        both.compare(&format!("diverged, {algorithm}"), version, |client| {
            client.git(&["clone", "-q", "--bare", "--no-local", own.path.to_str().unwrap(), "c"]);
            // It leaps, and so needs few.
            let least = if algorithm == "skipping" { 10 } else { 300 };
            let algorithm = format!("fetch.negotiationAlgorithm={algorithm}");
            let trace = client.dir.join("trace");
            let output = git::command(&client.dir.join("c"))
                .env("GIT_TRACE_PACKET", &trace)
                .args(["-c", &algorithm, "-c", &format!("protocol.version={version}")])
                .args(["fetch", "-q", &client.url, "refs/heads/*:refs/got/*"])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", said(&output));
            let trace = std::fs::read_to_string(trace).unwrap();
            let haves = trace.lines().filter(|line| line.contains("> have ")).count();
            assert!(haves > least, "only {haves} haves");
        });
    }
}

#[test]
fn shallow_clones_grow_and_shrink() {
    let both = Both::new(Pair::open(), "sha1");
    chain(&both.repo, "long", None, 40, 1);
    both.publish();
    let since = format!("--shallow-since={}", 1_710_000_000 + 60 * 30);
    for steps in [
        &[&["--depth=5"][..], &["--deepen=3"], &["--depth=2"], &["--unshallow"]][..],
        &[&[since.as_str()][..], &["--deepen=4"], &["--shallow-exclude=v1"]],
        &[&["--depth=1"], &["--depth=20"], &["--depth=2147483647"]],
    ] {
        both.compare_all(&format!("{steps:?}"), |client| {
            client.clone(&["--no-single-branch", "--branch", "long", steps[0][0]]);
            for step in &steps[1..] {
                client.at(&[&["fetch", "-q"], *step].concat());
            }
        });
    }
}

#[test]
fn partial_clones_fetch_what_they_lack() {
    let both = Both::new(Pair::open(), "sha1");
    chain(&both.repo, "many", Some("main^0"), 30, FILES);
    both.publish();
    for (filter, version) in [("blob:none", "0"), ("blob:none", "2"), ("blob:limit=1k", "2"), ("tree:0", "2")] {
        both.compare(&format!("checkout after {filter}"), version, |client| {
            client.clone(&["--branch", "many", &format!("--filter={filter}")]);
            let files = client.at(&["ls-files"]);
            assert!(files.lines().count() > FILES);
            assert_eq!(client.at(&["status", "--porcelain"]), "");
            client.at(&["log", "-p", "--all", "--stat"]);
            client.at(&["fetch", "-q", "--refetch", "--filter=blob:none"]);
        });
    }
}

#[test]
fn an_empty_repository_is_cloned_with_its_branch() {
    let pair = Pair::open();
    for (name, format) in [("one", "sha1"), ("two", "sha256")] {
        let options = ["--region", "us-east-1", "--object-format", format];
        pair.ok(&[&["repo", "create", name][..], &options].concat());
        let dir = pair.path(name);
        let clone = |version: &str| {
            let to = dir.join(version);
            let version = format!("protocol.version={version}");
            let mut command = git::command(pair.dir());
            command.args(["-c", &version, "-c", "init.defaultBranch=other", "clone", "-q", &pair.url(US, name)]);
            let output = command.arg(&to).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            GitRepo::at(to)
        };
        assert_eq!(clone("2").head().trim(), "refs/heads/main");
        for version in VERSIONS {
            let clone = if version == "2" { GitRepo::at(dir.join("2")) } else { clone(version) };
            assert_eq!(clone.git(&["rev-parse", "--show-object-format"]), format);
            assert_eq!(clone.refs(), Vec::<Vec<u8>>::new());
        }
        let clone = GitRepo::at(dir.join("2/.git"));
        clone.commit("main", "first", "first\n");
        clone.git(&["push", "-q", "origin", "main"]);
        pair.assert_clones_as(&GitRepo::at(dir.join("2/.git")).without_tracking(), &pair.url(US, name));
    }
}

trait WithoutTracking {
    fn without_tracking(self) -> GitRepo;
}

impl WithoutTracking for GitRepo {
    /// Only what was pushed.
    fn without_tracking(self) -> GitRepo {
        self.git(&["remote", "remove", "origin"]);
        self
    }
}

#[test]
fn listings() {
    let both = Both::new(Pair::open(), "sha1");
    both.publish();
    for args in [
        &["--symref"][..],
        &["--heads", "--symref"],
        &["--tags"],
        &["--refs"],
        &["--symref", "URL", "HEAD"],
        &["URL", "main", "refs/tags/v*"],
        &["URL", "refs/heads/topic/*"],
        &["URL", "nothing"],
    ] {
        for version in VERSIONS {
            let list = |url: &str| {
                let args: Vec<&str> = args.iter().map(|arg| if *arg == "URL" { url } else { arg }).collect();
                let url = if args.contains(&url) { &[][..] } else { &[url] };
                let version = format!("protocol.version={version}");
                both.repo.git(&[&["-c", &version, "ls-remote"], &args[..], url].concat())
            };
            assert_eq!(list(&both.ours), list(&both.theirs), "{args:?} {version}");
        }
    }
}

#[test]
fn what_is_hidden_or_unreachable_is_not_had_by_its_id() {
    let both = Both::new(Pair::with_host("hidden = [\"refs/internal/\"]\n"), "sha1");
    let repo = &both.repo;
    let secret = repo.commit("secret", "secret", "secret\n");
    let (tree, blob) = (repo.git(&["rev-parse", "secret^{tree}"]), repo.git(&["rev-parse", "secret:secret"]));
    repo.git(&["update-ref", "refs/internal/secret", "secret"]);
    repo.git(&["update-ref", "-d", "refs/heads/secret"]);
    both.publish();
    repo.git(&["config", "uploadpack.hideRefs", "refs/internal"]);
    // What nobody ever saw, and what never existed, look the same.
    let nothing = "1234567890123456789012345678901234567890".to_owned();
    for version in VERSIONS {
        let list = both.repo.git(&["-c", &format!("protocol.version={version}"), "ls-remote", &both.ours]);
        assert!(list.contains("refs/heads/main") && !list.contains("refs/internal"), "{list}");
        for id in [&secret, &tree, &blob, &nothing] {
            let dir = both.pair.path("asks");
            let client = Client { dir, url: both.ours.clone(), version: version.into() };
            std::fs::create_dir_all(&client.dir).unwrap();
            client.git(&["init", "-q", "--bare", "c"]);
            let output = client.try_git(&["-C", "c", "fetch", &client.url, id]);
            let told = said(&output);
            assert!(!output.status.success() && told.contains("not our ref"), "{id}, version {version}: {told}");
            std::fs::remove_dir_all(&client.dir).unwrap();
        }
        let ids = ["main~5", "v1", "main~2:dir", "side:other", "side"].map(|name| repo.git(&["rev-parse", name]));
        both.compare(&format!("{ids:?}"), version, |client| {
            client.git(&["init", "-q", "--bare", "c"]);
            for id in &ids {
                client.at(&["fetch", "-q", "--no-tags", &client.url, id]);
            }
        });
    }
}

#[test]
fn a_force_push_between_listing_and_fetching_breaks_nobody() {
    let both = Both::new(Pair::open(), "sha1");
    let repo = &both.repo;
    let listed = repo.commit("moving", "a", "a\n");
    both.publish();
    repo.git(&["update-ref", "refs/heads/moving", "main"]);
    both.publish();
    let fetch = |id: &str, version: &str| {
        let client =
            Client { dir: tempfile::tempdir().unwrap().keep(), url: both.ours.clone(), version: version.into() };
        client.git(&["init", "-q", "--bare", "c"]);
        let output = client.try_git(&["-C", "c", "fetch", "-q", &client.url, id]);
        let has = client.try_git(&["-C", "c", "cat-file", "-e", id]).status.success();
        std::fs::remove_dir_all(&client.dir).unwrap();
        (output.status.success(), has)
    };
    for version in VERSIONS {
        assert_eq!(fetch(&listed, version), (true, true), "version {version}");
    }
}

#[test]
fn refs_are_wanted_by_name_where_that_is_offered() {
    for (lines, offered) in [("", false), ("ref_in_want = true", true)] {
        let pair = Pair::with_host(lines);
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        let url = pair.url(US, "app");
        repo.git(&["push", "-q", "--mirror", &url]);
        let clone = GitRepo::init(pair.path("clone.git"), &[]);
        let mut fetch = git::command(&clone.path);
        fetch.env("GIT_TRACE_PACKET", "1").args([
            "-c",
            "protocol.version=2",
            "fetch",
            &url,
            "refs/heads/side:refs/heads/side",
        ]);
        let output = fetch.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).contains("want-ref refs/heads/side"), offered, "{}", said(&output));
        assert_eq!(clone.git(&["rev-parse", "side"]), repo.git(&["rev-parse", "side"]));
    }
}
