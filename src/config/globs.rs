//! Globs of repository names.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Returns the glob that matches every repository.
pub(super) fn all_repositories() -> Vec<String> {
    vec!["*".into()]
}

/// Builds a matcher of repository names. `*` also matches `/`.
pub fn name_matcher(globs: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(GlobBuilder::new(glob).build().map_err(|error| error.to_string())?);
    }
    set.build().map_err(|error| error.to_string())
}
