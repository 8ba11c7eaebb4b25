//! Validation of ref names and repository names.
//!
//! Ref names follow `git check-ref-format`. Names of repositories in a region are valid in URLs, in object store keys
//! and in CodeCommit alike. Remotes have their own rules for names: gitferry rejects only names that could escape
//! their place in a URL, path or command line.

use gix::bstr::{BStr, BString};

use gitferry_base::Kind;

/// Longest ref name in bytes.
pub const MAX_REF_NAME_BYTES: usize = 1024;
/// Longest repository name in characters (CodeCommit's limit).
pub const MAX_REPOSITORY_NAME_CHARS: usize = 100;
/// Longest name of a repository at a remote in bytes. Table keys contain this name.
pub const MAX_REMOTE_NAME_BYTES: usize = 512;

/// A name is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a valid {what} name: {reason}")]
pub struct NameError {
    /// Rejected name, truncated if it is too long to show.
    pub name: BString,
    /// Kind of name: `ref` or `repository`.
    pub what: &'static str,
    /// Rule that the name breaks.
    pub reason: String,
}

impl NameError {
    /// Classifies the error by what the caller can do about it.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// Checks the full name of a ref: below `refs/`, at most [`MAX_REF_NAME_BYTES`], and valid by `git check-ref-format`,
/// which forbids control characters, spaces and newlines. As in Git, non-ASCII bytes need not be UTF-8.
pub fn check_ref_name(name: &BStr) -> Result<(), NameError> {
    let fail = |reason: String| {
        // Keeps the message short.
        let shown = &name[..name.len().min(MAX_REF_NAME_BYTES)];
        Err(NameError { name: shown.into(), what: "ref", reason })
    };
    if name.len() > MAX_REF_NAME_BYTES {
        return fail(format!("it has {} bytes, more than {MAX_REF_NAME_BYTES}", name.len()));
    }
    if !name.starts_with(b"refs/") {
        return fail("it does not start with refs/".into());
    }
    match gix::validate::reference::name(name) {
        Ok(_) => Ok(()),
        Err(error) => fail(error.to_string()),
    }
}

/// Checks the name of a repository in a region: 1 to [`MAX_REPOSITORY_NAME_CHARS`] characters in segments separated by
/// `/`. A segment consists of `[A-Za-z0-9._-]`, does not start with `.` or `-`, does not contain `..` and does not end
/// in `.git`, which URLs append.
pub fn check_repository_name(name: &str) -> Result<(), NameError> {
    let fail = |reason: &str| {
        let shown: String = name.chars().take(MAX_REPOSITORY_NAME_CHARS + 1).collect();
        Err(NameError { name: shown.into(), what: "repository", reason: reason.into() })
    };
    if name.is_empty() {
        return fail("it is empty");
    }
    if name.chars().count() > MAX_REPOSITORY_NAME_CHARS {
        return fail("it has more than 100 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)) {
        return fail("only letters, digits and . _ - / are allowed");
    }
    for segment in name.split('/') {
        if segment.is_empty() {
            return fail("it has an empty segment: no / at either end, no two in a row");
        }
        if segment.starts_with(['.', '-']) {
            return fail("no segment may start with . or -");
        }
        if segment.contains("..") {
            return fail("it contains ..");
        }
        if segment.as_bytes().to_ascii_lowercase().ends_with(b".git") {
            return fail("no segment may end in .git");
        }
    }
    Ok(())
}

/// Checks the name of a repository at a remote: 1 to [`MAX_REMOTE_NAME_BYTES`] bytes in segments separated by `/`,
/// without control characters and `\`. No segment is empty, `.` or `..`, and none ends in `.git`, which URLs append.
/// The name does not start with `-`, which would be an option of a command.
pub fn check_remote_name(name: &str) -> Result<(), NameError> {
    let fail = |reason: &str| {
        let shown: String = name.chars().take(MAX_REPOSITORY_NAME_CHARS + 1).collect();
        Err(NameError { name: shown.into(), what: "repository", reason: reason.into() })
    };
    if name.is_empty() || name.len() > MAX_REMOTE_NAME_BYTES {
        return fail("it is empty, or has more than 512 bytes");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return fail("control characters and \\ are not allowed");
    }
    if name.starts_with('-') {
        return fail("it starts with -");
    }
    for segment in name.split('/') {
        if segment.is_empty() {
            return fail("it has an empty segment: no / at either end, no two in a row");
        }
        if matches!(segment, "." | "..") {
            return fail("no segment may be . or ..");
        }
        if segment.as_bytes().to_ascii_lowercase().ends_with(b".git") {
            return fail("no segment may end in .git");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_remotes() {
        let longest = "a".repeat(512);
        for good in
            ["a", ".github", "libstdc++", "my project", "a/b/c/d/e/f", "~user/x", "ä", "a%20b", "x?y#z", &longest]
        {
            assert!(check_remote_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(513);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "-a", "a.git", ".git", "a.Git/b", "a\n", "a\\b",
            &too_long,
        ] {
            assert!(check_remote_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn repository_names() {
        let longest = "a".repeat(100);
        for good in ["a", "A.b_c-9", "team/project", "a/b/c/d", "git", "a.gitx", "0", &longest] {
            assert!(check_repository_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(101);
        for bad in [
            "", "/", "/a", "a/", "a//b", ".a", "-a", "a/.b", "a/-b", "a..b", "a.git", "a.GIT", "a.git/b", "a b", "ä",
            "a\n", "a\0", "..", "a/../b", "a\\b", "a:b", &too_long,
        ] {
            assert!(check_repository_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_name_the_name_and_the_rule_and_stay_short() {
        let error = check_ref_name("refs/heads/a b".into()).unwrap_err();
        assert!(error.to_string().starts_with("\"refs/heads/a b\" is not a valid ref name: "), "{error}");
        let error = check_ref_name(BStr::new(&vec![b'x'; 1 << 20])).unwrap_err();
        assert!(error.to_string().len() < 2 * MAX_REF_NAME_BYTES);
        let error = check_repository_name(&"ä".repeat(1 << 20)).unwrap_err();
        assert!(error.to_string().len() < 1024);
    }
}
