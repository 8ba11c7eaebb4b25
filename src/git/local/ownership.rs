//! Ownership check under the rules of Git's `safe.directory` (git-config(1), `setup.c`).
//!
//! A repository of another user is read only if the configuration of the system or of the user who runs gitferry lists
//! it. The repository's own configuration does not count.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gix::bstr::{BString, ByteSlice};
use gix::config::File;
use gix::config::file::{Metadata, init::Options};

use super::error::SourceError;

/// Most bytes of a configuration file of the user or the system.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// User id of the superuser, who may act for the user in `SUDO_UID`.
const ROOT: u32 = 0;

/// Returns true if the repository at `path` with the parts `places` belongs to the current user, false if it belongs to
/// another user and `safe.directory` lists it.
///
/// # Errors
/// [`SourceError::NotOwned`] if `safe.directory` does not list the repository, or if its parts belong to different
/// users.
pub(super) fn is_own(path: &Path, places: &[PathBuf]) -> Result<bool, SourceError> {
    let mut owners = Vec::with_capacity(places.len());
    for place in places {
        owners.push(fs::symlink_metadata(place).map_err(|error| SourceError::io(place, error))?.uid());
    }
    // SAFETY: the call has no arguments and cannot fail.
    let me = unsafe { libc::geteuid() };
    let sudo = env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let Some(other) = owners.iter().copied().find(|owner| !owned_by(*owner, me, sudo)) else { return Ok(true) };
    let refused = |trusted| SourceError::NotOwned { path: path.to_owned(), owner: other, trusted };
    let home = env::var_os("HOME").map(PathBuf::from);
    if !is_listed(&safe_directories(), places, home.as_deref()) {
        return Err(refused(false));
    }
    // The owner of one part could point it at the other parts.
    if owners.iter().all(|owner| *owner == other) { Ok(false) } else { Err(refused(true)) }
}

/// Returns true if both directories belong to the same user.
pub(super) fn same_owner(one: &Path, other: &Path) -> bool {
    let owner = |path: &Path| fs::metadata(path).map(|meta| meta.uid()).ok();
    owner(one).is_some() && owner(one) == owner(other)
}

/// Returns true if files of `owner` count as files of the user `me`, who may be the superuser on behalf of `sudo`.
fn owned_by(owner: u32, me: u32, sudo: Option<u32>) -> bool {
    owner == me || (me == ROOT && sudo == Some(owner))
}

/// Returns true if the values of `safe.directory`, in their order, list one of `places`. An empty value clears the
/// list.
fn is_listed(values: &[BString], places: &[PathBuf], home: Option<&Path>) -> bool {
    let places: Vec<PathBuf> = places.iter().map(|place| fs::canonicalize(place).unwrap_or(place.clone())).collect();
    let mut listed = false;
    for value in values {
        listed = match value.as_slice() {
            b"" => false,
            b"*" => true,
            value => listed || places.iter().any(|place| names(value, place, home)),
        };
    }
    listed
}

/// Returns true if a value of `safe.directory` names `place` or, with `/*` at its end, a directory above it.
fn names(value: &[u8], place: &Path, home: Option<&Path>) -> bool {
    let (value, above) = match value.strip_suffix(b"/*") {
        Some(directory) => (directory, true),
        None => (value, false),
    };
    let Ok(path) = value.to_path() else { return false };
    let path = match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    };
    if !path.is_absolute() {
        return false;
    }
    let path = fs::canonicalize(&path).unwrap_or(path);
    if above { place != path && place.starts_with(&path) } else { place == path }
}

/// Reads all values of `safe.directory` from the system's and the user's configuration, without included files.
fn safe_directories() -> Vec<BString> {
    let mut values = Vec::new();
    for path in config_files(&|name| env::var_os(name)) {
        let Ok(Some(bytes)) = super::location::read_small(&path, MAX_CONFIG_BYTES) else { continue };
        let Ok(config) = File::from_bytes_no_includes(&bytes, Metadata::api(), Options::default()) else {
            tracing::warn!(path = %path.display(), "the Git configuration is invalid; its safe.directory is ignored");
            continue;
        };
        values.extend(config.strings("safe.directory").unwrap_or_default());
    }
    values
}

/// Paths of the system's and the user's Git configuration (git-config(1), FILES).
fn config_files(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let is_set = |name| variable(name).is_some_and(|value| !matches!(value.to_str(), Some("" | "0" | "false" | "no")));
    if !is_set("GIT_CONFIG_NOSYSTEM") {
        files.push(variable("GIT_CONFIG_SYSTEM").map_or_else(|| "/etc/gitconfig".into(), PathBuf::from));
    }
    if let Some(path) = variable("GIT_CONFIG_GLOBAL") {
        files.push(path.into());
        return files;
    }
    let home = variable("HOME").map(PathBuf::from);
    let xdg = variable("XDG_CONFIG_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    files.extend(xdg.or_else(|| Some(home.as_ref()?.join(".config"))).map(|path| path.join("git/config")));
    files.extend(home.map(|home| home.join(".gitconfig")));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_it_is() {
        assert!(owned_by(7, 7, None) && owned_by(0, 0, Some(7)) && owned_by(7, 0, Some(7)));
        assert!(!owned_by(8, 7, None) && !owned_by(0, 7, None) && !owned_by(7, 0, None) && !owned_by(8, 7, Some(8)));
    }

    #[test]
    fn what_safe_directory_lists() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let place = root.join("a/b");
        fs::create_dir_all(&place).unwrap();
        let at = |path: &str| path.replace('@', root.to_str().unwrap());
        for (values, expected) in [
            (&[][..], false),
            (&["*"], true),
            (&["@/a/b"], true),
            (&["@/a/./b/"], true),
            (&["@/a"], false),
            (&["@/a/*"], true),
            (&["@/*"], true),
            (&["@/a/b/*"], false),
            (&["a/b", "b", "."], false),
            (&["~/a/b"], true),
            (&["@/a/b", ""], false),
            (&["*", "", "@/x"], false),
            (&["", "@/a/b"], true),
        ] {
            let values: Vec<BString> = values.iter().map(|value| at(value).into()).collect();
            assert_eq!(is_listed(&values, std::slice::from_ref(&place), Some(&root)), expected, "{values:?}");
        }
    }

    #[test]
    fn where_the_configuration_lies() {
        let files = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> =
                set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            config_files(&|name| set.iter().find(|(set, _)| set == name).map(|(_, value)| value.clone()))
        };
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(files(&[("HOME", "/h")]), paths(&["/etc/gitconfig", "/h/.config/git/config", "/h/.gitconfig"]));
        assert_eq!(files(&[("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/g"), ("HOME", "/h")]), paths(&["/g"]));
        assert_eq!(files(&[("GIT_CONFIG_SYSTEM", "/s"), ("XDG_CONFIG_HOME", "/x")]), paths(&["/s", "/x/git/config"]));
    }
}
