//! Checks of trees: dangerous names, modes, order, duplicates.

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use gix::hash::Kind as Format;

use super::message::Message;
use super::names::{is_dot_git, is_dot_gitattributes, is_dot_gitignore, is_dot_gitmodules, is_dot_mailmap};
use crate::links::tree_mode;

/// Longest name of an entry in bytes: Git's `max_tree_entry_len`.
const MAX_NAME_BYTES: usize = 4096;
const TYPE_MASK: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;
const DIRECTORY: u32 = 0o040_000;

/// Blobs whose content Git interprets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// Blob named `.gitmodules`.
    Modules,
    /// Blob named `.gitattributes`.
    Attributes,
}

/// Entry of a tree.
struct Entry<'a> {
    mode: u32,
    /// True if the mode starts with a zero.
    padded: bool,
    name: &'a BStr,
    id: &'a [u8],
}

/// Checks a tree. Passes special blobs, whose content is checked later, to the callback `special`.
pub fn check(data: &[u8], format: Format, report: &mut dyn FnMut(Message), mut special: impl FnMut(Special, ObjectId)) {
    let mut found = Found::default();
    let mut rest = data;
    let mut order = Order::default();
    while !rest.is_empty() {
        let Some((entry, next)) = parse(rest, format) else {
            report(Message::BadTree);
            break;
        };
        rest = next;
        found.check_name(&entry);
        found.check_special(&entry, report, &mut special);
        match order.follow(&entry) {
            Sorting::Fine => {}
            Sorting::Wrong => found.set(Message::TreeNotSorted),
            Sorting::Duplicate => found.set(Message::DuplicateEntries),
        }
    }
    for message in REPORTED {
        if found.0 & bit(*message) != 0 {
            report(*message);
        }
    }
}

/// Messages reported at most once per tree, in the order of Git.
const REPORTED: &[Message] = &[
    Message::NullSha1,
    Message::FullPathname,
    Message::EmptyName,
    Message::HasDot,
    Message::HasDotdot,
    Message::HasDotgit,
    Message::ZeroPaddedFilemode,
    Message::BadFilemode,
    Message::DuplicateEntries,
    Message::TreeNotSorted,
    Message::LargePathname,
];

const _: () = assert!(Message::ALL.len() <= u64::BITS as usize, "`Found` has one bit per message");

fn bit(message: Message) -> u64 {
    1 << (message as u8)
}

/// Parses an entry `<octal mode> <name> NUL <id>`. The mode may have any number of digits and wraps, as in Git.
fn parse(data: &[u8], format: Format) -> Option<(Entry<'_>, &[u8])> {
    let padded = data.first() == Some(&b'0');
    let (mode, rest) = tree_mode(data).ok()?;
    let end = rest.find_byte(0)?;
    if end == 0 {
        return None; // Git cannot parse an empty name; only older versions reported `emptyName`.
    }
    let name = &rest[..end];
    let (id, rest) = rest[end + 1..].split_at_checked(format.len_in_bytes())?;
    Some((Entry { mode: u32::from(mode), padded, name: name.as_bstr(), id }, rest))
}

/// Set of messages found so far, one bit each.
#[derive(Default)]
struct Found(u64);

impl Found {
    fn set(&mut self, message: Message) {
        self.0 |= bit(message);
    }

    fn check_name(&mut self, entry: &Entry<'_>) {
        let name = entry.name;
        let special = looks_special(name);
        let checks = [
            (Message::NullSha1, entry.id.iter().all(|byte| *byte == 0)),
            (Message::FullPathname, name.contains(&b'/')),
            (Message::EmptyName, name.is_empty()),
            (Message::HasDot, name == "."),
            (Message::HasDotdot, name == ".."),
            (Message::HasDotgit, special && (is_dot_git(name) || parts(name).any(is_dot_git))),
            (Message::ZeroPaddedFilemode, entry.padded),
            (Message::LargePathname, name.len() > MAX_NAME_BYTES),
            (Message::BadFilemode, !matches!(entry.mode, 0o100_755 | 0o100_644 | SYMLINK | DIRECTORY | 0o160_000)),
        ];
        for (message, _) in checks.into_iter().filter(|(_, found)| *found) {
            self.set(message);
        }
    }

    /// Reports special names that are symbolic links, and passes other special blobs to `special`.
    fn check_special(
        &self,
        entry: &Entry<'_>,
        report: &mut dyn FnMut(Message),
        special: &mut impl FnMut(Special, ObjectId),
    ) {
        let name = entry.name;
        if !looks_special(name) {
            return;
        }
        let link = entry.mode & TYPE_MASK == SYMLINK;
        let id = || ObjectId::try_from(entry.id).ok();
        if is_dot_gitmodules(name) || parts(name).any(is_dot_gitmodules) {
            match (link, id()) {
                (true, _) => report(Message::GitmodulesSymlink),
                (false, Some(id)) => special(Special::Modules, id),
                (false, None) => {}
            }
        }
        if is_dot_gitattributes(name) {
            match (link, id()) {
                (true, _) => report(Message::GitattributesSymlink),
                (false, Some(id)) => special(Special::Attributes, id),
                (false, None) => {}
            }
        }
        if link && is_dot_gitignore(name) {
            report(Message::GitignoreSymlink);
        }
        if link && is_dot_mailmap(name) {
            report(Message::MailmapSymlink);
        }
    }
}

/// Returns true if a name may be special, as a quick pre-check: special names start with a dot, the first letter of a
/// short name or a code point that HFS+ ignores, or contain a backslash.
fn looks_special(name: &BStr) -> bool {
    let first = name.first().copied().unwrap_or_default();
    matches!(first, b'.' | b'~' | b'g' | b'G' | b'm' | b'M' | 0x80..) || name.contains(&b'\\')
}

/// Returns the rest of a name after each backslash: Windows treats the name as a path.
fn parts(name: &BStr) -> impl Iterator<Item = &BStr> {
    name.find_iter("\\").map(move |at| name[at + 1..].as_bstr())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sorting {
    Fine,
    Wrong,
    Duplicate,
}

/// Checks the order of entries: by bytes, directories as if their names ended in a slash (`verify_ordered` in Git).
#[derive(Default)]
struct Order<'a> {
    last: Option<(&'a BStr, bool)>,
    /// Files after which a directory of the same name may still occur, with other names in between.
    candidates: Vec<&'a BStr>,
}

impl<'a> Order<'a> {
    fn follow(&mut self, entry: &Entry<'a>) -> Sorting {
        let name = entry.name;
        let directory = entry.mode & TYPE_MASK == DIRECTORY;
        let Some((last, last_directory)) = self.last.replace((name, directory)) else { return Sorting::Fine };
        let common = last.iter().zip(name.iter()).take_while(|(a, b)| a == b).count();
        let after = |name: &BStr, directory: bool| match name.get(common) {
            Some(byte) => *byte,
            None if directory => b'/',
            None => 0,
        };
        if last.len() == common && name.len() == common {
            return Sorting::Duplicate;
        }
        let first = after(last, last_directory);
        let second = after(name, directory);
        let below_slash = |byte: u8| byte != 0 && byte < b'/';
        if first == 0 && below_slash(second) {
            self.candidates.push(last);
        } else if second == b'/' && below_slash(first) {
            while let Some(file) = self.candidates.pop() {
                match name.strip_prefix(file.as_bytes()) {
                    Some([]) => return Sorting::Duplicate,
                    Some([byte, ..]) if below_slash(*byte) => {
                        self.candidates.push(file);
                        break;
                    }
                    _ => {}
                }
            }
        }
        if first < second { Sorting::Fine } else { Sorting::Wrong }
    }
}
