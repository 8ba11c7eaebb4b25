//! The modules by the schema of an AWS provider: arguments, attributes, references and types; and the example as
//! Terraform plans it, in all ways of running it.

use crate::emulated;
use crate::older;
use crate::terraform::{PLAN, STEP, command, run};

/// Folders that can be validated alone. `modules/link` has two providers: `examples/two-regions` has it.
const ROOTS: [&str; 5] =
    ["modules/config", "modules/host", "modules/network", "modules/region", "examples/two-regions"];

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn the_modules_are_valid_to_an_older_provider() {
    let copy = older::copy(&[]);
    for folder in ROOTS {
        let folder = copy.path(folder);
        older::init(&folder);
        run(command(&folder, &["validate", "-no-color"]), STEP).unwrap_or_else(|said| panic!("{said}"));
    }
}

/// The test above notices mistakes.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn a_mistake_in_a_module_is_not_valid() {
    for (file, right, wrong) in [
        ("region/table.tf", "hash_key", "hash_kay"),
        ("region/table.tf", "billing_mode", "billing_mood"),
        ("region/bus.tf", "aws_cloudwatch_event_bus", "aws_cloudwatch_event_buzz"),
        ("host/load_balancer.tf", "preserve_client_ip", "preserve_client_pi"),
        ("network/endpoints.tf", "private_dns_enabled", "private_dns_enable"),
    ] {
        let copy = older::copy(&[]);
        let path = copy.path("modules").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(right), "{file} has no {right}");
        std::fs::write(&path, text.replace(right, wrong)).unwrap();
        let folder = path.parent().unwrap();
        older::init(folder);
        let said = run(command(folder, &["validate", "-no-color"]), STEP).unwrap_err();
        assert!(said.contains(wrong), "{said}");
    }
}

/// Each way of running the example is a plan that Terraform makes, from nothing.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn the_example_is_planned() {
    let copy = older::copy(&[]);
    let folder = copy.path("examples/two-regions");
    emulated::prepare(&folder);
    older::init(&folder);
    let networks = "networks=[{cluster_arn=\"arn:aws:ecs:us-east-1:1:cluster/c\",vpc_id=\"vpc-1\",subnets=[\"s\"],\
                    load_balancer_subnets=[\"p\"],security_groups=[\"g\"],assign_public_ip=false},\
                    {cluster_arn=\"arn:aws:ecs:eu-west-1:1:cluster/c\",vpc_id=\"vpc-2\",subnets=[\"s\"],\
                    load_balancer_subnets=[\"p\"],security_groups=[\"g\"],assign_public_ip=false}]";
    for (variables, has, has_not) in [
        (
            &[][..],
            &[
                "aws_ecs_service.host",
                "aws_appautoscaling_target.tasks",
                "aws_kms_key.account[0]",
                "aws_ecs_task_definition.once[\"found\"]",
                "aws_cloudwatch_event_target.audit[0]",
                "aws_lb_listener.ssh[0]",
                "this[\"ssh_host_ed25519_key\"]",
            ][..],
            &["aws_nat_gateway", "this[\"tokens\"]", "ssh_authorized_keys"][..],
        ),
        (
            &["auth=tokens", "audit=false", "egress=nat", "interface_endpoints=[\"sqs\",\"logs\"]"][..],
            &["aws_nat_gateway", "interface[\"sqs\"]", "this[\"tokens\"]", "this[\"ssh_authorized_keys\"]"][..],
            &[
                "aws_kms_key.account",
                "aws_ecs_task_definition.once",
                "policy.aws[0]",
                "aws_cloudwatch_event_target.audit",
            ][..],
        ),
        (
            &["auth=aws", "aws_identities={roles=[\"deploy-*\"],ssh_keys=true}", "ssh=false", "run=lambda"][..],
            &["aws_lambda_function.worker", "aws_ecs_service.host", "this[\"account_key\"]", "policy.aws[0]"][..],
            &["aws_ecs_service.worker", "aws_kms_key.account", "aws_lb_listener.ssh", "administrator[0]"][..],
        ),
        (
            &[networks, "run=schedule", "ssh=false", "quotas={repositories=10,size=\"1TiB\"}"][..],
            &["aws_lb_listener.git", "administrator[0]"][..],
            &["aws_vpc.this", "aws_ecs_service.worker", "aws_secretsmanager_secret.this"][..],
        ),
    ] {
        let plan = emulated::with_variables(command(&folder, &["plan", "-no-color", "-parallelism=40"]), variables);
        let said = run(plan, PLAN).unwrap_or_else(|said| panic!("{said}"));
        assert!(said.contains("0 to change, 0 to destroy"), "{said}");
        assert!(has.iter().all(|part| said.contains(part)), "{variables:?}: {said}");
        assert!(!has_not.iter().any(|part| said.contains(part)), "{variables:?}: {said}");
    }
}

/// Mistakes of a caller are refused with the variable's own words.
#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn variables_that_make_no_sense_are_refused() {
    let copy = older::copy(&[]);
    let folder = copy.path("examples/two-regions");
    emulated::prepare(&folder);
    older::init(&folder);
    for (variable, expected) in [
        ("egress=vpn", "egress is public or nat"),
        ("auth=none", "auth is iam, aws or tokens"),
        ("aws_regions=[\"us-east-1\",\"us-east-1\"]", "aws_regions are two"),
        ("host_task={storage=50,cache=45}", "cache leaves 10 GiB"),
        ("host_tasks={min=3,max=2}", "tasks.max is at least tasks.min"),
        ("cidrs=[\"10.0.0.0/8\",\"10.21.0.0/16\"]", "cidr is an IPv4 network of 16 to 24 bits"),
    ] {
        let plan = emulated::with_variables(command(&folder, &["plan", "-no-color"]), &[variable]);
        // Terraform wraps its lines.
        let said = run(plan, PLAN).unwrap_err().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(expected), "{variable}: {said}");
    }
}
