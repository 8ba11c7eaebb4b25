//! Hosts whose region no longer gets the changes of the account that it has a replica of.

use crate::iam::{Iam, Login, POWER_USER, works};
use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};

/// A repository of ann's that both regions have.
fn replicated(pair: &Pair) -> (GitRepo, Login) {
    let iam = Iam { pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    iam.settle(US);
    iam.settle(EU);
    repo.git(&["push", "-q", &ann.url(pair, US, "app"), "main"]);
    pair.wait(|| works(&repo.try_git(&["ls-remote", &ann.url(pair, EU, "app"), "main"])));
    (repo, ann)
}

fn configure(pair: &mut Pair, change: impl FnOnce(String) -> String) {
    let file = pair.path("data/gitferry.toml");
    let config = change(std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, config).unwrap();
    pair.restart();
}

#[test]
fn a_link_that_is_told_to_leave_the_account_out_leaves_no_old_rights() {
    let mut pair = Pair::with_iam();
    let (repo, ann) = replicated(&pair);
    let reads = |pair: &Pair, region: usize| repo.try_git(&["ls-remote", &ann.url(pair, region, "app")]);
    let whole = std::fs::read_to_string(pair.path("data/gitferry.toml")).unwrap();
    configure(&mut pair, |config| config + "account = false\n");
    pair.wait(|| works(&reads(&pair, US)));
    let refused = reads(&pair, EU);
    assert!(said(&refused).contains("503"), "{}", said(&refused));
    let reason = "links.dr, which brought it, has account = false";
    assert!(
        pair.log().contains(reason) && pair.log().contains("gitferry iam detach --region eu-west-1"),
        "{}",
        pair.log()
    );
    pair.ok(&["iam", "detach", "--region", REGIONS[EU], "--yes"]);
    let listed = pair.gitferry(&["iam", "user", "list", "--region", REGIONS[EU]]);
    assert!(!works(&listed) && said(&listed).contains("has no account"), "{}", said(&listed));
    pair.restart();
    assert!(said(&reads(&pair, EU)).contains("503"));
    // The link brings it again.
    configure(&mut pair, |_| whole);
    pair.wait(|| works(&reads(&pair, EU)));
}

#[test]
fn a_running_host_refuses_everything_once_its_region_is_detached() {
    let mut pair = Pair::with_iam();
    let (repo, ann) = replicated(&pair);
    configure(&mut pair, |config| config.split("[links.dr]").next().unwrap().to_owned());
    let reads = || repo.try_git(&["ls-remote", &ann.url(&pair, EU, "app")]);
    // Another worker may bring it: the host goes on, and says what it knows.
    pair.wait(|| works(&reads()));
    assert!(pair.log().contains("no link of this configuration brings its changes"), "{}", pair.log());
    pair.ok(&["iam", "detach", "--region", REGIONS[EU], "--yes"]);
    pair.wait(|| said(&reads()).contains("503"));
    assert!(works(&repo.try_git(&["ls-remote", &ann.url(&pair, US, "app")])));
}
