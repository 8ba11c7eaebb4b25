//! Policy documents.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::context::Key;
use crate::error::PolicyError;
use crate::parse;
use crate::statement::Statement;
use crate::version::Version;

/// Maximum size of a document in characters that are not white space, which IAM does not count either: the largest quota of IAM.
/// The quotas of each kind of policy are in [`quota`].
pub const MAX_DOCUMENT_BYTES: usize = 10_240;

/// Maximum size of the text of a document, white space included: that of IAM's parameter `PolicyDocument`.
pub const MAX_TEXT_BYTES: usize = 131_072;

/// Quotas of IAM for [`PolicyDocument::size`], in characters that are not white space.
pub mod quota {
    /// A managed policy.
    pub const MANAGED: usize = 6_144;
    /// The inline policies of a user, together.
    pub const INLINE_OF_USER: usize = 2_048;
    /// The inline policies of a group, together.
    pub const INLINE_OF_GROUP: usize = 5_120;
    /// The inline policies of a role, together.
    pub const INLINE_OF_ROLE: usize = 10_240;
    /// The trust policy of a role: the largest size to which AWS raises the quota.
    pub const TRUST: usize = 4_096;
    /// The session policies of one request, together.
    pub const SESSION: usize = 2_048;
}

/// Use of a document, which decides on the elements that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// Permissions of a user, group or role, a permissions boundary, or a session policy: with resources, without principals.
    Identity,
    /// Trust policy of a role: with principals, without resources.
    Trust,
}

/// A policy document, checked and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDocument {
    pub(crate) kind: DocumentKind,
    pub(crate) version: Option<Version>,
    pub(crate) id: Option<String>,
    pub(crate) statements: Vec<Statement>,
}

impl PolicyDocument {
    /// Parses and compiles a document.
    ///
    /// # Errors
    /// The first error found, with the path of its element. IAM's error code for it is `MalformedPolicyDocument`.
    pub fn parse(json: &str, kind: DocumentKind) -> Result<Self, PolicyError> {
        parse::document(json, kind)
    }

    /// Use of the document.
    pub fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// Version of the language that the document is read in.
    pub fn version(&self) -> Version {
        self.version.unwrap_or_default()
    }

    /// The element `Id`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The statements, at least one.
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Condition keys that the document reads, in conditions and as variables.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.statements.iter().flat_map(Statement::keys)
    }

    /// Size of a text as IAM's quotas count it: characters that are not white space.
    pub fn size(json: &str) -> usize {
        json.chars().filter(|c| !c.is_whitespace()).count()
    }

    /// The document as JSON, with lists wherever the language permits one.
    pub fn to_json(&self) -> String {
        // Keys are texts and nothing fails, so that there is no error.
        serde_json::to_string(self).unwrap_or_else(|error| unreachable!("a document is JSON: {error}"))
    }
}

impl Serialize for PolicyDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(version) = self.version {
            map.serialize_entry("Version", version.name())?;
        }
        if let Some(id) = &self.id {
            map.serialize_entry("Id", id)?;
        }
        map.serialize_entry("Statement", &self.statements)?;
        map.end()
    }
}
