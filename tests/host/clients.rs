//! Clients that are not Git: libgit2, cargo, dulwich; and URLs in all their spellings.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use crate::raw::connect;
use gitferry_test_support::git::{self, GitRepo};
use gitferry_test_support::node::Package;
use gitferry_test_support::pair::{Pair, US};
use gitferry_test_support::python;

/// Bundles libgit2 1.9.
const PYGIT2: (&str, &str) = ("pygit2", "1.21.0");
const DULWICH: (&str, &str) = ("dulwich", "1.2.21");

/// Runs a Python program with arguments; what it prints.
fn run((package, version): (&str, &str), program: &str, arguments: &[&str]) -> String {
    let mut command = without_proxies(&python::environment(package, version, ""));
    let output = command.args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{package}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A program that talks to hosts of this machine.
fn without_proxies(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("HOME", "/nonexistent");
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

fn hosted() -> (Pair, GitRepo, String) {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", "--mirror", &url]);
    (pair, repo, url)
}

#[test]
fn libgit2_clones_fetches_and_pushes() {
    let (pair, repo, url) = hosted();
    let program = "import sys, pygit2\n\
        url, to, depth = sys.argv[1], sys.argv[2], int(sys.argv[3])\n\
        r = pygit2.clone_repository(url, to, bare=True, depth=depth)\n\
        print(r.revparse_single('refs/remotes/origin/main' if depth else 'refs/heads/main').id)";
    let main = repo.git(&["rev-parse", "main"]);
    for depth in ["0", "1"] {
        let to = pair.path(&format!("libgit2-{depth}"));
        let program = program.replace("'refs/remotes/origin/main' if depth else 'refs/heads/main'", "'HEAD'");
        assert_eq!(run(PYGIT2, &program, &[&url, to.to_str().unwrap(), depth]), main);
        let commits = GitRepo::at(&to).git(&["rev-list", "--count", "HEAD"]);
        assert_eq!(commits == "1", depth == "1", "{commits} commits");
    }
    // A fetch that negotiates, and a push.
    let new = repo.commit("main", "new", "new\n");
    repo.git(&["push", "-q", &url, "main"]);
    let more = "import sys, pygit2\n\
        r = pygit2.Repository(sys.argv[1])\n\
        o = r.remotes['origin']\n\
        o.fetch(['+refs/heads/*:refs/heads/*'])\n\
        print(r.revparse_single('refs/heads/main').id)\n\
        r.references.create('refs/heads/pushed', r.revparse_single('refs/heads/main').id)\n\
        o.push(['refs/heads/pushed'])";
    assert_eq!(run(PYGIT2, more, &[pair.path("libgit2-0").to_str().unwrap()]), new);
    assert!(repo.git(&["ls-remote", &url, "refs/heads/pushed"]).starts_with(&new));
}

#[test]
fn cargo_fetches_a_dependency_with_libgit2_and_with_git() {
    let pair = Pair::open();
    let repo = GitRepo::init(pair.path("lib.git"), &[]);
    repo.commit("main", "Cargo.toml", "[package]\nname = \"mylib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    repo.commit("main", "src/lib.rs", "");
    let url = pair.url(US, "mylib");
    repo.git(&["push", "-q", "--mirror", &url]);
    let app = pair.path("app");
    std::fs::create_dir_all(app.join("src")).unwrap();
    std::fs::write(app.join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\n";
    std::fs::write(app.join("Cargo.toml"), format!("{manifest}mylib = {{ git = \"{url}\" }}\n")).unwrap();
    for with_git in ["false", "true"] {
        let home = pair.path(&format!("cargo-{with_git}"));
        let _ = std::fs::remove_file(app.join("Cargo.lock"));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.arg("fetch").current_dir(&app).env("CARGO_HOME", &home);
        command.env("CARGO_NET_GIT_FETCH_WITH_CLI", with_git).env("CARGO_NET_RETRY", "0");
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "CARGO_HTTP_PROXY"] {
            command.env_remove(proxy);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "git: {with_git}: {}", String::from_utf8_lossy(&output.stderr));
        let lock = std::fs::read_to_string(app.join("Cargo.lock")).unwrap();
        assert!(lock.contains(&repo.git(&["rev-parse", "main"])), "{lock}");
    }
}

#[test]
fn dulwich_clones_fetches_and_pushes() {
    let (pair, repo, url) = hosted();
    let program = "import sys\n\
        from dulwich import porcelain\n\
        url, to = sys.argv[1], sys.argv[2]\n\
        r = porcelain.clone(url, to, bare=True, errstream=porcelain.NoneStream())\n\
        print(r.refs[b'refs/heads/main'].decode())\n\
        porcelain.push(r, url, ['refs/heads/main:refs/heads/pushed'], outstream=porcelain.NoneStream(), errstream=porcelain.NoneStream())\n\
        s = porcelain.clone(url, to + '-shallow', bare=True, depth=1, errstream=porcelain.NoneStream())\n\
        print(len(list(s.get_walker())))";
    let main = repo.git(&["rev-parse", "main"]);
    let to = pair.path("dulwich");
    assert_eq!(run(DULWICH, program, &[&url, to.to_str().unwrap()]), format!("{main}\n1"));
    assert!(repo.git(&["ls-remote", &url, "refs/heads/pushed"]).starts_with(&main));
}

/// The Git client that browsers use, of the npm registry.
const ISOMORPHIC_GIT: (&str, &str) = ("isomorphic-git", "1.44.19");

#[test]
fn isomorphic_git_clones_fetches_and_pushes() {
    let (pair, repo, url) = hosted();
    let client = Package::install(ISOMORPHIC_GIT.0, ISOMORPHIC_GIT.1);
    let program = client.folder.join("clone-fetch-push.mjs");
    let text = "import fs from 'node:fs'\n\
        import git from 'isomorphic-git'\n\
        import http from 'isomorphic-git/http/node'\n\
        const [, , what, url, dir] = process.argv\n\
        const at = { fs, http, dir, gitdir: dir, url, remote: 'origin' }\n\
        const author = { name: 'I', email: 'i@example.com', timestamp: 1700000000, timezoneOffset: 0 }\n\
        if (what === 'clone') {\n\
          await git.clone({ ...at, noCheckout: true, ref: 'main' })\n\
          const tip = await git.resolveRef({ ...at, ref: 'refs/remotes/origin/main' })\n\
          console.log(tip)\n\
          const { commit } = await git.readCommit({ ...at, oid: tip })\n\
          const made = await git.commit({ ...at, message: 'm', author, ref: 'refs/heads/pushed', parent: [tip], tree: commit.tree })\n\
          const { ok } = await git.push({ ...at, ref: 'pushed', remoteRef: 'refs/heads/pushed' })\n\
          console.log(made, ok)\n\
          const shallow = { ...at, dir: dir + '-shallow', gitdir: dir + '-shallow' }\n\
          await git.clone({ ...shallow, noCheckout: true, depth: 1, singleBranch: true, ref: 'main' })\n\
          console.log((await git.log({ ...shallow, ref: 'main' })).length)\n\
        } else {\n\
          const { fetchHead } = await git.fetch({ ...at, ref: 'main' })\n\
          console.log(fetchHead)\n\
        }\n";
    std::fs::write(&program, text).unwrap();
    let to = pair.path("isomorphic");
    let run = |what: &str| {
        let output = client.node(&program).args([what, &url]).arg(&to).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let main = repo.git(&["rev-parse", "main"]);
    let said = run("clone");
    let pushed = repo.git(&["ls-remote", &url, "refs/heads/pushed"])[..40].to_owned();
    assert_eq!(said, format!("{main}\n{pushed} true\n1\n"));
    let new = repo.commit("main", "new", "new\n");
    repo.git(&["push", "-q", &url, "main"]);
    assert_eq!(run("fetch"), format!("{new}\n"));
    GitRepo::at(&to).git(&["fsck", "--strict", "--no-dangling"]);
}

/// The head and the body of an answer.
fn ask(pair: &Pair, request: &str) -> (String, String) {
    let mut stream = connect(pair, US);
    write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn head_requests_and_encoded_paths_are_answered_as_by_http_backend() {
    let (pair, repo, _) = hosted();
    let main = repo.git(&["rev-parse", "main"]);
    let plain = ask(&pair, "GET /app/info/refs?service=git-upload-pack");
    assert!(plain.0.starts_with("HTTP/1.1 200") && plain.1.contains(&main), "{plain:?}");
    for path in ["/%61pp/info/refs", "/app%2egit/info/refs", "/v1/repos/%61pp/info%2Frefs"] {
        for service in ["git-upload-pack", "git%2Dupload%2dpack"] {
            let (head, body) = ask(&pair, &format!("GET {path}?service={service}"));
            assert!(head.starts_with("HTTP/1.1 200") && body.contains(&main), "{path}: {head}");
        }
    }
    let (head, body) = ask(&pair, "HEAD /app/info/refs?service=git-upload-pack");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-git-upload-pack-advertisement"), "{head}");
    assert_eq!(body, "");
    assert!(ask(&pair, "HEAD /other/info/refs?service=git-upload-pack").0.starts_with("HTTP/1.1 404"));
    assert!(ask(&pair, "HEAD /app/git-upload-pack").0.starts_with("HTTP/1.1 405"));
}

#[test]
fn refusals_name_the_path_and_why_a_name_is_none() {
    let (pair, repo, _) = hosted();
    for (path, told) in [
        ("/other/info/refs?service=git-upload-pack", "not found: /other/info/refs\n"),
        ("/my%20app/info/refs?service=git-upload-pack", "\"my app\" is not a valid repository name: only letters"),
        ("/a%1b%5b31m/info/refs?service=git-upload-pack", "is not a valid repository name: only letters"),
        ("/.github/info/refs?service=git-upload-pack", "no segment may start with . or -"),
    ] {
        let (head, body) = ask(&pair, &format!("GET {path}"));
        assert!(head.starts_with("HTTP/1.1 404") && body.contains(told), "{path}: {body}");
        assert!(!body.contains('\u{1b}'), "{body:?}");
    }
    let output = git::command(&repo.path).args(["ls-remote", &pair.url(US, "a%2Bb")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("\"a+b\" is not a valid repository name"), "{said}");
}
