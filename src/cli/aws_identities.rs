//! Opening the account of AWS IAM that a configuration names.

use std::sync::Arc;

use gitferry_config::{Config, name_matcher};
use gitferry_engine::region::Region;
use gitferry_iam::aws::StsEndpoint;
use gitferry_iam::secret::LocalKeyFile;
use gitferry_iam::{AccountId, KeyRing, SystemRandom};
use gitferry_identity::Identities;
use gitferry_identity::aws::{AwsDirectory, AwsOptions};

use super::failure::Failure;

/// Opens the key by which hosts with `auth = "aws"` delegate clients to each other: that of the key file or, without one,
/// a random key, so that no host can delegate.
///
/// # Errors
/// The file is open to others, or is no key.
pub fn aws_keys(config: &Config) -> Result<KeyRing, Failure> {
    let file = config.account.key_file().map(|file| config.path(file));
    let Some(file) = file.filter(|file| !matches!(file.try_exists(), Ok(false))) else {
        let key = KeyRing::fresh_key(&SystemRandom);
        return Ok(KeyRing::of(key.map_err(settings)?));
    };
    Ok(KeyRing::of(LocalKeyFile::open(&file)?.derived_key("aws identities")))
}

/// Failure of a value in `[account.aws]`.
fn settings(reason: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("account.aws: {reason}"))
}

/// Opens the identities of AWS for the host of `region`, which clients reach at `url`.
///
/// # Errors
/// The configuration or the key file cannot be used.
pub async fn aws_identities(config: &Config, region: &Region, url: &str) -> Result<Arc<Identities>, Failure> {
    let aws = config.account.aws.as_ref().ok_or_else(|| settings("the account is missing"))?;
    let account = aws.id.parse::<AccountId>().map_err(settings)?;
    let mut regions: Vec<&str> = aws.sts_regions.iter().map(String::as_str).collect();
    regions.extend(["us-east-1", region.name()]);
    regions.extend(aws.sdk.region.as_deref());
    regions.sort_unstable();
    regions.dedup();
    let mut endpoints = vec![StsEndpoint::Global];
    endpoints.extend(regions.into_iter().map(|region| StsEndpoint::Regional(region.to_owned())));
    let options = AwsOptions {
        account,
        roles: name_matcher(&aws.roles).map_err(settings)?,
        refresh: aws.refresh,
        ssh_keys: aws.ssh_keys,
        host: host_of(url).to_owned(),
        endpoints,
        stand_in: aws.sdk.endpoint_url.clone(),
        sdk: config.sdk.get(&aws.sdk).await,
    };
    let clock = region.shared_clock().clone();
    let directory = AwsDirectory::new(options, aws_keys(config)?, clock);
    Ok(Identities::of_aws(region, directory.map_err(settings)?))
}

/// Host and port of a URL, as Git names them to credential helpers: the port of the scheme is left out.
fn host_of(url: &str) -> &str {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_that_git_names() {
        for (url, host) in [
            ("https://git.example.com", "git.example.com"),
            ("https://git.example.com:443/base", "git.example.com"),
            ("https://git.example.com:8443/", "git.example.com:8443"),
            ("http://127.0.0.1:80", "127.0.0.1"),
            ("http://127.0.0.1:443", "127.0.0.1:443"),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }
}
