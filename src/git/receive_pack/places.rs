//! Finds the paths of objects in a push, for messages that refuse the push.
//!
//! Reads only objects of the push, so the answer reveals nothing about held ones.

use std::collections::{HashMap, HashSet};
use std::fmt;

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;

use crate::links::{EntryKind, TreeEntries, for_each_link};
use crate::pack::{Finder, Object, PackError, PackSet};

/// Most bytes shown of each end of a path.
const SHOWN_PATH_BYTES: usize = 100;
/// Most bytes of memory for visited directories. Objects in further ones are not found.
const MAX_DIRECTORY_BYTES: usize = 8 << 20;

/// First occurrence of an object: a path in the tree of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceInPush {
    commit: ObjectId,
    path: BString,
}

impl fmt::Display for PlaceInPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        if path.is_empty() {
            write!(f, "the top directory")?;
        } else if path.len() <= 2 * SHOWN_PATH_BYTES {
            write!(f, "`{path}`")?;
        } else {
            let front = &path[..SHOWN_PATH_BYTES];
            let end = &path[path.len() - SHOWN_PATH_BYTES..];
            write!(f, "`{}…{}`, a path of {} bytes,", front.as_bstr(), end.as_bstr(), path.len())?;
        }
        write!(f, " in commit {}", self.commit)
    }
}

/// Returns the places of `wanted` objects in the trees of commits in `new` that `tips` reach. Reads each new commit and
/// tree at most once. Stops when all objects are found; objects past [`MAX_DIRECTORY_BYTES`] are omitted.
pub fn places_of(
    wanted: HashSet<ObjectId>,
    new: &PackSet,
    tips: impl IntoIterator<Item = ObjectId>,
) -> Result<HashMap<ObjectId, PlaceInPush>, PackError> {
    let finder = new.finder().map_err(|fault| new.blame(0, fault))?;
    let directories = Directories::default();
    let mut search = Search { new, finder, wanted, found: HashMap::new(), seen: HashSet::new(), directories };
    let mut rest: Vec<ObjectId> = tips.into_iter().collect();
    while let Some(id) = rest.pop().filter(|_| !search.wanted.is_empty()) {
        let Some(Object { kind: kind @ (Kind::Commit | Kind::Tag), data }) = search.read(&id)? else { continue };
        let mut tree = None;
        // A malformed object keeps the links before the defect.
        let _ = for_each_link(kind, &data, new.format(), |link, kind| match kind {
            Kind::Tree => tree = Some(link.to_owned()),
            _ => rest.push(link.to_owned()),
        });
        if let (Kind::Commit, Some(tree)) = (kind, tree) {
            search.tree(id, tree)?;
        }
    }
    Ok(search.found)
}

struct Search<'a> {
    new: &'a PackSet,
    finder: Finder<'a>,
    wanted: HashSet<ObjectId>,
    found: HashMap<ObjectId, PlaceInPush>,
    seen: HashSet<ObjectId>,
    directories: Directories,
}

/// Visited directories, each with the index of its parent and its name.
#[derive(Default)]
struct Directories {
    all: Vec<(Option<usize>, BString)>,
    bytes: usize,
}

impl Directories {
    /// Adds a directory and returns its index; `None` past [`MAX_DIRECTORY_BYTES`].
    fn add(&mut self, within: Option<usize>, name: &[u8]) -> Option<usize> {
        self.bytes += name.len() + std::mem::size_of::<(Option<usize>, BString)>();
        if self.bytes > MAX_DIRECTORY_BYTES {
            return None;
        }
        self.all.push((within, name.into()));
        Some(self.all.len() - 1)
    }

    fn path(&self, within: Option<usize>, name: &[u8]) -> BString {
        let mut parts = vec![name];
        let mut at = within;
        while let Some((above, name)) = at.and_then(|at| self.all.get(at)) {
            parts.push(name);
            at = *above;
        }
        parts.reverse();
        parts.join(&b'/').into()
    }
}

impl Search<'_> {
    /// Reads an object; `None` for blobs, objects outside the push and objects that were read before.
    fn read(&mut self, id: &ObjectId) -> Result<Option<Object>, PackError> {
        let Some(location) = self.new.locate(id).filter(|_| !self.seen.contains(id)) else { return Ok(None) };
        if self.finder.kind(location)? == Kind::Blob {
            return Ok(None);
        }
        self.seen.insert(*id);
        self.finder.read(location).map(Some)
    }

    fn tree(&mut self, commit: ObjectId, root: ObjectId) -> Result<(), PackError> {
        self.record(commit, &root, None, b"");
        let mut rest = vec![(root, None)];
        while let Some((id, within)) = rest.pop().filter(|_| !self.wanted.is_empty()) {
            let Some(Object { kind: Kind::Tree, data }) = self.read(&id)? else { continue };
            let mut entries = TreeEntries::new(&data, self.new.format());
            while let Ok(Some(entry)) = entries.read() {
                self.record(commit, &entry.id.to_owned(), within, entry.name);
                if entry.kind == EntryKind::Tree
                    && let Some(directory) = self.directories.add(within, entry.name)
                {
                    rest.push((entry.id.to_owned(), Some(directory)));
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, commit: ObjectId, id: &ObjectId, within: Option<usize>, name: &[u8]) {
        if self.wanted.remove(id) {
            self.found.insert(*id, PlaceInPush { commit, path: self.directories.path(within, name) });
        }
    }
}
