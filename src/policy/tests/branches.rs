//! Branches protected as the CodeCommit user guide does. A push is evaluated once without `codecommit:References`, and then once
//! for each ref.

use super::{decide, identity, policy};
use crate::{Context, Decision, Layer, PolicySet, managed};

const REPOSITORY: &str = "arn:aws:codecommit:us-east-2:111111111111:MyDemoRepo";

fn power_user(policy_json: &str) -> PolicySet {
    let managed = managed::find("arn:aws:iam::aws:policy/AWSCodeCommitPowerUser").unwrap();
    PolicySet { identity: vec![managed.named(), policy(policy_json)], ..PolicySet::default() }
}

fn reader(policy_json: &str) -> PolicySet {
    let managed = managed::find("arn:aws:iam::aws:policy/AWSCodeCommitReadOnly").unwrap();
    PolicySet { identity: vec![managed.named(), policy(policy_json)], ..PolicySet::default() }
}

fn on_ref(policies: &PolicySet, action: &str, name: Option<&str>) -> Decision {
    let context = Context::builder().insert("codecommit:References", name).build();
    decide(policies, action, REPOSITORY, &context)
}

/// Decisions on a push: before the refs are known, and for each ref.
fn push(policies: &PolicySet, refs: &[&str]) -> Vec<bool> {
    let names = std::iter::once(None).chain(refs.iter().copied().map(Some));
    names.map(|name| on_ref(policies, "codecommit:GitPush", name).is_allowed()).collect()
}

/// The first policy of Example 4, which denies changes of main.
const DENY_MAIN: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": [
                "codecommit:GitPush",
                "codecommit:DeleteBranch",
                "codecommit:PutFile",
                "codecommit:Merge*"
            ],
            "Resource": "arn:aws:codecommit:us-east-2:111111111111:MyDemoRepo",
            "Condition": {
                "StringEqualsIfExists": {
                    "codecommit:References": [
                        "refs/heads/main"
                    ]
                },
                "Null": {
                    "codecommit:References": "false"
                }
            }
        }
    ]
}"#;

#[test]
fn example_4_denies_changes_of_main() {
    let policies = power_user(DENY_MAIN);
    assert_eq!(push(&policies, &["refs/heads/main", "refs/heads/topic", "refs/tags/v1"]), [true, false, true, true]);
    for action in ["codecommit:DeleteBranch", "codecommit:PutFile", "codecommit:MergePullRequestBySquash"] {
        assert!(
            matches!(on_ref(&policies, action, Some("refs/heads/main")), Decision::ExplicitDeny { .. }),
            "{action}"
        );
        assert!(on_ref(&policies, action, Some("refs/heads/topic")).is_allowed(), "{action}");
    }
    assert!(on_ref(&policies, "codecommit:CreateBranch", Some("refs/heads/main")).is_allowed());
    assert!(on_ref(&policies, "codecommit:GitPull", None).is_allowed());
    // Another repository is not named.
    let context = Context::builder().reference("refs/heads/main").build();
    let other = "arn:aws:codecommit:us-east-2:111111111111:Other";
    assert!(decide(&policies, "codecommit:GitPush", other, &context).is_allowed());
}

/// "Because `Deny` is applied to `GitPush`, you must include a `Null` statement in the policy, to allow initial `GitPush` calls to be
/// analyzed for validity."
#[test]
fn without_null_every_push_is_denied_before_its_refs_are_known() {
    let without_null = DENY_MAIN.replace(
        r#",
                "Null": {
                    "codecommit:References": "false"
                }"#,
        "",
    );
    assert!(!without_null.contains("Null"));
    let policies = power_user(&without_null);
    assert_eq!(push(&policies, &["refs/heads/main", "refs/heads/topic"]), [false, false, true]);
    // Without IfExists, no Null is needed.
    let policies = power_user(&without_null.replace("StringEqualsIfExists", "StringEquals"));
    assert_eq!(push(&policies, &["refs/heads/main", "refs/heads/topic"]), [true, false, true]);
}

/// The second policy of Example 4, which allows changes of main to a reader.
const ALLOW_MAIN: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "codecommit:GitPush",
                "codecommit:Merge*"
            ],
            "Resource": "*",
            "Condition": {
                "StringEqualsIfExists": {
                    "codecommit:References": [
                        "refs/heads/main"
                    ]
                }
            }
        }
    ]
}"#;

#[test]
fn example_4_allows_changes_of_main_alone() {
    let policies = reader(ALLOW_MAIN);
    assert_eq!(push(&policies, &["refs/heads/main", "refs/heads/topic", "refs/tags/v1"]), [true, true, false, false]);
    assert!(on_ref(&policies, "codecommit:MergeBranchesByFastForward", Some("refs/heads/main")).is_allowed());
    let denied = Decision::ImplicitDeny { missing: Layer::Identity };
    assert_eq!(on_ref(&policies, "codecommit:MergeBranchesByFastForward", Some("refs/heads/topic")), denied);
    assert_eq!(on_ref(&policies, "codecommit:PutFile", Some("refs/heads/main")), denied);
    // "Because the Effect is `Allow`, this example policy would not work with managed policies such as AWSCodeCommitPowerUser."
    assert_eq!(push(&power_user(ALLOW_MAIN), &["refs/heads/main", "refs/heads/topic"]), [true, true, true]);
}

/// The statement that users ask for, with the names of action and key in the case that they write.
fn deny_prod(null: &str) -> String {
    format!(
        r#"{{"Version": "2012-10-17", "Statement": [{{
            "Effect": "Deny", "Action": ["codeCommit:GitPush"],
            "Resource": "arn:aws:codecommit:us-east-2:111111111111:MyDemoRepo",
            "Condition": {{"StringEqualsIfExists": {{"codeCommit:References": ["refs/heads/prod"]}}{null}}}}}]}}"#
    )
}

#[test]
fn names_of_actions_and_keys_have_no_case() {
    let policies = power_user(&deny_prod(r#", "Null": {"CODECOMMIT:references": "false"}"#));
    assert_eq!(push(&policies, &["refs/heads/prod", "refs/heads/main"]), [true, false, true]);
    let policies = power_user(&deny_prod(""));
    assert_eq!(push(&policies, &["refs/heads/prod", "refs/heads/main"]), [false, false, true]);
    // Names of refs have case, as in Git.
    let policies = power_user(&deny_prod(r#", "Null": {"codecommit:References": "false"}"#));
    assert_eq!(push(&policies, &["refs/heads/PROD"]), [true, true]);
}

#[test]
fn rewriting_and_deleting_main_is_a_policy() {
    let json = r#"{"Version": "2012-10-17", "Statement": [
        {"Sid": "NoRewrite", "Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
         "Condition": {"Bool": {"gitferry:ForcePush": "true"}, "StringEquals": {"codecommit:References": "refs/heads/main"}}},
        {"Sid": "NoDeletion", "Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
         "Condition": {"Bool": {"gitferry:RefDeletion": "true"}, "StringLike": {"codecommit:References": "refs/heads/*"}}}]}"#;
    let policies = power_user(json);
    let decide = |name: &str, forced: bool, deleted: bool| {
        let context = Context::builder().reference(name).force_push(forced).ref_deletion(deleted).build();
        decide(&policies, "codecommit:GitPush", REPOSITORY, &context).is_allowed()
    };
    assert!(decide("refs/heads/main", false, false));
    assert!(!decide("refs/heads/main", true, false));
    assert!(!decide("refs/heads/main", false, true));
    assert!(decide("refs/heads/topic", true, false));
    assert!(!decide("refs/heads/topic", false, true));
    assert!(decide("refs/tags/v1", false, true));
    assert_eq!(push(&policies, &[]), [true]);
}

#[test]
fn a_folder_belongs_to_a_team() {
    let json = r#"{"Version": "2012-10-17", "Statement": {
        "Effect": "Deny", "Action": "codecommit:GitPush", "Resource": "*",
        "Condition": {"ForAnyValue:StringLike": {"gitferry:ChangedPaths": ["infra/*"]},
                      "StringNotEquals": {"aws:PrincipalTag/team": "platform"}}}}"#;
    let policies = power_user(json);
    assert!(policies.reads("gitferry:changedpaths") && !policies.reads("gitferry:ForcePush"));
    let decide = |team: Option<&str>, files: &[&str]| {
        let builder = Context::builder().reference("refs/heads/main").insert("aws:PrincipalTag/team", team);
        let context = builder.changed_paths(files.iter().copied()).unwrap().build();
        decide(&policies, "codecommit:GitPush", REPOSITORY, &context).is_allowed()
    };
    assert!(decide(Some("platform"), &["infra/main.tf", "README.md"]));
    assert!(decide(Some("web"), &["README.md", "src/infra/x"]));
    assert!(!decide(Some("web"), &["README.md", "infra/aws/main.tf"]));
    assert!(!decide(None, &["infra/main.tf"]));
    assert!(decide(Some("web"), &[]));
}

#[test]
fn no_policy_is_no_permission() {
    let denied = Decision::ImplicitDeny { missing: Layer::Identity };
    assert_eq!(on_ref(&PolicySet::default(), "codecommit:GitPull", None), denied);
    assert_eq!(on_ref(&identity(&[DENY_MAIN]), "codecommit:GitPull", None), denied);
}
