//! `gitferry credential`: Git's credential helper for hosts with `auth = "aws"`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::SystemTime;

use aws_credential_types::provider::ProvideCredentials as _;
use clap::{Args, Subcommand};
use gitferry_base::clock::SystemClock;
use gitferry_base::error::chain;
use gitferry_config::AwsConfig;
use gitferry_identity::aws::{Presigning, presign};
use gitferry_store::aws::sdk_config;

use super::failure::{Exit, Failure};
use super::output;

/// Longest input of Git, in bytes.
const MAX_INPUT_BYTES: u64 = 64 << 10;

/// Give Git a password that proves an identity of AWS, to hosts with `auth = "aws"`.
///
/// Git runs the command. The password is a presigned request to STS, `sts:GetCallerIdentity`, which only the host that
/// Git asks can use; it is good for 15 minutes. Nothing is sent to AWS, and nothing is stored.
#[derive(Debug, Args)]
#[command(after_help = "Configure Git once for each host:
  git config --global credential.https://git.example.com.helper '!gitferry credential'

Example:
  gitferry credential get < request.txt
  gitferry credential --profile work --region eu-west-1 get < request.txt")]
pub struct Credential {
    /// Profile of the shared AWS configuration.
    #[arg(long)]
    profile: Option<String>,
    /// AWS region whose STS the host asks [default: that of the profile, or us-east-1].
    #[arg(long)]
    region: Option<String>,
    #[command(subcommand)]
    operation: Operation,
}

/// Operation of Git's protocol with credential helpers (gitcredentials(7)).
#[derive(Clone, Copy, Debug, Subcommand)]
enum Operation {
    /// Print a user name and a password.
    #[command(after_help = "Example:\n  gitferry credential get < request.txt")]
    Get,
    /// Do nothing: the password is not stored.
    #[command(after_help = "Example:\n  gitferry credential store < request.txt")]
    Store,
    /// Do nothing: the password is not stored.
    #[command(after_help = "Example:\n  gitferry credential erase < request.txt")]
    Erase,
}

impl Credential {
    pub async fn run(self) -> Result<Exit, Failure> {
        let mut input = String::new();
        std::io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut input)?;
        let Operation::Get = self.operation else { return Ok(Exit::Done) };
        let asked = attributes(&input);
        let host = asked.get("host").filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| Failure::usage("Git names no host on the standard input"))?;
        if !asked.get("protocol").is_some_and(|protocol| is_safe(protocol, host)) {
            return Err(Failure::usage("the password is given for https, and for http to this machine, only"));
        }
        let sdk = sdk_config(&AwsConfig { profile: self.profile, region: self.region, ..AwsConfig::default() }).await;
        let provider = sdk.credentials_provider().ok_or_else(|| Failure::usage("no AWS credentials are configured"))?;
        let credentials = provider.provide_credentials().await.map_err(|error| {
            Failure::usage(format!("there are no AWS credentials: {}", chain(&error)))
                .hint("`aws sts get-caller-identity` shows if they work; --profile names another profile")
        })?;
        let region = sdk.region().map_or("us-east-1", |region| region.as_ref());
        let request = Presigning { credentials, region, host, now: SystemClock::shared().now().into() };
        let (password, expires) = presign(&request).map_err(Failure::usage)?;
        output::line(format!("username={}", gitferry_iam::aws::USER_NAME));
        output::line(format!("password={}", password.expose()));
        if let Ok(expiry) = expires.duration_since(SystemTime::UNIX_EPOCH) {
            output::line(format!("password_expiry_utc={}", expiry.as_secs()));
        }
        Ok(Exit::Done)
    }
}

/// Attributes that Git writes, one a line.
fn attributes(input: &str) -> BTreeMap<&str, &str> {
    input.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Returns true if a password may go to a host by a protocol.
fn is_safe(protocol: &str, host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    protocol == "https" || (protocol == "http" && matches!(name, "localhost" | "127.0.0.1" | "[::1]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_over_https_or_stay_on_the_machine() {
        for (protocol, host, safe) in [
            ("https", "git.example.com", true),
            ("https", "git.example.com:8443", true),
            ("http", "127.0.0.1:8411", true),
            ("http", "[::1]:8411", true),
            ("http", "localhost", true),
            ("http", "git.example.com", false),
            ("http", "127.0.0.1.example.com", false),
            ("http", "localhost:8411@example.com", false),
            ("ssh", "git.example.com", false),
        ] {
            assert_eq!(is_safe(protocol, host), safe, "{protocol}://{host}");
        }
        let read = attributes("protocol=https\nhost=git.example.com\npath=a=b\nwwwauth[]=Basic\n\n");
        assert_eq!((read["host"], read["path"]), ("git.example.com", "a=b"));
    }
}
