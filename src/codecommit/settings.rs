//! Settings of the API on a host.

use std::collections::BTreeMap;

/// Settings of the API on the host of one region.
#[derive(Clone, Debug)]
pub struct Settings {
    /// URLs of clones in answers.
    pub clone_urls: CloneUrls,
    /// URLs of the hosts, by region: an error at a replica names the one of the primary.
    pub hosts: BTreeMap<String, String>,
    /// AWS region of the bucket, whose KMS keys alone can be those of repositories; `None` if the objects are files.
    pub aws_region: Option<String>,
    /// Quotas.
    pub limits: Limits,
}

/// Templates of the URLs of clones, in which `{name}` stands for the name of the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneUrls {
    /// URL over HTTP.
    pub http: String,
    /// URL over SSH; `None` for a host without SSH.
    pub ssh: Option<String>,
}

impl CloneUrls {
    /// URL over HTTP of a repository.
    pub(crate) fn http(&self, name: &str) -> String {
        self.http.replace("{name}", name)
    }

    /// URL over SSH of a repository.
    pub(crate) fn ssh(&self, name: &str) -> Option<String> {
        self.ssh.as_ref().map(|template| template.replace("{name}", name))
    }
}

/// Quotas on single requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most items of a page.
    pub page_items: usize,
    /// Most repositories or commits of a batch.
    pub batch_items: usize,
    /// Largest content of a file that is answered, in bytes.
    pub file_bytes: u64,
}

/// The quotas of CodeCommit.
impl Default for Limits {
    fn default() -> Self {
        Limits { page_items: 1_000, batch_items: 100, file_bytes: 6 << 20 }
    }
}
