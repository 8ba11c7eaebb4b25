//! Reasons why a policy document is refused.

/// Reason why a policy document is not valid, and the element that it concerns. IAM calls this `MalformedPolicyDocument`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", prefix(.element))]
pub struct PolicyError {
    element: String,
    reason: String,
}

impl PolicyError {
    pub(crate) fn new(element: impl Into<String>, reason: impl Into<String>) -> Self {
        PolicyError { element: element.into(), reason: reason.into() }
    }

    /// Path of the element, such as `Statement[1].Condition.StringLike`. Statements and values are counted from 0. Empty if the
    /// document as a whole is refused.
    pub fn element(&self) -> &str {
        &self.element
    }

    /// Reason, without the element.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn prefix(element: &str) -> String {
    if element.is_empty() { String::new() } else { format!("{element}: ") }
}
