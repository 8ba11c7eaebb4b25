//! Git with the temporary credentials of a role.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::Value;

use super::{BOTO3, account, administrator, endpoint};

const AWSCLI: &str = "1.46.1";
const GIT_REMOTE_CODECOMMIT: &str = "1.17";
/// Longest time after which the region of a change refuses what the change has revoked.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

fn with_key<'a>(command: &'a mut Command, key: &Value) -> &'a mut Command {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ];
    for (variable, name) in variables {
        match key[name].as_str() {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true")
}

/// Calls an operation through boto3; its answer.
fn call(pair: &Pair, key: &Value, service: &str, operation: &str, parameters: &Value) -> Result<Value, String> {
    let code = "import boto3, json, sys\n\
                endpoint, service, operation, parameters = sys.argv[1:]\n\
                client = boto3.client(service, endpoint_url=endpoint, verify=False, region_name='us-east-1')\n\
                print(json.dumps(getattr(client, operation)(**json.loads(parameters)), default=str))\n";
    let mut python = Command::new(python::environment("boto3", BOTO3, ""));
    python.args(["-W", "ignore", "-c", code, &endpoint(pair, US), service, operation, &parameters.to_string()]);
    let output = with_key(&mut python, key).output().unwrap();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(crate::said(&output))
    }
}

/// A user `ann` who may assume the role `deploy`, which may push; the credentials of a session.
fn session(pair: &Pair) -> Value {
    let id = account(pair);
    let admin = administrator(pair);
    let iam = |operation: &str, parameters: Value| call(pair, &admin, "iam", operation, &parameters).unwrap();
    iam("create_user", serde_json::json!({"UserName": "ann"}));
    let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Action": "sts:AssumeRole", "Principal": {"AWS": format!("arn:aws:iam::{id}:user/ann")}}]});
    let role = serde_json::json!({"RoleName": "deploy", "AssumeRolePolicyDocument": trust.to_string()});
    iam("create_role", role);
    let policy = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser";
    iam("attach_role_policy", serde_json::json!({"RoleName": "deploy", "PolicyArn": policy}));
    let key = iam("create_access_key", serde_json::json!({"UserName": "ann"}))["AccessKey"].clone();
    let role = format!("arn:aws:iam::{id}:role/deploy");
    let parameters = serde_json::json!({"RoleArn": role, "RoleSessionName": "ci"});
    call(pair, &key, "sts", "assume_role", &parameters).unwrap()["Credentials"].clone()
}

fn works(output: &Output) -> bool {
    output.status.success()
}

#[test]
fn sessions_of_a_role_push_and_fetch_and_end_with_the_role() {
    let pair = Pair::with_iam_and_tls();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let session = session(&pair);
    // git-remote-codecommit, which quotes the token.
    let python = python::environment("git-remote-codecommit", GIT_REMOTE_CODECOMMIT, "");
    let path = format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let remote = |args: &[&str], region: usize| {
        let mut git = command(&repo.path);
        git.args(args).env("PATH", &path).env("CODE_COMMIT_ENDPOINT", pair.address(region).to_string());
        git.env("GIT_SSL_CAINFO", pair.path("cert.pem")).env("AWS_DEFAULT_REGION", REGIONS[region]);
        with_key(&mut git, &session).output().unwrap()
    };
    let pushed = remote(&["push", "-q", "codecommit::us-east-1://app", "main"], US);
    assert!(works(&pushed), "{}", crate::said(&pushed));
    let listed = remote(&["ls-remote", "codecommit::us-east-1://app", "main"], US);
    assert!(crate::said(&listed).contains(&repo.git(&["rev-parse", "main"])), "{}", crate::said(&listed));
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    assert!(log.contains(&format!("arn:aws:sts::{}:assumed-role/deploy/ci", account(&pair))), "{log}");
    // The credential helper of the AWS CLI, which does not.
    let aws = python::environment("awscli", AWSCLI, "").with_file_name("aws");
    let helper = format!("credential.helper=!{} codecommit credential-helper --ignore-host-check $@", aws.display());
    let helped = |region: usize| {
        let mut git = command(&repo.path);
        git.args(["-c", "credential.helper=", "-c", &helper, "-c", "credential.UseHttpPath=true", "ls-remote"]);
        git.arg(pair.url(region, "v1/repos/app")).env("GIT_SSL_CAINFO", pair.path("cert.pem"));
        with_key(git.env("AWS_DEFAULT_REGION", REGIONS[region]), &session).output().unwrap()
    };
    assert!(works(&helped(US)), "{}", crate::said(&helped(US)));
    // The other region, which has the account and the repository by the link, accepts the session as well.
    pair.wait(|| works(&remote(&["ls-remote", "codecommit::eu-west-1://app", "main"], EU)));
    // The session ends with its role, at once in the region of the change.
    let admin = administrator(&pair);
    let policy = "arn:aws:iam::aws:policy/AWSCodeCommitPowerUser";
    let detach = serde_json::json!({"RoleName": "deploy", "PolicyArn": policy});
    call(&pair, &admin, "iam", "detach_role_policy", &detach).unwrap();
    call(&pair, &admin, "iam", "delete_role", &serde_json::json!({"RoleName": "deploy"})).unwrap();
    let deleted = Instant::now();
    while call(&pair, &session, "sts", "get_caller_identity", &serde_json::json!({})).is_ok() {
        assert!(deleted.elapsed() < REVOKED_WITHIN, "the session of a deleted role goes on");
    }
    assert!(!works(&helped(US)) && !works(&remote(&["ls-remote", "codecommit::us-east-1://app", "main"], US)));
    pair.wait(|| !works(&remote(&["ls-remote", "codecommit::eu-west-1://app", "main"], EU)));
}
