//! Users of AWS over SSH: the user name is the id of an SSH public key of AWS IAM.

use super::fake::Fake;
use super::{account, jane, let_hosts_delegate, pair, wait_for_account};
use crate::said;
use crate::ssh::{Ssh, public};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, REGIONS, US, free_addresses};
use gitferry_test_support::sshd::keygen;

/// An id as AWS gives it: of 20 characters.
const ID: &str = "APKAEIBAERJR2EXAMPLE";

#[test]
fn a_key_of_aws_iam_logs_in_and_its_pushes_are_forwarded() {
    let keys = tempfile::tempdir().unwrap();
    for name in ["jane", "other"] {
        keygen(&keys.path().join(name), "ed25519", "");
    }
    let fake = Fake::start(&[jane()], account(""));
    fake.set_ssh_key(ID, &public(&keys.path().join("jane")));
    let addresses = free_addresses();
    let lines = addresses.map(|address| format!("ssh = \"{address}\"\non_push = \"forward\"\n"));
    let mut pair = pair(&fake, [&lines[US], &lines[EU]]);
    wait_for_account(&pair);
    let_hosts_delegate(&mut pair);
    let ssh = Ssh::of(pair, addresses, keys);
    let login = |user: &str, key: &str| said(&ssh.ssh_as(user, &ssh.key(key), &[], &[]).output().unwrap());
    assert!(login(ID, "jane").contains(":user/team/jane! gitferry gives no shell"), "{}", ssh.pair.log());
    for (user, key) in [(ID, "other"), ("APKAEIBAERJR2EXAMPL2", "jane"), ("git", "jane")] {
        assert!(login(user, key).contains("Permission denied"), "{user} {key}");
    }
    let repo = GitRepo::with_history(ssh.pair.path("src.git"), &[]);
    let url = |region: usize| format!("ssh://{ID}@{}/app", ssh.address(region));
    ssh.git("jane", &repo, &["push", "-q", &url(US), "main"]);
    ssh.pair.wait(|| ssh.try_git("jane", &repo, &["ls-remote", &url(EU), "main"]).status.success());
    let id = repo.commit("main", "x", "1");
    ssh.git("jane", &repo, &["push", "-q", &url(EU), "main"]);
    assert!(ssh.git("jane", &repo, &["ls-remote", &url(EU), "main"]).starts_with(&id));
    let log = ssh.pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    let newest = log.lines().find(|line| line.contains(&id)).unwrap();
    assert!(newest.contains(&jane().arn), "{newest}");
}
