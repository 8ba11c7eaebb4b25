//! Both regions and the link as Terraform makes them on the emulator, and a push that goes all the way. Needs the
//! provider that only Terraform's registry has, and says on standard error when it is skipped without one; `validated.rs`
//! always runs.

use std::path::Path;
use std::process::Command;

use crate::running::{free_address, frontier, push, serve, wait, worker};
use crate::terraform::{Copy, DOWNLOAD, STEP, command, output, run, skipped};
use gitferry_test_support::aws::{Emulator, REGION, fresh};
use gitferry_test_support::world::World;

/// What has a provider of its own and can be checked alone.
const MODULES: [&str; 3] = ["modules/region", "modules/config", "examples/two-regions"];

/// What an emulator says of requests that it does not know.
const LACKS: [&str; 4] = ["NotImplemented", "StatusCode: 501", "UnknownOperation", "InvalidAction"];

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
        "s3control",
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

#[test]
fn a_push_goes_through_what_terraform_made() {
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
    match apply(&["apply", "-auto-approve", "-no-color"]) {
        Ok(_) => {}
        Err(said) if LACKS.iter().any(|word| said.contains(word)) => {
            let _ = apply(&["destroy", "-auto-approve", "-no-color"]);
            return skipped("terraform apply", &format!("the services there lack something: {said}"));
        }
        Err(said) => panic!("{said}"),
    }
    let [config, host] = ["config", "host_config"].map(|name| output(&folder, name));
    pushed_and_replicated(&config, &host);
    apply(&["destroy", "-auto-approve", "-no-color"]).unwrap_or_else(|said| panic!("{said}"));
}

fn command_with(mut command: Command) -> Command {
    command.envs(Emulator::get().environment());
    command
}

fn pushed_and_replicated(config: &str, host: &str) {
    let world = World::with(&[], "");
    let link = config.split("[links.\"").nth(1).unwrap().split('"').next().unwrap();
    let worker = worker(&world, config, &[link]);
    let address = free_address();
    let host = format!("{host}\n[hosts.us-east-1]\nlisten = \"{address}\"\nauth = \"none\"\ncreate_on_push = true\n");
    let _serving = serve(&world, &host, "us-east-1", address);
    push(&world, address, "team/app");
    // Not by a sweep: the bus, the rule and the queue carried it.
    wait("the worker heard of it", || worker.counter("messages") > 0);
    let show = |region: &str| frontier(&world, config, "team/app", region);
    wait("the other region has it", || show("eu-west-1").is_some() && show("eu-west-1") == show("us-east-1"));
}
