//! Where things are that a test runs or writes.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folder of the profile that runs: `target/debug`.
static PROFILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().unwrap();
    test.ancestors().find(|folder| folder.ends_with("deps")).and_then(Path::parent).unwrap().to_owned()
});
static GITFERRY: LazyLock<PathBuf> = LazyLock::new(|| PROFILE.join("gitferry"));
static TMP: LazyLock<PathBuf> = LazyLock::new(|| {
    let tmp = PROFILE.parent().unwrap().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    tmp
});

/// The command that cargo has built along with the tests.
pub fn gitferry() -> &'static Path {
    &GITFERRY
}

/// A folder that stays from one run to the next, for what is costly to install.
pub fn tmp() -> &'static Path {
    &TMP
}
