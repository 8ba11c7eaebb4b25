//! `examples/two-regions` against the emulator: providers, a zone, and the variables that have no default.

use std::path::Path;
use std::process::Command;

use gitferry_test_support::aws::{Emulator, REGION};

/// Services by the names of the older provider.
const SERVICES: [&str; 18] = [
    "acm",
    "applicationautoscaling",
    "cloudwatch",
    "cloudwatchevents",
    "cloudwatchlogs",
    "dynamodb",
    "ec2",
    "ecs",
    "elb",
    "iam",
    "kms",
    "lambda",
    "route53",
    "s3",
    "s3control",
    "secretsmanager",
    "sqs",
    "sts",
];

/// Sends both providers to the emulator and to one AWS region, as it takes no events from one AWS region to another; and
/// makes the zone that a user has.
pub fn prepare(folder: &Path) {
    let endpoint = Emulator::get().endpoint();
    let endpoints: String = SERVICES.iter().map(|service| format!("    {service} = \"{endpoint}\"\n")).collect();
    let provider = |alias: &str| {
        format!(
            "provider \"aws\" {{\n  alias = \"{alias}\"\n  region = \"{REGION}\"\n  access_key = \"test\"\n  \
             secret_key = \"test\"\n  s3_force_path_style = true\n  skip_credentials_validation = true\n  \
             skip_metadata_api_check = true\n  skip_region_validation = true\n  max_retries = 2\n  \
             endpoints {{\n{endpoints}  }}\n}}\n"
        )
    };
    let host =
        |name: &str| format!("module \"{name}\" {{\n  zone = {{ id = aws_route53_zone.emulated.zone_id }}\n}}\n");
    let overridden = [provider("first"), provider("second"), host("host_first"), host("host_second")].concat();
    std::fs::write(folder.join("emulated_override.tf"), overridden).unwrap();
    let zone =
        "resource \"aws_route53_zone\" \"emulated\" {\n  provider = aws.first\n  name = \"git.example.com\"\n}\n";
    std::fs::write(folder.join("emulated.tf"), zone).unwrap();
}

/// A step with the variables that have no default, and others.
pub fn with_variables(mut command: Command, variables: &[&str]) -> Command {
    let emulator = Emulator::get();
    command.envs(emulator.environment());
    let endpoint = format!("endpoint_url={}", emulator.endpoint());
    let needed = ["prefix=emulated", "domain=git.example.com", "zone_id=-", "images=[\"image\",\"image\"]", &endpoint];
    for variable in needed.iter().chain(variables) {
        command.args(["-var", variable]);
    }
    command
}
