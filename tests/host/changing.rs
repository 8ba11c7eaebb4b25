//! Names that change hands under pushes through two hosts of one region, judged by real Git and by the ledger.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

/// Names that are renamed, swapped, deleted and made anew.
const CHANGING: [&str; 2] = ["team/app", "team/lib"];
/// The name of a repository that stays.
const STAYS: &str = "kept";

/// A second host of the first region, on the same stores.
struct SecondHost {
    process: Child,
    url: String,
}

impl SecondHost {
    fn start(pair: &Pair) -> SecondHost {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = std::fs::read_to_string(pair.path("data/gitferry.toml")).unwrap();
        config = config.replace(&format!("\"{}\"", pair.address(US)), &format!("\"{address}\""));
        std::fs::write(pair.path("data/second.toml"), config).unwrap();
        let log = std::fs::File::create(pair.path("second.log")).unwrap();
        let mut command = Command::new(gitferry_test_support::paths::gitferry());
        command.args(["up", "--host", REGIONS[US], "--config"]).arg(pair.path("data/second.toml"));
        command.env_remove("FAILPOINTS").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let host = SecondHost { process: command.spawn().unwrap(), url: format!("http://{address}") };
        pair.wait(|| std::net::TcpStream::connect(address).is_ok());
        host
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }
}

impl Drop for SecondHost {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pushes `pushes` commits to a branch of its own in each repository, through either host. What was accepted last, by
/// the repository's name.
fn push_often(pair: &Pair, second: &SecondHost, pusher: usize, pushes: usize) -> BTreeMap<&'static str, String> {
    let repo = GitRepo::with_history(pair.path(&format!("pusher-{pusher}")), &[]);
    let mut accepted = BTreeMap::new();
    for push in 0..pushes {
        let name = [STAYS, CHANGING[0], CHANGING[1]][(pusher + push) % 3];
        let url = if (pusher + push / 3).is_multiple_of(2) { pair.url(US, name) } else { second.url(name) };
        let branch = format!("b{pusher}");
        let id = repo.commit(&branch, &format!("file-{pusher}"), &format!("{push}\n"));
        // By force: the repository may be another one than the last time.
        let output = repo.try_git(&["push", "-q", "--force", &url, &branch]);
        let said = said(&output);
        if output.status.success() {
            accepted.insert(name, id);
        } else {
            assert_ne!(name, STAYS, "{said}\n{}", pair.log());
            // The name means nothing now, or another repository than the one that the client was shown, which lacks the
            // objects that the pack builds on or has other values.
            let reasons = ["not found", "HTTP 404", "replaced", "rejected", "index-pack", "unpack"];
            assert!(reasons.iter().any(|reason| said.contains(reason)), "{name}: {said}");
        }
    }
    accepted
}

/// Changes names as long as pushers work.
fn change_often(pair: &Pair, working: &AtomicUsize) -> String {
    let mut done = String::new();
    let [app, lib] = CHANGING;
    let mut run = |args: &[&str]| {
        let output = pair.gitferry(&[&["repo"], args, &["--region", REGIONS[US]]].concat());
        let _ = writeln!(done, "{args:?}: {}", said(&output));
    };
    for round in 0.. {
        if working.load(Ordering::SeqCst) == 0 {
            break;
        }
        match round % 4 {
            0 => {
                run(&["rename", app, "between"]);
                run(&["rename", lib, app]);
                run(&["rename", "between", lib]);
            }
            1 => {
                run(&["delete", app]);
                run(&["create", app]);
            }
            2 => run(&["rename", lib, "elsewhere"]),
            _ => run(&["rename", "elsewhere", lib]),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    done
}

fn run(pushers: usize, pushes: usize) {
    let pair = Pair::open();
    for name in [STAYS, CHANGING[0], CHANGING[1]] {
        pair.ok(&["repo", "create", name, "--region", REGIONS[US]]);
    }
    let second = SecondHost::start(&pair);
    let working = AtomicUsize::new(pushers);
    let accepted: Vec<_> = std::thread::scope(|scope| {
        let changing = scope.spawn(|| change_often(&pair, &working));
        let pushing: Vec<_> = (0..pushers)
            .map(|pusher| {
                let (pair, second, working) = (&pair, &second, &working);
                scope.spawn(move || {
                    let accepted = std::panic::catch_unwind(|| push_often(pair, second, pusher, pushes));
                    working.fetch_sub(1, Ordering::SeqCst);
                    accepted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            })
            .collect();
        let accepted = pushing.into_iter().map(|pusher| pusher.join().unwrap()).collect();
        println!("{}", changing.join().unwrap());
        accepted
    });
    // What was accepted last for a branch of the repository that stays is what it has.
    let listed = GitRepo::at(pair.dir()).git(&["ls-remote", &second.url(STAYS), "refs/heads/*"]);
    for (pusher, accepted) in accepted.iter().enumerate() {
        let expected = format!("{}\trefs/heads/b{pusher}", accepted[STAYS]);
        assert!(listed.lines().any(|line| line == expected), "{expected} is not in {listed}");
    }
    assert!(accepted.iter().any(|accepted| accepted.len() > 1), "nothing was pushed to a name that changes");
    // The other region gets there by itself, names and all, and both are whole.
    let names: Vec<String> =
        pair.ok(&["repo", "list", "--region", REGIONS[US]]).lines().skip(1).map(first_word).collect();
    for name in &names {
        let us = GitRepo::at(pair.dir()).git(&["ls-remote", &pair.url(US, name)]);
        pair.wait(|| {
            let eu = GitRepo::at(pair.dir()).try_git(&["ls-remote", &pair.url(EU, name)]);
            eu.status.success() && String::from_utf8_lossy(&eu.stdout).trim_end() == us
        });
        for region in [US, EU] {
            let to = pair.path(&format!("judged-{region}-{}", name.replace('/', "-")));
            GitRepo::at(pair.dir()).git(&["clone", "-q", "--mirror", &pair.url(region, name), to.to_str().unwrap()]);
            GitRepo::at(to).git(&["fsck", "--strict", "--no-dangling"]);
        }
    }
    pair.ok(&["verify", "dr", "--deep"]);
}

fn first_word(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().into()
}

#[test]
fn names_change_hands_under_pushes_through_two_hosts() {
    run(4, 9);
}

#[test]
#[ignore = "takes minutes: hundreds of pushes"]
fn names_change_hands_under_many_pushes_through_two_hosts() {
    run(8, 60);
}
