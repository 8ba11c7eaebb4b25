//! The configuration that Terraform renders is one that the program takes.

use std::path::Path;

use gitferry_config::{AuthConfig, Config, HostLimits, IamAuth, OnPush, QuotaConfig, TableLocation};
use hcl::eval::{Context, Evaluate, FuncArgs, FuncDef, ParamType};
use hcl::{Template, Value, value};

use crate::hcl_files::root;

/// A region as the module takes it, with all that may be left out left out.
pub fn region(name: &str) -> Value {
    value!({
        aws_region = name
        bucket = (format!("git-{name}"))
        table = (format!("table-{name}"))
        recovery_window = null
        bus = null
        cache = null
        role_arn = null
        external_id = null
        endpoint_url = null
    })
}

pub fn link() -> Value {
    value!({
        source = "us-east-1"
        target = "eu-west-1"
        repositories = ["*"]
        queue = null
        dead_letters = null
        endpoint_url = null
        aws_region = null
    })
}

/// A host with all that may be left out left out, as the module fills it.
fn host() -> Value {
    value!({
        listen = "0.0.0.0:8411"
        url = "https://eu-west-1.git.example.com"
        auth = "tokens"
        tokens = "tokens"
        create_on_push = true
        on_push = "forward"
        tls = null
        ssh = null
        limits = null
        audit = null
        quotas = null
    })
}

/// The same with some values.
fn with(value: Value, more: &[(&str, &str)]) -> Value {
    let Value::Object(mut object) = value else { panic!("{value}") };
    object.extend(more.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    Value::Object(object)
}

/// What Terraform makes of the template, without hosts.
fn render(regions: Value, links: Value) -> String {
    render_all(regions, links, value!({}))
}

fn render_all(regions: Value, links: Value, hosts: Value) -> String {
    render_with(regions, links, hosts, Value::Null)
}

fn render_with(regions: Value, links: Value, hosts: Value, account: Value) -> String {
    let text = std::fs::read_to_string(root("infra/modules/config/gitferry.toml.tftpl")).unwrap();
    let template: Template = text.parse().unwrap();
    let mut context = Context::new();
    context.declare_func("jsonencode", FuncDef::builder().param(ParamType::Any).build(json));
    context.declare_var("regions", regions);
    context.declare_var("links", links);
    context.declare_var("hosts", hosts);
    context.declare_var("account", account);
    template.evaluate(&context).unwrap()
}

fn json(arguments: FuncArgs) -> Result<Value, String> {
    serde_json::to_string(&arguments[0]).map(Value::from).map_err(|error| error.to_string())
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("GITFERRY_CONFIG_TOML")).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

#[test]
fn the_least() {
    let text = render(value!({ "eu-west-1" = (region("eu-west-1")) }), value!({}));
    let config = parse(&text);
    let region = &config.regions["eu-west-1"];
    assert_eq!((region.objects.as_str(), region.aws.region.as_deref()), ("s3://git-eu-west-1", Some("eu-west-1")));
    assert!(region.events.is_none() && region.aws.role_arn.is_none() && config.links.is_empty());
    assert_eq!(config.stores("eu-west-1").unwrap().table, TableLocation::DynamoDb("table-eu-west-1".into()));
}

#[test]
fn all_that_there_is() {
    let role = "arn:aws:iam::210987654321:role/gitferry-us-east-1-reader";
    let source = with(region("us-east-1"), &[("role_arn", role), ("external_id", "a-secret-word")]);
    let target = with(region("eu-west-1"), &[("bus", "git-eu"), ("endpoint_url", "http://127.0.0.1:4566")]);
    let target = with(target, &[("recovery_window", "35d")]);
    let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/gitferry-dr";
    let dead = format!("{queue}-dead-letters");
    let link = with(
        link(),
        &[
            ("queue", queue),
            ("dead_letters", &dead),
            ("endpoint_url", "http://127.0.0.1:4566"),
            ("aws_region", "eu-west-1"),
        ],
    );
    let text = render(value!({ "us-east-1" = source, "eu-west-1" = target }), value!({ "dr" = link }));
    let config = parse(&text);
    let source = &config.regions["us-east-1"].aws;
    assert_eq!((source.role_arn.as_deref(), source.external_id.as_deref()), (Some(role), Some("a-secret-word")));
    let target = &config.regions["eu-west-1"];
    assert_eq!(target.events.as_ref().unwrap().bus, "git-eu");
    assert_eq!(target.aws.endpoint_url.as_deref(), Some("http://127.0.0.1:4566"));
    assert_eq!(target.recovery_window.as_hours(), 35 * 24);
    assert_eq!(config.regions["us-east-1"].recovery_window, gitferry_config::RECOVERY_WINDOW);
    let link = config.link("dr").unwrap();
    assert_eq!((link.queue.as_deref(), link.dead_letters.as_deref()), (Some(queue), Some(dead.as_str())));
    assert_eq!(link.repositories, ["*"]);
    assert_eq!(link.aws.region.as_deref(), Some("eu-west-1"));
}

/// The host of this region and one of another, which is named for its URL.
#[test]
fn hosts() {
    let regions = value!({ "us-east-1" = (with(region("us-east-1"), &[("cache", "30 GiB")])), "eu-west-1" = (region("eu-west-1")) });
    let secrets = "/var/lib/gitferry/secrets";
    let (tokens, cert, key) =
        (format!("{secrets}/tokens"), format!("{secrets}/tls_cert"), format!("{secrets}/tls_key"));
    let Value::Object(mut own) = with(host(), &[("url", "https://us-east-1.git.example.com"), ("tokens", &tokens)])
    else {
        panic!()
    };
    own.insert("tls".into(), value!({ cert = (cert.as_str()) key = (key.as_str()) }));
    let authorized = format!("{secrets}/ssh_authorized_keys");
    let ssh = value!({ listen = "0.0.0.0:8422" host_keys = secrets authorized_keys = (authorized.as_str()) });
    own.insert("ssh".into(), ssh);
    own.insert("limits".into(), value!({ connections = 512 grace = "110s" }));
    own.insert("create_on_push".into(), false.into());
    let config =
        parse(&render_all(regions, value!({}), value!({ "us-east-1" = (Value::Object(own)), "eu-west-1" = (host()) })));
    let (own, other) = (&config.hosts["us-east-1"], &config.hosts["eu-west-1"]);
    assert_eq!(own.url(), "https://us-east-1.git.example.com");
    assert_eq!((own.listen.port(), own.create_on_push, own.on_push), (8411, false, OnPush::Forward));
    assert!(own.trusted_proxies.is_empty(), "no header of a client is believed");
    assert_eq!((own.limits.connections, own.limits.grace.as_secs()), (512, 110));
    assert_eq!(
        (own.limits.request_silence, other.limits.clone()),
        (HostLimits::default().request_silence, HostLimits::default())
    );
    assert_eq!((own.ssh.unwrap().port(), other.ssh), (8422, None));
    assert_eq!(config.ssh_host_keys("us-east-1", own), Path::new(secrets));
    assert_eq!(own.ssh_authorized_keys.as_deref(), Some(Path::new(&authorized)));
    let tls = own.tls.as_ref().unwrap();
    assert_eq!((config.path(&tls.cert), config.path(&tls.key)), (cert.into(), key.into()));
    let AuthConfig::Tokens { tokens: file } = &own.auth else { panic!("{:?}", own.auth) };
    assert_eq!(config.path(file), Path::new(&tokens));
    assert_eq!((other.url().as_str(), other.tls.is_none()), ("https://eu-west-1.git.example.com", true));
    assert_eq!(config.regions["us-east-1"].cache.max_bytes.unwrap().as_u64(), 30 << 30);
}

/// Hosts with an account under the KMS keys of both regions, an audit trail and quotas.
#[test]
fn hosts_with_an_account() {
    let regions = value!({ "us-east-1" = (region("us-east-1")), "eu-west-1" = (region("eu-west-1")) });
    let keys = ["arn:aws:kms:us-east-1:111122223333:key/1234", "arn:aws:kms:eu-west-1:111122223333:key/5678"];
    let account = value!({ kms_keys = (keys.to_vec()) key = null endpoint_url = "http://127.0.0.1:4566" aws = null });
    let Value::Object(mut own) = with(host(), &[("auth", "iam"), ("audit", "gitferry-us-east-1-audit")]) else {
        panic!()
    };
    own.insert("ssh".into(), value!({ listen = "0.0.0.0:8422" host_keys = "secrets" authorized_keys = null }));
    let quotas = value!({
        repositories = 1000
        repository_size = "10GiB"
        size = null
        repository_lfs_size = null
        lfs_size = null
        requests_per_minute = null
    });
    own.insert("quotas".into(), quotas);
    let other = with(host(), &[("auth", "iam")]);
    let hosts = value!({ "us-east-1" = (Value::Object(own)), "eu-west-1" = other });
    let config = parse(&render_with(regions, value!({}), hosts, account));
    let own = &config.hosts["us-east-1"];
    assert!(matches!(own.auth, AuthConfig::Iam(IamAuth::Iam)), "{:?}", own.auth);
    assert_eq!(own.audit.as_ref().unwrap().events.as_ref().unwrap().bus, "gitferry-us-east-1-audit");
    let quotas = QuotaConfig {
        repositories: Some(1000),
        repository_size: Some(bytesize::ByteSize::gib(10)),
        ..QuotaConfig::default()
    };
    assert_eq!(own.quotas, quotas);
    assert!(own.ssh.is_some() && own.ssh_authorized_keys.is_none(), "the account has the keys");
    assert_eq!(config.account.kms_key.iter().map(|key| key.as_str()).collect::<Vec<_>>(), keys);
    assert!(config.account.key_file().is_none(), "no key file beside the keys of KMS");
    let aws = config.account.kms_settings(&config.account.kms_key[1]);
    assert_eq!(
        (aws.region.as_deref(), aws.endpoint_url.as_deref()),
        (Some("eu-west-1"), Some("http://127.0.0.1:4566"))
    );
}

#[test]
fn hosts_for_identities_of_aws() {
    let aws = value!({
        id = "111122223333"
        roles = ["deploy-*"]
        refresh = "30s"
        ssh_keys = true
        sts_regions = ["eu-west-1"]
    });
    let account = value!({ kms_keys = null key = "/secrets/account_key" endpoint_url = null aws = aws });
    let regions = value!({ "eu-west-1" = (region("eu-west-1")) });
    let hosts = value!({ "eu-west-1" = (with(host(), &[("auth", "aws")])) });
    let config = parse(&render_with(regions, value!({}), hosts, account));
    assert!(matches!(config.hosts["eu-west-1"].auth, AuthConfig::Iam(IamAuth::Aws)));
    let aws = config.account.aws.as_ref().unwrap();
    assert_eq!((aws.id.as_str(), aws.refresh.as_secs(), aws.ssh_keys), ("111122223333", 30, true));
    assert_eq!(
        (aws.roles.as_slice(), aws.sts_regions.as_slice()),
        (&["deploy-*".to_owned()][..], &["eu-west-1".to_owned()][..])
    );
    assert_eq!(config.account.key_file(), Some(Path::new("/secrets/account_key")));
}

/// A region says its window once, and every process that names the region hears of it.
#[test]
fn every_configuration_of_a_region_has_its_window() {
    let read = |path: &str| std::fs::read_to_string(root(path)).unwrap();
    let of_region = read("infra/modules/region/outputs.tf");
    assert!(of_region.contains("recovery_window = \"${var.recovery_days}d\""), "{of_region}");
    for (path, regions) in [
        ("infra/modules/link/main.tf", 2),
        ("infra/modules/host/main.tf", 2),
        ("infra/examples/two-regions/outputs.tf", 1),
    ] {
        let text = read(path);
        let tables =
            text.lines().filter(|line| line.trim_start().starts_with("table ") && line.contains("region")).count();
        let windows = text.lines().filter(|line| line.trim_start().starts_with("recovery_window ")).count();
        assert_eq!((tables, windows), (regions, regions), "{path}");
    }
}

/// What a name says stays a name.
#[test]
fn nothing_in_a_value_is_syntax() {
    let odd = "a\"\n[links.other]\nsource = \"\\";
    let globs = Value::from(vec![odd, "team/*"]);
    let Value::Object(mut link) = link() else { panic!() };
    link.insert("repositories".into(), globs);
    let regions = value!({ "us-east-1" = (region("us-east-1")), "eu-west-1" = (region("eu-west-1")) });
    let text = render(regions, value!({ "dr" = (Value::Object(link)) }));
    let table: toml::Table = text.parse().unwrap();
    let links = table["links"].as_table().unwrap();
    assert_eq!(links.keys().collect::<Vec<_>>(), ["dr"]);
    assert_eq!(links["dr"]["repositories"][0].as_str(), Some(odd));
}
