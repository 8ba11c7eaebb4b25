//! Founding an account so that no log has the administrator's access key: the options of `gitferry iam init`, and the task
//! that Terraform makes for it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use gitferry_test_support::aws::{Emulator, REGION};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::python;
use gitferry_test_support::world::World;
use serde_json::{Value, json};

use crate::container::{Container, Place};

/// The AWS command line of PyPI.
const AWSCLI: &str = "1.46.1";
/// The secret that gets the access key.
const SECRET: &str = "gitferry-us-east-1/administrator";

fn read(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn the_access_key_goes_into_a_file_and_no_output() {
    let world = World::with(&[REGION], "");
    let init = ["iam", "init", "--region", REGION, "--json", "--again", "--access-key"];
    let with = |file: &'static str| [&init[..], &[file]].concat();
    let first = world.run(&with("first.json"));
    let key = read(&world.path("first.json"));
    let secret = key["SecretAccessKey"].as_str().unwrap();
    assert!(!first.stdout.contains(secret) && !first.stderr.contains(secret), "{} {}", first.stdout, first.stderr);
    let told = first.json();
    assert_eq!((&told["access_key_id"], &told["access_key_file"]), (&key["AccessKeyId"], &json!("first.json")));
    assert_eq!((&key["Version"], &key["UserArn"], &key["Account"]), (&json!(1), &told["user"], &told["account"]));
    let mode = std::fs::metadata(world.path("first.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A file that exists is not written to, and nothing is changed.
    let refused = world.run(&with("first.json"));
    assert!(!refused.status.success() && refused.stderr.contains("first.json"), "{}", refused.stderr);
    assert_eq!(read(&world.path("first.json")), key);
    // Without --again the account stays as it is, and no empty file is left.
    world.ends(2, &["iam", "init", "--region", REGION, "--access-key", "none.json"]);
    assert!(!world.path("none.json").exists());
    // A key that was lost is replaced, however many there were.
    world.ok(&["iam", "access-key", "create", "--user", "administrator", "--region", REGION]);
    let again = world.run(&with("again.json")).json();
    let newer = read(&world.path("again.json"));
    assert_eq!((&again["account"], &again["access_key_id"]), (&told["account"], &newer["AccessKeyId"]));
    let user = world.json(&["iam", "user", "show", "administrator", "--region", REGION]);
    let ids: Vec<&Value> = user["access_keys"].as_array().unwrap().iter().map(|key| &key["access_key_id"]).collect();
    assert_eq!(ids, [&newer["AccessKeyId"]]);
    assert_ne!(newer["SecretAccessKey"], key["SecretAccessKey"]);
}

/// `aws`, with credentials for the emulator.
fn aws() -> Command {
    let mut command = Command::new(python::environment("awscli", AWSCLI, "").with_file_name("aws"));
    command.envs(Emulator::get().environment()).env("AWS_DEFAULT_REGION", REGION);
    command
}

fn text(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap()
}

/// Runs the task that founds the account, as ECS does: its second container when the first has succeeded. Returns the
/// access key that the secret has then.
pub fn found(world: &World, containers: &[Value], secrets: &[(&str, &str)]) -> Value {
    let [found, keep] = containers else { panic!("{containers:?}") };
    assert_eq!(keep["dependsOn"], json!([{ "containerName": "gitferry", "condition": "SUCCESS" }]));
    assert_eq!((&found["essential"], &keep["essential"]), (&json!(false), &json!(true)));
    let place = Place::new(world, "found");
    let founded = place.run(found, secrets);
    assert!(founded.status.success(), "{}", text(&founded));
    let kept = aws().args(place.arguments(keep)).output().unwrap();
    assert!(kept.status.success(), "{}", text(&kept));
    let mut get = aws();
    get.args([
        "secretsmanager",
        "get-secret-value",
        "--secret-id",
        SECRET,
        "--output",
        "text",
        "--query",
        "SecretString",
    ]);
    let got = get.args(["--endpoint-url", Emulator::get().endpoint()]).output().unwrap();
    let key: Value = serde_json::from_str(&text(&got)).unwrap_or_else(|_| panic!("{}", text(&got)));
    let secret = key["SecretAccessKey"].as_str().unwrap();
    let logs = text(&founded) + &text(&kept);
    assert!(secret.len() == 40 && !logs.contains(secret), "{logs}");
    key
}

/// A push by the steps of docs/aws.md: a profile whose credentials come from the secret, and the credential helper of the
/// AWS command line.
pub fn push(world: &World, host: &Container<'_>, name: &str) {
    let aws = python::environment("awscli", AWSCLI, "").with_file_name("aws");
    let aws = aws.to_str().unwrap();
    let own: String = Emulator::get()
        .environment()
        .iter()
        .filter(|(name, _)| name.contains("KEY"))
        .map(|(name, value)| format!("{} = {value}\n", name.to_lowercase()))
        .collect();
    let profiles = format!(
        "[profile admin]\nregion = {REGION}\nendpoint_url = {}\n{own}\
         [profile gitferry]\nregion = {REGION}\nendpoint_url = http://{}\n\
         credential_process = {aws} --profile admin secretsmanager get-secret-value --secret-id {SECRET} \
         --output text --query SecretString\n",
        Emulator::get().endpoint(),
        host.address(),
    );
    let file = world.path("aws-config");
    std::fs::write(&file, profiles).unwrap();
    let helper = format!(
        "credential.helper=!AWS_CONFIG_FILE={} AWS_EC2_METADATA_DISABLED=true {aws} --profile gitferry codecommit \
         credential-helper --ignore-host-check $@",
        file.display()
    );
    let repo = GitRepo::with_history(world.path("app.git"), &[]);
    let url = format!("http://{}/{name}", host.address());
    assert!(!repo.try_git(&["push", "-q", &url, "main"]).status.success(), "a push without credentials");
    let helper = ["-c", "credential.helper=", "-c", &helper, "-c", "credential.UseHttpPath=true"];
    repo.git(&[&helper[..], &["push", "-q", &url, "main"]].concat());
}

/// Host keys for SSH by the names of their files, without the line break at the end.
pub fn host_keys(world: &World) -> Vec<(&'static str, String)> {
    let key = |name: &'static str, of: &str| {
        let file = world.path(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", of, "-N", "", "-f"]).arg(&file).status().unwrap();
        assert!(made.success(), "ssh-keygen -t {of}");
        (name, std::fs::read_to_string(file).unwrap().trim_end().to_owned())
    };
    vec![key("ssh_host_ecdsa_key", "ecdsa"), key("ssh_host_ed25519_key", "ed25519")]
}

/// The host shows the key that its secret has.
pub fn shows_its_host_key(world: &World, host: &Container<'_>) {
    let port = host.ssh().port().to_string();
    let scan =
        Command::new("ssh-keyscan").args(["-T", "10", "-t", "ed25519", "-p", &port, "127.0.0.1"]).output().unwrap();
    let public = std::fs::read_to_string(world.path("ssh_host_ed25519_key.pub")).unwrap();
    let public = public.split(' ').nth(1).unwrap();
    assert!(text(&scan).contains(public), "{}", text(&scan));
}
