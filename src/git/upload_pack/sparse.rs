//! `sparse:oid` filters: omits blobs at paths that a list of sparse-checkout patterns does not match
//! (git-sparse-checkout, non-cone mode). Trees are always sent.

use std::collections::{HashMap, HashSet};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::glob::wildmatch::Mode;
use gix::glob::{Pattern, pattern::Case};
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::{Reachable, check_contents};
use crate::links::{EntryKind, TreeEntries};
use crate::pack::Object;
use crate::view::View;

/// Size limit of a pattern list in bytes.
const MAX_LIST_BYTES: u64 = 256 << 10;
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
    /// Reads the pattern lists of a filter. A visible ref must reach each blob: otherwise the choice of objects would
    /// reveal the content of hidden blobs.
    pub(crate) fn new(
        view: &View,
        graph: &mut Graph<'_>,
        reachable: &mut Reachable<'_>,
        names: &[BString],
    ) -> Result<Sparse, ServeError> {
        let mut sparse = Sparse::default();
        for name in names {
            let blob = graph.metered(|graph| find(view, graph, reachable, name.as_bstr()))?;
            let list = patterns(&blob);
            sparse.lists.push(list.ok_or_else(|| unusable(name.as_bstr(), "it has more than 2000 patterns"))?);
        }
        let included = sparse.lists.iter().map(|list| last_match(list, b"".into(), true).unwrap_or(false)).collect();
        sparse.directories.push(Directory { path: BString::default(), included });
        Ok(sparse)
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
fn patterns(file: &[u8]) -> Option<Vec<Pattern>> {
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

/// Reads the blob that a client names by id, by ref or as `<ref or id>:<path>`.
fn find(view: &View, graph: &mut Graph<'_>, reachable: &mut Reachable<'_>, name: &BStr) -> Result<Vec<u8>, ServeError> {
    let nothing = || unusable(name, "it names no blob that a ref reaches: give its id, or a ref and a path");
    let (base, path) = match name.split_once_str(":") {
        Some((base, path)) => (base.as_bstr(), Some(path)),
        None => (name, None),
    };
    let slot = visible(view, graph, reachable, base)?.ok_or_else(nothing)?;
    let slot = match path {
        Some(path) => within(graph, slot, path)?.ok_or_else(nothing)?,
        None => slot,
    };
    if graph.kind(slot)? != Kind::Blob {
        return Err(nothing());
    }
    let location = graph.location(slot);
    if graph.finder().size(location)? > MAX_LIST_BYTES {
        return Err(unusable(name, "it exceeds 256 KiB, the limit for a list of patterns"));
    }
    Ok(graph.read(slot)?.data.to_vec())
}

/// Resolves a ref or an id to an object that a visible ref reaches.
fn visible(
    view: &View,
    graph: &mut Graph<'_>,
    reachable: &mut Reachable<'_>,
    name: &BStr,
) -> Result<Option<u64>, ServeError> {
    let head = if name == "HEAD" { view.head_object() } else { None };
    if let Some(id) = head.or_else(|| view.refs.expand(name).and_then(|entry| view.refs.object(&entry))) {
        return Ok(graph.slot(&id));
    }
    let id = ObjectId::from_hex(name).ok().filter(|id| id.kind() == view.format);
    let Some((id, slot)) = id.and_then(|id| graph.slot(&id).map(|slot| (id, slot))) else { return Ok(None) };
    if view.is_tip(&id) {
        return Ok(Some(slot));
    }
    match graph.kind(slot)? {
        Kind::Commit | Kind::Tag => Ok(reachable.contains(&id, slot, graph)?.then_some(slot)),
        Kind::Tree | Kind::Blob => match check_contents(view, &[slot], graph) {
            Err(ServeError::NotOurs(_)) => Ok(None),
            checked => checked.map(|()| Some(slot)),
        },
    }
}

/// Resolves a path below a commit, tag or tree.
fn within(graph: &mut Graph<'_>, slot: u64, path: &[u8]) -> Result<Option<u64>, ServeError> {
    let (mut at, kind) = graph.peel(slot, |_| {})?;
    if kind == Kind::Commit {
        let tree = graph.unshallow_commit(at)?.tree;
        at = graph.require(&tree, || Some(graph.id(at)))?;
    }
    for name in path.split(|byte| *byte == b'/') {
        let Object { kind, data } = graph.read(at)?;
        if kind != Kind::Tree {
            return Ok(None);
        }
        let mut entries = TreeEntries::new(&data, graph.packs().format());
        let found = loop {
            match entries.read().map_err(|reason| ServeError::Unreadable { id: graph.id(at), reason })? {
                None => return Ok(None),
                Some(entry) if entry.name == name && entry.kind != EntryKind::Submodule => break entry.id.to_owned(),
                Some(_) => {}
            }
        };
        at = graph.require(&found, || Some(graph.id(at)))?;
    }
    Ok(Some(at))
}

fn unusable(name: &BStr, reason: &'static str) -> ServeError {
    ServeError::Sparse { name: name[..name.len().min(200)].into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse(list: &str) -> Sparse {
        let list = patterns(list.as_bytes()).unwrap();
        let included = vec![last_match(&list, b"".into(), true).unwrap_or(false)];
        let root = Directory { path: BString::default(), included };
        Sparse { lists: vec![list], directories: vec![root], ..Sparse::default() }
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
        assert!(patterns("a\n".repeat(MAX_PATTERNS).as_bytes()).is_some());
        assert!(patterns("a\n".repeat(MAX_PATTERNS + 1).as_bytes()).is_none());
    }
}
