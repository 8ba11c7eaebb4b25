//! Repositories as answers describe them.

use jiff::Timestamp;
use serde_json::{Value, json};

use gitferry_engine::ledger::head::HeadItem;
use gitferry_git::refs::RefValue;

/// Prefix of the names of branches.
pub const BRANCHES: &str = "refs/heads/";

/// Facts about a repository that its head does not have.
#[derive(Debug)]
pub struct Facts {
    pub account: String,
    pub arn: String,
    pub clone_url_http: String,
    pub clone_url_ssh: Option<String>,
    pub kms_key: Option<String>,
    /// True if the branch of HEAD exists: AWS shows no default branch of an empty repository.
    pub has_default_branch: bool,
}

/// A time as the API has it: seconds since 1970, with milliseconds as a fraction.
pub fn seconds(time: Timestamp) -> Value {
    json!(time.as_millisecond() as f64 / 1_000.0)
}

/// Name of the branch that HEAD names; `None` if HEAD names no branch, or one whose name is not UTF-8.
pub fn branch_of(head: &RefValue) -> Option<&str> {
    let RefValue::Symbolic(name) = head else { return None };
    std::str::from_utf8(name.as_bstr()).ok()?.strip_prefix(BRANCHES)
}

/// The structure `RepositoryMetadata`.
pub fn repository(item: &HeadItem, facts: Facts) -> Value {
    let head = &item.head;
    let mut shown = json!({
        "accountId": facts.account,
        "repositoryId": item.id.to_string(),
        "repositoryName": head.name,
        "lastModifiedDate": seconds(head.time),
        "creationDate": seconds(item.id.made().unwrap_or(head.time)),
        "cloneUrlHttp": facts.clone_url_http,
        "Arn": facts.arn,
    });
    let default = branch_of(&head.head).filter(|_| facts.has_default_branch).map(str::to_owned);
    let description = Some(head.metadata.description.clone()).filter(|text| !text.is_empty());
    for (name, value) in [
        ("repositoryDescription", description),
        ("defaultBranch", default),
        ("cloneUrlSsh", facts.clone_url_ssh),
        ("kmsKeyId", facts.kms_key),
    ] {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_a_fraction() {
        assert_eq!(seconds(Timestamp::from_millisecond(1_764_000_000_123).unwrap()).to_string(), "1764000000.123");
    }

    #[test]
    fn branches_of_head() {
        let of = |text: &str| branch_of(&RefValue::parse(text.as_bytes()).unwrap()).map(str::to_owned);
        assert_eq!(of("ref:refs/heads/team/main").as_deref(), Some("team/main"));
        assert_eq!(of("ref:refs/tags/main"), None);
        assert_eq!(of("1111111111111111111111111111111111111111"), None);
    }
}
