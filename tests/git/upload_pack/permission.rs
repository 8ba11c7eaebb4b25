//! Who may fetch what, and learn about what.

use crate::upload_pack::cloning::{assert_same_clones, clone};
use crate::upload_pack::raw::{Talk, lines};
use crate::upload_pack::repo::{FORMATS, Repo, git, git_fails};
use gitferry_test_support::serving::Server;

/// A history with hidden branches, unreachable commits, and visible ones.
fn repo_with_secrets() -> Repo {
    let repo = Repo::with_history(FORMATS[0]);
    repo.git(&["branch", "secret", "main"]);
    repo.commit("secret", 3, "secret");
    repo.git(&["update-ref", "refs/hidden/secret", "secret"]);
    repo.git(&["branch", "-D", "secret"]);
    repo
}

#[test]
fn hidden_objects_are_like_objects_that_do_not_exist() {
    let repo = repo_with_secrets();
    let server = Server::start(repo.view());
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q", "client"]);
    let client = dir.path().join("client");
    let nothing = "1234567890123456789012345678901234567890";
    for version in ["protocol.version=0", "protocol.version=2"] {
        for url in [server.git_url(), server.http_url()] {
            let error_of = |id: &str| git_fails(&client, &["-c", version, "fetch", &url, id]).replace(id, "ID");
            let expected = error_of(nothing);
            assert!(expected.contains("not our ref ID"), "{expected}");
            for name in [
                "refs/hidden/secret",
                "refs/hidden/secret~1",
                "refs/hidden/secret^{tree}",
                "refs/hidden/secret:dir1/secret",
            ] {
                assert_eq!(error_of(&repo.rev_parse(name).to_string()), expected, "{name}");
            }
        }
        for visible in ["main~50", "v1", "main~50:dir0", "main~9:dir0/sub/file0"] {
            let id = repo.rev_parse(visible).to_string();
            git(&client, &["-c", version, "fetch", "-q", &server.git_url(), &id]);
            assert_eq!(git(&client, &["cat-file", "-e", &id]), "");
        }
    }
}

#[test]
fn haves_do_not_reveal_hidden_objects() {
    let repo = repo_with_secrets();
    let view = repo.view();
    let (main, secret) = (repo.rev_parse("main"), repo.rev_parse("refs/hidden/secret"));
    let nothing = "1234567890123456789012345678901234567890";
    let request = |have: &str| {
        lines(&["command=fetch", "object-format=sha1", "|", &format!("want {main}"), &format!("have {have}"), "."])
    };
    let answer = |have: &str| Talk::v2(&view).ask(&request(have)).unwrap();
    assert_eq!(answer(nothing), lines(&["acknowledgments", "NAK", "."]));
    assert_eq!(answer(&secret.to_string()), answer(nothing));
    assert_eq!(answer(&repo.rev_parse("refs/hidden/secret:dir1").to_string()), answer(nothing));
    let old = repo.rev_parse("main~7").to_string();
    let ready = lines(&["acknowledgments", &format!("ACK {old}"), "ready", "|", "packfile"]);
    assert!(answer(&old).starts_with(&ready));
    // And in version 0.
    let answer = |have: &str| {
        let want = format!("want {main} multi_ack_detailed side-band-64k");
        Talk::v0(&view).ask(&lines(&[&want, ".", &format!("have {have}"), "."])).unwrap()
    };
    assert_eq!(answer(nothing), lines(&["NAK"]));
    assert_eq!(answer(&secret.to_string()), answer(nothing));
    assert_eq!(answer(&old), lines(&[&format!("ACK {old} common"), &format!("ACK {old} ready"), "NAK"]));
}

#[test]
fn unshallowing_a_hidden_commit_brings_nothing() {
    let repo = repo_with_secrets();
    let view = repo.view();
    let (main, secret) = (repo.rev_parse("main~40"), repo.rev_parse("refs/hidden/secret"));
    for deepen in ["deepen 2147483647", "deepen 3"] {
        for relative in [&[][..], &["deepen-relative"]] {
            let (want, shallow) = (format!("want {main}"), format!("shallow {secret}"));
            let request = [&["command=fetch", "|", &want, &shallow, deepen][..], relative, &["done", "."]].concat();
            let answer = Talk::v2(&view).ask(&lines(&request)).unwrap();
            let text = String::from_utf8_lossy(&answer);
            assert!(text.contains("packfile") && !text.contains("unshallow"), "{text}");
        }
    }
}

#[test]
fn a_force_push_between_listing_and_fetching_does_not_break_an_honest_clone() {
    for version in ["0", "2"] {
        for http in [false, true] {
            let repo = Repo::with_history(FORMATS[0]);
            let before = repo.view();
            let old = repo.rev_parse("main");
            repo.git(&["update-ref", "refs/heads/main", "main~2"]);
            repo.commit("main", 2, "forced");
            let after = repo.view();
            let server = Server::start(before.clone());
            let url = if http { server.http_url() } else { server.git_url() };
            let dir = tempfile::tempdir().unwrap();
            let mut remembered = after.clone();
            remembered.recent_tips = [(jiff::Timestamp::MAX, old)].into_iter().collect();
            server.show_after_refs(remembered);
            let ours = clone(&dir, "ours", &url, version, &["--single-branch"]);
            assert_eq!(git(&ours, &["rev-parse", "HEAD"]), old.to_string());
            git(&ours, &["fsck", "--strict"]);
            if version == "0" && !http {
                continue; // One connection, one state.
            }
            // Once it is forgotten, it is gone.
            server.show(before);
            server.show_after_refs(after);
            let version = format!("protocol.version={version}");
            let error = git_fails(dir.path(), &["-c", &version, "clone", "--single-branch", &url, "late"]);
            assert!(error.contains("not our ref"), "{error}");
        }
    }
}

#[test]
fn refs_wanted_by_name() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let request = |name: &str| lines(&["command=fetch", "|", &format!("want-ref {name}"), "done", "."]);
    for (name, id) in [("refs/heads/alias", "side"), ("HEAD", "main"), ("refs/tags/v1", "v1")] {
        let answer = Talk::v2(&view).with_ref_in_want().ask(&request(name)).unwrap();
        let expected = lines(&["wanted-refs", &format!("{} {name}", repo.rev_parse(id)), "|", "packfile"]);
        assert!(answer.starts_with(&expected), "{name}");
    }
    for name in ["refs/heads/nothing", "refs/heads/dangling", "main", "refs/hidden/x"] {
        let mut talk = Talk::v2(&view).with_ref_in_want();
        assert!(talk.ask(&request(name)).is_err());
        assert!(talk.heard().ends_with(format!("ERR unknown ref {name}").as_bytes()));
    }
}

#[test]
fn clients_fetch_refs_by_name_where_that_is_offered() {
    let repo = Repo::with_history(FORMATS[0]);
    let server = Server::start(repo.view());
    server.offer_ref_in_want();
    let dir = tempfile::tempdir().unwrap();
    for (at, url) in [server.git_url(), server.http_url()].iter().enumerate() {
        let theirs = clone(&dir, &format!("theirs{at}"), &repo.url(), "2", &["--single-branch"]);
        let ours = clone(&dir, &format!("ours{at}"), url, "2", &["--single-branch"]);
        assert_same_clones(&ours, &theirs);
        // The ref moves after the client was told about it: `fetch` takes it as it is now.
        repo.commit("side", 1, &format!("side{at}"));
        server.show_after_refs(repo.view());
        git(&ours, &["fetch", "-q", url, "refs/heads/side:refs/heads/side"]);
        assert_eq!(git(&ours, &["rev-parse", "side"]), repo.rev_parse("side").to_string());
    }
}
