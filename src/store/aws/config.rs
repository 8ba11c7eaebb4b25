//! How a region reaches AWS.

use serde::Deserialize;

/// Where a region's AWS services are and who asks them. What is left out comes from the standard chain of
/// the SDK: `AWS_*` variables, profiles, and the roles of ECS tasks, Lambda functions and EC2 instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// The AWS region, such as `eu-west-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// A profile of the shared configuration and credentials files.
    #[serde(default)]
    pub profile: Option<String>,
    /// Another endpoint than AWS's own, for all services; objects are then addressed by path.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// A role to assume, with the credentials of the chain: how another account's region is reached.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// What the role's owner asks for beside, so that nobody else's deputy can assume it.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl AwsConfig {
    /// What makes no sense in it.
    pub fn check(&self) -> Result<(), String> {
        let fields = [
            ("region", &self.region),
            ("profile", &self.profile),
            ("role_arn", &self.role_arn),
            ("external_id", &self.external_id),
        ];
        for (name, value) in fields {
            if value.as_ref().is_some_and(|value| value.is_empty() || value.contains(char::is_whitespace)) {
                return Err(format!("{name} is empty or has spaces"));
            }
        }
        if let Some(url) = &self.endpoint_url {
            let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#'])) {
                return Err("endpoint_url is not of the form https://HOST[:PORT]".into());
            }
        }
        if self.role_arn.as_ref().is_some_and(|arn| !arn.starts_with("arn:") || !arn.contains(":role/")) {
            return Err("role_arn is not of the form arn:aws:iam::ACCOUNT:role/NAME".into());
        }
        if self.external_id.is_some() && self.role_arn.is_none() {
            return Err("external_id is for role_arn, and that is missing".into());
        }
        Ok(())
    }
}
