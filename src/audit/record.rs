//! The record of a request, as JSON in CloudTrail's shape. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::action::{Action, Caller, Reference, References};
use crate::identity::UserIdentity;
use gitferry_base::printable::Printable;

/// Version of the record's format, that of CloudTrail's in July 2024.
const EVENT_VERSION: &str = "1.11";
/// Largest record, in bytes of its JSON. A larger one loses refs first, then its parameters.
pub const MAX_RECORD_BYTES: usize = 16 << 10;
/// Longest text of a client in a record, in bytes: user agent, host, path, reason.
const MAX_TEXT_BYTES: usize = 512;
/// Parts of names of members whose values are secrets.
const SECRET_NAMES: [&str; 7] =
    ["secret", "password", "token", "credential", "authorization", "signature", "privatekey"];
/// Members that have such a name and no secret.
const PUBLIC_NAMES: [&str; 4] =
    ["servicespecificcredentialid", "servicespecificcredentials", "tokenissuetime", "credentialscope"];
/// Value in place of a secret, as in CloudTrail.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

/// Facts about one request, collected while it is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) caller: Caller,
    pub(crate) identity: UserIdentity,
    /// Account of the host, in which its repositories are; `None` for hosts without an account.
    pub(crate) account: Option<String>,
    pub(crate) action: Action,
    pub(crate) repository: Option<String>,
    pub(crate) repository_id: Option<String>,
    pub(crate) references: Option<References>,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) response: Option<Value>,
    pub(crate) details: Map<String, Value>,
    pub(crate) outcome: Outcome,
    pub(crate) data_transferred: bool,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// True once the whole response has been handed to the connection.
    pub(crate) complete: bool,
}

/// Outcome of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// None is known: the client hung up, or the host ended the request.
    #[default]
    Unknown,
    Success,
    Refused {
        code: String,
        message: String,
    },
}

/// Place, time and id of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp<'a> {
    pub(crate) region: &'a str,
    pub(crate) time: Timestamp,
    pub(crate) id: Uuid,
}

/// Error code of a status of HTTP, for refusals without a code of their own; `None` below 400.
pub fn code_of_status(status: u16) -> Option<&'static str> {
    if status < 400 {
        return None;
    }
    Some(match status {
        401 | 403 | 421 => "AccessDenied",
        404 => "RepositoryDoesNotExistException",
        408 => "RequestTimeout",
        409 => "ConflictException",
        413 => "RequestEntityTooLarge",
        429 => "ThrottlingException",
        501 => "NotImplemented",
        503 => "ServiceUnavailable",
        507 => "InsufficientStorage",
        500.. => "InternalFailure",
        _ => "ValidationException",
    })
}

/// Replaces the values of members that hold secrets, such as `secretAccessKey`, `sessionToken` or `servicePassword`.
pub fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let clean = |(name, value): (String, Value)| {
                let value = if is_secret(&name, &value) { HIDDEN.into() } else { without_secrets(value) };
                (name, value)
            };
            Value::Object(members.into_iter().map(clean).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_secrets).collect()),
        value => value,
    }
}

/// Objects and arrays are searched for secrets in turn.
fn is_secret(name: &str, value: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    let is_leaf = !value.is_object() && !value.is_array();
    is_leaf && SECRET_NAMES.iter().any(|part| name.contains(part)) && !PUBLIC_NAMES.contains(&name.as_str())
}

/// The text of a record of at most [`MAX_RECORD_BYTES`].
pub(crate) fn text_of(stamp: Stamp<'_>, facts: &Facts) -> String {
    let mut facts = facts.clone();
    loop {
        let text = gitferry_base::printable::json(&value_of(stamp, &facts).to_string());
        if text.len() <= MAX_RECORD_BYTES {
            return text;
        }
        match &mut facts.references {
            Some(references) if !references.first.is_empty() => references.halve(),
            _ if !facts.parameters.is_empty() || facts.response.is_some() => omit(&mut facts),
            _ if !facts.details.is_empty() => facts.details.clear(),
            // The rest is bounded by the limits on names and texts.
            _ => return text,
        }
    }
}

/// Replaces parameters and response by a note of their size, as CloudTrail does.
fn omit(facts: &mut Facts) {
    let size = Value::Object(std::mem::take(&mut facts.parameters)).to_string().len();
    let response = facts.response.take().map_or(0, |response| response.to_string().len());
    facts.details.insert("omittedBytes".into(), (size + response).into());
}

fn value_of(stamp: Stamp<'_>, facts: &Facts) -> Value {
    let Stamp { region, time, id } = stamp;
    let Facts { caller, identity, account, action, .. } = facts;
    let recipient = account.as_deref().or(identity.account());
    let mut record = json!({
        "eventVersion": EVENT_VERSION,
        "userIdentity": identity,
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "eventSource": action.source,
        "eventName": action.name,
        "awsRegion": region,
        "sourceIPAddress": caller.source.map(|address| address.to_string()),
        "userAgent": bounded(&caller.user_agent),
        "requestParameters": parameters(facts),
        "responseElements": facts.response,
        "additionalEventData": additional(facts),
        "requestID": caller.request_id,
        "eventID": id.to_string(),
        "readOnly": action.read_only,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "eventCategory": "Management",
    });
    if let Some(account) = recipient {
        record["recipientAccountId"] = account.into();
    }
    if let Some(repository) = &facts.repository {
        let arn = format!("arn:aws:codecommit:{region}:{}:{repository}", recipient.unwrap_or_default());
        record["resources"] = json!([{ "ARN": arn, "accountId": recipient, "type": "AWS::CodeCommit::Repository" }]);
    }
    if let Some(host) = &caller.tls_host {
        record["tlsDetails"] = json!({ "clientProvidedHostHeader": bounded(host) });
    }
    match &facts.outcome {
        Outcome::Success => {}
        Outcome::Refused { code, message } => {
            record["errorCode"] = code.as_str().into();
            record["errorMessage"] = bounded(message).into();
        }
        Outcome::Unknown => {
            record["errorCode"] = "RequestAborted".into();
            record["errorMessage"] = "the request ended before its response began".into();
        }
    }
    record
}

/// `requestParameters`: for a push `references` as CodeCommit has them.
fn parameters(facts: &Facts) -> Value {
    let mut parameters = facts.parameters.clone();
    if let Some(references) = &facts.references {
        let of = |reference: &Reference| json!({ "ref": bounded(&reference.name), "commit": reference.new });
        parameters.insert("references".into(), references.first.iter().map(of).collect());
    }
    if parameters.is_empty() { Value::Null } else { without_secrets(Value::Object(parameters)) }
}

/// `additionalEventData`. The first four members are those of CodeCommit.
fn additional(facts: &Facts) -> Value {
    let mut data = facts.details.clone();
    data.insert("protocol".into(), facts.caller.protocol.name().into());
    data.insert("dataTransferred".into(), facts.data_transferred.into());
    if let Some(name) = &facts.repository {
        data.insert("repositoryName".into(), name.as_str().into());
    }
    if let Some(id) = &facts.repository_id {
        data.insert("repositoryId".into(), id.as_str().into());
    }
    data.insert("bytesTransferredIn".into(), facts.received.into());
    data.insert("bytesTransferredOut".into(), facts.sent.into());
    if facts.outcome != Outcome::Unknown && !facts.complete {
        data.insert("responseComplete".into(), false.into());
    }
    if let Some(references) = &facts.references {
        data.insert("references".into(), references.first.iter().map(reference).collect());
        data.insert("referencesLeftOut".into(), references.left_out.into());
    }
    without_secrets(Value::Object(data))
}

fn reference(reference: &Reference) -> Value {
    let Reference { name, old, new, refused } = reference;
    let mut value = json!({ "ref": bounded(name), "old": old, "new": new, "changed": refused.is_none() });
    if let Some(reason) = refused {
        value["reason"] = bounded(reason).into();
    }
    value
}

/// The record of `count` requests whose records were dropped from `since` to the time of the stamp.
pub(crate) fn gap(stamp: Stamp<'_>, sink: &str, count: u64, since: Timestamp) -> String {
    let Stamp { region, time, id } = stamp;
    json!({
        "eventVersion": EVENT_VERSION,
        "userIdentity": { "type": "AWSService", "invokedBy": "gitferry" },
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "eventSource": "codecommit.amazonaws.com",
        "eventName": "AuditRecordsDropped",
        "awsRegion": region,
        "sourceIPAddress": "gitferry",
        "userAgent": "gitferry",
        "requestParameters": null,
        "responseElements": null,
        "serviceEventDetails": {
            "dropped": count,
            "since": since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "sink": sink,
        },
        "eventID": id.to_string(),
        "readOnly": true,
        "eventType": "AwsServiceEvent",
        "managementEvent": true,
        "eventCategory": "Management",
    })
    .to_string()
}

/// Text of a client for a record: control characters escaped, cut off after 512 bytes.
pub fn bounded(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = Printable(&text[..end]).to_string();
    if end < text.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{MAX_REFERENCES, Protocol};

    fn stamp() -> Stamp<'static> {
        let time = "2026-01-31T09:30:00.5Z".parse().unwrap();
        Stamp { region: "us-east-1", time, id: Uuid::nil() }
    }

    fn push(refs: usize, name_bytes: usize) -> Facts {
        let of = |number: usize| Reference {
            name: format!("refs/heads/{}{number}", "x".repeat(name_bytes)),
            old: (number > 0).then(|| "0".repeat(40)),
            new: (number != 1).then(|| "1".repeat(40)),
            refused: (number == 2).then(|| "not allowed".into()),
        };
        Facts {
            caller: Caller {
                protocol: Protocol::Http,
                request_id: "r".into(),
                source: Some("192.0.2.1".parse().unwrap()),
                user_agent: "git/2.50".into(),
                tls_host: Some("git.example".into()),
            },
            identity: UserIdentity::token("ann"),
            account: Some("123456789012".into()),
            action: Action::new("GitPush").writes(),
            repository: Some("team/app".into()),
            references: Some(References::of((0..refs).map(of))),
            outcome: Outcome::Success,
            complete: true,
            ..Facts::default()
        }
    }

    fn parsed(facts: &Facts) -> Value {
        let text = text_of(stamp(), facts);
        assert!(text.len() <= MAX_RECORD_BYTES, "{} bytes", text.len());
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_push_has_the_shape_of_cloud_trail() {
        let record = parsed(&push(3, 0));
        let expected = json!({
            "eventVersion": "1.11",
            "userIdentity": { "type": "Token", "principalId": "ann", "userName": "ann" },
            "eventTime": "2026-01-31T09:30:00Z",
            "eventSource": "codecommit.amazonaws.com",
            "eventName": "GitPush",
            "awsRegion": "us-east-1",
            "sourceIPAddress": "192.0.2.1",
            "userAgent": "git/2.50",
            "requestParameters": { "references": [
                { "ref": "refs/heads/0", "commit": "1".repeat(40) },
                { "ref": "refs/heads/1", "commit": null },
                { "ref": "refs/heads/2", "commit": "1".repeat(40) },
            ]},
            "responseElements": null,
            "additionalEventData": {
                "protocol": "HTTP", "dataTransferred": false, "repositoryName": "team/app",
                "bytesTransferredIn": 0, "bytesTransferredOut": 0, "referencesLeftOut": 0,
                "references": [
                    { "ref": "refs/heads/0", "old": null, "new": "1".repeat(40), "changed": true },
                    { "ref": "refs/heads/1", "old": "0".repeat(40), "new": null, "changed": true },
                    { "ref": "refs/heads/2", "old": "0".repeat(40), "new": "1".repeat(40), "changed": false,
                      "reason": "not allowed" },
                ],
            },
            "requestID": "r",
            "eventID": Uuid::nil().to_string(),
            "readOnly": false,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "eventCategory": "Management",
            "recipientAccountId": "123456789012",
            "resources": [{
                "ARN": "arn:aws:codecommit:us-east-1:123456789012:team/app", "accountId": "123456789012",
                "type": "AWS::CodeCommit::Repository",
            }],
            "tlsDetails": { "clientProvidedHostHeader": "git.example" },
        });
        assert_eq!(record, expected);
    }

    #[test]
    fn a_record_is_bounded_and_counts_what_it_leaves_out() {
        for (refs, name_bytes) in [(100, 0), (101, 0), (10_000, 100), (100, 5_000)] {
            let data = parsed(&push(refs, name_bytes))["additionalEventData"].clone();
            let listed = data["references"].as_array().unwrap().len();
            assert!(listed <= MAX_REFERENCES && listed > 0, "{refs} refs");
            assert_eq!(listed as u64 + data["referencesLeftOut"].as_u64().unwrap(), refs as u64);
        }
        let mut facts = push(0, 0);
        facts.parameters.insert("document".into(), "x".repeat(100_000).into());
        facts.response = Some(json!({ "more": "y".repeat(100_000) }));
        let record = parsed(&facts);
        assert!(record["additionalEventData"]["omittedBytes"].as_u64().unwrap() > 200_000, "{record}");
    }

    #[test]
    fn a_request_without_an_outcome_was_aborted() {
        let facts = Facts { outcome: Outcome::Unknown, ..push(1, 0) };
        assert_eq!(parsed(&facts)["errorCode"], "RequestAborted");
        let half = Facts { complete: false, ..push(1, 0) };
        let record = parsed(&half);
        assert_eq!(record["additionalEventData"]["responseComplete"], false);
        assert!(record.get("errorCode").is_none());
    }

    #[test]
    fn secrets_of_parameters_and_responses_are_hidden() {
        let said = without_secrets(json!({
            "accessKey": { "accessKeyId": "AKIA", "secretAccessKey": "s1", "status": "Active" },
            "credentials": { "sessionToken": "s2", "SecretAccessKey": "s3", "expiration": "x" },
            "serviceSpecificCredential": { "servicePassword": "s4", "serviceUserName": "ann-at-1",
                                           "serviceSpecificCredentialId": "ACCA1" },
            "list": [{ "webIdentityToken": "s5", "Authorization": "s6", "X-Amz-Signature": "s7" }],
        }));
        let text = said.to_string();
        for number in 1..8 {
            assert!(!text.contains(&format!("\"s{number}\"")), "{text}");
        }
        for public in ["AKIA", "Active", "ann-at-1", "ACCA1"] {
            assert!(text.contains(public), "{text}");
        }
    }

    #[test]
    fn text_of_clients_is_escaped_and_cut_off() {
        let mut facts = push(0, 0);
        facts.caller.user_agent = format!("\u{1b}[2J\n{}", "ä".repeat(1_000));
        let agent = parsed(&facts)["userAgent"].as_str().unwrap().to_owned();
        assert!(agent.starts_with("\\u{1b}[2J\\n") && agent.ends_with('…') && agent.len() < 600, "{agent}");
    }

    #[test]
    fn every_refusal_has_a_code() {
        assert_eq!(code_of_status(200), None);
        for status in 400..600 {
            assert!(code_of_status(status).is_some_and(|code| !code.is_empty()));
        }
        assert_eq!(code_of_status(403), Some("AccessDenied"));
    }
}
