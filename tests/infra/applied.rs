//! Both regions and the link as Terraform makes them on the emulator, and a push that goes all the way.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::aws::{Emulator, REGION, fresh};
use crate::support::World;
use crate::support::git::GitRepo;
use crate::terraform::{Copy, DOWNLOAD, STEP, command, is_there, output, run, skipped};

const PATIENCE: Duration = Duration::from_secs(60);
/// What has a provider of its own and can be checked alone.
const MODULES: [&str; 3] = ["modules/region", "modules/config", "examples/two-regions"];

/// Both providers go to the emulator and to one AWS region: it takes no events from one AWS region to another.
fn overridden(endpoint: &str) -> String {
    let services = [
        "cloudwatch",
        "dynamodb",
        "ecs",
        "eventbridge",
        "iam",
        "kms",
        "lambda",
        "logs",
        "s3",
        "scheduler",
        "sqs",
        "sts",
    ];
    let endpoints: String = services.iter().map(|service| format!("    {service} = \"{endpoint}\"\n")).collect();
    let provider = |alias: &str| {
        format!(
            "provider \"aws\" {{\n  {alias}\n  region = \"{REGION}\"\n  s3_use_path_style = true\n  \
             skip_credentials_validation = true\n  skip_metadata_api_check = true\n  skip_region_validation = true\n  \
             endpoints {{\n{endpoints}  }}\n}}\n"
        )
    };
    provider("") + &provider("alias = \"us\"")
}

/// Gets the provider for a folder; says so when it cannot be had.
fn initialised(folder: &Path) -> bool {
    let reason = match run(command(folder, &["init", "-no-color"]), DOWNLOAD) {
        Ok(_) => return true,
        Err(reason) => reason,
    };
    let reason: Vec<&str> = reason.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    skipped("terraform validate and apply", &format!("the AWS provider cannot be had: {}", reason.join(" ")));
    false
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gitferry(world: &World, config: &str, args: &[&str]) -> Command {
    let mut command = world.command(args);
    command.env("GITFERRY_CONFIG_TOML", config).envs(Emulator::get().environment());
    command
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_push_goes_through_what_terraform_made() {
    if !is_there("terraform validate and apply") {
        return;
    }
    let copy = Copy::new();
    for folder in MODULES {
        let folder = copy.path(folder);
        if !initialised(&folder) {
            return;
        }
        run(command(&folder, &["validate", "-no-color"]), STEP).unwrap_or_else(|said| panic!("{said}"));
    }
    let (folder, emulator) = (copy.path("examples/two-regions"), Emulator::get());
    std::fs::write(folder.join("emulator_override.tf"), overridden(emulator.endpoint())).unwrap();
    let variables = [
        format!("prefix={}", fresh("tf")),
        format!("link={}", &fresh("link")["gitferry-test-".len()..]),
        "image=gitferry".into(),
        "tasks=0".into(),
        "deletion_protection=false".into(),
        format!("endpoint_url={}", emulator.endpoint()),
        format!(
            "network={{cluster_arn=\"arn:aws:ecs:{REGION}:000000000000:cluster/c\",subnets=[\"s\"],security_groups=[\"g\"]}}"
        ),
    ];
    let apply = |args: &[&str]| {
        let mut command = command(&folder, args);
        variables.iter().for_each(|variable| _ = command.args(["-var", variable]));
        run(command_with(command), STEP)
    };
    apply(&["apply", "-auto-approve", "-no-color"]).unwrap_or_else(|said| panic!("{said}"));
    let [config, host] = ["config", "host_config"].map(|name| output(&folder, name));
    pushed_and_replicated(&config, &host);
    // All of it can be taken down, and nothing is left to change before.
    apply(&["plan", "-detailed-exitcode", "-no-color"]).unwrap_or_else(|said| panic!("not as it was applied: {said}"));
    apply(&["destroy", "-auto-approve", "-no-color"]).unwrap_or_else(|said| panic!("{said}"));
}

fn command_with(mut command: Command) -> Command {
    command.envs(Emulator::get().environment());
    command
}

fn pushed_and_replicated(config: &str, host: &str) {
    let world = World::with(&[], "");
    let link = config.split("[links.\"").nth(1).unwrap().split('"').next().unwrap();
    let log = || std::fs::OpenOptions::new().create(true).append(true).open(world.path("log")).unwrap();
    let args = ["worker", link, "--health", "127.0.0.1:0", "--json"];
    let mut worker = gitferry(&world, config, &args);
    let mut worker = Running(worker.stdout(Stdio::piped()).stderr(log()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(worker.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said = || std::fs::read_to_string(world.path("log")).unwrap();
    let started: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("it did not start: {line}{}", said()));
    let health = started["health"].as_str().unwrap();

    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let host = format!("{host}\n[hosts.us-east-1]\nlisten = \"{address}\"\nauth = \"none\"\ncreate_on_push = true\n");
    let mut serving = gitferry(&world, &host, &["up", "--host", "us-east-1"]);
    let _serving = Running(serving.stdout(Stdio::null()).stderr(log()).spawn().unwrap());
    wait("the host listens", || TcpStream::connect(address).is_ok());

    let repo = GitRepo::with_history(world.path("app.git"), &[]);
    repo.git(&["push", "-q", &format!("http://{address}/team/app"), "main"]);
    let heard = || {
        let run = gitferry(&world, config, &["health", health]).output().unwrap();
        let said: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
        said["counters"]["messages"].as_u64().unwrap_or(0) > 0
    };
    // Not by a sweep: the bus, the rule and the queue carried it.
    wait("the worker heard of it", heard);
    let show = |region: &str| {
        let run =
            gitferry(&world, config, &["repo", "show", "team/app", "--region", region, "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&run.stdout).ok().map(|shown| shown["frontier"].clone())
    };
    wait("the other region has it", || show("eu-west-1").is_some() && show("eu-west-1") == show("us-east-1"));
}
