//! Hosts with `auth = "iam"`: users, their credentials and their policies, seen by real clients.

use std::process::{Command, Output};

use crate::said;
use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::Value;

pub(crate) const POWER_USER: &str = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser";
pub(crate) const READ_ONLY: &str = "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly";

/// The administrator's account of a pair with `auth = "iam"`.
pub(crate) struct Iam<'a> {
    pub(crate) pair: &'a Pair,
}

impl Iam<'_> {
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let more = ["--region", REGIONS[US], "--json"];
        serde_json::from_str(&self.pair.ok(&[&["iam"], args, &more].concat())).unwrap()
    }

    pub(crate) fn account(&self) -> String {
        let user = self.json(&["user", "list"])["users"][0]["arn"].as_str().unwrap().to_owned();
        user.split(':').nth(4).unwrap().to_owned()
    }

    /// Makes a user with managed policies.
    pub(crate) fn new_user(&self, name: &str, policies: &[&str]) {
        self.json(&["user", "create", name]);
        for policy in policies {
            self.json(&["policy", "attach", policy, "--user", name]);
        }
    }

    /// Makes a user with managed policies; its Git credential as the beginning of a URL.
    pub(crate) fn user(&self, name: &str, policies: &[&str]) -> Login {
        self.new_user(name, policies);
        let made = self.json(&["git-credential", "create", "--user", name]);
        Login {
            id: made["id"].as_str().unwrap().to_owned(),
            user: made["user_name"].as_str().unwrap().to_owned(),
            password: made["password"].as_str().unwrap().to_owned(),
        }
    }

    /// Writes an inline policy of a user.
    pub(crate) fn put(&self, user: &str, policy: &str, document: &str) {
        let file = self.pair.path(&format!("{policy}.json"));
        std::fs::write(&file, document).unwrap();
        self.json(&["policy", "put", policy, file.to_str().unwrap(), "--user", user]);
    }

    /// Waits until the host of a region decides by the newest state of the account.
    pub(crate) fn settle(&self, region: usize) {
        let shown = self.pair.ok(&["repo", "show", "gitferry/account", "--region", REGIONS[US], "--json"]);
        let seq = serde_json::from_str::<Value>(&shown).unwrap()["frontier"]["seq"].as_u64().unwrap();
        let region = format!("region=\"{}\" seq=", REGIONS[region]);
        let in_force = |line: &str| {
            let line = line.split_once("a state of the account is in force")?.1;
            line.split_once(&region)?.1.trim().parse::<u64>().ok()
        };
        self.pair.wait(|| self.pair.log().lines().filter_map(in_force).any(|found| found >= seq));
    }
}

pub(crate) struct Login {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Login {
    pub(crate) fn url(&self, pair: &Pair, region: usize, name: &str) -> String {
        let encode =
            |text: &str| {
                text.bytes()
                    .map(|byte| {
                        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
                    })
                    .collect::<String>()
            };
        let own = format!("://{}:{}@", encode(&self.user), encode(&self.password));
        pair.url(region, name).replacen("://", &own, 1)
    }
}

pub(crate) fn works(output: &Output) -> bool {
    output.status.success()
}

#[test]
fn users_do_what_their_policies_allow_in_both_regions() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    let bob = iam.user("bob", &[READ_ONLY]);
    let eve = iam.user("eve", &[]);
    iam.settle(US);
    repo.git(&["push", "-q", &ann.url(&pair, US, "app"), "main"]);
    repo.git(&["ls-remote", &bob.url(&pair, US, "app")]);
    let refused = repo.try_git(&["push", &bob.url(&pair, US, "app"), "main:refs/heads/bob"]);
    assert!(said(&refused).contains("403"), "{}", said(&refused));
    // The answer does not say if there is such a repository.
    let answers = ["app", "nothing"].map(|name| {
        let output = repo.try_git(&["ls-remote", &eve.url(&pair, US, name)]);
        assert!(!works(&output));
        said(&output).replace(name, "NAME")
    });
    assert_eq!(answers[0], answers[1]);
    let wrong = Login { password: "x".repeat(44), user: ann.user.clone(), id: ann.id.clone() };
    let unknown = Login { password: "x".repeat(44), user: "unknown-at-1".into(), id: ann.id.clone() };
    for login in [&wrong, &unknown] {
        let output = repo.try_git(&["ls-remote", &login.url(&pair, US, "app")]);
        assert!(said(&output).to_lowercase().contains("authentication failed"), "{}", said(&output));
    }
    // The account has come to the other region, whose host knows the same users.
    iam.settle(EU);
    pair.wait(|| works(&repo.try_git(&["ls-remote", &bob.url(&pair, EU, "app"), "main"])));
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    assert!(log.contains(&format!("arn:aws:iam::{}:user/ann", iam.account())), "{log}");
    let status = pair.ok(&["verify", "dr", "--deep"]);
    assert!(!status.contains("fork"), "{status}");
}

#[test]
fn a_credential_that_is_gone_stops_working_in_both_regions() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    let reads = |region: usize| works(&repo.try_git(&["ls-remote", &ann.url(&pair, region, "app")]));
    let settle = || {
        iam.settle(US);
        iam.settle(EU);
    };
    settle();
    repo.git(&["push", "-q", &ann.url(&pair, US, "app"), "main"]);
    pair.wait(|| reads(EU));
    iam.json(&["git-credential", "deactivate", &ann.id, "--user", "ann"]);
    settle();
    assert!(!reads(US) && !reads(EU));
    iam.json(&["git-credential", "activate", &ann.id, "--user", "ann"]);
    settle();
    assert!(reads(US) && reads(EU));
    iam.json(&["policy", "detach", POWER_USER, "--user", "ann"]);
    settle();
    assert!(!reads(US) && !reads(EU));
}

/// The statement that denies pushes to a branch, and with `null` the clause of the user guide's example 4.
pub(crate) fn deny_prod(account: &str, null: bool) -> String {
    let clause = if null { r#", "Null": {"codecommit:References": "false"}"# } else { "" };
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{
            "Effect": "Deny", "Action": ["codeCommit:GitPush"],
            "Resource": "arn:aws:codecommit:us-east-1:{account}:app",
            "Condition": {{"StringEqualsIfExists": {{"codeCommit:References": ["refs/heads/prod"]}}{clause}}}
        }}]}}"#
    )
}

#[test]
fn policies_decide_on_each_branch_as_in_the_user_guide() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let account = iam.account();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    let push = |name: &str, refs: &[&str]| repo.try_git(&[&["push", &ann.url(&pair, US, name)], refs].concat());
    iam.settle(US);
    assert!(works(&push("app", &["main", "main:refs/heads/prod"])));
    let before = repo.git(&["ls-remote", &ann.url(&pair, US, "app"), "prod"]);
    iam.put("ann", "deny-prod", &deny_prod(&account, true));
    repo.commit("main", "x", "1");
    iam.settle(US);
    assert!(!works(&push("app", &["main:prod"])));
    let both = push("app", &["main", "main:prod"]);
    let text = said(&both);
    assert!(text.contains("prod") && text.contains("explicitly denies codecommit:GitPush on this ref"), "{text}");
    assert!(!works(&both) && !works(&push("app", &[":prod"])));
    assert_eq!(repo.git(&["ls-remote", &ann.url(&pair, US, "app"), "prod"]), before);
    // The other branch of the same push went through, and so do other repositories.
    assert_eq!(
        repo.git(&["ls-remote", &ann.url(&pair, US, "app"), "main"]).split('\t').next().unwrap(),
        repo.git(&["rev-parse", "main"])
    );
    assert!(works(&push("other", &["main:refs/heads/prod"])));
    assert!(
        !works(&push("app", &["--atomic", "main:refs/heads/a", "main:prod"]))
            && works(&push("app", &["main:refs/heads/a"]))
    );
    // Without the clause, the first decision, which is before any ref is known, denies every push.
    iam.put("ann", "deny-prod", &deny_prod(&account, false));
    iam.settle(US);
    assert!(said(&push("app", &["main:refs/heads/b"])).contains("403"));
    assert!(works(&push("other", &["main:refs/heads/b"])));
}

#[test]
fn policies_on_forced_pushes_deletions_and_paths() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let ann = iam.user("ann", &[POWER_USER]);
    let push = |refs: &[&str]| repo.try_git(&[&["push", &ann.url(&pair, US, "app")], refs].concat());
    iam.settle(US);
    assert!(works(&push(&["main", "main:refs/heads/topic", "main:refs/heads/old", "main:refs/heads/ma-1"])));
    iam.put(
        "ann",
        "rules",
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
             "Condition": {"StringEquals": {"codecommit:References": "refs/heads/main"},
                           "Bool": {"gitferry:ForcePush": "true"}}},
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
             "Condition": {"StringLike": {"codecommit:References": "refs/heads/ma*"},
                           "Bool": {"gitferry:RefDeletion": "true"}}},
            {"Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
             "Condition": {"ForAnyValue:StringLike": {"gitferry:ChangedPaths": "infra/*"}}}
        ]}"#,
    );
    iam.settle(US);
    assert!(said(&push(&[":ma-1"])).contains("explicitly denies"));
    let rewritten = repo.git(&["commit-tree", "main^{tree}", "-p", "main~1", "-m", "rewritten"]);
    assert!(!works(&push(&["--force", &format!("{rewritten}:refs/heads/main")])));
    assert!(works(&push(&["--force", &format!("{rewritten}:refs/heads/topic")])));
    assert!(works(&push(&[":old"])));
    repo.commit("main", "src/a", "1");
    assert!(works(&push(&["main"])));
    repo.commit("main", "infra/main.tf", "1");
    let refused = push(&["main"]);
    assert!(said(&refused).contains("explicitly denies"), "{}", said(&refused));
    // Nor by way of a commit that takes it back.
    let back = repo.git(&["commit-tree", "main~1^{tree}", "-p", "main", "-m", "back"]);
    assert!(!works(&push(&[&format!("{back}:refs/heads/main")])));
}

/// Runs Git with the credential helper of the AWS CLI, which signs for an access key.
pub(crate) fn with_helper(pair: &Pair, key: &Value, args: &[&str]) -> Output {
    let python = python::environment("awscli", AWSCLI, "");
    let aws = python.with_file_name("aws");
    let helper = format!("credential.helper=!{} codecommit credential-helper --ignore-host-check $@", aws.display());
    let mut git = command(pair.dir());
    git.args(["-c", "credential.helper=", "-c", &helper, "-c", "credential.UseHttpPath=true"]).args(args);
    with_key(&mut git, key).output().unwrap()
}

fn with_key<'a>(command: &'a mut Command, key: &Value) -> &'a mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", key["access_key_id"].as_str().unwrap())
        .env("AWS_SECRET_ACCESS_KEY", key["secret_access_key"].as_str().unwrap())
        .env("AWS_DEFAULT_REGION", REGIONS[US])
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

pub(crate) const AWSCLI: &str = "1.46.1";
pub(crate) const GIT_REMOTE_CODECOMMIT: &str = "1.17";

#[test]
fn the_credential_helper_of_the_aws_cli_signs_for_an_access_key() {
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    iam.user("ann", &[POWER_USER]);
    let key = iam.json(&["access-key", "create", "--user", "ann"]);
    let url = pair.url(US, "v1/repos/team/app");
    let from = repo.path.to_str().unwrap();
    iam.settle(US);
    let pushed = with_helper(&pair, &key, &["-C", from, "push", "-q", &url, "main"]);
    assert!(works(&pushed), "{}", said(&pushed));
    for url in [url.clone(), format!("{url}.git"), pair.url(US, "team/app")] {
        let listed = with_helper(&pair, &key, &["ls-remote", &url, "main"]);
        assert!(works(&listed) && !listed.stdout.is_empty(), "{url}: {}", said(&listed));
    }
    let mut other = key.clone();
    other["secret_access_key"] = "x".repeat(40).into();
    assert!(!works(&with_helper(&pair, &other, &["ls-remote", &url])));
    iam.json(&["access-key", "deactivate", key["access_key_id"].as_str().unwrap(), "--user", "ann"]);
    iam.settle(US);
    assert!(!works(&with_helper(&pair, &key, &["ls-remote", &url])));
}

#[test]
fn git_remote_codecommit_signs_over_tls() {
    let pair = Pair::with_iam_and_tls();
    let iam = Iam { pair: &pair };
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    iam.user("ann", &[POWER_USER]);
    let key = iam.json(&["access-key", "create", "--user", "ann"]);
    let python = python::environment("git-remote-codecommit", GIT_REMOTE_CODECOMMIT, "");
    let path = format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let git = |args: &[&str]| {
        let mut git = command(&repo.path);
        git.args(args).env("PATH", &path).env("CODE_COMMIT_ENDPOINT", pair.address(US).to_string());
        git.env("GIT_SSL_CAINFO", pair.path("cert.pem"));
        with_key(&mut git, &key).output().unwrap()
    };
    iam.settle(US);
    let pushed = git(&["push", "-q", "codecommit::us-east-1://app", "main"]);
    assert!(works(&pushed), "{}", said(&pushed));
    let listed = git(&["ls-remote", "codecommit::us-east-1://app", "main"]);
    assert!(said(&listed).contains(&repo.git(&["rev-parse", "main"])), "{}", said(&listed));
}

#[test]
fn without_an_account_a_host_refuses_everything_and_the_account_is_no_repository() {
    let pair = Pair::with_iam_but_no_account();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let answer =
        pair.raw(US, "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!works(&repo.try_git(&["push", &pair.url(US, "app"), "main"])));
    let pair = Pair::with_iam();
    let iam = Iam { pair: &pair };
    let ann = iam.user("ann", &["arn:aws:iam::aws:policy/AdministratorAccess"]);
    iam.settle(US);
    repo.git(&["push", "-q", &ann.url(&pair, US, "app"), "main"]);
    for args in [vec!["ls-remote"], vec!["push", "--force"]] {
        let url = ann.url(&pair, US, "gitferry/account");
        let more = if args.len() > 1 { vec!["main:main"] } else { vec![] };
        let args = [args, vec![url.as_str()], more].concat();
        assert!(!works(&repo.try_git(&args)), "{args:?}");
    }
}

#[test]
fn an_account_is_founded_once_in_the_region_that_others_follow() {
    let pair = Pair::with_iam();
    for (region, reason) in
        [(US, "has an account already"), (EU, "links.dr brings the account of us-east-1 to eu-west-1")]
    {
        let output = pair.gitferry(&["iam", "init", "--region", REGIONS[region]]);
        assert!(!works(&output) && said(&output).contains(reason), "{}", said(&output));
        assert!(output.stdout.is_empty(), "a secret is printed for an account that was not made");
    }
}
