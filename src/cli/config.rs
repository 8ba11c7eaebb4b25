//! `gitferry config`

use std::sync::Arc;

use clap::{Args, Subcommand};
use gitferry_base::clock::SystemClock;
use gitferry_config::{AuthConfig, Config as Configuration, HostConfig, IamAuth, LinkConfig};
use gitferry_git::local::RefPatterns;
use gitferry_host::auth::tokens::TokenFile;
use gitferry_host::forward::Forwarder;
use gitferry_host::listen::tls::Certificate;
use gitferry_host::ssh::authorized_keys::AuthorizedKeys;
use gitferry_host::{PushPolicies, Quarantines};
use gitferry_remote::Remote;
use gitferry_service::open;
use serde::Serialize;

use super::aws_identities::aws_keys;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Check the configuration.
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  gitferry config check")]
pub enum Config {
    Check(Check),
}

impl Config {
    pub fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Config::Check(check) => check.run(context),
        }
    }
}

/// Check the configuration and every file that it names. Contacts no store and no server.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 if the configuration is valid, 2 if it is not.

Example:
  gitferry config check
  gitferry --config /etc/gitferry.toml config check --json")]
pub struct Check {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Result for one table of the configuration.
#[derive(Debug, Serialize)]
struct Part {
    /// Name of the table in the file, such as `hosts.us-east-1`.
    part: String,
    /// Reason why the table is not valid; `null` if it is.
    error: Option<String>,
}

impl Check {
    fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let parts = check(&config);
        let is_good = parts.iter().all(|part| part.error.is_none());
        if self.json {
            output::json(&serde_json::json!({ "file": config.file, "ok": is_good, "parts": parts }))?;
        } else {
            for part in &parts {
                output::line(format!("{:<24} {}", part.part, part.error.as_deref().unwrap_or("ok")));
            }
        }
        Ok(if is_good { Exit::Done } else { Exit::Refused })
    }
}

/// Checks what [`Configuration::load`] leaves out: files that the configuration names, and values that depend on them.
fn check(config: &Configuration) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut add = |part: String, checked: Result<(), String>| parts.push(Part { part, error: checked.err() });
    for name in config.regions.keys() {
        add(format!("regions.{name}"), config.stores(name).map(drop).map_err(|error| error.to_string()));
    }
    for name in config.remotes.keys() {
        add(format!("remotes.{name}"), check_remote(config, name));
    }
    for (region, host) in &config.hosts {
        add(format!("hosts.{region}"), check_host(config, region, host));
    }
    if !config.push_policies.is_empty() {
        let opened = PushPolicies::open(config, None, &Quarantines::new(String::new()));
        add("push_policies".into(), opened.map(drop).map_err(|error| error.to_string()));
    }
    for (name, link) in &config.links {
        add(format!("links.{name}"), LinkConfig::matcher(link).map(drop));
    }
    parts
}

fn check_remote(config: &Configuration, name: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Handle::current();
    Remote::new(name, config, SystemClock::shared(), &runtime).map(drop).map_err(|error| error.to_string())
}

fn check_host(config: &Configuration, region: &str, host: &HostConfig) -> Result<(), String> {
    if let Some(tls) = &host.tls {
        Certificate::load(config.path(&tls.cert), config.path(&tls.key)).map_err(|error| error.to_string())?;
    }
    if let AuthConfig::Tokens { tokens } = &host.auth {
        TokenFile::load(&config.path(tokens)).map_err(|error| error.to_string())?;
    }
    if let AuthConfig::Iam(IamAuth::Aws) = &host.auth {
        aws_keys(config).map_err(|failure| failure.message().to_owned())?;
    }
    if let AuthConfig::Iam(IamAuth::Iam) = &host.auth {
        let missing = "`gitferry iam init` makes it with the account; to other machines it is copied";
        open::key_file(config).map_err(|error| format!("{error}; {missing}"))?;
    }
    if let Some(keys) = &host.ssh_authorized_keys {
        AuthorizedKeys::load(&config.path(keys)).map_err(|error| error.to_string())?;
    }
    RefPatterns::new(&host.hidden).map_err(|error| error.to_string())?;
    let ca = host.ca.as_ref().map(|ca| config.path(ca));
    Forwarder::new([(region, host.url(), ca.as_deref())]).map(Arc::new).map_err(|error| error.to_string())?;
    Ok(())
}
