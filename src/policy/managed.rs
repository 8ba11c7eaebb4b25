//! Managed policies of AWS that attach to identities of gitferry by the ARNs that they have on AWS.

use std::sync::{Arc, OnceLock};

use crate::document::{DocumentKind, PolicyDocument};
use crate::evaluate::NamedPolicy;

/// Prefix of the ARNs of AWS's own policies.
pub const ARN_PREFIX: &str = "arn:aws:iam::aws:policy/";

/// A managed policy.
#[derive(Debug)]
pub struct ManagedPolicy {
    /// Name, the end of the ARN.
    pub name: &'static str,
    /// Purpose, in one sentence.
    pub description: &'static str,
    /// Document as AWS publishes it.
    pub json: &'static str,
    parsed: OnceLock<Arc<PolicyDocument>>,
}

impl ManagedPolicy {
    /// ARN of the policy.
    pub fn arn(&self) -> String {
        format!("{ARN_PREFIX}{}", self.name)
    }

    /// Document, parsed once in a process.
    pub fn document(&self) -> Arc<PolicyDocument> {
        self.parsed.get_or_init(|| parse(self.json)).clone()
    }

    /// The policy as evaluation takes it, by its ARN.
    pub fn named(&self) -> NamedPolicy {
        NamedPolicy::new(self.arn(), self.document())
    }
}

/// Policy with this ARN.
pub fn find(arn: &str) -> Option<&'static ManagedPolicy> {
    let name = arn.strip_prefix(ARN_PREFIX)?;
    ALL.iter().find(|policy| policy.name == name)
}

fn parse(json: &str) -> Arc<PolicyDocument> {
    match PolicyDocument::parse(json, DocumentKind::Identity) {
        Ok(document) => Arc::new(document),
        Err(error) => unreachable!("a test parses all managed policies: {error}"),
    }
}

const fn policy(name: &'static str, description: &'static str, json: &'static str) -> ManagedPolicy {
    ManagedPolicy { name, description, json, parsed: OnceLock::new() }
}

/// All managed policies.
pub static ALL: [ManagedPolicy; 4] = [
    policy(
        "AWSCodeCommitFullAccess",
        "Everything on repositories.",
        include_str!("managed/AWSCodeCommitFullAccess.json"),
    ),
    policy(
        "AWSCodeCommitPowerUser",
        "Everything on repositories but deleting them.",
        include_str!("managed/AWSCodeCommitPowerUser.json"),
    ),
    policy("AWSCodeCommitReadOnly", "Reading repositories.", include_str!("managed/AWSCodeCommitReadOnly.json")),
    policy("AdministratorAccess", "Everything.", include_str!("managed/AdministratorAccess.json")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{self, ResourceType};
    use crate::context::Context;
    use crate::evaluate::{PolicySet, Request, evaluate};

    #[test]
    fn policies_are_found_by_their_arns() {
        for policy in &ALL {
            assert_eq!(find(&policy.arn()).unwrap().name, policy.name);
            assert_eq!(policy.document().to_json(), parse(policy.json).to_json());
        }
        assert!(find("arn:aws:iam::aws:policy/AmazonS3FullAccess").is_none());
        assert!(find("arn:aws:iam::111111111111:policy/AdministratorAccess").is_none());
        assert!(find("AdministratorAccess").is_none());
    }

    fn denied(name: &str) -> Vec<&'static str> {
        let policy = find(&format!("{ARN_PREFIX}{name}")).unwrap();
        let policies = PolicySet { identity: vec![policy.named()], ..PolicySet::default() };
        let context = Context::builder().username("ana").reference("refs/heads/main").build();
        let is_denied = |action: &&actions::Action| {
            let resource = match action.resource {
                ResourceType::Repository => "arn:aws:codecommit:us-east-1:111111111111:team/app",
                ResourceType::None => "*",
            };
            let name = action.full_name();
            !evaluate(&policies, &Request { action: &name, resource, context: &context }).is_allowed()
        };
        actions::ALL.iter().filter(is_denied).map(|action| action.name).collect()
    }

    #[test]
    fn they_permit_what_their_names_say() {
        assert_eq!(denied("AWSCodeCommitFullAccess"), Vec::<&str>::new());
        assert_eq!(denied("AdministratorAccess"), Vec::<&str>::new());
        let not_for_power_users = [
            "CancelUploadArchive",
            "DeleteApprovalRuleTemplate",
            "DeleteCommentContent",
            "DeletePullRequestApprovalRule",
            "DeleteRepository",
            "UploadArchive",
        ];
        assert_eq!(denied("AWSCodeCommitPowerUser"), not_for_power_users);
        let for_readers: Vec<&str> = actions::ALL
            .iter()
            .filter(|action| !denied("AWSCodeCommitReadOnly").contains(&action.name))
            .filter(|action| matches!(action.level, actions::AccessLevel::Write | actions::AccessLevel::Tagging))
            .map(|action| action.name)
            .collect();
        assert_eq!(for_readers, Vec::<&str>::new());
        assert_eq!(denied("AWSCodeCommitReadOnly").iter().filter(|name| name.starts_with("Get")).count(), 0);
    }
}
