//! Entries of trees: modes, parsing, order, bytes. Modes are canonical, as Git reads them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::hash::{Kind as Format, oid};

use crate::error::ContentError;
use crate::source::Data;

/// Mode of an entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// File that is not executable.
    File,
    /// Executable file.
    Executable,
    /// Symbolic link.
    Symlink,
    /// Commit of another repository.
    Submodule,
    /// Folder.
    Folder,
}

impl Mode {
    /// Reads a mode as Git does: all but the type, and the owner's bit of execution, is ignored.
    fn of_bits(bits: u32) -> Mode {
        match bits & 0o170_000 {
            0o100_000 if bits & 0o100 != 0 => Mode::Executable,
            0o100_000 => Mode::File,
            0o120_000 => Mode::Symlink,
            0o040_000 => Mode::Folder,
            _ => Mode::Submodule,
        }
    }

    /// Returns the mode as six octal digits, as Git prints it.
    pub fn octal(self) -> &'static str {
        match self {
            Mode::File => "100644",
            Mode::Executable => "100755",
            Mode::Symlink => "120000",
            Mode::Submodule => "160000",
            Mode::Folder => "040000",
        }
    }

    /// Returns true for files, executable or not.
    pub fn is_file(self) -> bool {
        matches!(self, Mode::File | Mode::Executable)
    }

    /// Returns true for modes of blobs.
    pub fn is_blob(self) -> bool {
        self.is_file() || self == Mode::Symlink
    }

    /// Returns true if both are of one type: files are, executable or not.
    pub(crate) fn same_type(self, other: Mode) -> bool {
        self == other || self.is_file() && other.is_file()
    }
}

/// Object at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Mode.
    pub mode: Mode,
    /// Id of the blob, the tree, or the submodule's commit.
    pub id: ObjectId,
}

impl Entry {
    /// Id of the tree if the entry is a folder.
    pub(crate) fn folder(&self) -> Option<ObjectId> {
        (self.mode == Mode::Folder).then_some(self.id)
    }
}

/// Entries of a folder by name.
pub(crate) type Entries = BTreeMap<BString, Entry>;

/// Position of an entry in the bytes of a tree.
#[derive(Clone, Debug)]
struct Slot {
    mode: Mode,
    name: Range<usize>,
    end: usize,
}

/// Cursor over the entries of a tree, in the order of its bytes.
#[derive(Debug)]
pub(crate) struct Cursor {
    tree: ObjectId,
    data: Data,
    here: Option<Slot>,
}

impl Cursor {
    pub(crate) fn new(tree: ObjectId, data: Data) -> Result<Cursor, ContentError> {
        let here = slot_at(&data, 0, tree.kind()).map_err(|reason| malformed(tree, reason))?;
        Ok(Cursor { tree, data, here })
    }

    /// Name and mode of the entry at the cursor; `None` at the end.
    pub(crate) fn name(&self) -> Option<(&[u8], Mode)> {
        self.here.as_ref().map(|slot| (&self.data[slot.name.clone()], slot.mode))
    }

    /// Entry at the cursor; `None` at the end.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let slot = self.here.as_ref()?;
        let id = oid::try_from_bytes(&self.data[slot.name.end + 1..slot.end]).ok()?;
        Some(Entry { mode: slot.mode, id: id.to_owned() })
    }

    /// Returns true if the entries at both cursors have the same mode and id.
    pub(crate) fn is_same(&self, other: &Cursor) -> bool {
        match (&self.here, &other.here) {
            (Some(one), Some(two)) => {
                one.mode == two.mode && self.data[one.name.end..one.end] == other.data[two.name.end..two.end]
            }
            _ => false,
        }
    }

    pub(crate) fn advance(&mut self) -> Result<(), ContentError> {
        if let Some(slot) = &self.here {
            self.here =
                slot_at(&self.data, slot.end, self.tree.kind()).map_err(|reason| malformed(self.tree, reason))?;
        }
        Ok(())
    }
}

fn malformed(id: ObjectId, reason: &'static str) -> ContentError {
    ContentError::Malformed { id, kind: gix::objs::Kind::Tree, reason }
}

/// Parses the entry `<octal mode> SP <name> NUL <raw id>` that begins at an offset; `None` at the end.
fn slot_at(data: &[u8], start: usize, format: Format) -> Result<Option<Slot>, &'static str> {
    let rest = &data[start..];
    if rest.is_empty() {
        return Ok(None);
    }
    let mut bits = 0u32;
    let mut digits = 0;
    for byte in rest {
        match byte {
            b'0'..=b'7' => bits = (bits << 3) | u32::from(byte - b'0'),
            b' ' if digits > 0 => break,
            _ => return Err("an entry has a malformed mode"),
        }
        digits += 1;
    }
    let name = start + digits + 1;
    let length = data.get(name..).and_then(|rest| rest.find_byte(0)).ok_or("the name of an entry does not end")?;
    if length == 0 {
        return Err("an entry has no name");
    }
    let end = name + length + 1 + format.len_in_bytes();
    if end > data.len() {
        return Err("the last entry is cut off");
    }
    Ok(Some(Slot { mode: Mode::of_bits(bits), name: name..name + length, end }))
}

/// Reads all entries of a tree. A name that occurs twice is an error: such a tree has no one meaning.
pub(crate) fn parse(id: ObjectId, data: Data) -> Result<Entries, ContentError> {
    let mut entries = Entries::new();
    let mut cursor = Cursor::new(id, data)?;
    while let (Some((name, _)), Some(entry)) = (cursor.name(), cursor.entry()) {
        if entries.insert(name.into(), entry).is_some() {
            return Err(malformed(id, "a name occurs twice"));
        }
        cursor.advance()?;
    }
    Ok(entries)
}

/// Finds an entry of a tree by name.
pub(crate) fn find(id: ObjectId, data: Data, name: &[u8]) -> Result<Option<Entry>, ContentError> {
    let mut cursor = Cursor::new(id, data)?;
    while let Some((here, _)) = cursor.name() {
        if here == name {
            return Ok(cursor.entry());
        }
        cursor.advance()?;
    }
    Ok(None)
}

/// Order of entries in a tree: a folder's name counts as if a slash followed.
pub(crate) fn order(one: (&[u8], Mode), two: (&[u8], Mode)) -> Ordering {
    let common = one.0.len().min(two.0.len());
    let next = |(name, mode): (&[u8], Mode)| match name.get(common) {
        Some(byte) => *byte,
        None if mode == Mode::Folder => b'/',
        None => 0,
    };
    one.0[..common].cmp(&two.0[..common]).then_with(|| next(one).cmp(&next(two)))
}

/// Returns the bytes of the tree with these entries.
pub(crate) fn bytes(entries: &Entries) -> Vec<u8> {
    let mut sorted: Vec<(&BString, &Entry)> = entries.iter().collect();
    sorted.sort_by(|one, two| order((one.0.as_slice(), one.1.mode), (two.0.as_slice(), two.1.mode)));
    let mut bytes = Vec::new();
    for (name, entry) in sorted {
        bytes.extend_from_slice(entry.mode.octal().trim_start_matches('0').as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(entry.id.as_bytes());
    }
    bytes
}
