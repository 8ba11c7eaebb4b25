//! `[hosts.REGION.codecommit]`: the API of CodeCommit of a host with an account.

use bytesize::ByteSize;
use serde::Deserialize;

/// Settings of CodeCommit's API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodeCommitConfig {
    /// Template of `cloneUrlHttp`, in which `{name}` stands for the repository. Defaults to the URL of the host.
    pub clone_url_http: Option<String>,
    /// Template of `cloneUrlSsh`. Defaults to the address of `ssh` with the host name of the host's URL.
    pub clone_url_ssh: Option<String>,
    /// Most items of a page.
    pub page_items: usize,
    /// Most repositories or commits of a batch.
    pub batch_items: usize,
    /// Largest file whose content is answered.
    pub file_size: ByteSize,
}

/// The quotas of CodeCommit.
impl Default for CodeCommitConfig {
    fn default() -> Self {
        CodeCommitConfig {
            clone_url_http: None,
            clone_url_ssh: None,
            page_items: 1_000,
            batch_items: 100,
            file_size: ByteSize::mib(6),
        }
    }
}

impl CodeCommitConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// The value that is not valid, and the reason.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, template) in [("clone_url_http", &self.clone_url_http), ("clone_url_ssh", &self.clone_url_ssh)] {
            if template.as_ref().is_some_and(|template| template.matches("{name}").count() != 1) {
                return Err(format!("{name} has {{name}} once, in the place of the repository's name"));
            }
        }
        if self.page_items == 0 || self.batch_items == 0 {
            return Err("page_items and batch_items are at least 1".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_a_place_for_the_name() {
        let check = |text: &str| toml::from_str::<CodeCommitConfig>(text).unwrap().check();
        check("").unwrap();
        check("clone_url_http = \"https://git.example/v1/repos/{name}\"\nfile_size = \"1MiB\"").unwrap();
        for bad in ["clone_url_http = \"https://git.example/\"", "clone_url_ssh = \"{name}{name}\"", "page_items = 0"] {
            check(bad).unwrap_err();
        }
    }
}
