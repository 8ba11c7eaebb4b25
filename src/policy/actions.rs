//! Actions of CodeCommit, as the Service Authorization Reference of AWS lists them.

use crate::keys;

/// Prefix of the names of all actions here.
pub const PREFIX: &str = "codecommit:";

/// Access level of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessLevel {
    /// Lists resources.
    List,
    /// Reads.
    Read,
    /// Changes something.
    Write,
    /// Changes tags.
    Tagging,
}

/// Resource that an action is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceType {
    /// The ARN of a repository; the key `aws:ResourceTag/…` has its tags.
    Repository,
    /// No resource: the request is evaluated on `*`.
    None,
}

/// One action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Action {
    /// Name without [`PREFIX`].
    pub name: &'static str,
    /// Access level.
    pub level: AccessLevel,
    /// Resource.
    pub resource: ResourceType,
    /// Condition keys of the action beside the global keys. A name that ends in `/` is the prefix of a key for each tag.
    pub keys: &'static [&'static str],
}

impl Action {
    /// Name as in policies, such as `codecommit:GitPush`.
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Returns true if the action names the ref that it changes in `codecommit:References`.
    pub fn has_references(&self) -> bool {
        self.keys.contains(&keys::REFERENCES)
    }
}

/// Action of this name, with or without [`PREFIX`], without regard to case.
pub fn find(name: &str) -> Option<&'static Action> {
    let has_prefix = name.get(..PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    let name = if has_prefix { &name[PREFIX.len()..] } else { name };
    ALL.iter().find(|action| action.name.eq_ignore_ascii_case(name))
}

const fn action(
    name: &'static str,
    level: AccessLevel,
    resource: ResourceType,
    keys: &'static [&'static str],
) -> Action {
    Action { name, level, resource, keys }
}

use AccessLevel::{List, Read, Tagging, Write};
use ResourceType::{None, Repository};

/// All actions, by name. 79 are calls of the API; the others are `GitPull`, `GitPush` and internal ones of AWS.
pub const ALL: &[Action] = &[
    action("AssociateApprovalRuleTemplateWithRepository", Write, Repository, &[]),
    action("BatchAssociateApprovalRuleTemplateWithRepositories", Write, Repository, &[]),
    action("BatchDescribeMergeConflicts", Read, Repository, &[]),
    action("BatchDisassociateApprovalRuleTemplateFromRepositories", Write, Repository, &[]),
    action("BatchGetCommits", Read, Repository, &[]),
    action("BatchGetPullRequests", Read, Repository, &[]),
    action("BatchGetRepositories", Read, Repository, &[]),
    action("CancelUploadArchive", Read, Repository, &[]),
    action("CreateApprovalRuleTemplate", Write, None, &[]),
    action("CreateBranch", Write, Repository, &[keys::REFERENCES]),
    action("CreateCommit", Write, Repository, &[keys::REFERENCES]),
    action("CreatePullRequest", Write, Repository, &[]),
    action("CreatePullRequestApprovalRule", Write, Repository, &[]),
    action("CreateRepository", Write, Repository, &[keys::REQUEST_TAG, keys::TAG_KEYS]),
    action("CreateUnreferencedMergeCommit", Write, Repository, &[keys::REFERENCES]),
    action("DeleteApprovalRuleTemplate", Write, None, &[]),
    action("DeleteBranch", Write, Repository, &[keys::REFERENCES]),
    action("DeleteCommentContent", Write, Repository, &[]),
    action("DeleteFile", Write, Repository, &[keys::REFERENCES]),
    action("DeletePullRequestApprovalRule", Write, Repository, &[]),
    action("DeleteRepository", Write, Repository, &[]),
    action("DescribeMergeConflicts", Read, Repository, &[]),
    action("DescribePullRequestEvents", Read, Repository, &[]),
    action("DisassociateApprovalRuleTemplateFromRepository", Write, Repository, &[]),
    action("EvaluatePullRequestApprovalRules", Read, Repository, &[]),
    action("GetApprovalRuleTemplate", Read, None, &[]),
    action("GetBlob", Read, Repository, &[]),
    action("GetBranch", Read, Repository, &[]),
    action("GetComment", Read, Repository, &[]),
    action("GetCommentReactions", Read, Repository, &[]),
    action("GetCommentsForComparedCommit", Read, Repository, &[]),
    action("GetCommentsForPullRequest", Read, Repository, &[]),
    action("GetCommit", Read, Repository, &[]),
    action("GetCommitHistory", Read, Repository, &[]),
    action("GetCommitsFromMergeBase", Read, Repository, &[]),
    action("GetDifferences", Read, Repository, &[]),
    action("GetFile", Read, Repository, &[]),
    action("GetFolder", Read, Repository, &[]),
    action("GetMergeCommit", Read, Repository, &[keys::REFERENCES]),
    action("GetMergeConflicts", Read, Repository, &[]),
    action("GetMergeOptions", Read, Repository, &[]),
    action("GetObjectIdentifier", Read, Repository, &[]),
    action("GetPullRequest", Read, Repository, &[]),
    action("GetPullRequestApprovalStates", Read, Repository, &[]),
    action("GetPullRequestOverrideState", Read, Repository, &[]),
    action("GetReferences", Read, Repository, &[]),
    action("GetRepository", Read, Repository, &[]),
    action("GetRepositoryTriggers", Read, Repository, &[]),
    action("GetTree", Read, Repository, &[]),
    action("GetUploadArchiveStatus", Read, Repository, &[]),
    action("GitPull", Read, Repository, &[]),
    action("GitPush", Write, Repository, &[keys::REFERENCES]),
    action("ListApprovalRuleTemplates", List, None, &[]),
    action("ListAssociatedApprovalRuleTemplatesForRepository", List, Repository, &[]),
    action("ListBranches", List, Repository, &[]),
    action("ListFileCommitHistory", List, Repository, &[]),
    action("ListPullRequests", List, Repository, &[]),
    action("ListRepositories", List, None, &[]),
    action("ListRepositoriesForApprovalRuleTemplate", List, None, &[]),
    action("ListTagsForResource", List, Repository, &[]),
    action("MergeBranchesByFastForward", Write, Repository, &[keys::REFERENCES]),
    action("MergeBranchesBySquash", Write, Repository, &[keys::REFERENCES]),
    action("MergeBranchesByThreeWay", Write, Repository, &[keys::REFERENCES]),
    action("MergePullRequestByFastForward", Write, Repository, &[keys::REFERENCES]),
    action("MergePullRequestBySquash", Write, Repository, &[keys::REFERENCES]),
    action("MergePullRequestByThreeWay", Write, Repository, &[keys::REFERENCES]),
    action("OverridePullRequestApprovalRules", Write, Repository, &[]),
    action("PostCommentForComparedCommit", Write, Repository, &[]),
    action("PostCommentForPullRequest", Write, Repository, &[]),
    action("PostCommentReply", Write, Repository, &[]),
    action("PutCommentReaction", Write, Repository, &[]),
    action("PutFile", Write, Repository, &[keys::REFERENCES]),
    action("PutRepositoryTriggers", Write, Repository, &[]),
    action("TagResource", Tagging, Repository, &[keys::REQUEST_TAG, keys::RESOURCE_TAG, keys::TAG_KEYS]),
    action("TestRepositoryTriggers", Write, Repository, &[]),
    action("UntagResource", Tagging, Repository, &[keys::RESOURCE_TAG, keys::TAG_KEYS]),
    action("UpdateApprovalRuleTemplateContent", Write, None, &[]),
    action("UpdateApprovalRuleTemplateDescription", Write, None, &[]),
    action("UpdateApprovalRuleTemplateName", Write, None, &[]),
    action("UpdateComment", Write, Repository, &[]),
    action("UpdateDefaultBranch", Write, Repository, &[]),
    action("UpdatePullRequestApprovalRuleContent", Write, Repository, &[]),
    action("UpdatePullRequestApprovalState", Write, Repository, &[]),
    action("UpdatePullRequestDescription", Write, Repository, &[]),
    action("UpdatePullRequestStatus", Write, Repository, &[]),
    action("UpdatePullRequestTitle", Write, Repository, &[]),
    action("UpdateRepositoryDescription", Write, Repository, &[]),
    action("UpdateRepositoryEncryptionKey", Write, Repository, &[]),
    action("UpdateRepositoryName", Write, Repository, &[]),
    action("UploadArchive", Write, Repository, &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_in_order_and_found_without_regard_to_case() {
        assert_eq!(ALL.len(), 90);
        assert!(ALL.is_sorted_by(|left, right| left.name < right.name));
        for action in ALL {
            assert_eq!(find(&action.full_name().to_uppercase()), Some(action));
            assert_eq!(find(&action.name.to_lowercase()), Some(action));
        }
        assert_eq!(find("s3:GitPush"), Option::None);
        assert_eq!(find("codecommit:"), Option::None);
    }

    #[test]
    fn these_carry_the_ref_that_they_change() {
        let carry: Vec<&str> = ALL.iter().filter(|action| action.has_references()).map(|action| action.name).collect();
        let expected = [
            "CreateBranch",
            "CreateCommit",
            "CreateUnreferencedMergeCommit",
            "DeleteBranch",
            "DeleteFile",
            "GetMergeCommit",
            "GitPush",
            "MergeBranchesByFastForward",
            "MergeBranchesBySquash",
            "MergeBranchesByThreeWay",
            "MergePullRequestByFastForward",
            "MergePullRequestBySquash",
            "MergePullRequestByThreeWay",
            "PutFile",
        ];
        assert_eq!(carry, expected);
        assert!(ALL.iter().all(|action| action.resource == Repository || !action.has_references()));
    }
}
