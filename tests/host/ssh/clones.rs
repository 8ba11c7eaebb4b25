//! Clones and fetches.

use super::Ssh;
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::pair::{EU, US};

#[test]
fn push_to_one_region_and_clone_from_the_other() {
    let ssh = Ssh::open();
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    ssh.git("ann", &repo, &["push", "-q", "--mirror", &ssh.url(US, "team/app")]);
    for path in ["team/app", "team/app.git", "v1/repos/team/app", "v1/repos/team/app.git"] {
        ssh.assert_clones_as(&repo, &ssh.url(US, path), &[]);
    }
    // In the form of scp, without a slash before the path.
    let port = format!("-p {}", ssh.address(US).port());
    let to = ssh.pair.path("scp");
    let mut command = ssh.command("ann", &repo.path, &[&port]);
    let output = command.args(["clone", "-q", "--mirror", "git@127.0.0.1:team/app", to.to_str().unwrap()]).output();
    assert!(output.unwrap().status.success());
    assert_eq!(GitRepo::at(to).refs(), repo.refs());
    repo.commit("main", "more", "more\n");
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    ssh.git("ann", &repo, &["push", "-q", "--mirror", &ssh.url(US, "team/app")]);
    ssh.pair.wait(|| {
        let listed = ssh.git("ann", &repo, &["ls-remote", &ssh.url(EU, "team/app"), "refs/heads/*"]);
        listed.contains(&repo.git(&["rev-parse", "main"])) && !listed.contains("refs/heads/side")
    });
    ssh.assert_clones_as(&repo, &ssh.url(EU, "team/app"), &[]);
}

/// The history of gitferry itself.
#[test]
#[ignore = "needs a whole clone of this repository"]
fn the_repository_of_this_project_is_pushed_and_cloned() {
    let ssh = Ssh::open();
    let own = ssh.pair.path("own.git");
    let here = GitRepo::at(env!("CARGO_MANIFEST_DIR"));
    here.git(&["clone", "-q", "--bare", "--single-branch", "--no-local", ".", own.to_str().unwrap()]);
    let own = GitRepo::at(own);
    let url = ssh.url(US, "gitferry");
    ssh.git("ann", &own, &["push", "-q", "--mirror", &url]);
    ssh.assert_clones_as(&own, &url, &[]);
    ssh.pair.wait(|| ssh.try_git("ann", &own, &["ls-remote", &ssh.url(EU, "gitferry")]).status.success());
    ssh.assert_clones_as(&own, &ssh.url(EU, "gitferry"), &[]);
}

#[test]
fn versions_of_the_protocol_and_shapes_of_clones() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let url = ssh.url(US, "app");
    for version in ["0", "1", "2"] {
        let config = format!("protocol.version={version}");
        ssh.assert_clones_as(&repo, &url, &["-c", &config]);
        let mut trace = ssh.command("ann", &repo.path, &[]);
        trace.args(["-c", &config, "ls-remote", &url]).env("GIT_TRACE_PACKET", "1");
        let traced = crate::said(&trace.output().unwrap());
        assert_eq!(traced.contains("< version 2"), version == "2", "{traced}");
        assert_eq!(traced.contains("< version 1"), version == "1", "{traced}");
        let shallow = ssh.pair.path(&format!("shallow-{version}"));
        ssh.git("ann", &repo, &["-c", &config, "clone", "-q", "--depth", "1", &url, shallow.to_str().unwrap()]);
        let shallow = GitRepo::at(shallow.join(".git"));
        assert_eq!(shallow.git(&["rev-list", "--count", "HEAD"]), "1");
        ssh.git("ann", &shallow, &["-c", &config, "fetch", "-q", "--unshallow"]);
        assert_eq!(shallow.git(&["rev-list", "--count", "HEAD"]), repo.git(&["rev-list", "--count", "main"]));
        let partial = ssh.pair.path(&format!("partial-{version}"));
        ssh.git("ann", &repo, &["-c", &config, "clone", "-q", "--filter=blob:none", &url, partial.to_str().unwrap()]);
        // Every missing blob is fetched in a conversation of its own.
        let partial = GitRepo::at(partial.join(".git"));
        ssh.git("ann", &partial, &["-c", &config, "log", "-p", "--all"]);
    }
    let single = ssh.pair.path("single");
    ssh.git("ann", &repo, &["clone", "-q", "--single-branch", "-b", "side", &url, single.to_str().unwrap()]);
    assert_eq!(GitRepo::at(single.join(".git")).git(&["rev-parse", "HEAD"]), repo.git(&["rev-parse", "side"]));
}

/// Both sides have hundreds of commits that the other lacks, so that finding the common ones takes rounds.
#[test]
fn a_fetch_that_takes_many_rounds() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let url = ssh.url(US, "app");
    let clones = ["0", "2"].map(|version| {
        let to = ssh.pair.path(&format!("clone-{version}"));
        ssh.git("ann", &repo, &["clone", "-q", "--mirror", &url, to.to_str().unwrap()]);
        let clone = GitRepo::at(to);
        let mut script = String::new();
        for n in 0..400 {
            script += &format!("commit refs/heads/own\ncommitter C <c@example.com> {} +0000\n", 1_700_000_100 + n);
            script += "data 1\nx\n";
            if n == 0 {
                script += "from refs/heads/main^0\n";
            }
            script += &format!("M 100644 inline own{version}\ndata {}\n{n}\n", n.to_string().len());
        }
        clone.feed(&["fast-import", "--quiet"], script.as_bytes());
        (version, clone)
    });
    for n in 0..30 {
        repo.commit("main", "new", &format!("{n}\n"));
    }
    ssh.git("ann", &repo, &["push", "-q", &url, "main"]);
    for (version, clone) in clones {
        let config = format!("protocol.version={version}");
        let mut command = ssh.command("ann", &clone.path, &[]);
        command.args(["-c", &config, "fetch", "-q", &url, "main", "--negotiation-tip=own"]);
        let traced = crate::said(&command.env("GIT_TRACE_PACKET", "1").output().unwrap());
        assert!(traced.contains("> have ") && traced.contains("< ACK"), "{version}");
        assert_eq!(clone.git(&["rev-parse", "FETCH_HEAD"]), repo.git(&["rev-parse", "main"]));
        clone.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

/// Keys are exchanged again in the middle, by either side's wish, and windows open again many times.
#[test]
fn large_packs_in_both_directions_with_new_keys_in_between() {
    let ssh = Ssh::open();
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    for n in 0..4 {
        repo.commit_bytes("main", &format!("large{n}"), &noise(n, 6 << 20));
    }
    let url = ssh.url(US, "large");
    let rekeying = ["-o", "RekeyLimit=1M"];
    let output = ssh.command("ann", &repo.path, &rekeying).args(["push", "-q", "--mirror", &url]).output().unwrap();
    assert!(output.status.success(), "{}", crate::said(&output));
    let to = ssh.pair.path("clone");
    let mut command = ssh.command("ann", &repo.path, &rekeying);
    let output = command.args(["clone", "-q", "--mirror", &url, to.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", crate::said(&output));
    assert_eq!(GitRepo::at(&to).refs(), repo.refs());
    GitRepo::at(&to).git(&["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn errors_within_the_protocol_reach_the_client() {
    let ssh = Ssh::open();
    let repo = ssh.with_app();
    let missing = "1".repeat(40);
    for version in ["0", "2"] {
        let config = format!("protocol.version={version}");
        let output = ssh.try_git("ann", &repo, &["-c", &config, "fetch", &ssh.url(US, "app"), &missing]);
        assert_eq!(output.status.code(), Some(128));
        assert!(crate::said(&output).contains("not our ref"), "{}", crate::said(&output));
    }
    // The exit status is the one of Git's own server.
    let request = format!("0032want {missing}\n00000009done\n");
    let mut command = ssh.ssh(&ssh.key("ann"), &[], &["git-upload-pack 'app'"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), request.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ERR upload-pack: not our ref"));
}
