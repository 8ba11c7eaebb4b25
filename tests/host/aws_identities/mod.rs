//! Hosts with `auth = "aws"`: users and roles of AWS, whom STS names and AWS IAM lists.

mod fake;
mod ssh;

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::iam::works;
use crate::said;
use fake::{ACCOUNT, Fake, Fault, Key};
use gitferry_test_support::git::{GitRepo, command};
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::paths;

fn jane() -> Key {
    Key {
        id: "AKIAJANEJANEJANEJANE",
        secret: "jane-secret",
        token: None,
        arn: format!("arn:aws:iam::{ACCOUNT}:user/team/jane"),
        user_id: "AIDAJJJJJJJJJJJJJJJJJ",
    }
}

/// Session of a role that the configuration lists.
fn deploy() -> Key {
    Key {
        id: "ASIADEPLOYDEPLOYDEPL",
        secret: "deploy-secret",
        token: Some("IQoJb3JpZ2luX2VjE//+deploy=="),
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/deploy-app/build-7"),
        user_id: "AROADDDDDDDDDDDDDDDDD:build-7",
    }
}

/// Session of a role with all rights, which the configuration does not list.
fn admin() -> Key {
    Key {
        id: "ASIAADMINADMINADMINA",
        secret: "admin-secret",
        token: Some("IQoJb3JpZ2luX2VjE//+admin=="),
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/admin/joe"),
        user_id: "AROAAAAAAAAAAAAAAAAAA:joe",
    }
}

/// Policies of IAM as AWS lists them, percent-encoded.
fn encoded(policy: &str) -> String {
    let encode =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    policy.bytes().map(encode).collect()
}

fn statement(effect: &str, action: &str) -> String {
    let text = r#"{"Version": "2012-10-17", "Statement": [{"Effect": "EFFECT", "Action": "ACTION", "Resource": "*"}]}"#;
    encoded(&text.replace("EFFECT", effect).replace("ACTION", action))
}

fn role(name: &str, id: &str, attached: &str) -> String {
    let trust = encoded(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#,
    );
    format!(
        "<member><Path>/</Path><RoleName>{name}</RoleName><RoleId>{id}</RoleId>\
         <Arn>arn:aws:iam::{ACCOUNT}:role/{name}</Arn><CreateDate>2014-07-30T17:09:20Z</CreateDate>\
         <AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument><InstanceProfileList/><RolePolicyList/>\
         <AttachedManagedPolicies><member><PolicyName>x</PolicyName><PolicyArn>{attached}</PolicyArn></member>\
         </AttachedManagedPolicies></member>"
    )
}

/// The account in two pages: `jane`, who has a policy of her group and an inline one, and two roles.
fn account(janes_inline: &str) -> Vec<String> {
    let first = format!(
        "<UserDetailList><member><Path>/team/</Path><UserName>jane</UserName><UserId>AIDAJJJJJJJJJJJJJJJJJ</UserId>\
         <Arn>arn:aws:iam::{ACCOUNT}:user/team/jane</Arn><CreateDate>2013-10-14T18:32:24Z</CreateDate>\
         <UserPolicyList>{janes_inline}</UserPolicyList><GroupList><member>devs</member></GroupList>\
         <AttachedManagedPolicies/><Tags><member><Key>team</Key><Value>infra</Value></member></Tags></member>\
         </UserDetailList><GroupDetailList><member><Path>/</Path><GroupName>devs</GroupName>\
         <GroupId>AGPAJJJJJJJJJJJJJJJJJ</GroupId><Arn>arn:aws:iam::{ACCOUNT}:group/devs</Arn>\
         <CreateDate>2013-10-14T18:32:24Z</CreateDate><GroupPolicyList/><AttachedManagedPolicies><member>\
         <PolicyName>git</PolicyName><PolicyArn>arn:aws:iam::{ACCOUNT}:policy/git</PolicyArn></member>\
         </AttachedManagedPolicies></member></GroupDetailList>"
    );
    let roles = [
        role("deploy-app", "AROADDDDDDDDDDDDDDDDD", "arn:aws:iam::aws:policy/AWSCodeCommitReadOnly"),
        role("admin", "AROAAAAAAAAAAAAAAAAAA", "arn:aws:iam::aws:policy/AdministratorAccess"),
    ];
    let second = format!(
        "<RoleDetailList>{}</RoleDetailList><Policies><member><PolicyName>git</PolicyName>\
         <PolicyId>ANPAJJJJJJJJJJJJJJJJJ</PolicyId><Arn>arn:aws:iam::{ACCOUNT}:policy/git</Arn><Path>/</Path>\
         <DefaultVersionId>v2</DefaultVersionId><AttachmentCount>1</AttachmentCount><IsAttachable>true</IsAttachable>\
         <CreateDate>2014-07-30T17:09:20Z</CreateDate><UpdateDate>2014-08-30T17:09:20Z</UpdateDate>\
         <PolicyVersionList><member><Document>{}</Document><VersionId>v1</VersionId>\
         <IsDefaultVersion>false</IsDefaultVersion><CreateDate>2014-07-30T17:09:20Z</CreateDate></member><member>\
         <Document>{}</Document><VersionId>v2</VersionId><IsDefaultVersion>true</IsDefaultVersion>\
         <CreateDate>2014-08-30T17:09:20Z</CreateDate></member></PolicyVersionList></member></Policies>",
        roles.concat(),
        statement("Deny", "*"),
        statement("Allow", "codecommit:*"),
    );
    vec![first, second]
}

/// Inline policy that denies pushes.
fn no_push() -> String {
    format!(
        "<member><PolicyName>no-push</PolicyName><PolicyDocument>{}</PolicyDocument></member>",
        statement("Deny", "codecommit:GitPush")
    )
}

fn config(fake: &Fake, more: [String; 2]) -> impl FnOnce([SocketAddr; 2]) -> String + use<> {
    let url = fake.url.clone();
    move |addresses| {
        let mut text = String::new();
        for ((name, address), more) in REGIONS.into_iter().zip(addresses).zip(more) {
            text += &format!(
                "[regions.{name}]\nobjects = \"file:{name}/objects\"\ntable = \"sqlite:{name}/table.db\"\n\
                 [hosts.{name}]\nlisten = \"{address}\"\ncreate_on_push = true\nauth = \"aws\"\n{more}\n"
            );
        }
        text + &format!(
            "[links.dr]\nsource = \"us-east-1\"\ntarget = \"eu-west-1\"\n\
             [account.aws]\nid = \"{ACCOUNT}\"\nroles = [\"deploy-*\"]\nrefresh = \"10s\"\nssh_keys = true\n\
             sdk = {{ endpoint_url = \"{url}\" }}\n"
        )
    }
}

/// Two regions whose hosts have a key for AWS.
fn pair(fake: &Fake, more: [&str; 2]) -> Pair {
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = vec![
        text("AWS_ACCESS_KEY_ID", "AKIAHOSTHOSTHOSTHOST"),
        text("AWS_SECRET_ACCESS_KEY", "host-secret"),
        text("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    Pair::on(config(fake, more.map(str::to_owned)), environment)
}

/// Gives both hosts the key by which they delegate clients to each other.
fn let_hosts_delegate(pair: &mut Pair) {
    let mut file = std::fs::OpenOptions::new();
    let mut file = file.write(true).create_new(true).mode(0o600).open(pair.path("data/account.key")).unwrap();
    file.write_all(&[7; 32]).unwrap();
    pair.restart();
    pair.wait(|| pair.log().matches("a state of AWS IAM is in force").count() >= 4);
}

fn wait_for_account(pair: &Pair) {
    let in_force = |log: &str| log.matches("a state of AWS IAM is in force").count() >= 2;
    pair.wait(|| in_force(&pair.log()));
}

fn with_key<'c>(command: &'c mut Command, key: &Key) -> &'c mut Command {
    command.env("AWS_ACCESS_KEY_ID", key.id).env("AWS_SECRET_ACCESS_KEY", key.secret);
    command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
    if let Some(token) = key.token {
        command.env("AWS_SESSION_TOKEN", token);
    }
    command
}

/// Runs Git with gitferry's credential helper.
fn git(repo: &GitRepo, key: &Key, args: &[&str]) -> Output {
    let helper = format!("credential.helper=!{} credential --region us-east-1", paths::gitferry().display());
    let mut git = command(&repo.path);
    git.args(["-c", "credential.helper=", "-c", &helper]).args(args);
    with_key(&mut git, key).output().unwrap()
}

/// The password for a host, as the helper gives it.
fn password(key: &Key, host: &str) -> String {
    let mut helper = Command::new(paths::gitferry());
    helper.args(["credential", "--region", "us-east-1", "get"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = with_key(&mut helper, key).spawn().unwrap();
    running.stdin.take().unwrap().write_all(format!("protocol=https\nhost={host}\n\n").as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(works(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("password=")).unwrap().to_owned()
}

/// Status of a request with a password.
fn status(pair: &Pair, region: usize, password: &str) -> String {
    let basic = STANDARD.encode(format!("aws:{password}"));
    let request = format!(
        "GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Authorization: Basic {basic}\r\n\r\n",
        pair.address(region)
    );
    pair.raw(region, &request).split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn users_and_roles_of_aws_do_what_their_policies_allow() {
    let fake = Fake::start(&[jane(), deploy(), admin()], account(""));
    let pair = pair(&fake, ["", ""]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    wait_for_account(&pair);
    let url = pair.url(US, "app");
    let pushed = git(&repo, &jane(), &["push", "-q", &url, "main"]);
    assert!(works(&pushed), "{}", said(&pushed));
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    assert!(log.contains(&jane().arn), "{log}");
    let listed = git(&repo, &deploy(), &["ls-remote", &url, "main"]);
    assert!(works(&listed) && !listed.stdout.is_empty(), "{}", said(&listed));
    let refused = git(&repo, &deploy(), &["push", "-q", &url, "main:other"]);
    assert!(said(&refused).contains("403"), "{}", said(&refused));
    // Its policies would allow it, and the configuration does not list it.
    assert!(!works(&git(&repo, &admin(), &["ls-remote", &url])));
    let wrong = Key { secret: "wrong", ..jane() };
    assert!(!works(&git(&repo, &wrong, &["ls-remote", &url])));
    // STS was told which host the password is for.
    let host = pair.address(US).to_string();
    assert!(fake.asked().iter().all(|asked| *asked == host), "{:?}", fake.asked());
    // SSH keys are read with the users.
    assert!(fake.actions().iter().any(|action| action == "GetSSHPublicKey"));
    for secret in ["jane-secret", "gitferry-aws-v1", "X-Amz-Signature", "IQoJb3"] {
        assert!(!pair.log().contains(secret), "{secret} is in the log");
    }
    // Policies change on AWS.
    fake.set(account(&no_push()));
    pair.wait(|| pair.log().matches("a state of AWS IAM is in force").count() >= 4);
    repo.commit("main", "x", "1");
    let refused = git(&repo, &jane(), &["push", "-q", &url, "main"]);
    assert!(said(&refused).contains("403"), "{}", said(&refused));
    assert!(works(&git(&repo, &jane(), &["ls-remote", &url])));
}

#[test]
fn a_password_is_for_one_host_and_sts_is_asked_once_for_it() {
    let fake = Fake::start(&[jane()], account(""));
    let pair = pair(&fake, ["", ""]);
    wait_for_account(&pair);
    let of = |region: usize| pair.address(region).to_string();
    let own = password(&jane(), &of(US));
    let before = fake.asked().len();
    for _ in 0..5 {
        // There is no such repository, and the client is known.
        assert_eq!(status(&pair, US, &own), "404");
    }
    assert_eq!(fake.asked().len(), before + 1);
    // The same password at another host, and those for others here.
    assert_eq!(status(&pair, EU, &own), "401");
    for host in [of(EU), "evil.example".into(), format!("{}.evil.example", of(US))] {
        assert_eq!(status(&pair, US, &password(&jane(), &host)), "401", "{host}");
    }
    // A password that names another place than STS reaches no place.
    let asked = fake.asked().len();
    let elsewhere = |url: &str| gitferry_iam::aws::PresignedCaller::password_of(url);
    for url in [
        format!("{}/?Action=GetCallerIdentity", fake.url),
        "https://169.254.169.254/?Action=GetCallerIdentity&Version=2011-06-15".into(),
        "https://sts.evil.example/?Action=GetCallerIdentity".into(),
        String::new(),
    ] {
        assert_eq!(status(&pair, US, &elsewhere(&url)), "401", "{url}");
    }
    assert_eq!(fake.asked().len(), asked);
    // Nor does Basic authentication with anything else.
    assert_eq!(status(&pair, US, "x"), "401");
}

#[test]
fn answers_of_aws_that_are_no_answers_open_nothing() {
    let fake = Fake::start(&[jane()], account(""));
    let pair = pair(&fake, ["", ""]);
    wait_for_account(&pair);
    let fresh = || {
        // Each password is made in another second, so that no answer is known.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        password(&jane(), &pair.address(US).to_string())
    };
    for (fault, expected) in [
        (Fault::Code(503, "ServiceUnavailable"), "503"),
        (Fault::Code(400, "Throttling"), "503"),
        (Fault::Code(403, "ExpiredToken"), "401"),
        (Fault::Redirect, "503"),
        (Fault::Endless, "503"),
    ] {
        fake.fail(Some(fault));
        assert_eq!(status(&pair, US, &fresh()), expected);
    }
    fake.fail(None);
    let known = fresh();
    assert_eq!(status(&pair, US, &known), "404");
    // A key that is deleted on AWS works for the lifetime of an answer, and a new password of it never.
    fake.forget(jane().id);
    assert_eq!(status(&pair, US, &fresh()), "401");
}

#[test]
fn without_an_answer_of_iam_a_host_refuses_everything() {
    let fake = Fake::start(&[jane()], account(""));
    fake.fail(Some(Fault::Code(403, "AccessDenied")));
    let pair = pair(&fake, ["", ""]);
    pair.wait(|| pair.log().contains("the host needs a policy that allows iam:GetAccountAuthorizationDetails"));
    assert_eq!(status(&pair, US, &password(&jane(), &pair.address(US).to_string())), "503");
}

#[test]
fn a_replica_forwards_pushes_of_callers_of_aws() {
    let fake = Fake::start(&[jane(), deploy()], account(""));
    let mut pair = pair(&fake, ["", "on_push = \"forward\""]);
    wait_for_account(&pair);
    let_hosts_delegate(&mut pair);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let pushed = git(&repo, &jane(), &["push", "-q", &pair.url(EU, "app"), "main"]);
    assert!(works(&pushed), "{}", said(&pushed));
    let log = pair.ok(&["log", "app", "--region", REGIONS[US], "--json"]);
    assert!(log.contains(&jane().arn), "{log}");
    let refused = git(&repo, &deploy(), &["push", "-q", &pair.url(EU, "app"), "main:other"]);
    assert!(said(&refused).contains("403"), "{}", said(&refused));
}

#[test]
fn configurations_that_lack_the_account_are_refused() {
    for (more, reason) in [
        ("", "needs [account.aws]"),
        ("[account.aws]\nid = \"1\"\n", "twelve digits"),
        ("ssh = \"127.0.0.1:2\"\n[account.aws]\nid = \"123456789012\"\n", "ssh_keys = true"),
        ("[account.aws]\nid = \"123456789012\"\nrefresh = \"1s\"\n", "from 10s to 5m"),
        ("[account.aws]\nid = \"123456789012\"\nsts_regions = [\"evil.example/\"]\n", "not the name of a region"),
        ("[account.aws]\nid = \"123456789012\"\nroles = [\"[\"]\n", "account.aws.roles"),
    ] {
        let dir = tempfile();
        let text = format!(
            "[regions.us]\nobjects = \"file:us/objects\"\ntable = \"sqlite:us/table.db\"\n\
             [hosts.us]\nlisten = \"127.0.0.1:1\"\nauth = \"aws\"\n{more}"
        );
        std::fs::write(dir.join("gitferry.toml"), text).unwrap();
        let mut check = Command::new(paths::gitferry());
        let check = check.args(["config", "check", "--config"]).arg(dir.join("gitferry.toml")).output().unwrap();
        assert!(!works(&check) && said(&check).contains(reason), "{more}: {}", said(&check));
        std::fs::remove_dir_all(dir).unwrap();
    }
}

/// A fresh folder.
fn tempfile() -> std::path::PathBuf {
    tempfile::tempdir().unwrap().keep()
}
