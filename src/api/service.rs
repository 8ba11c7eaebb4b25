//! The services that a host offers, and the requests that are theirs.

use crate::error::{ApiError, Result, shown};

/// API of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Identity and Access Management.
    Iam,
    /// Security Token Service.
    Sts,
    /// CodeCommit, whose API is a room of its own.
    CodeCommit,
}

/// Versions of the query APIs, which tell IAM and STS apart on one address.
const VERSIONS: [(&str, Service); 2] = [("2010-05-08", Service::Iam), ("2011-06-15", Service::Sts)];
/// Prefix of the header `X-Amz-Target` of CodeCommit's JSON API.
const CODECOMMIT_TARGET: &str = "CodeCommit_20150413.";

impl Service {
    /// Service of a query API's version.
    ///
    /// # Errors
    /// `InvalidAction`.
    pub(crate) fn of_version(action: &str, version: Option<&str>) -> Result<Service> {
        let found = VERSIONS.iter().find(|(known, _)| version == Some(*known));
        found.map(|(_, service)| *service).ok_or_else(|| no_operation(action, version))
    }

    /// Service and operation of a header `X-Amz-Target`; `None` for services that the host does not have.
    pub fn of_target(target: &str) -> Option<(Service, &str)> {
        Some((Service::CodeCommit, target.strip_prefix(CODECOMMIT_TARGET)?))
    }

    /// Name in signatures, and prefix of the actions in policies.
    pub fn name(self) -> &'static str {
        match self {
            Service::Iam => "iam",
            Service::Sts => "sts",
            Service::CodeCommit => "codecommit",
        }
    }

    /// XML namespace of the answers.
    pub(crate) fn namespace(self) -> &'static str {
        match self {
            Service::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Service::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Service::CodeCommit => "https://codecommit.amazonaws.com/doc/2015-04-13/",
        }
    }
}

/// The API has no operation of this name.
pub(crate) fn no_operation(action: &str, version: Option<&str>) -> ApiError {
    let version = version.unwrap_or("NO_VERSION_SPECIFIED");
    let text = format!("Could not find operation {} for version {}", shown(action), shown(version));
    ApiError::new("InvalidAction", 400, text)
}
