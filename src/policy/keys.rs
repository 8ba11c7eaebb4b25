//! Names of the condition keys that gitferry sets.

/// Address of the client.
pub const SOURCE_IP: &str = "aws:SourceIp";
/// True if the request came over TLS or SSH.
pub const SECURE_TRANSPORT: &str = "aws:SecureTransport";
/// Time of the request, RFC 3339.
pub const CURRENT_TIME: &str = "aws:CurrentTime";
/// Time of the request in seconds since 1970.
pub const EPOCH_TIME: &str = "aws:EpochTime";
/// ARN of the user, or of the role of the session.
pub const PRINCIPAL_ARN: &str = "aws:PrincipalArn";
/// Id of the principal's account.
pub const PRINCIPAL_ACCOUNT: &str = "aws:PrincipalAccount";
/// Kind of the principal.
pub const PRINCIPAL_TYPE: &str = "aws:PrincipalType";
/// Prefix of the keys for tags of the principal.
pub const PRINCIPAL_TAG: &str = "aws:PrincipalTag/";
/// Prefix of the keys for tags of the resource.
pub const RESOURCE_TAG: &str = "aws:ResourceTag/";
/// Prefix of the keys for tags in the request.
pub const REQUEST_TAG: &str = "aws:RequestTag/";
/// Names of the tags in the request; multivalued.
pub const TAG_KEYS: &str = "aws:TagKeys";
/// Name of the user.
pub const USERNAME: &str = "aws:username";
/// Id of the user or session.
pub const USER_ID: &str = "aws:userid";
/// User agent of the client.
pub const USER_AGENT: &str = "aws:UserAgent";
/// Region that the request asked.
pub const REQUESTED_REGION: &str = "aws:RequestedRegion";
/// Source identity of a session.
pub const SOURCE_IDENTITY: &str = "aws:SourceIdentity";
/// Ref that the request changes.
pub const REFERENCES: &str = "codecommit:References";
/// gitferry's own: true if the new value of the ref does not contain the old one.
pub const FORCE_PUSH: &str = "gitferry:ForcePush";
/// gitferry's own: true if the ref is deleted.
pub const REF_DELETION: &str = "gitferry:RefDeletion";
/// gitferry's own: files that a push changes and the directories above them; multivalued.
pub const CHANGED_PATHS: &str = "gitferry:ChangedPaths";

/// Most values of [`CHANGED_PATHS`]. A host takes this limit when it looks for the paths of a push.
pub const MAX_CHANGED_PATHS: usize = 10_000;
