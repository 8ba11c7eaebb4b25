//! Principals: of trust policies, and of requests.

use crate::arn::{account_of, service_and_resource};

/// Principal that asks to assume a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// A principal of an AWS account.
    Aws {
        /// ARN of the root of an account (`arn:aws:iam::ID:root`), of a user, or of a session
        /// (`arn:aws:sts::ID:assumed-role/ROLE/SESSION`).
        arn: &'a str,
        /// Unique id of the user (`AIDA…`) or of the role of a session (`AROA…`).
        id: Option<&'a str>,
    },
    /// An identity provider: the ARN of an OpenID Connect or SAML provider.
    Federated(&'a str),
    /// A service, such as `lambda.amazonaws.com`.
    Service(&'a str),
}

/// Reason why a pattern names a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// The pattern names the principal itself, its role, or everyone.
    Itself,
    /// The pattern names the account of the principal, whose own policies must allow the action, too.
    ByAccount,
}

/// Principal of a trust policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalPattern {
    /// `*` as the whole element, or of `AWS`.
    Everyone,
    /// An account by its id.
    Account(String),
    /// A user, role or session by its ARN.
    Arn(String),
    /// A user or role by its unique id, which IAM puts in the place of the ARN.
    UniqueId(String),
    Federated(String),
    Service(String),
}

impl PrincipalPattern {
    /// Reads a value below `AWS`, `Federated` or `Service`. "You cannot use a wildcard to match part of a principal name or ARN."
    pub(crate) fn parse(kind: &str, text: &str) -> Result<Self, String> {
        let invalid = || format!("Invalid principal in policy: \"{kind}\":\"{text}\"");
        let is_plain = !text.is_empty() && !text.contains(['*', '?']) && !text.contains(char::is_whitespace);
        match kind {
            "AWS" if text == "*" => Ok(PrincipalPattern::Everyone),
            "AWS" if is_account(text) => Ok(PrincipalPattern::Account(text.to_owned())),
            "AWS" if is_unique_id(text) => Ok(PrincipalPattern::UniqueId(text.to_owned())),
            "AWS" if is_plain => PrincipalPattern::of_arn(text).ok_or_else(invalid),
            "Federated" if is_plain => Ok(PrincipalPattern::Federated(text.to_owned())),
            "Service" if is_plain => Ok(PrincipalPattern::Service(text.to_owned())),
            "AWS" | "Federated" | "Service" => Err(invalid()),
            _ => Err(format!("`{kind}` is no kind of principal of a trust policy: `AWS`, `Federated` or `Service`")),
        }
    }

    fn of_arn(arn: &str) -> Option<Self> {
        let account = account_of(arn).filter(|account| is_account(account))?;
        let named = |resource: &str, kinds: &[&str]| {
            resource.split_once('/').is_some_and(|(kind, name)| kinds.contains(&kind) && !name.is_empty())
        };
        match service_and_resource(arn)? {
            ("iam", "root") => Some(PrincipalPattern::Account(account.to_owned())),
            ("iam", resource) if named(resource, &["user", "role"]) => Some(PrincipalPattern::Arn(arn.to_owned())),
            ("sts", resource) if named(resource, &["assumed-role", "federated-user"]) => {
                Some(PrincipalPattern::Arn(arn.to_owned()))
            }
            _ => None,
        }
    }

    /// Key below which the pattern stands in a document.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            PrincipalPattern::Federated(_) => "Federated",
            PrincipalPattern::Service(_) => "Service",
            _ => "AWS",
        }
    }

    /// The pattern as a document has it.
    pub(crate) fn text(&self) -> String {
        match self {
            PrincipalPattern::Everyone => "*".to_owned(),
            PrincipalPattern::Account(id) => format!("arn:aws:iam::{id}:root"),
            PrincipalPattern::Arn(text)
            | PrincipalPattern::UniqueId(text)
            | PrincipalPattern::Federated(text)
            | PrincipalPattern::Service(text) => text.clone(),
        }
    }

    /// Returns how the pattern names the principal; `None` if it does not.
    pub(crate) fn names(&self, principal: Principal<'_>) -> Option<Named> {
        match (self, principal) {
            (PrincipalPattern::Everyone, _) => Some(Named::Itself),
            (PrincipalPattern::Account(id), Principal::Aws { arn, .. }) => {
                let is_root = service_and_resource(arn) == Some(("iam", "root"));
                let named = if is_root { Named::Itself } else { Named::ByAccount };
                (account_of(arn) == Some(id)).then_some(named)
            }
            (PrincipalPattern::Arn(pattern), Principal::Aws { arn, .. }) => {
                (pattern == arn || is_role_of(pattern, arn)).then_some(Named::Itself)
            }
            (PrincipalPattern::UniqueId(pattern), Principal::Aws { id, .. }) => {
                (id == Some(pattern)).then_some(Named::Itself)
            }
            (PrincipalPattern::Federated(pattern), Principal::Federated(name))
            | (PrincipalPattern::Service(pattern), Principal::Service(name)) => {
                (pattern == name).then_some(Named::Itself)
            }
            _ => None,
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_unique_id(text: &str) -> bool {
    let is_known = text.starts_with("AIDA") || text.starts_with("AROA");
    is_known && text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Returns true if a session belongs to a role. The ARN of a session has the name of the role without its path; names of roles are
/// unique in an account.
fn is_role_of(role: &str, session: &str) -> bool {
    let name_of_role = match service_and_resource(role) {
        Some(("iam", resource)) => resource.strip_prefix("role/").and_then(|path| path.rsplit('/').next()),
        _ => None,
    };
    let name_in_session = match service_and_resource(session) {
        Some(("sts", resource)) => resource.strip_prefix("assumed-role/").and_then(|path| path.split('/').next()),
        _ => None,
    };
    name_of_role.is_some() && name_of_role == name_in_session && account_of(role) == account_of(session)
}
