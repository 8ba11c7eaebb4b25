//! `AssumeRoleWithWebIdentity`: jobs of a CI system with tokens of their identity provider, and no stored secret.

use std::process::Command;

use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::pair::{Pair, REGIONS, US};
use gitferry_test_support::python;
use serde_json::{Value, json};

use super::issuer::{ISSUER, Issuer};
use super::{BOTO3, account, endpoint, script};

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn claims(subject: &str, audience: &str) -> Value {
    let now = now();
    json!({"iss": format!("https://{ISSUER}"), "sub": subject, "aud": audience, "iat": now, "nbf": now, "exp": now + 300})
}

/// Calls the operation without credentials, as a job does; its answer, or the code of the error.
fn assume(pair: &Pair, role: &str, token: &str) -> Result<Value, String> {
    let code = "import boto3, botocore, json, sys\n\
                endpoint, role, token = sys.argv[1:]\n\
                config = botocore.config.Config(signature_version=botocore.UNSIGNED, retries={'max_attempts': 0})\n\
                sts = boto3.client('sts', endpoint_url=endpoint, region_name='us-east-1', config=config)\n\
                try:\n\
                \x20   print(json.dumps(sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName='run-1', WebIdentityToken=token), default=str))\n\
                except botocore.exceptions.ClientError as error:\n\
                \x20   print(error.response['Error']['Code']); sys.exit(3)\n";
    let python = python::environment("boto3", BOTO3, "");
    let output = Command::new(python).args(["-c", code, &endpoint(pair, US), role, token]).output().unwrap();
    let said = crate::said(&output).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(serde_json::from_str(&said).unwrap()),
        Some(3) => Err(said),
        _ => panic!("{said}"),
    }
}

#[test]
fn a_job_of_the_right_repository_gets_a_session_and_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(folder.path());
    let config = format!(
        "[account.issuers.\"{ISSUER}\"]\naddress = \"{}\"\nca = \"{}\"\n",
        issuer.address,
        folder.path().join("issuer.pem").display()
    );
    let pair = Pair::with_iam_and(&config, Vec::new());
    let id = account(&pair);
    script(&pair, "federation.py", &[ISSUER]);
    let role = format!("arn:aws:iam::{id}:role/ci");
    let good = claims("repo:team/app:ref:refs/heads/main", "gitferry");
    let answer = assume(&pair, &role, &issuer.token("k1", &good)).unwrap();
    assert_eq!(answer["SubjectFromWebIdentityToken"], good["sub"]);
    assert_eq!(answer["Provider"], format!("arn:aws:iam::{id}:oidc-provider/{ISSUER}"));
    assert_eq!(answer["AssumedRoleUser"]["Arn"], format!("arn:aws:sts::{id}:assumed-role/ci/run-1"));
    assert_eq!(issuer.requests(), 2, "the discovery document and the keys");
    // Keys are kept.
    assume(&pair, &role, &issuer.token("k1", &good)).unwrap();
    assert_eq!(issuer.requests(), 2);
    // The session pushes.
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let aws = python::environment("awscli", "1.46.1", "").with_file_name("aws");
    let helper = format!("credential.helper=!{} codecommit credential-helper --ignore-host-check $@", aws.display());
    let mut git = command(&repo.path);
    git.args(["-c", "credential.helper=", "-c", &helper, "-c", "credential.UseHttpPath=true", "push", "-q"]);
    git.args([&pair.url(US, "v1/repos/team/app"), "main"]).env("AWS_DEFAULT_REGION", REGIONS[US]);
    let part = |name: &str| answer["Credentials"][name].as_str().unwrap().to_owned();
    git.env("AWS_ACCESS_KEY_ID", part("AccessKeyId")).env("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey"));
    let pushed = git.env("AWS_SESSION_TOKEN", part("SessionToken")).output().unwrap();
    assert!(pushed.status.success(), "{}", crate::said(&pushed));
    // Another repository, another audience, another issuer, another time, another key, no signature.
    let code = |token: &str| assume(&pair, &role, token).unwrap_err();
    assert_eq!(code(&issuer.token("k1", &claims("repo:evil/app:ref:refs/heads/main", "gitferry"))), "AccessDenied");
    assert_eq!(
        code(&issuer.token("k1", &claims("repo:team/app:ref:refs/heads/main", "other"))),
        "InvalidIdentityToken"
    );
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        issuer.token("k1", &claims)
    };
    assert_eq!(code(&with("iss", json!("https://other.test"))), "InvalidIdentityToken");
    assert_eq!(code(&with("iss", json!(format!("http://{ISSUER}")))), "InvalidIdentityToken");
    assert_eq!(code(&with("exp", json!(now() - 600))), "ExpiredTokenException");
    assert_eq!(code(&with("nbf", json!(now() + 600))), "InvalidIdentityToken");
    let asked = issuer.requests();
    for _ in 0..3 {
        assert_eq!(code(&issuer.token("k2", &good)), "InvalidIdentityToken");
    }
    // An unknown key is asked for once in a while, and not for each token.
    assert!(issuer.requests() <= asked + 2, "{} after {asked}", issuer.requests());
    let token = issuer.token("k1", &good);
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(code(&format!("{signed}.")), "InvalidIdentityToken");
    assert!(!pair.log().contains(&token), "a token is in the log");
    // A host that has the keys goes on while the issuer is away.
    issuer.stop();
    assume(&pair, &role, &token).unwrap();
}

#[test]
fn an_issuer_in_a_private_network_is_not_asked_unless_it_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start(folder.path());
    let pair = Pair::with_iam();
    script(&pair, "federation.py", &["localhost"]);
    let mut claims = claims("repo:team/app:ref:refs/heads/main", "gitferry");
    claims["iss"] = json!("https://localhost");
    let role = format!("arn:aws:iam::{}:role/ci", account(&pair));
    assert_eq!(assume(&pair, &role, &issuer.token("k1", &claims)).unwrap_err(), "IDPCommunicationError");
    assert_eq!(issuer.requests(), 0);
    assert!(pair.log().contains("no public address"), "{}", pair.log());
}
