//! Events as the CodeCommit User Guide shows them ("Monitoring CodeCommit events in Amazon EventBridge").

use serde_json::{Value, json};

fn event(detail: Value) -> Value {
    json!({
        "version": "0",
        "id": "01234567-EXAMPLE",
        "detail-type": "CodeCommit Repository State Change",
        "source": "aws.codecommit",
        "account": "123456789012",
        "time": "2019-06-12T10:23:43Z",
        "region": "us-east-2",
        "resources": ["arn:aws:codecommit:us-east-2:123456789012:MyDemoRepo"],
        "detail": detail,
    })
}

pub fn created() -> Value {
    event(json!({
        "event": "referenceCreated",
        "repositoryName": "MyDemoRepo",
        "repositoryId": "12345678-1234-5678-abcd-12345678abcd",
        "referenceType": "branch",
        "referenceName": "myBranch",
        "referenceFullName": "refs/heads/myBranch",
        "commitId": "3e5983DESTINATION",
    }))
}

pub fn updated() -> Value {
    event(json!({
        "event": "referenceUpdated",
        "repositoryName": "MyDemoRepo",
        "repositoryId": "12345678-1234-5678-abcd-12345678abcd",
        "referenceType": "branch",
        "referenceName": "myBranch",
        "referenceFullName": "refs/heads/myBranch",
        "commitId": "7f0103fMERGE",
        "oldCommitId": "3e5983DESTINATION",
        "baseCommitId": "3e5a9bf1BASE",
        "sourceCommitId": "26a8f2SOURCE",
        "destinationCommitId": "3e5983DESTINATION",
        "mergeOption": "THREE_WAY_MERGE",
        "conflictDetailsLevel": "LINE_LEVEL",
        "conflictResolutionStrategy": "AUTOMERGE",
    }))
}

pub fn deleted() -> Value {
    event(json!({
        "event": "referenceDeleted",
        "repositoryName": "MyDemoRepo",
        "repositoryId": "12345678-1234-5678-abcd-12345678abcd",
        "referenceType": "branch",
        "referenceName": "myBranch",
        "referenceFullName": "refs/heads/myBranch",
        "oldCommitId": "26a8f2EXAMPLE",
    }))
}

pub fn unreferenced() -> Value {
    event(json!({
        "event": "unreferencedMergeCommitCreated",
        "repositoryName": "MyDemoRepo",
        "repositoryId": "12345678-1234-5678-abcd-12345678abcd",
        "commitId": "7f0103fMERGE",
        "mergeOption": "THREE_WAY_MERGE",
    }))
}

/// An event of CodeCommit about a repository of this name.
pub fn updated_of(repository: &str) -> Value {
    let mut event = updated();
    event["detail"]["repositoryName"] = repository.into();
    event
}

/// An event of gitferry about a repository with this id, without the state that it reached.
pub fn gitferry(id: &str, repository: &str) -> Value {
    let mut event = updated_of(repository);
    event["source"] = "gitferry".into();
    event["detail"]["repositoryId"] = id.into();
    event
}

/// The same with the state, as `gitferry repo show` tells it.
pub fn gitferry_at(show: &Value) -> Value {
    let mut event = gitferry(show["id"].as_str().unwrap(), show["name"].as_str().unwrap());
    event["detail"]["gitferry"] = show["frontier"].clone();
    event
}

/// In the envelope of a subscription to an SNS topic.
pub fn by_sns(event: &Value) -> Value {
    json!({ "Type": "Notification", "MessageId": "x", "TopicArn": "arn:aws:sns:::t", "Message": event.to_string() })
}

/// In the envelope of a message of SQS, as Lambda gets it.
pub fn by_sqs(event: &Value) -> Value {
    json!({ "messageId": "19dd0b57", "receiptHandle": "r", "body": event.to_string(), "eventSource": "aws:sqs" })
}
