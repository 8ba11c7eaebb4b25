//! Both regions, hosts and links as Terraform makes them on the emulator; an account that its task founds, and a push to the
//! host as its task runs, which goes all the way to the other region.
//!
//! With the older provider of PyPI: without its services of ECS, which end that provider on the emulator, and without
//! autoscaling, which the emulator does not have.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::container::Container;
use crate::running::{frontier, init, wait, worker};
use crate::terraform::{APPLY, STEP, command, run};
use crate::{emulated, founding, older};
use gitferry_test_support::aws::{ENDPOINT_VARIABLE, fresh};
use gitferry_test_support::world::World;

/// Errors of services that do not know a request.
const LACKS: [&str; 4] = ["NotImplemented", "StatusCode: 501", "UnknownOperation", "InvalidAction"];

/// Resources and outputs that Terraform has applied.
struct Applied(Vec<Value>, Value);

impl Applied {
    fn of(folder: &Path) -> Applied {
        let shown = run(command(folder, &["show", "-json"]), STEP).unwrap_or_else(|said| panic!("{said}"));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let values = &shown["values"];
        let mut all = Vec::new();
        let mut modules = vec![&values["root_module"]];
        while let Some(module) = modules.pop() {
            all.extend(module["resources"].as_array().into_iter().flatten().cloned());
            modules.extend(module["child_modules"].as_array().into_iter().flatten());
        }
        Applied(all, values["outputs"].clone())
    }

    fn output(&self, name: &str, key: &str) -> String {
        self.1[name]["value"][key].as_str().unwrap().to_owned()
    }

    /// The values of all resources of a type.
    fn all(&self, of: &str) -> Vec<&Value> {
        self.0.iter().filter(|one| one["type"] == of).map(|one| &one["values"]).collect()
    }

    fn one(&self, of: &str, key: &str, value: &str) -> &Value {
        let found: Vec<_> = self.all(of).into_iter().filter(|one| one[key] == value).collect();
        let [one] = found[..] else { panic!("not exactly one {of} with {key} {value}") };
        one
    }

    /// The containers of a task definition.
    fn containers(&self, family: &str) -> Vec<Value> {
        let definition = self.one("aws_ecs_task_definition", "family", family);
        serde_json::from_str(definition["container_definitions"].as_str().unwrap()).unwrap()
    }

    /// The only container of a task definition.
    fn container(&self, family: &str) -> Value {
        let containers = self.containers(family);
        let [container] = &containers[..] else { panic!("{containers:?}") };
        container.clone()
    }
}

#[test]
#[cfg_attr(
    not(all(target_os = "linux", target_arch = "x86_64")),
    ignore = "PyPI has the provider for x86-64 Linux only"
)]
fn a_push_goes_through_what_terraform_made() {
    let copy = older::copy(&["aws_ecs_service", "aws_appautoscaling_policy", "aws_appautoscaling_target"]);
    let folder = copy.path("examples/two-regions");
    emulated::prepare(&folder);
    older::init(&folder);
    let unique = fresh("link");
    let number = &unique["gitferry-test-link-".len()..][..12];
    let link = format!("link-{number}");
    let links = format!("links=[\"{link}\",\"{link}-back\"]");
    let prefix = format!("prefix=tf-{number}");
    let made = command(&folder, &["apply", "-auto-approve", "-no-color", "-parallelism=40"]);
    match run(emulated::with_variables(made, &[&links, &prefix]), APPLY) {
        Ok(_) => {}
        // Services that the environment names may lack some of the emulator's.
        Err(said) if std::env::var_os(ENDPOINT_VARIABLE).is_some() && LACKS.iter().any(|word| said.contains(word)) => {
            return eprintln!("SKIPPED: terraform apply: the services there lack something: {said}");
        }
        Err(said) => panic!("{said}"),
    }
    let applied = Applied::of(&folder);
    roles_are_the_documented_ones(&applied);
    the_load_balancer_leads_to_the_container(&applied);
    let world = World::with(&[], "");
    let services = ["host_first", "host_second", "to_second", "to_first"].map(|name| applied.output("services", name));
    let [first, second, to_second, to_first] = &services;
    assert_eq!(
        applied.1["first_start"]["value"],
        format!("../../first-start --auth iam --ssh {first} {second} --workers {to_second} {to_first}")
    );
    assert_eq!(*first, format!("us-east-1/tf-{number}-us-east-1/gitferry-us-east-1"));
    let whole = applied.1["config"]["value"].as_str().unwrap();
    let whole = gitferry_config::Config::parse(whole, Path::new("config")).unwrap();
    assert_eq!((whole.regions.len(), whole.links.len()), (2, 2));
    let config = applied.output("link_configs", &link);
    init(&world, &config);
    let keys = founding::host_keys(&world);
    let secrets: Vec<(&str, &str)> = keys.iter().map(|(file, key)| (*file, key.as_str())).collect();
    let key = founding::found(&world, &applied.containers("gitferry-us-east-1-found"), &secrets);
    let worker = worker(&world, &config, &[&link]);
    let definition = applied.container("gitferry-us-east-1");
    let mut host = Container::start(&world, &definition, &secrets);
    assert!(!host.environment().contains("PRIVATE KEY"), "a secret stays in the environment");
    founding::shows_its_host_key(&world, &host);
    founding::push(&world, &host, "team/app");
    assert!(!host.log().contains(key["SecretAccessKey"].as_str().unwrap()), "the log has the access key");
    // Not by a sweep: the bus, the rule and the queue carried it.
    wait("the worker heard of it", || worker.counter("messages") > 0);
    let show = |region: &str| frontier(&world, &config, "team/app", region);
    wait("the other region has it", || show("eu-west-1").is_some() && show("eu-west-1") == show("us-east-1"));
    wait("the other region has the account", || show_account(&world, &config).is_some());
    filters_match_the_log(&applied, &host);
    assert_eq!(host.stop(), Some(0), "the host drains and ends by itself");
}

/// The state of the account in the other region.
fn show_account(world: &World, config: &str) -> Option<Value> {
    frontier(world, config, "gitferry/account", "eu-west-1")
}

/// Every selector of a metric filter is in a line of the log of requests, and the filter of all requests finds one.
fn filters_match_the_log(applied: &Applied, host: &Container<'_>) {
    let lines: Vec<Value> = host.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let answered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "answered").collect();
    let paths: BTreeSet<&str> = answered.iter().map(|line| line["span"]["path"].as_str().unwrap()).collect();
    assert!(paths.contains("/_ready") && paths.contains("/team/app/git-receive-pack"), "{paths:?}");
    assert!(answered.iter().all(|line| line["status"].is_u64()), "{answered:?}");
    for filter in applied.all("aws_cloudwatch_log_metric_filter") {
        let pattern = filter["pattern"].as_str().unwrap();
        for selector in pattern.split("$.").skip(1).map(|rest| rest.split(' ').next().unwrap()) {
            let pointer = format!("/{}", selector.replace('.', "/"));
            assert!(answered.iter().all(|line| line.pointer(&pointer).is_some()), "no {selector} in {answered:?}");
        }
    }
}

/// The role of the process may do what a host does in its own region, and read the other; that of ECS reads its secrets.
fn roles_are_the_documented_ones(applied: &Applied) {
    let statements = |role: &str| -> Vec<Value> {
        let all = applied.all("aws_iam_role_policy").into_iter().filter(|policy| policy["role"] == role);
        let documents = all.map(|policy| serde_json::from_str::<Value>(policy["policy"].as_str().unwrap()).unwrap());
        documents.flat_map(|document| document["Statement"].as_array().unwrap().clone()).collect()
    };
    let list = |value: &Value| -> BTreeSet<String> {
        let one = value.as_str().map(str::to_owned);
        let many = value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned());
        one.into_iter().chain(many).collect()
    };
    let actions = |statements: &[Value]| -> BTreeSet<String> {
        statements.iter().flat_map(|statement| list(&statement["Action"])).collect()
    };
    let documented = |heading: &str, number: usize| {
        let rows = crate::policies::documented("docs/aws.md", heading);
        crate::policies::column(&rows, number)
    };
    let of_host = documented("| on | a host", 1);
    let of_admin = of_host.union(&documented("| on | a host", 3)).cloned().collect();
    for (role, documented) in [
        ("gitferry-us-east-1", of_host),
        ("gitferry-us-east-1-execution", documented("| on | a host", 2)),
        ("gitferry-us-east-1-admin", of_admin),
    ] {
        let statements = statements(role);
        assert_eq!(actions(&statements), documented, "{role}");
        for statement in &statements {
            let resources = list(&statement["Resource"]);
            assert!(!resources.is_empty() && !resources.contains("*"), "{role}: {statement}");
        }
    }
    // Of the other region, reading alone.
    let bucket =
        applied.all("aws_s3_bucket").into_iter().find(|one| one["bucket"].as_str().unwrap().ends_with("eu-west-1"));
    let arn = bucket.unwrap()["arn"].as_str().unwrap();
    let there = |statement: &&Value| list(&statement["Resource"]).iter().any(|one| one.starts_with(arn));
    let there: Vec<Value> = statements("gitferry-us-east-1").iter().filter(there).cloned().collect();
    assert_eq!(actions(&there), BTreeSet::from(["s3:GetObject", "s3:ListBucket"].map(str::to_owned)));
}

/// 443 → target group → the port that the process listens on; nothing but the load balancer reaches it.
fn the_load_balancer_leads_to_the_container(applied: &Applied) {
    let container = applied.container("gitferry-us-east-1");
    let port = container["portMappings"][0]["containerPort"].as_u64().unwrap();
    let groups = applied.all("aws_lb_target_group");
    let listeners = applied.all("aws_lb_listener");
    assert_eq!((groups.len(), listeners.len()), (4, 4));
    let ssh = container["portMappings"][1]["containerPort"].as_u64();
    for group in groups {
        let is_ssh = group["name"].as_str().unwrap().ends_with("-ssh");
        assert_eq!(group["port"].as_u64(), if is_ssh { ssh } else { Some(port) });
        let check = &group["health_check"][0];
        assert_eq!((&check["path"], &check["protocol"]), (&"/_ready".into(), &"HTTP".into()));
        assert_eq!(group["preserve_client_ip"].as_str(), Some("true"), "{group}");
    }
    let (of_ssh, of_git): (Vec<_>, Vec<_>) = listeners.into_iter().partition(|one| one["port"].as_u64() == Some(22));
    assert!(of_ssh.len() == 2 && of_ssh.iter().all(|listener| listener["protocol"] == "TCP"), "{of_ssh:?}");
    for listener in of_git {
        assert_eq!((listener["port"].as_u64(), &listener["protocol"]), (Some(443), &"TLS".into()));
        assert!(listener["certificate_arn"].as_str().unwrap().contains(":certificate/"));
    }
    let rules = applied.all("aws_security_group_rule");
    let into_task = rules.iter().filter(|rule| rule["type"] == "ingress" && rule["from_port"].as_u64() == Some(port));
    assert_eq!(into_task.clone().count(), 2);
    assert!(into_task.clone().all(|rule| rule["source_security_group_id"].as_str().is_some_and(|id| !id.is_empty())));
}
