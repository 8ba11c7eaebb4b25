//! The module `host`: ports, checks, times and alarms are those of the program.

use std::collections::BTreeSet;

use gitferry_config::HostLimits;
use hcl::Body;

use crate::hcl_files::{Module, at, root, words};

/// Longest `stopTimeout` of a container on Fargate, in seconds.
const FARGATE_STOPS_WITHIN: u64 = 120;
/// Idle timeout of a load balancer's TLS listener in seconds, which AWS fixes.
const TLS_IDLE: u64 = 350;

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap()
}

/// All Rust files below a folder.
fn sources(folder: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root(folder)];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

/// The resource of a type and name.
fn named<'a>(module: &'a Module, of: &str, name: &str) -> &'a Body {
    let all = module.all("resource", of);
    let block = all.into_iter().find(|block| block.labels()[1].as_str() == name);
    block.unwrap_or_else(|| panic!("no {of} {name}")).body()
}

/// The value of a local of the module.
fn local(name: &str) -> String {
    let module = Module::read("host");
    let values: Vec<String> = module.locals().iter().flat_map(|block| at(block.body(), name)).collect();
    let [value] = &values[..] else { panic!("not exactly one local.{name}") };
    value.clone()
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is not a number"))
}

#[test]
fn ports_are_those_of_the_image() {
    let port = local("port");
    assert!(read("src/cli/init.toml").contains(&format!("listen = \"127.0.0.1:{port}\"")), "the usual port");
    let exposed = read("docker/Dockerfile");
    let exposed = exposed.lines().find(|line| line.starts_with("EXPOSE ")).unwrap();
    assert!(exposed.split(' ').any(|word| word == port), "{exposed}");
    let module = Module::read("host");
    for (name, port) in [("git", "local.port"), ("ssh", "local.ssh_port")] {
        assert_eq!(at(named(&module, "aws_lb_target_group", name), "port"), [port]);
    }
    let service = module.resource("aws_ecs_service").body();
    assert_eq!(at(service, "load_balancer.container_port"), ["local.port"]);
    assert_eq!(at(service, "dynamic.content.container_port"), ["local.ssh_port"]);
    let clients: Vec<String> =
        ["git", "ssh"].iter().flat_map(|name| at(named(&module, "aws_lb_listener", name), "port")).collect();
    assert_eq!(clients, ["443", "22"]);
    let ports = local("ports");
    assert!(clients.iter().all(|port| ports.contains(&format!("clients = {port}"))), "{ports}");
    for rule in module.all("resource", "aws_security_group_rule") {
        let (from, to) = (at(rule.body(), "from_port").concat(), at(rule.body(), "to_port").concat());
        assert_eq!(from, to);
        // The load balancer is open to clients, the tasks to the load balancer alone.
        let open = !at(rule.body(), "cidr_blocks").is_empty();
        let inward = at(rule.body(), "type").concat() == "ingress";
        let group = at(rule.body(), "security_group_id").concat();
        assert!(!(open && inward) || group == "aws_security_group.load_balancer.id", "{group} is open");
        let expected = if open && inward { "each.value.clients" } else { "each.value.task" };
        assert!(from == expected || (open && !inward), "{from}");
    }
}

#[test]
fn checks_ask_what_the_host_answers() {
    let routes = sources("src/host");
    let module = Module::read("host");
    for name in ["git", "ssh"] {
        let group = named(&module, "aws_lb_target_group", name);
        let path = at(group, "health_check.path").concat();
        assert!(routes.contains(&format!("const READY: &str = \"{path}\";")), "the host has no {path}");
        // The older provider and older load balancers want both alike.
        assert_eq!(at(group, "health_check.healthy_threshold"), at(group, "health_check.unhealthy_threshold"));
        // Addresses of clients reach the host by the connection, so no header is believed.
        assert_eq!(at(group, "preserve_client_ip"), ["true"]);
        assert_eq!(at(group, "proxy_protocol_v2"), ["false"]);
    }
    assert!(!read("infra/modules/config/gitferry.toml.tftpl").contains("trusted_proxies"));
}

/// Nothing ends a connection before the host itself would, and ECS waits longer for the process than the process for its
/// requests.
#[test]
fn times_fit_into_each_other() {
    let (grace, stop) = (number(&local("grace_seconds")), number(&local("stop_seconds")));
    assert!(grace < stop && stop <= FARGATE_STOPS_WITHIN, "{grace} {stop}");
    assert!(grace >= HostLimits::default().grace.as_secs(), "less than the host's own grace period");
    let module = Module::read("host");
    let task = read("infra/modules/host/task.tf");
    assert!(task.contains("stopTimeout            = local.stop_seconds"), "{task}");
    assert!(read("infra/modules/host/main.tf").contains("grace = \"${local.grace_seconds}s\""));
    let silence = HostLimits::default().request_silence.as_secs();
    let listener = named(&module, "aws_lb_listener", "git");
    let idle = at(listener, "tcp_idle_timeout_seconds").concat();
    let idle = number(idle.split(['?', ':']).nth(1).unwrap().trim());
    assert!(silence < idle && silence < TLS_IDLE, "a client may be silent for {silence} s, a connection for {idle} s");
    // A deployment starts new tasks before it stops old ones, and goes back if they do not start.
    let service = module.resource("aws_ecs_service").body();
    for (path, value) in [
        ("deployment_minimum_healthy_percent", "100"),
        ("deployment_circuit_breaker.enable", "true"),
        ("deployment_circuit_breaker.rollback", "true"),
    ] {
        assert_eq!(at(service, path), [value], "{path}");
    }
    assert!(at(service, "lifecycle.ignore_changes").concat().contains("desired_count"));
}

/// The process may do what the module `region` gives a host, read regions that it is replicated to, open the data keys of
/// the account or read that of AWS IAM, and record; nothing else.
#[test]
fn the_process_has_the_policies_of_its_region_alone() {
    let module = Module::read("host");
    let of_task: Vec<String> = module
        .all("resource", "aws_iam_role_policy")
        .iter()
        .filter(|policy| at(policy.body(), "role") == ["aws_iam_role.task.id"])
        .map(|policy| at(policy.body(), "policy").concat())
        .collect();
    assert_eq!(of_task.len(), 5, "{of_task:?}");
    for name in ["account", "aws", "audit"] {
        assert!(of_task.contains(&format!("data.aws_iam_policy_document.{name}[0].json")), "{of_task:?}");
    }
    assert!(of_task.contains(&"var.region.policies.host".to_owned()), "{of_task:?}");
    let replica = of_task.iter().find(|policy| policy.contains("each")).unwrap();
    assert!(replica.contains("each.value.region.policies.read") && replica.contains("assume_reader"), "{replica}");
    assert!(!replica.contains("write") && !replica.contains("policies.host"), "{replica}");
    assert!(module.all("resource", "aws_iam_role_policy_attachment").is_empty());
}

/// Alarms watch metrics that there are, filters look for messages that the program logs, and the document says what to do.
#[test]
fn alarms_watch_what_there_is() {
    let module = Module::read("host");
    let filters = (local("filters") + &local("audit_failing")).replace("\\\"", "\"");
    let names = ["Requests", "Errors", "NotReady", "PushesNotStored", "AuditFailing"];
    let names: BTreeSet<String> = names.map(str::to_owned).into();
    let docs = read("docs/aws.md");
    let alarms = module.all("resource", "aws_cloudwatch_metric_alarm");
    assert_eq!(alarms.len(), 7);
    for alarm in alarms {
        let of_aws = ["UnHealthyHostCount", "HealthyHostCount", "MemoryUtilization"];
        let metrics = [at(alarm.body(), "metric_name"), at(alarm.body(), "metric_query.metric.metric_name")].concat();
        assert!(!metrics.is_empty());
        for metric in metrics {
            assert!(of_aws.contains(&metric.as_str()) || names.contains(&metric), "nothing counts {metric}");
        }
        assert_eq!(at(alarm.body(), "alarm_actions"), ["var.alarm_topics"]);
        let name = at(alarm.body(), "alarm_name").concat().replace("${local.id}", "");
        assert!(docs.contains(&format!("`…{name}`")), "docs/aws.md says nothing of {name}");
    }
    for name in names {
        assert!(filters.contains(&name), "no filter {name} in {filters}");
    }
    let sources = sources("src/host") + &sources("src/engine/region/push") + &sources("src/audit");
    let messages: Vec<&str> =
        filters.split("$.message = \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(messages.len() >= 8, "{filters}");
    for message in messages {
        assert!(sources.contains(&format!("\"{message}\"")), "nothing logs {message}");
    }
}

/// The image writes secrets where the configuration expects them.
#[test]
fn secrets_are_where_the_configuration_says() {
    let folder = local("secrets_folder");
    let entry = read("docker/Dockerfile");
    let entry = entry.lines().find(|line| line.starts_with("ENTRYPOINT")).unwrap();
    assert_eq!(words(entry), ["/usr/local/bin/secret-files", &folder, "/usr/local/bin/gitferry"]);
    let module = Module::read("host");
    assert_eq!(at(named(&module, "aws_secretsmanager_secret", "this"), "for_each"), ["toset(local.files)"]);
    let files: BTreeSet<String> = [local("files"), local("ssh_files")].iter().flat_map(|list| words(list)).collect();
    let named: Vec<&str> = ["account_key", "aws", "ssh_authorized_keys", "ssh_host_ecdsa_key", "ssh_host_ed25519_key"]
        .into_iter()
        .chain(["tls_cert", "tls_key", "tokens"])
        .collect();
    // `aws` is a value of `auth`, as `tokens` is.
    assert_eq!(files.iter().map(String::as_str).collect::<Vec<_>>(), named);
    let used = read("infra/modules/host/main.tf") + &read("infra/modules/host/account.tf");
    for name in files.iter().filter(|name| *name != "aws") {
        if name.starts_with("ssh_host_") {
            assert!(sources("src/host/ssh").contains(&format!("\"{name}\"")), "the host has no key {name}");
        } else {
            assert!(used.contains(&format!("${{local.secrets_folder}}/{name}")), "nothing reads {name}");
        }
    }
    for prefix in ["GITFERRY_FILE_", "GITFERRY_HEX_"] {
        assert!(read("docker/secret-files.rs").contains(&format!("\"{prefix}\"")));
        assert!(read("infra/modules/host/task.tf").contains(&format!("{prefix}${{upper(name)}}")));
    }
    // Of `[profile.dist]`, which the image is built with.
    let profile = "cargo build --profile dist --locked";
    assert!(read("docker/Dockerfile").contains(profile) && read("Cargo.toml").contains("[profile.dist]"));
}

/// The task that founds keeps the access key where it was written, as the user whom the file belongs to; hosts cannot read
/// it.
#[test]
fn the_access_key_of_the_administrator_is_in_no_log_and_no_host() {
    let tasks = read("infra/modules/host/founding.tf");
    assert!(tasks.contains("\"--access-key\", local.access_key, \"--again\"]"), "{tasks}");
    assert!(tasks.contains("\"file://${local.access_key}\"") && tasks.contains("condition = \"SUCCESS\""), "{tasks}");
    let image = read("docker/Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(tasks.contains(&format!("user = \"{user}\"")), "the image runs as {user}: {tasks}");
    let folder = image.lines().find_map(|line| line.strip_prefix("WORKDIR /var")).unwrap();
    assert!(local("access_key").starts_with(&format!("/var{folder}/")));
    let module = Module::read("host");
    let administrator = named(&module, "aws_secretsmanager_secret", "administrator");
    assert_eq!(at(administrator, "name"), ["${local.id}/administrator"]);
    // Containers and the role that starts them have the secrets of `local.secrets` alone.
    assert!(!local("secrets").contains("administrator"), "{}", local("secrets"));
    let once = named(&module, "aws_ecs_task_definition", "once");
    assert_eq!(at(once, "task_role_arn"), ["aws_iam_role.admin[0].arn"]);
    let service = at(named(&module, "aws_ecs_task_definition", "host"), "task_role_arn");
    assert_eq!(service, ["aws_iam_role.task.arn"]);
}

/// A rule of the bus takes what the program sends to a log group that EventBridge may write to.
#[test]
fn the_audit_trail_reaches_its_log() {
    let module = Module::read("host");
    let rule = named(&module, "aws_cloudwatch_event_rule", "audit");
    let pattern = at(rule, "event_pattern").concat();
    let source = words(&pattern).pop().unwrap();
    assert!(read("src/audit/sinks/bus.rs").contains(&format!("\"{source}\"")), "the program sends no {source}");
    for (of, path) in
        [("aws_cloudwatch_event_rule", "event_bus_name"), ("aws_cloudwatch_event_target", "event_bus_name")]
    {
        assert_eq!(at(named(&module, of, "audit"), path), ["aws_cloudwatch_event_bus.audit[0].name"]);
    }
    let target = named(&module, "aws_cloudwatch_event_target", "audit");
    assert_eq!(at(target, "arn"), ["aws_cloudwatch_log_group.audit[0].arn"]);
    let group = at(named(&module, "aws_cloudwatch_log_group", "audit"), "name").concat();
    assert!(group.starts_with("/aws/events/"), "EventBridge writes to no {group}");
    assert!(read("infra/modules/host/main.tf").contains("audit  = one(aws_cloudwatch_event_bus.audit[*].name)"));
}
