//! `sparse:oid` filters: omits blobs at paths that a list of sparse-checkout patterns does not match
//! (git-sparse-checkout, non-cone mode). Trees are always sent.

use std::collections::{HashMap, HashSet};

use gix::bstr::{BStr, BString, ByteSlice};
use gix::glob::wildmatch::Mode;
use gix::glob::{Pattern, pattern::Case};

use super::error::ServeError;

/// Most patterns in one list; each path is compared with each pattern.
const MAX_PATTERNS: usize = 2000;
/// Most distinct directories in a walk.
const MAX_DIRECTORIES: usize = 1 << 20;
/// Most trees read in a walk; a tree counts once per directory in which it occurs.
const MAX_TREES: usize = 1 << 21;

/// Number of the root directory.
pub(crate) const ROOT: u32 = 0;

/// Path filter compiled from pattern lists, with the directories of the walk. Inactive without lists.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    lists: Vec<Vec<Pattern>>,
    /// Directory numbers by parent and name.
    numbers: HashMap<(u32, BString), u32>,
    directories: Vec<Directory>,
    /// Walked trees, by slot and directory.
    walked: HashSet<(u64, u32)>,
}

#[derive(Debug)]
struct Directory {
    /// Path with a trailing slash; empty for the root.
    path: BString,
    /// Per list, the default for paths below that no pattern matches: inherited from the closest matching directory.
    included: Vec<bool>,
}

impl Sparse {
    /// Compiles pattern lists, each from [`parse_list`].
    pub(crate) fn new(lists: Vec<Vec<Pattern>>) -> Sparse {
        let included = lists.iter().map(|list| last_match(list, b"".into(), true).unwrap_or(false)).collect();
        let root = Directory { path: BString::default(), included };
        Sparse { lists, directories: vec![root], ..Sparse::default() }
    }

    /// Returns true if the filter has a pattern list.
    pub(crate) fn is_active(&self) -> bool {
        !self.lists.is_empty()
    }

    /// Returns the number of the directory `name` within another one, assigned on the first visit.
    pub(crate) fn enter(&mut self, within: u32, name: &[u8]) -> Result<u32, ServeError> {
        if !self.is_active() {
            return Ok(ROOT);
        }
        if let Some(known) = self.numbers.get(&(within, BString::from(name))) {
            return Ok(*known);
        }
        let Some(parent) = self.directories.get(within as usize) else { return Ok(ROOT) };
        if self.directories.len() >= MAX_DIRECTORIES {
            return Err(ServeError::TooMuchWork);
        }
        let mut path = [&parent.path[..], name].concat();
        let lists = self.lists.iter().zip(&parent.included);
        let included =
            lists.map(|(list, default)| last_match(list, path.as_bstr(), true).unwrap_or(*default)).collect();
        path.push(b'/');
        let number = self.directories.len() as u32;
        self.directories.push(Directory { path: path.into(), included });
        self.numbers.insert((within, name.into()), number);
        Ok(number)
    }

    /// Returns true if all lists include the blob `name` in a directory.
    pub(crate) fn includes(&self, within: u32, name: &[u8]) -> bool {
        let Some(directory) = self.directories.get(within as usize) else { return true };
        let path = [&directory.path[..], name].concat();
        let mut lists = self.lists.iter().zip(&directory.included);
        lists.all(|(list, default)| last_match(list, path.as_bstr(), false).unwrap_or(*default))
    }

    /// Records a visit of a tree in a directory. Returns true on the first one.
    pub(crate) fn visit(&mut self, tree: u64, within: u32) -> Result<bool, ServeError> {
        if self.walked.len() >= MAX_TREES {
            return Err(ServeError::TooMuchWork);
        }
        Ok(self.walked.insert((tree, within)))
    }
}

/// Returns true if the last pattern that matches a path includes it, false if that pattern is negated, `None` without a
/// match.
fn last_match(list: &[Pattern], path: &BStr, is_directory: bool) -> Option<bool> {
    let basename = path.rfind_byte(b'/').map(|slash| slash + 1);
    let matches = |pattern: &&Pattern| {
        pattern.matches_repo_relative_path(
            path,
            basename,
            Some(is_directory),
            Case::Sensitive,
            Mode::NO_MATCH_SLASH_LITERAL,
        )
    };
    list.iter().rev().find(matches).map(|pattern| !pattern.is_negative())
}

/// Parses patterns as Git does (dir.c, `add_patterns_from_buffer`); `None` if there are more than [`MAX_PATTERNS`].
pub(crate) fn parse_list(file: &[u8]) -> Option<Vec<Pattern>> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let lines = file.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let patterns = lines.filter(|line| !line.starts_with(b"#")).map(trim).filter_map(Pattern::from_bytes);
    let patterns: Vec<Pattern> = patterns.take(MAX_PATTERNS + 1).collect();
    (patterns.len() <= MAX_PATTERNS).then_some(patterns)
}

/// Removes trailing spaces from a line, except one that a backslash escapes.
fn trim(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte != b' ' {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(list: &str) -> Sparse {
        Sparse::new(vec![parse_list(list.as_bytes()).unwrap()])
    }

    fn takes(sparse: &mut Sparse, path: &str) -> bool {
        let (mut at, mut names) = (ROOT, path.split('/').peekable());
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                return sparse.includes(at, name.as_bytes());
            }
            at = sparse.enter(at, name.as_bytes()).unwrap();
        }
        unreachable!("a path has a last name")
    }

    #[test]
    fn the_last_pattern_decides_and_else_the_directory() {
        let mut sparse = sparse("# a comment\r\n/*\n!/*/\n/docs/\n!*.bin\n\\!x \n");
        for (path, taken) in [
            ("top", true),
            ("a/b", false),
            ("docs/a/b", true),
            ("docs/x.bin", false),
            ("a/!x", true),
            ("a/!x/deep", true),
        ] {
            assert_eq!(takes(&mut sparse, path), taken, "{path}");
            assert_eq!(takes(&mut sparse, path), taken, "{path}, again");
        }
    }

    #[test]
    fn spaces_at_the_end_count_behind_a_backslash_only() {
        assert_eq!(trim(b"a b  "), b"a b");
        assert_eq!(trim(b"a\\ "), b"a\\ ");
        assert_eq!(trim(b"a\\  "), b"a\\ ");
        assert_eq!(trim(b"a\\"), b"a\\");
        assert_eq!(trim(b"   "), b"");
    }

    #[test]
    fn too_many_patterns_are_no_list() {
        assert!(parse_list("a\n".repeat(MAX_PATTERNS).as_bytes()).is_some());
        assert!(parse_list("a\n".repeat(MAX_PATTERNS + 1).as_bytes()).is_none());
    }
}
