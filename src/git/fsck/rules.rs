//! [`Rules`]: severities and exempt objects of a repository.

use std::collections::{BTreeMap, HashSet};

use gix::ObjectId;

use super::message::{Message, Severity};

/// Severity overrides and skipped objects of a repository (`receive.fsck.*`).
#[derive(Clone, Debug, Default)]
pub struct Rules {
    severities: BTreeMap<Message, Severity>,
    skip: HashSet<ObjectId>,
}

impl Rules {
    /// Overrides the severity of a message.
    ///
    /// # Errors
    /// Fatal messages stay errors (Git: "Cannot demote").
    pub fn set(&mut self, message: Message, severity: Severity) -> Result<(), String> {
        if message.is_fatal() && severity != Severity::Error {
            return Err(format!("{message} cannot be let through"));
        }
        self.severities.insert(message, severity);
        Ok(())
    }

    /// Exempts an object from all checks (`fsck.skipList`).
    pub fn skip(&mut self, id: ObjectId) {
        self.skip.insert(id);
    }

    /// Returns the severity of a message.
    pub fn severity(&self, message: Message) -> Severity {
        self.severities.get(&message).copied().unwrap_or_else(|| message.default_severity())
    }

    /// Returns true if an object is exempt from all checks.
    pub fn skips(&self, id: &ObjectId) -> bool {
        self.skip.contains(id)
    }
}
