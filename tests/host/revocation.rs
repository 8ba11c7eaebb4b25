//! Time from the revocation of a credential to the first refusal, in the region of the change and in the other one.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::iam::{Iam, Login, POWER_USER};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

/// Revocations that are measured.
const ROUNDS: usize = 15;
/// Interval between two requests.
const POLL: Duration = Duration::from_millis(20);
/// Limit of the documentation in the region of the change, 2 s, with slack for a machine that does other work.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a refusal in the other region.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status of a request with a Git credential.
fn status(pair: &Pair, region: usize, login: &Login) -> String {
    let basic = STANDARD.encode(format!("{}:{}", login.user, login.password));
    let request = format!(
        "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Basic {basic}\r\n\r\n"
    );
    pair.raw(region, &request).split(' ').nth(1).unwrap().to_owned()
}

/// Time from `start` to the first refusal. No request is sent after it, as failures are counted.
fn until_refused(pair: &Pair, region: usize, login: &Login, start: Instant) -> Duration {
    loop {
        match status(pair, region, login).as_str() {
            "401" => return start.elapsed(),
            "200" => assert!(start.elapsed() < PATIENCE, "{} goes on to accept the credential", REGIONS[region]),
            other => panic!("{other} from {}", REGIONS[region]),
        }
        std::thread::sleep(POLL);
    }
}

fn line(region: usize, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let ms = |at: usize| times[at].as_millis();
    let name = REGIONS[region];
    format!("{name}: median {} ms, shortest {} ms, longest {} ms of {ROUNDS}", ms(ROUNDS / 2), ms(0), ms(ROUNDS - 1))
}

#[test]
#[ignore = "measures for a minute; `just measure-revocation` prints the figures"]
fn a_revoked_credential_is_refused_soon_in_both_regions() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    iam.settle(US);
    iam.settle(EU);
    repo.git(&["push", "-q", &ann.url(&pair, US, "app"), "main"]);
    pair.wait(|| status(&pair, EU, &ann) == "200");
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        assert_eq!([US, EU].map(|region| status(&pair, region, &ann)), ["200", "200"]);
        iam.json(&["git-credential", "deactivate", &ann.id, "--user", "ann"]);
        let start = Instant::now();
        let both = std::thread::scope(|scope| {
            let polls = [US, EU].map(|region| {
                scope.spawn({
                    let pair = &pair;
                    let ann = &ann;
                    move || until_refused(pair, region, ann, start)
                })
            });
            polls.map(|poll| poll.join().unwrap())
        });
        times[US].push(both[US]);
        times[EU].push(both[EU]);
        iam.json(&["git-credential", "activate", &ann.id, "--user", "ann"]);
        iam.settle(US);
        iam.settle(EU);
    }
    let [here, there] = times;
    let longest = here.iter().max().copied().unwrap();
    println!("{}\n{}", line(US, here), line(EU, there));
    assert!(longest < LIMIT, "a revoked key worked for {longest:?} in the region of the change");
}
