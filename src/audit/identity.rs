//! [`UserIdentity`]: the principal of a record, as CloudTrail's element `userIdentity`.

use gitferry_iam::{Principal, Session};
use serde::Serialize;
use serde_json::{Value, json};

/// Prefixes of the ids of credentials that are no secrets: access keys, temporary ones, SSH keys, Git credentials.
const CREDENTIAL_IDS: [&str; 4] = ["AKIA", "ASIA", "APKA", "ACCA"];
/// Longest id of a credential, in bytes.
const MAX_CREDENTIAL_ID: usize = 128;
/// Longest user name of a Git credential, in bytes: a user's name of 64 characters, `-at-`, an account, a number.
const MAX_GIT_USER: usize = 96;

/// Principal of a request. Has no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdentity {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_context: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoked_by: Option<&'static str>,
}

/// The principal is not proven.
impl Default for UserIdentity {
    fn default() -> Self {
        UserIdentity::bare("Unknown")
    }
}

impl UserIdentity {
    fn bare(kind: &'static str) -> Self {
        UserIdentity {
            kind,
            principal_id: None,
            arn: None,
            account_id: None,
            access_key_id: None,
            user_name: None,
            session_context: None,
            invoked_by: None,
        }
    }

    /// A client of a host without authentication: type `Anonymous`.
    pub fn anonymous() -> Self {
        UserIdentity::bare("Anonymous")
    }

    /// The holder of a token of the token file: type `Token`, with the token's name.
    pub fn token(name: &str) -> Self {
        let name = Some(name.to_owned());
        UserIdentity { principal_id: name.clone(), user_name: name, ..UserIdentity::bare("Token") }
    }

    /// A pre-receive hook that fetches the push which it is asked about.
    pub fn hook() -> Self {
        UserIdentity { invoked_by: Some("gitferry"), ..UserIdentity::bare("AWSService") }
    }

    /// The user name that an unproven client gave. It is recorded only in the form of a credential's id or of a Git
    /// credential's user name: people paste passwords and tokens into that field.
    pub fn claimed(user: &str) -> Self {
        let unknown = UserIdentity::default();
        if is_credential_id(user) {
            return UserIdentity { access_key_id: Some(user.to_owned()), ..unknown };
        }
        if is_git_user(user) {
            return UserIdentity { user_name: Some(user.to_owned()), ..unknown };
        }
        unknown
    }

    /// A principal of the account.
    pub fn of(principal: &Principal) -> Self {
        let kind = if principal.is_root() {
            "Root"
        } else if principal.role_name().is_some() {
            "AssumedRole"
        } else {
            "IAMUser"
        };
        UserIdentity {
            principal_id: Some(principal.user_id()),
            arn: Some(principal.arn()),
            account_id: Some(principal.account().to_string()),
            access_key_id: principal.credential().id().map(str::to_owned),
            user_name: principal.user_name().map(str::to_owned),
            session_context: principal.session().map(|session| session_context(principal, session)),
            ..UserIdentity::bare(kind)
        }
    }

    /// Account of the principal; `None` outside an account.
    pub fn account(&self) -> Option<&str> {
        self.account_id.as_deref()
    }
}

fn session_context(principal: &Principal, session: &Session) -> Value {
    let mut context = json!({
        "attributes": { "creationDate": session.issued.to_string(), "mfaAuthenticated": "false" },
    });
    if let Some(role) = principal.role_name() {
        context["sessionIssuer"] = json!({
            "type": "Role",
            "principalId": principal.entity_id(),
            "arn": principal.entity_arn(),
            "accountId": principal.account().to_string(),
            "userName": role,
        });
    }
    if let Some(identity) = &session.source_identity {
        context["sourceIdentity"] = identity.as_str().into();
    }
    if let Some(provider) = &session.provider {
        context["webIdFederationData"] = json!({ "federatedProvider": provider, "attributes": {} });
    }
    context
}

fn is_credential_id(text: &str) -> bool {
    let is_id =
        |rest: &str| rest.len() >= 12 && rest.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    text.len() <= MAX_CREDENTIAL_ID && CREDENTIAL_IDS.iter().any(|prefix| text.strip_prefix(prefix).is_some_and(is_id))
}

/// `NAME-at-ACCOUNT`, or `NAME+N-at-ACCOUNT`.
fn is_git_user(text: &str) -> bool {
    let Some((name, account)) = text.rsplit_once("-at-") else { return false };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    text.len() <= MAX_GIT_USER
        && !name.is_empty()
        && name.bytes().all(is_name)
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(identity: &UserIdentity) -> Value {
        serde_json::to_value(identity).unwrap()
    }

    #[test]
    fn identities_outside_an_account() {
        assert_eq!(json_of(&UserIdentity::anonymous()), json!({ "type": "Anonymous" }));
        let token = json!({ "type": "Token", "principalId": "ann", "userName": "ann" });
        assert_eq!(json_of(&UserIdentity::token("ann")), token);
        assert_eq!(json_of(&UserIdentity::default()), json!({ "type": "Unknown" }));
    }

    /// A user name may be a password in the wrong field.
    #[test]
    fn only_names_that_are_no_secrets_are_recorded_of_unproven_clients() {
        for user in ["AKIAIOSFODNN7EXAMPLE", "APKAEIBAERJR2EXAMPLE"] {
            assert_eq!(json_of(&UserIdentity::claimed(user)), json!({ "type": "Unknown", "accessKeyId": user }));
        }
        for user in ["ann-at-123456789012", "ann+1-at-123456789012"] {
            assert_eq!(json_of(&UserIdentity::claimed(user)), json!({ "type": "Unknown", "userName": user }));
        }
        let secrets = ["hunter2", "ghp_0123456789abcdef0123", "0123456789abcdef", "AKIA", "AKIAlower0case0id", ""];
        let shaped = ["s3cret!-at-123456789012", "x-at-12345678901", "-at-123456789012", "AKIAIOSFODNN7EXAMPLE%token"];
        for user in secrets.iter().chain(&shaped) {
            assert_eq!(json_of(&UserIdentity::claimed(user)), json!({ "type": "Unknown" }), "{user}");
        }
        let long = format!("{}-at-123456789012", "a".repeat(200));
        assert_eq!(json_of(&UserIdentity::claimed(&long)), json!({ "type": "Unknown" }));
    }
}
