//! Links of an object: references to other objects that must exist.
//!
//! A commit links to its tree and its parents, a tree to its entries except submodules, a tag to its target. Parsing is
//! as lenient as Git's own (`parse_commit_buffer`, `decode_tree_entry`, `parse_tag_buffer`): only the bytes that hold
//! links must be well formed, as real histories contain zero-padded modes, missing taggers and unsorted entries that
//! cannot be repaired.

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

/// Reference to an object that must exist and have a certain kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Target of the link.
    pub id: ObjectId,
    /// Kind that the referring object expects.
    pub kind: Kind,
}

impl Ord for Link {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id).then_with(|| kind_code(self.kind).cmp(&kind_code(other.kind)))
    }
}

impl PartialOrd for Link {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Type number of an object kind in pack entries (gitformat-pack(5)).
pub(crate) fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    }
}

/// Object kind of a number that [`kind_code`] gave.
///
/// # Panics
/// Any other number.
pub(crate) fn kind_of_code(code: u8) -> Kind {
    match code {
        1 => Kind::Commit,
        2 => Kind::Tree,
        3 => Kind::Blob,
        4 => Kind::Tag,
        _ => unreachable!("{code} is the code of no kind"),
    }
}

/// Error of parsing the links of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a readable {kind}: {reason}")]
pub struct UnreadableLinks {
    /// Kind of the object.
    pub kind: Kind,
    /// Malformed part of the object.
    pub reason: &'static str,
}

/// Calls `visit` for every link of an object, in the order of the object's bytes, repetitions included.
///
/// On an error, the links before the malformed part have been visited.
pub fn for_each_link(
    kind: Kind,
    data: &[u8],
    format: gix::hash::Kind,
    mut visit: impl FnMut(&oid, Kind),
) -> Result<(), UnreadableLinks> {
    let links = match kind {
        Kind::Blob => Ok(()),
        Kind::Tree => tree_links(data, format, &mut visit),
        Kind::Commit => commit_links(data, format, &mut visit),
        Kind::Tag => tag_links(data, format, &mut visit),
    };
    links.map_err(|reason| UnreadableLinks { kind, reason })
}

/// Type bits of a file mode.
const MODE_TYPE: u16 = 0o170_000;
const MODE_TREE: u16 = 0o040_000;
const MODE_FILE: u16 = 0o100_000;
const MODE_SYMLINK: u16 = 0o120_000;

/// Calls `visit` for the links of a tree, except for most links shared with `base`: another tree whose links have all
/// been visited without an error. Versions of a tree differ in few entries, usually one.
pub(crate) fn for_each_new_tree_link(
    base: &[u8],
    data: &[u8],
    format: gix::hash::Kind,
    mut visit: impl FnMut(&oid, Kind),
) -> Result<(), UnreadableLinks> {
    let unreadable = |reason| UnreadableLinks { kind: Kind::Tree, reason };
    let prefix = common_prefix(base, data);
    let suffix = common_suffix(&base[prefix..], &data[prefix..]);
    // Entries within the common prefix are shared.
    let mut entries = TreeEntries::new(data, format);
    let mut ahead = entries;
    while let Ok(Some(_)) = ahead.read()
        && data.len() - ahead.rest().len() <= prefix
    {
        entries = ahead;
    }
    let mut old = TreeEntries::new(&base[data.len() - entries.rest().len()..], format);
    // Entries within the common suffix are shared from the first position at which entries of both trees begin.
    while entries.rest().len() != old.rest().len() || entries.rest().len() > suffix {
        if entries.rest().len() >= old.rest().len() {
            if let Some(entry) = entries.read().map_err(unreadable)? {
                entry.visit(&mut visit);
            }
        } else {
            old.read().map_err(unreadable)?;
        }
    }
    Ok(())
}

/// Bytes of one comparison step.
const COMPARED: usize = 32;

/// Length of the common prefix of two slices, in bytes.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.chunks_exact(COMPARED).zip(b.chunks_exact(COMPARED));
    let whole = chunks.take_while(|(a, b)| a == b).count() * COMPARED;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(a, b)| a == b).count()
}

/// Length of the common suffix of two slices, in bytes.
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.rchunks_exact(COMPARED).zip(b.rchunks_exact(COMPARED));
    let whole = chunks.take_while(|(a, b)| a == b).count() * COMPARED;
    let a = &a[..a.len() - whole];
    let b = &b[..b.len() - whole];
    whole + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// Kind of a tree entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Tree,
    Blob,
    /// Submodule: a commit of another repository.
    Submodule,
}

/// Entry of a tree.
#[derive(Clone, Copy)]
pub(crate) struct TreeEntry<'a> {
    pub(crate) kind: EntryKind,
    pub(crate) name: &'a [u8],
    pub(crate) id: &'a oid,
    /// Bytes of the whole entry; equal bytes mean equal mode, name and object.
    pub(crate) raw: &'a [u8],
}

/// Parser of a tree: `<octal mode> SP <name> NUL <raw id>`, repeated (Git's `tree-walk.c`).
#[derive(Clone, Copy)]
pub(crate) struct TreeEntries<'a> {
    rest: &'a [u8],
    width: usize,
}

impl<'a> TreeEntries<'a> {
    pub(crate) fn new(data: &'a [u8], format: gix::hash::Kind) -> Self {
        TreeEntries { rest: data, width: format.len_in_bytes() }
    }

    /// Unread bytes.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Skips bytes that are known to be a whole entry.
    pub(crate) fn skip(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.rest.len(), "a skipped entry lies within the tree");
        self.rest = &self.rest[bytes..];
    }

    /// Reads the next entry; `None` at the end.
    #[inline]
    pub(crate) fn read(&mut self) -> Result<Option<TreeEntry<'a>>, &'static str> {
        let data = self.rest;
        if data.is_empty() {
            return Ok(None);
        }
        let (mode, rest) = tree_mode(data)?;
        let end_of_name = rest.find_byte(0).ok_or("an entry name does not end")?;
        if end_of_name == 0 {
            return Err("an entry has no name");
        }
        let (id, after) = rest[end_of_name + 1..].split_at_checked(self.width).ok_or("the last entry is cut off")?;
        self.rest = after;
        // Git treats every other type as a submodule (`canon_mode`).
        let kind = match mode & MODE_TYPE {
            MODE_TREE => EntryKind::Tree,
            MODE_FILE | MODE_SYMLINK => EntryKind::Blob,
            _ => EntryKind::Submodule,
        };
        let raw = &data[..data.len() - after.len()];
        Ok(Some(TreeEntry { kind, name: &rest[..end_of_name], id: oid::from_bytes_unchecked(id), raw }))
    }
}

fn tree_links(data: &[u8], format: gix::hash::Kind, visit: &mut impl FnMut(&oid, Kind)) -> Result<(), &'static str> {
    let mut entries = TreeEntries::new(data, format);
    while let Some(entry) = entries.read()? {
        entry.visit(visit);
    }
    Ok(())
}

impl TreeEntry<'_> {
    #[inline]
    fn visit(&self, visit: &mut impl FnMut(&oid, Kind)) {
        match self.kind {
            EntryKind::Tree => visit(self.id, Kind::Tree),
            EntryKind::Blob => visit(self.id, Kind::Blob),
            EntryKind::Submodule => {}
        }
    }
}

/// Reads an octal mode and the space after it. The mode wraps at 16 bits, as in Git's `get_mode`.
#[inline]
pub(crate) fn tree_mode(data: &[u8]) -> Result<(u16, &[u8]), &'static str> {
    let mut mode = 0u16;
    for (at, byte) in data.iter().enumerate() {
        match byte {
            b'0'..=b'7' => mode = (mode << 3) | u16::from(byte - b'0'),
            b' ' if at > 0 => return Ok((mode, &data[at + 1..])),
            _ => break,
        }
    }
    Err("an entry has a malformed mode")
}

fn commit_links(data: &[u8], format: gix::hash::Kind, visit: &mut impl FnMut(&oid, Kind)) -> Result<(), &'static str> {
    let mut buffer = [0; ID_BYTES];
    let rest = data.strip_prefix(b"tree ").ok_or("it does not begin with its tree")?;
    let (tree, mut rest) = hex_line(rest, format, &mut buffer).ok_or("its tree is not an id")?;
    visit(tree, Kind::Tree);
    while let Some(line) = rest.strip_prefix(b"parent ") {
        let (parent, after) = hex_line(line, format, &mut buffer).ok_or("a parent is not an id")?;
        visit(parent, Kind::Commit);
        rest = after;
    }
    Ok(())
}

fn tag_links(data: &[u8], format: gix::hash::Kind, visit: &mut impl FnMut(&oid, Kind)) -> Result<(), &'static str> {
    let mut buffer = [0; ID_BYTES];
    let rest = data.strip_prefix(b"object ").ok_or("it does not begin with its target")?;
    let (target, rest) = hex_line(rest, format, &mut buffer).ok_or("its target is not an id")?;
    let rest = rest.strip_prefix(b"type ").ok_or("it does not say what its target is")?;
    let name = rest.find_byte(b'\n').and_then(|end| rest.get(..end)).ok_or("the kind of its target does not end")?;
    let kind = Kind::from_bytes(name).map_err(|_| "the kind of its target is unknown")?;
    visit(target, kind);
    Ok(())
}

/// Bytes of the longest id.
const ID_BYTES: usize = 32;

/// Reads a hexadecimal id and the end of its line.
fn hex_line<'b, 'd>(
    data: &'d [u8],
    format: gix::hash::Kind,
    buffer: &'b mut [u8; ID_BYTES],
) -> Option<(&'b oid, &'d [u8])> {
    let (digits, rest) = data.split_at_checked(format.len_in_hex())?;
    let id = buffer.get_mut(..format.len_in_bytes())?;
    hex::decode_to_slice(digits, id).ok()?;
    Some((oid::from_bytes_unchecked(id), rest.strip_prefix(b"\n")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::hash::Kind as Format;
    use proptest::prelude::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn links(kind: Kind, data: &[u8]) -> Result<Vec<(String, Kind)>, &'static str> {
        let mut found = Vec::new();
        for_each_link(kind, data, Format::Sha1, |id, kind| found.push((id.to_string(), kind)))
            .map(|()| found)
            .map_err(|e| e.reason)
    }

    fn entry(mode: &str, name: &str, byte: u8) -> Vec<u8> {
        [mode.as_bytes(), b" ", name.as_bytes(), b"\0", &[byte; 20]].concat()
    }

    #[test]
    fn a_tree_links_to_everything_but_submodules() {
        let data = [
            entry("100644", "file", 0x11),
            entry("040000", "zero-padded", 0x22),
            entry("160000", "submodule", 0x33),
            entry("120000", "symlink", 0x22),
            entry("100664", "odd but seen", 0x11),
            entry("40000", "b", 0x11),
        ]
        .concat();
        assert_eq!(
            links(Kind::Tree, &data).unwrap(),
            [
                (A.into(), Kind::Blob),
                (B.into(), Kind::Tree),
                (B.into(), Kind::Blob),
                (A.into(), Kind::Blob),
                (A.into(), Kind::Tree)
            ]
        );
        assert_eq!(links(Kind::Tree, b"").unwrap(), []);
    }

    #[test]
    fn broken_trees_are_unreadable() {
        for data in [&b"100644 a\0short"[..], b" a\0", b"10x644 a\0", b"100644", b"100644 name"] {
            assert!(links(Kind::Tree, data).is_err(), "{data:?}");
        }
        assert_eq!(links(Kind::Tree, &entry("100644", "", 1)), Err("an entry has no name"));
    }

    #[test]
    fn a_commit_links_to_its_tree_and_parents_and_nothing_in_its_message() {
        let data = format!("tree {A}\nparent {B}\nparent {A}\nauthor broken\n\nparent {B}\n");
        assert_eq!(
            links(Kind::Commit, data.as_bytes()).unwrap(),
            [(A.into(), Kind::Tree), (B.into(), Kind::Commit), (A.into(), Kind::Commit)]
        );
        for data in [format!("tree {}\n", &A[1..]), format!("parent {A}\n"), format!("tree {A}\nparent {}\n", &A[2..])]
        {
            assert!(links(Kind::Commit, data.as_bytes()).is_err(), "{data}");
        }
    }

    #[test]
    fn a_tag_links_to_its_target_with_the_declared_kind() {
        let data = format!("object {A}\ntype tree\ntag x\n");
        assert_eq!(links(Kind::Tag, data.as_bytes()).unwrap(), [(A.into(), Kind::Tree)]);
        assert!(links(Kind::Tag, format!("object {A}\ntype thing\n").as_bytes()).is_err());
        assert!(links(Kind::Tag, format!("object {A}\n").as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(data in proptest::collection::vec(any::<u8>(), 0..200), code in 1u8..5) {
            for format in [Format::Sha1, Format::Sha256] {
                let kind = kind_of_code(code);
                let _ = for_each_link(kind, &data, format, |id, _| assert_eq!(id.kind(), format));
            }
        }

        #[test]
        fn new_links_are_all_but_some_of_the_base(
            kept in proptest::collection::vec(0usize..6, 0..12),
            old in proptest::collection::vec(0usize..6, 0..4),
            new in proptest::collection::vec(0usize..6, 0..4),
            at in any::<prop::sample::Index>(),
            cut in 0usize..3,
        ) {
            // Bytes of ids and names that look like parts of entries, so that trees fit each other wrongly too.
            let ids = [[0x20; 20], [0; 20], *b"100644 a\x00100644 a\x00aa", [0x31; 20], *b"a\x00aaaaaaaaaaaaaaaaaa", [0x61; 20]];
            let tree = |picks: &[usize]| -> Vec<u8> {
                picks.iter().flat_map(|pick| [b"100644 a\0", &ids[*pick][..]].concat()).collect()
            };
            let (front, back) = kept.split_at(at.index(kept.len() + 1));
            let base = tree(&[front, &old, back].concat());
            let mut data = tree(&[front, &new, back].concat());
            data.truncate(data.len().saturating_sub(cut));
            let mut visited = std::collections::BTreeSet::new();
            for_each_link(Kind::Tree, &base, Format::Sha1, |id, _| { visited.insert(id.to_owned()); }).unwrap();
            let since = for_each_new_tree_link(&base, &data, Format::Sha1, |id, _| { visited.insert(id.to_owned()); });
            let mut expected = std::collections::BTreeSet::new();
            let whole = for_each_link(Kind::Tree, &data, Format::Sha1, |id, _| { expected.insert(id.to_owned()); });
            prop_assert_eq!(since.is_ok(), whole.is_ok());
            prop_assert!(visited.is_superset(&expected));
        }

        #[test]
        fn new_links_of_arbitrary_bytes_never_panic(
            base in proptest::collection::vec("[a-z]{1,3}", 0..5),
            data in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let base: Vec<u8> = base.iter().flat_map(|name| entry("100644", name, b'1')).collect();
            let _ = for_each_new_tree_link(&base, &data, Format::Sha1, |_, _| {});
        }

        #[test]
        fn every_entry_of_a_tree_is_found(entries in proptest::collection::vec(("[a-z ]{1,9}", any::<[u8; 20]>()), 0..20)) {
            let data: Vec<u8> = entries
                .iter()
                .flat_map(|(name, id)| [b"100755 ", name.as_bytes(), b"\0", &id[..]].concat())
                .collect();
            let found = links(Kind::Tree, &data).unwrap();
            let expected: Vec<_> = entries.iter().map(|(_, id)| (hex::encode(id), Kind::Blob)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
