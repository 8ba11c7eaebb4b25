//! Versions of the policy language.

/// Version of the policy language: the element `Version` of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// `2008-10-17`, which also a document without the element has: no policy variables.
    #[default]
    V2008,
    /// `2012-10-17`.
    V2012,
}

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "2008-10-17" => Some(Version::V2008),
            "2012-10-17" => Some(Version::V2012),
            _ => None,
        }
    }

    /// Name as in documents.
    pub fn name(self) -> &'static str {
        match self {
            Version::V2008 => "2008-10-17",
            Version::V2012 => "2012-10-17",
        }
    }

    pub(crate) fn has_variables(self) -> bool {
        self == Version::V2012
    }
}
