//! Entities as the API describes them.
//!
//! Source: the section "Data Types" of the IAM API reference.

use gitferry_iam::model::{AccessKey, GIT_SERVICE, GitCredential, Group, Policy, PolicyVersion, Role, SshKey, User};
use gitferry_iam::{Account, Tags};
use gitferry_policy::managed::ManagedPolicy;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A time.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A policy document, which answers carry percent-encoded.
pub fn document(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Tags in the order of their keys.
pub fn tags(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

fn boundary(arn: Option<&str>) -> Value {
    let describe = |arn| json!({"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": arn});
    arn.map_or(Value::Null, describe)
}

/// A value without some of its fields.
pub fn without(mut value: Value, fields: &[&str]) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|name, _| !fields.contains(&name.as_str()));
    }
    value
}

/// `User`, whole.
pub fn user(user: &User) -> Value {
    json!({
        "Path": user.record.path,
        "UserName": user.name,
        "UserId": user.record.id,
        "Arn": user.arn,
        "CreateDate": time(user.record.created),
        "PermissionsBoundary": boundary(user.record.permissions_boundary.as_deref()),
        "Tags": tags(&user.record.tags),
    })
}

/// `User` in a list, which lacks boundary and tags.
pub fn listed_user(one: &User) -> Value {
    without(user(one), &["PermissionsBoundary", "Tags"])
}

/// `Group`.
pub fn group(group: &Group) -> Value {
    json!({
        "Path": group.record.path,
        "GroupName": group.name,
        "GroupId": group.record.id,
        "Arn": group.arn,
        "CreateDate": time(group.record.created),
    })
}

/// `Role`, whole.
pub fn role(role: &Role) -> Value {
    json!({
        "Path": role.record.path,
        "RoleName": role.name,
        "RoleId": role.record.id,
        "Arn": role.arn,
        "CreateDate": time(role.record.created),
        "AssumeRolePolicyDocument": document(&role.record.trust_policy),
        "Description": role.record.description,
        "MaxSessionDuration": role.record.max_session_seconds,
        "PermissionsBoundary": boundary(role.record.permissions_boundary.as_deref()),
        "Tags": tags(&role.record.tags),
    })
}

/// `Role` in a list, which lacks boundary and tags.
pub fn listed_role(one: &Role) -> Value {
    without(role(one), &["PermissionsBoundary", "Tags"])
}

/// `Policy` of the account, whole.
pub fn policy(account: &Account, policy: &Policy) -> Value {
    json!({
        "PolicyName": policy.name,
        "PolicyId": policy.record.id,
        "Arn": policy.arn,
        "Path": policy.record.path,
        "DefaultVersionId": version_id(policy.record.default_version),
        "AttachmentCount": account.attachments(&policy.arn),
        "PermissionsBoundaryUsageCount": account.boundary_uses(&policy.arn),
        "IsAttachable": true,
        "Description": policy.record.description,
        "CreateDate": time(policy.record.created),
        "UpdateDate": time(policy.record.updated),
        "Tags": tags(&policy.record.tags),
    })
}

/// Facts about AWS's own policies that documents of AWS give: unique id, time of creation.
const MANAGED: [(&str, &str, &str); 4] = [
    ("AWSCodeCommitFullAccess", "ANPAI4VCZ3XPIZLQ5NZV2", "2015-07-09T17:02:19Z"),
    ("AWSCodeCommitPowerUser", "ANPAI4UIINUVGB5SEC57G", "2015-07-09T17:06:49Z"),
    ("AWSCodeCommitReadOnly", "ANPAJACNSXR7Z2VLJW3D6", "2015-07-09T17:05:06Z"),
    ("AdministratorAccess", "ANPAIWMBCKSKIEE64ZLYK", "2015-02-06T18:39:46Z"),
];

fn managed_facts(name: &str) -> (&'static str, &'static str) {
    let found = MANAGED.iter().find(|(known, ..)| *known == name);
    found.map_or(("ANPAAAAAAAAAAAAAAAAAA", "2015-02-06T18:39:46Z"), |(_, id, created)| (id, created))
}

/// `Policy` of AWS, whole.
pub fn managed_policy(account: &Account, policy: &ManagedPolicy) -> Value {
    let (id, created) = managed_facts(policy.name);
    let arn = policy.arn();
    json!({
        "PolicyName": policy.name,
        "PolicyId": id,
        "Path": "/",
        "DefaultVersionId": version_id(1),
        "AttachmentCount": account.attachments(&arn),
        "PermissionsBoundaryUsageCount": account.boundary_uses(&arn),
        "IsAttachable": true,
        "Description": policy.description,
        "CreateDate": created,
        "UpdateDate": created,
        "Tags": [],
        "Arn": arn,
    })
}

/// `PolicyVersion` of AWS's own policy, whole.
pub fn managed_version(policy: &ManagedPolicy) -> Value {
    let (_, created) = managed_facts(policy.name);
    json!({
        "Document": document(policy.json),
        "VersionId": version_id(1),
        "IsDefaultVersion": true,
        "CreateDate": created,
    })
}

/// Id of a policy's version: `v1`.
pub fn version_id(number: u32) -> String {
    format!("v{number}")
}

/// `PolicyVersion`, whole.
pub fn version(policy: &Policy, number: u32, version: &PolicyVersion) -> Value {
    json!({
        "Document": document(&version.text),
        "VersionId": version_id(number),
        "IsDefaultVersion": policy.record.default_version == number,
        "CreateDate": time(version.created),
    })
}

/// Attached managed policy: `PolicyName` and `PolicyArn`.
pub fn attached(arn: &str) -> Value {
    let name = arn.rsplit('/').next().unwrap_or(arn);
    json!({"PolicyName": name, "PolicyArn": arn})
}

/// `AccessKeyMetadata`.
pub fn access_key(user: &str, id: &str, key: &AccessKey) -> Value {
    json!({"UserName": user, "AccessKeyId": id, "Status": key.status.as_str(), "CreateDate": time(key.created)})
}

/// `SSHPublicKey`, whole.
pub fn ssh_key(user: &str, id: &str, key: &SshKey) -> Value {
    json!({
        "UserName": user,
        "SSHPublicKeyId": id,
        "Fingerprint": key.fingerprint,
        "SSHPublicKeyBody": key.public_key,
        "Status": key.status.as_str(),
        "UploadDate": time(key.uploaded),
    })
}

/// `ServiceSpecificCredentialMetadata`.
pub fn git_credential(user: &str, id: &str, credential: &GitCredential) -> Value {
    json!({
        "UserName": user,
        "Status": credential.status.as_str(),
        "ServiceUserName": credential.user_name,
        "CreateDate": time(credential.created),
        "ServiceSpecificCredentialId": id,
        "ServiceName": GIT_SERVICE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_of_aws_has_its_facts() {
        for policy in &gitferry_policy::managed::ALL {
            assert!(MANAGED.iter().any(|(name, ..)| *name == policy.name), "{}", policy.name);
        }
    }

    #[test]
    fn documents_survive_a_query_decoder() {
        assert_eq!(document("{\"a\": \"+ ~\"}\n"), "%7B%22a%22%3A%20%22%2B%20~%22%7D%0A");
    }
}
