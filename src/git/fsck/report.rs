//! [`Report`]: findings in the objects of a push.

use std::fmt;

use gix::ObjectId;
use gix::bstr::BString;
use gix::objs::Kind;

use gitferry_base::printable::Printable;

use super::message::{Message, Severity};

/// Most findings kept per push; errors past this limit are only counted.
pub const MAX_FINDINGS: usize = 100;
/// Most bytes of an offending name or value kept in a finding.
pub const MAX_CULPRIT_BYTES: usize = 200;

/// Defect found in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Id of the defective object.
    pub id: ObjectId,
    /// Kind of the defective object.
    pub kind: Kind,
    /// Kind of defect.
    pub message: Message,
    /// Severity by the rules of the repository.
    pub severity: Severity,
    /// Offending name or value, truncated to [`MAX_CULPRIT_BYTES`]; `None` if the defect has none.
    pub culprit: Option<BString>,
}

/// Uses the wording of `git fsck`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}: {}: {}", self.id, self.message, self.message.text())?;
        match &self.culprit {
            Some(culprit) => write!(f, ": {}", Printable(culprit)),
            None => Ok(()),
        }
    }
}

/// Findings in all objects of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// First findings, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of errors among all findings.
    pub errors: u64,
}

impl Report {
    /// Adds a finding. Returns true unless the finding is an error.
    pub(super) fn add(&mut self, finding: Finding) -> bool {
        let error = finding.severity == Severity::Error;
        self.errors += u64::from(error);
        if finding.severity != Severity::Ignore && self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
        !error
    }

    /// Adds the findings of another report.
    pub(super) fn merge(&mut self, other: &Report) {
        self.errors += other.errors;
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.iter().take(room).cloned());
    }
}
