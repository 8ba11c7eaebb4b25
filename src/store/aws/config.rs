//! AWS settings of a region or remote.

use serde::Deserialize;

/// AWS region, endpoint and credentials. Omitted settings come from the SDK's default provider chain: `AWS_*`
/// variables, profiles, and the roles of ECS tasks, Lambda functions and EC2 instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsConfig {
    /// AWS region, such as `eu-west-1`.
    #[serde(default)]
    pub region: Option<String>,
    /// Profile of the shared configuration and credentials files.
    #[serde(default)]
    pub profile: Option<String>,
    /// Endpoint of all services in place of AWS's own. S3 requests then use path-style addresses.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// ARN of a role to assume with the credentials of the chain, for access to another account.
    #[serde(default)]
    pub role_arn: Option<String>,
    /// External id that the role's trust policy requires, against the confused deputy problem.
    #[serde(default)]
    pub external_id: Option<String>,
}

impl AwsConfig {
    /// Returns the first invalid setting and the expected form.
    pub fn check(&self) -> Result<(), String> {
        let fields = [
            ("region", &self.region),
            ("profile", &self.profile),
            ("role_arn", &self.role_arn),
            ("external_id", &self.external_id),
        ];
        for (name, value) in fields {
            if value.as_ref().is_some_and(|value| value.is_empty() || value.contains(char::is_whitespace)) {
                return Err(format!("{name} is empty or contains spaces"));
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
            return Err("external_id requires role_arn".into());
        }
        Ok(())
    }
}
