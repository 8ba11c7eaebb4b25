//! Tokens: for their repositories and rights, exchanged while the host serves.

use std::os::unix::fs::PermissionsExt as _;

use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, REGIONS, US, new_certificate};

fn with(pair: &Pair, token: &str, name: &str) -> String {
    pair.url(US, name).replace("http://", &format!("http://x:{token}@"))
}

#[test]
fn a_token_reaches_its_repositories_and_no_others() {
    let pair = Pair::with_tokens(
        "ann:0123456789abcdef\nci:00000000ffffffff:write:team/*\nviewer:11111111ffffffff:read:team/app\n",
    );
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &with(&pair, "0123456789abcdef", "other"), "main"]);
    repo.git(&["push", "-q", &with(&pair, "00000000ffffffff", "team/app"), "main"]);
    repo.git(&["ls-remote", &with(&pair, "11111111ffffffff", "team/app")]);
    // The same answer whether there is such a repository or not.
    let answers: Vec<String> = ["other", "nothing"]
        .map(|name| {
            let output = repo.try_git(&["ls-remote", &with(&pair, "00000000ffffffff", name)]);
            assert!(!output.status.success());
            said(&output).replace(name, "NAME")
        })
        .into();
    assert_eq!(answers[0], answers[1]);
    assert!(answers[0].contains("403"), "{}", answers[0]);
    for (token, name) in [("00000000ffffffff", "app"), ("11111111ffffffff", "team/app"), ("00000000ffffffff", "new")] {
        assert!(!repo.try_git(&["push", &with(&pair, token, name), "main:refs/heads/x"]).status.success(), "{name}");
    }
    let listed = pair.ok(&["repo", "list", "--region", REGIONS[US]]);
    assert!(!listed.contains("new"), "{listed}");
}

#[test]
fn tokens_are_exchanged_while_serving_and_a_signal_kills_nothing() {
    let pair = Pair::with_tokens("ann:0123456789abcdef\n");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let works = |token: &str| repo.try_git(&["push", "-q", &with(&pair, token, "app"), "main"]).status.success();
    assert!(works("0123456789abcdef"));
    let file = pair.path("data/tokens");
    std::fs::write(&file, "ann:fedcba9876543210\n").unwrap();
    pair.wait(|| works("fedcba9876543210"));
    assert!(!works("0123456789abcdef"), "a token that is gone is still accepted");
    // What makes no sense changes nothing, and is said without its content.
    std::fs::write(&file, "ann:eeeeeeeeeeeeeeee:everything\n").unwrap();
    pair.signal("HUP");
    pair.wait(|| pair.log().contains("the old tokens stay in use"));
    assert!(works("fedcba9876543210") && !pair.log().contains("eeeeeeeeeeeeeeee"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&file, "ann:aaaaaaaaaaaaaaaa\n").unwrap();
    pair.signal("HUP");
    pair.wait(|| works("aaaaaaaaaaaaaaaa"));
    assert!(pair.log().contains("every user of this machine can read the tokens"), "{}", pair.log());
}

#[test]
fn a_signal_kills_no_host_that_has_nothing_to_read() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    for number in 0..3 {
        pair.signal("HUP");
        repo.git(&["push", "-q", &pair.url(US, "app"), &format!("main:refs/heads/b{number}")]);
    }
    let mut worker = std::process::Command::new(gitferry_test_support::paths::gitferry())
        .args(["worker", "--health", "127.0.0.1:0", "--json", "--config"])
        .arg(pair.path("data/gitferry.toml"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Its first line says that it works.
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(worker.stdout.take().unwrap()), &mut first).unwrap();
    assert!(first.contains("health"), "{first}");
    let send = |name: &str| std::process::Command::new("kill").args(["-s", name, &worker.id().to_string()]).status();
    assert!(send("HUP").unwrap().success());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(send("TERM").unwrap().success());
    assert_eq!(worker.wait().unwrap().code(), Some(0), "it was killed");
}

#[test]
fn state_is_for_its_owner_alone() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let data = pair.path("data").join(REGIONS[US]);
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(data.clone()), 0o700);
    assert_eq!(mode(data.join("objects")), 0o700);
    for entry in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        assert_eq!(mode(entry.clone()) & 0o077, 0, "{}", entry.display());
    }
}

/// What a host with tokens says that cannot begin to listen, since its address is taken or not one of this machine.
fn says_before_listening(listen: &str, lines: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    new_certificate(dir.path());
    let file = dir.path().join("gitferry.toml");
    let region = "[regions.us]\nobjects = \"file:objects\"\ntable = \"sqlite:table.db\"\n";
    let host = format!("[hosts.us]\nlisten = \"{listen}\"\nauth = {{ tokens = \"tokens\" }}\n{lines}\n");
    std::fs::write(&file, format!("{region}{host}")).unwrap();
    std::fs::write(dir.path().join("tokens"), "ann:0123456789abcdef\n").unwrap();
    let gitferry = |arg: &[&str]| {
        let mut command = std::process::Command::new(gitferry_test_support::paths::gitferry());
        command.arg("--config").arg(&file).args(arg).stdin(std::process::Stdio::null());
        command
    };
    let made = gitferry(&["region", "init"]).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut up = gitferry(&["up"]);
    let mut up = up.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut code = None;
    for _ in 0..600 {
        code = up.try_wait().unwrap();
        if code.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    up.kill().unwrap();
    up.wait().unwrap();
    let text = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(code.is_some_and(|code| !code.success()), "{text}");
    text
}

#[test]
fn tokens_in_clear_beyond_loopback_are_warned_of() {
    // An address that no machine has (RFC 5737), and ports that are taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let loopback = taken.local_addr().unwrap().to_string();
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
    for (listen, lines, warned) in [
        ("192.0.2.1:8411", "", true),
        ("[2001:db8::1]:8411", "", true),
        ("192.0.2.1:8411", tls, false),
        ("192.0.2.1:8411", "trusted_proxies = [\"192.0.2.2\"]", false),
        (&loopback, "", false),
    ] {
        let said = says_before_listening(listen, lines);
        let found = said.contains("tokens and content cross the network unencrypted");
        assert!(found == warned, "{listen} {lines}: {said}");
        assert!(!warned || said.contains("set `tls`, or `trusted_proxies`"), "{said}");
    }
}
