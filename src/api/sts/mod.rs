//! The query API of STS: temporary credentials.

pub mod issuers;
mod public_addresses;

use gitferry_iam::web_identity::UnverifiedToken;
use gitferry_iam::{AssumeRole, AssumedRole, Authenticated, Credentials, KeyRing, Sts, SystemRandom};
use gitferry_policy::Context;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Result, shown};
use crate::iam::operation::{Tag, pairs};
use crate::iam::time;
use crate::protocol::parameters::Parameters;
use crate::service::no_operation;
use issuers::IssuerKeys;

/// Names of all operations.
pub const OPERATIONS: [&str; 5] =
    ["AssumeRole", "AssumeRoleWithWebIdentity", "GetAccessKeyInfo", "GetCallerIdentity", "GetSessionToken"];
/// The operation that needs no credentials: the token in its parameters proves the caller.
pub const ANONYMOUS: &str = "AssumeRoleWithWebIdentity";

/// Request of a principal.
#[derive(Debug)]
pub enum Call {
    AssumeRole(Box<Assume>),
    GetAccessKeyInfo(GetAccessKeyInfo),
    GetCallerIdentity,
    GetSessionToken(GetSessionToken),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Assume {
    role_arn: String,
    role_session_name: String,
    #[serde(default)]
    policy_arns: Vec<PolicyDescriptor>,
    policy: Option<String>,
    duration_seconds: Option<u32>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    transitive_tag_keys: Vec<String>,
    external_id: Option<String>,
    source_identity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyDescriptor {
    arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct GetAccessKeyInfo {
    access_key_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct GetSessionToken {
    duration_seconds: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Request of a holder of an identity provider's token.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AssumeWithWebIdentity {
    role_arn: String,
    role_session_name: String,
    web_identity_token: String,
    #[serde(default)]
    policy_arns: Vec<PolicyDescriptor>,
    policy: Option<String>,
    duration_seconds: Option<u32>,
}

impl Call {
    /// Request of these parameters.
    ///
    /// # Errors
    /// `InvalidAction`, `ValidationError`.
    pub fn parse(action: &str, parameters: &Parameters) -> Result<Call> {
        match action {
            "AssumeRole" => parameters.input().map(|input| Call::AssumeRole(Box::new(input))),
            "GetAccessKeyInfo" => parameters.input().map(Call::GetAccessKeyInfo),
            "GetCallerIdentity" => parameters.input::<Nothing>().map(|_| Call::GetCallerIdentity),
            "GetSessionToken" => parameters.input().map(Call::GetSessionToken),
            _ => Err(no_operation(action, parameters.version.as_deref())),
        }
    }

    /// Answers the caller, at a time. Trust policies, session policies and policies of the caller decide within.
    ///
    /// # Errors
    /// Those of the operation.
    pub fn answer(self, caller: &Authenticated, keys: &KeyRing, now: Timestamp) -> Result<Value> {
        let sts = Sts::new(&caller.account, keys, now, &SystemRandom);
        match self {
            Call::AssumeRole(assume) => {
                let assumed = sts.assume_role(&caller.principal, &caller.context, assume.request())?;
                Ok(describe(&assumed))
            }
            Call::GetSessionToken(input) => {
                let credentials = sts.get_session_token(&caller.principal, input.duration_seconds)?;
                Ok(json!({"Credentials": of_credentials(&credentials)}))
            }
            Call::GetCallerIdentity => {
                let principal = &caller.principal;
                Ok(json!({
                    "UserId": principal.user_id(),
                    "Account": principal.account().as_str(),
                    "Arn": principal.arn(),
                }))
            }
            Call::GetAccessKeyInfo(input) => match caller.account.access_key(&input.access_key_id) {
                Some(_) => Ok(json!({"Account": caller.account.id().as_str()})),
                None => Err(ApiError::validation(format!("Invalid Access Key ID: {}.", shown(&input.access_key_id)))),
            },
        }
    }
}

impl Assume {
    fn request(self) -> AssumeRole {
        AssumeRole {
            role_arn: self.role_arn,
            session_name: self.role_session_name,
            external_id: self.external_id,
            duration_seconds: self.duration_seconds,
            policy: self.policy,
            policy_arns: self.policy_arns.into_iter().map(|policy| policy.arn).collect(),
            tags: pairs(&self.tags),
            transitive_tag_keys: self.transitive_tag_keys,
            source_identity: self.source_identity,
        }
    }
}

/// State of the account, with the condition keys of a request without credentials.
pub struct Stranger<'a> {
    /// State of the account.
    pub account: &'a gitferry_iam::Account,
    /// Opened data keys.
    pub keys: &'a KeyRing,
    /// Condition keys that are known about every request.
    pub context: &'a Context,
}

impl AssumeWithWebIdentity {
    /// Answers the holder of the token, whose issuer's keys `issuers` fetches.
    ///
    /// # Errors
    /// `InvalidIdentityToken`, `ExpiredTokenException`, `IDPCommunicationError`, `AccessDenied` and those of `AssumeRole`.
    pub async fn answer(self, of: &Stranger<'_>, issuers: &IssuerKeys, now: Timestamp) -> Result<Value> {
        let token = UnverifiedToken::parse(&self.web_identity_token)?;
        let provider = token.provider(of.account)?;
        let keys = issuers.keys(&provider.url, token.key_id()).await.map_err(|error| {
            tracing::warn!(issuer = provider.url, %error, "the keys of an identity provider cannot be fetched");
            let text = format!("The keys of the identity provider {} cannot be fetched. Try again.", provider.url);
            ApiError::new("IDPCommunicationError", 400, text)
        })?;
        let token = token.verify(&provider, &keys, now)?;
        let request = AssumeRole {
            role_arn: self.role_arn,
            session_name: self.role_session_name,
            duration_seconds: self.duration_seconds,
            policy: self.policy,
            policy_arns: self.policy_arns.into_iter().map(|policy| policy.arn).collect(),
            ..AssumeRole::default()
        };
        let sts = Sts::new(of.account, of.keys, now, &SystemRandom);
        let assumed = sts.assume_role_with_web_identity(&token, of.context, request)?;
        let mut answer = describe(&assumed);
        answer["SubjectFromWebIdentityToken"] = token.subject().into();
        answer["Audience"] = token.audience().into();
        answer["Provider"] = token.provider_arn(&of.account.id()).into();
        Ok(answer)
    }
}

fn describe(assumed: &AssumedRole) -> Value {
    json!({
        "Credentials": of_credentials(&assumed.credentials),
        "AssumedRoleUser": {"AssumedRoleId": assumed.assumed_role_id, "Arn": assumed.arn},
        "PackedPolicySize": assumed.packed_policy_percent,
        "SourceIdentity": assumed.source_identity,
    })
}

fn of_credentials(credentials: &Credentials) -> Value {
    json!({
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret.expose(),
        "SessionToken": credentials.token.expose(),
        "Expiration": time(credentials.expires),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_parsed() {
        let form = "RoleArn=r&RoleSessionName=s&AccessKeyId=k";
        for action in OPERATIONS.iter().filter(|action| **action != ANONYMOUS) {
            let fields = match *action {
                "AssumeRole" => "RoleArn=r&RoleSessionName=s&PolicyArns.member.1.arn=p&DurationSeconds=900",
                "GetAccessKeyInfo" => "AccessKeyId=k",
                _ => "",
            };
            let parameters = Parameters::parse("", fields.as_bytes()).unwrap();
            Call::parse(action, &parameters).unwrap();
            let wrong = Parameters::parse("", form.as_bytes()).unwrap();
            assert_eq!(Call::parse(action, &wrong).unwrap_err().code(), "ValidationError", "{action}");
        }
        let none = Parameters::parse("", b"").unwrap();
        assert_eq!(Call::parse("AssumeRoleWithSAML", &none).unwrap_err().code(), "InvalidAction");
    }
}
