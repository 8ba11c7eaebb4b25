//! Ref patterns, as in `--refs`.

use gix::bstr::{BStr, BString, ByteSlice};

use crate::refname::MAX_REF_NAME_BYTES;
use gitferry_base::Kind;

/// Invalid ref pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a ref pattern: {reason}")]
pub struct PatternError {
    /// Pattern as given, at most 200 bytes of it.
    pub pattern: BString,
    /// Rule that the pattern violates.
    pub reason: &'static str,
}

impl PatternError {
    /// Kind of the error: the caller's next step.
    pub fn kind(&self) -> Kind {
        Kind::Usage
    }
}

/// Set of ref patterns. A name matches if at least one pattern matches and no pattern with a leading `^` does; if the
/// set has only `^` patterns, or none, every other name matches.
///
/// | pattern | matches |
/// |---|---|
/// | `refs/heads/main` | that ref, and all below `refs/heads/main/` (as in `git for-each-ref`) |
/// | `refs/tags/` | all refs below it (as in `git for-each-ref`) |
/// | `refs/heads/*`, `refs/*/v1.*` | `*` stands for any bytes, `/` included, as in a refspec. (In `git for-each-ref` it stops at `/`: there, `refs/heads/*` silently lacks `refs/heads/feature/x`.) |
/// | `^refs/pull/*` | excludes the refs that match, as in a negative refspec |
///
/// `?`, `[` and `\`, which no ref name can contain, are errors.
#[derive(Clone, Debug, Default)]
pub struct RefPatterns {
    include: Vec<BString>,
    exclude: Vec<BString>,
}

impl RefPatterns {
    /// Empty set, which matches every name.
    pub fn all() -> Self {
        RefPatterns::default()
    }

    /// Parses patterns.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, PatternError> {
        let mut set = RefPatterns::default();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let fail = |reason| Err(PatternError { pattern: pattern[..pattern.len().min(200)].into(), reason });
            let (list, glob) = match pattern.strip_prefix(b"^") {
                Some(glob) => (&mut set.exclude, glob),
                None => (&mut set.include, pattern),
            };
            if !glob.starts_with(b"refs/") {
                return fail("it does not start with refs/");
            }
            if glob.len() > MAX_REF_NAME_BYTES {
                return fail("it is longer than any ref");
            }
            if glob.iter().any(|b| matches!(b, b'?' | b'[' | b'\\' | b':' | b'^' | b'~' | 0..=b' ' | 0x7f)) {
                return fail("it has a character that no ref name has; the only wildcard is *");
            }
            list.push(glob.into());
        }
        Ok(set)
    }

    /// Literal prefixes of the names that can match: each pattern up to its first `*`. Empty if any name can match.
    pub fn prefixes(&self) -> Vec<BString> {
        let before_star = |glob: &BString| glob.split(|byte| *byte == b'*').next().unwrap_or_default().into();
        self.include.iter().map(before_star).collect()
    }

    /// Returns true if the name matches.
    pub fn matches(&self, name: &BStr) -> bool {
        let any = |globs: &[BString]| globs.iter().any(|glob| pattern_matches(glob.as_bstr(), name));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

fn pattern_matches(glob: &BStr, name: &BStr) -> bool {
    if glob.contains(&b'*') {
        return glob_matches(glob, name);
    }
    match name.strip_prefix(glob.as_bytes()) {
        Some(rest) => rest.is_empty() || glob.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

/// Matches a glob whose `*` stands for any bytes. Backtracks only to the last star, so a match takes at most `glob ×
/// name` steps.
fn glob_matches(glob: &[u8], name: &[u8]) -> bool {
    let mut g = 0;
    let mut n = 0;
    let mut last_star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                last_star = Some((g + 1, n));
                g += 1;
            }
            Some(byte) if *byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match &mut last_star {
                Some((after_star, taken)) => {
                    *taken += 1;
                    g = *after_star;
                    n = *taken;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], name: &str) -> bool {
        RefPatterns::new(patterns).unwrap().matches(name.into())
    }

    #[test]
    fn names_prefixes_and_stars() {
        assert!(matches(&[], "refs/heads/main"));
        assert!(matches(&["refs/heads/main"], "refs/heads/main"));
        assert!(matches(&["refs/heads/main"], "refs/heads/main/x"));
        assert!(!matches(&["refs/heads/main"], "refs/heads/maintenance"));
        assert!(matches(&["refs/tags/"], "refs/tags/v1"));
        assert!(!matches(&["refs/tags/"], "refs/tagsets/v1"));
        assert!(matches(&["refs/heads/*"], "refs/heads/a/b"));
        assert!(matches(&["refs/*/v1.*"], "refs/tags/v1.2"));
        assert!(!matches(&["refs/*/v1.*"], "refs/tags/v2.1"));
        assert!(matches(&["refs/heads/*-ok"], "refs/heads/a-ok-ok"));
        assert!(!matches(&["refs/heads/*-ok"], "refs/heads/a-okay"));
        assert!(matches(&["refs/heads/*", "^refs/heads/wip/*"], "refs/heads/main"));
        assert!(!matches(&["refs/heads/*", "^refs/heads/wip/*"], "refs/heads/wip/x"));
        assert!(matches(&["^refs/pull/"], "refs/heads/main"));
        assert!(!matches(&["^refs/pull/"], "refs/pull/1/head"));
    }

    #[test]
    fn what_can_match_begins_with_a_prefix() {
        let set = RefPatterns::new(["refs/heads/*-ok*", "refs/tags/", "^refs/heads/x"]).unwrap();
        assert_eq!(set.prefixes(), ["refs/heads/", "refs/tags/"]);
        assert!(RefPatterns::new(["^refs/heads/x"]).unwrap().prefixes().is_empty());
    }

    #[test]
    fn patterns_that_cannot_be_meant() {
        for bad in ["", "main", "heads/*", "*", "refs/heads/[ab]", "refs/heads/a?", "refs/a b", "a:b", "^main"] {
            assert!(RefPatterns::new([bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let glob = format!("refs/{}b", "*a".repeat(400));
        let name = format!("refs/{}", "a".repeat(1000));
        assert!(!matches(&[&glob], &name));
    }
}
