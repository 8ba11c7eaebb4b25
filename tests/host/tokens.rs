//! Tokens: for their repositories and rights, exchanged while the host serves.

use std::os::unix::fs::PermissionsExt as _;

use crate::git::GitRepo;
use crate::pair::{Pair, REGIONS, US};
use crate::said;

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
    let mut worker = std::process::Command::new(env!("CARGO_BIN_EXE_gitferry"))
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
