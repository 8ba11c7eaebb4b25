//! Errors of the engine as this API has them.

use gitferry_api::{ApiError, shown};
use gitferry_base::Kind;
use gitferry_engine::region::RegionError;
use gitferry_store::aws::KeyFault;

use crate::settings::Settings;

/// The repository does not exist.
pub fn no_repository(name: &str) -> ApiError {
    ApiError::new("RepositoryDoesNotExistException", 400, format!("There is no repository {}.", shown(name)))
}

/// The branch does not exist.
pub fn no_branch(name: &str) -> ApiError {
    ApiError::new("BranchDoesNotExistException", 400, format!("There is no branch {}.", shown(name)))
}

/// The operation is not allowed here. AWS has the exception for few operations; clients show its message, and do not
/// repeat the request.
pub fn not_allowed(reason: impl Into<String>) -> ApiError {
    ApiError::new("OperationNotAllowedException", 400, reason)
}

/// Answer in a region that only receives a repository.
pub fn replica(settings: &Settings, name: &str, here: &str, primary: &str) -> ApiError {
    let place = settings.hosts.get(primary).map_or_else(String::new, |url| format!(", at {url}"));
    let name = shown(name);
    not_allowed(format!(
        "{name} is a replica in region {here} and is changed in region {primary}: send the request there{place}."
    ))
}

/// An error of the engine about a repository that the caller knows as `name`.
pub fn of_region(settings: &Settings, name: &str, error: &RegionError) -> ApiError {
    match error {
        RegionError::Replica { region, primary, .. } => return replica(settings, name, region, primary),
        RegionError::NoRepository { .. } | RegionError::Replaced { .. } => return no_repository(name),
        RegionError::NameTaken { .. } => {
            let text = format!("There is a repository {} already.", shown(name));
            return ApiError::new("RepositoryNameExistsException", 400, text);
        }
        RegionError::Name(reason) => return ApiError::new("InvalidRepositoryNameException", 400, format!("{reason}.")),
        error => {
            if let Some(code) = error.key_fault().and_then(code_of_key) {
                tracing::error!(name, %error, "the KMS key of a repository cannot be used");
                let text = "The KMS key of the repository cannot be used; the operator's log says why.";
                return ApiError::new(code, 400, text);
            }
        }
    }
    match error.kind() {
        Kind::Refused | Kind::Usage => not_allowed(format!("{error}.")),
        Kind::NotFound => no_repository(name),
        Kind::Conflict => {
            let text = "The repository is being changed by many requests. Nothing was changed: try again.";
            ApiError::new("ServiceUnavailable", 503, text)
        }
        Kind::InDoubt => {
            tracing::error!(name, %error, "a change may have been made");
            let text = "The change may have been made: look at the repository before you try again.";
            ApiError::new("InternalFailure", 500, text)
        }
        _ => {
            tracing::error!(name, %error, "an operation on a repository failed");
            ApiError::unavailable()
        }
    }
}

/// Exception for a key that cannot be used; `None` for a fault that passes.
fn code_of_key(fault: KeyFault) -> Option<&'static str> {
    Some(match fault {
        KeyFault::Disabled => "EncryptionKeyDisabledException",
        KeyFault::Denied => "EncryptionKeyAccessDeniedException",
        KeyFault::NotFound => "EncryptionKeyNotFoundException",
        KeyFault::NotReady | KeyFault::WrongUsage => "EncryptionKeyUnavailableException",
        KeyFault::NotSealed | KeyFault::Throttled | KeyFault::Unreachable => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CloneUrls, Limits};

    #[test]
    fn a_replica_names_its_primary_and_faults_name_no_cause() {
        let settings = Settings {
            clone_urls: CloneUrls::default(),
            hosts: [("us".to_owned(), "https://us.example".to_owned())].into(),
            aws_region: None,
            limits: Limits::default(),
        };
        let error = RegionError::Replica { name: "0199".into(), region: "eu".into(), primary: "us".into() };
        let answer = of_region(&settings, "app", &error);
        assert_eq!(answer.code(), "OperationNotAllowedException");
        assert_eq!(
            answer.message(),
            "app is a replica in region eu and is changed in region us: send the request there, at https://us.example."
        );
        let answer = of_region(&settings, "app", &RegionError::corrupt("eu", "app", "row 7 at /srv/secret"));
        assert_eq!((answer.code(), answer.message().contains("secret")), ("ServiceUnavailable", false));
    }
}
