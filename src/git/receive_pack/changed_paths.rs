//! Paths that an update of a ref changes, for access policies that depend on them.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::hash::oid;
use gix::objs::Kind;

use super::ancestry::{Commit, Objects, Queue};
use super::depth::{Peeled, peel};
use crate::links::{EntryKind, TreeEntries};
use crate::pack::{Object, PackError, PackSet};

/// Most bytes of all changed paths of one update, and of the directories above them.
const MAX_CHANGED_PATH_BYTES: usize = 4 << 20;
/// Most pairs of trees that are compared for one update.
const MAX_COMPARED_TREES: usize = 200_000;
/// Most commits that are walked on each side to find a common ancestor.
const MAX_BASE_COMMITS: usize = 100_000;

/// Paths that an update of a ref changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedPaths {
    /// Full paths of all changed files and submodules, each once.
    Known(BTreeSet<BString>),
    /// More files and directories above them than the limit, or too many trees or commits to compare.
    TooMany,
    /// An object that the comparison needs is missing.
    Missing(ObjectId),
}

/// An update of a ref whose objects have arrived and are connected.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// Value before; `None` if the ref is created.
    pub old: Option<&'a oid>,
    /// Value after.
    pub new: &'a oid,
    /// Tip of the default branch, to whose common ancestor a created ref is compared; `None` if there is none.
    pub default_branch: Option<&'a oid>,
    /// Objects that the push brought.
    pub arrived: &'a PackSet,
    /// Objects that the repository held before.
    pub held: &'a PackSet,
}

/// Returns the paths of files that an update changes:
///
/// - all that differ between the trees of the old and the new value (of a created ref: between the newest common
///   ancestor with the default branch that a walk by date finds, and the new value), and
/// - all that a commit of the push changes, even if a later one reverts it: the paths in which the commit differs from
///   every parent (`git log -c --name-only`).
///
/// Tags are peeled. Objects that contain no files, such as a tag of a blob, change no path.
///
/// `limit` counts the files and the directories above them, each once: the values that a policy would see.
///
/// # Errors
/// A pack cannot be read.
pub fn changed_paths(update: Update<'_>, limit: usize) -> Result<ChangedPaths, PackError> {
    let Update { new, arrived, held, .. } = update;
    let format = new.kind();
    let mut comparison = Comparison {
        objects: Objects::new([arrived, held])?,
        format,
        paths: BTreeSet::new(),
        directories: HashSet::new(),
        limit,
        bytes: 0,
        trees_left: MAX_COMPARED_TREES,
    };
    let compared = comparison.update(update).and_then(|()| comparison.new_commits(new, arrived));
    match compared {
        Ok(()) => Ok(ChangedPaths::Known(comparison.paths)),
        Err(Stop::TooMany) => Ok(ChangedPaths::TooMany),
        Err(Stop::Missing(id)) => Ok(ChangedPaths::Missing(id)),
        Err(Stop::Pack(error)) => Err(error),
    }
}

/// End of a comparison without a result.
enum Stop {
    TooMany,
    Missing(ObjectId),
    Pack(PackError),
}

impl From<PackError> for Stop {
    fn from(error: PackError) -> Self {
        Stop::Pack(error)
    }
}

struct Comparison<'a> {
    /// Arrived objects, then held ones.
    objects: Objects<'a>,
    format: gix::hash::Kind,
    paths: BTreeSet<BString>,
    /// Directories above the paths.
    directories: HashSet<BString>,
    /// Most paths and directories together.
    limit: usize,
    bytes: usize,
    trees_left: usize,
}

/// One directory in several trees; `None` where the directory is absent.
struct Place {
    path: BString,
    now: Option<ObjectId>,
    before: Vec<Option<ObjectId>>,
}

/// Entries of a tree by name.
type Entries = BTreeMap<BString, Entry>;

#[derive(PartialEq, Eq)]
struct Entry {
    kind: EntryKind,
    id: ObjectId,
    /// Mode, name and object.
    raw: Vec<u8>,
}

impl Entry {
    fn directory(&self) -> Option<ObjectId> {
        (self.kind == EntryKind::Tree).then_some(self.id)
    }
}

impl Comparison<'_> {
    /// Compares the new value of a ref with the old one, or with the base of a created ref.
    fn update(&mut self, update: Update<'_>) -> Result<(), Stop> {
        let base = match (update.old, update.default_branch) {
            (Some(old), _) => Some(old.to_owned()),
            (None, Some(branch)) => self.common_ancestor(update.new, branch)?,
            (None, None) => None,
        };
        let before = match base {
            Some(base) => self.tree_of(&base)?,
            None => None,
        };
        let now = self.tree_of(update.new)?;
        self.compare(now, vec![before])
    }

    /// Compares the commits that the push brought with their parents.
    fn new_commits(&mut self, tip: &oid, arrived: &PackSet) -> Result<(), Stop> {
        let mut seen: HashSet<ObjectId> = HashSet::new();
        let mut rest: Vec<ObjectId> = match peel(&mut self.objects, self.format, &tip.to_owned())? {
            Peeled::Commit(id) => vec![id],
            Peeled::Tree(_) | Peeled::Other | Peeled::TooDeep => Vec::new(),
        };
        while let Some(id) = rest.pop() {
            if !arrived.contains(&id) || !seen.insert(id) {
                continue;
            }
            let commit = self.commit(&id)?;
            let mut before = Vec::with_capacity(commit.parents.len().max(1));
            for parent in &commit.parents {
                before.push(self.commit(parent)?.tree);
            }
            if before.is_empty() {
                before.push(None);
            }
            self.compare(commit.tree, before)?;
            rest.extend(commit.parents);
        }
        Ok(())
    }

    /// A common ancestor of two tips, walking both histories newest first in turn; `None` without one.
    fn common_ancestor(&mut self, one: &oid, other: &oid) -> Result<Option<ObjectId>, Stop> {
        let mut sides = [Queue::default(), Queue::default()];
        sides[0].push(one, &mut self.objects)?;
        sides[1].push(other, &mut self.objects)?;
        for _ in 0..MAX_BASE_COMMITS {
            let mut ended = 0;
            for side in 0..2 {
                match sides[side].pop(&mut self.objects)? {
                    Some((id, _)) if sides[1 - side].has_seen(&id) => return Ok(Some(id)),
                    Some(_) => {}
                    None => ended += 1,
                }
            }
            if ended == 2 {
                return Ok(None);
            }
        }
        Err(Stop::TooMany)
    }

    fn commit(&mut self, id: &oid) -> Result<Commit, Stop> {
        match self.objects.read(id)? {
            Some(Object { kind: Kind::Commit, data }) => Ok(Commit::parse(&data, self.format)),
            _ => Err(Stop::Missing(id.to_owned())),
        }
    }

    /// The tree of a commit, tag or tree; `None` for objects without one.
    fn tree_of(&mut self, id: &oid) -> Result<Option<ObjectId>, Stop> {
        match peel(&mut self.objects, self.format, &id.to_owned())? {
            Peeled::Commit(id) => Ok(self.commit(&id)?.tree),
            Peeled::Tree(id) => Ok(Some(id)),
            Peeled::Other | Peeled::TooDeep => Ok(None),
        }
    }

    /// Adds the paths in which `now` differs from every tree in `before`.
    fn compare(&mut self, now: Option<ObjectId>, before: Vec<Option<ObjectId>>) -> Result<(), Stop> {
        let mut rest = vec![Place { path: BString::default(), now, before }];
        while let Some(place) = rest.pop() {
            if place.before.contains(&place.now) {
                continue;
            }
            let now = self.entries(place.now)?;
            let before = place.before.iter().map(|tree| self.entries(*tree)).collect::<Result<Vec<_>, _>>()?;
            let names: BTreeSet<&BString> = now.keys().chain(before.iter().flat_map(BTreeMap::keys)).collect();
            for name in names {
                let now = now.get(name);
                let before: Vec<Option<&Entry>> = before.iter().map(|entries| entries.get(name)).collect();
                if before.contains(&now) {
                    continue;
                }
                let path = join(&place.path, name);
                let is_file = |entry: &Option<&Entry>| entry.is_some_and(|entry| entry.kind != EntryKind::Tree);
                if is_file(&now) || before.iter().all(is_file) {
                    self.add(path.clone())?;
                }
                let directories: Vec<_> = before.iter().map(|entry| entry.and_then(Entry::directory)).collect();
                rest.push(Place { path, now: now.and_then(Entry::directory), before: directories });
                if rest.len() > self.trees_left {
                    return Err(Stop::TooMany);
                }
            }
        }
        Ok(())
    }

    fn entries(&mut self, tree: Option<ObjectId>) -> Result<Entries, Stop> {
        let Some(id) = tree else { return Ok(Entries::new()) };
        if id == ObjectId::empty_tree(self.format) {
            return Ok(Entries::new());
        }
        self.trees_left = self.trees_left.checked_sub(1).ok_or(Stop::TooMany)?;
        let Some(Object { kind: Kind::Tree, data }) = self.objects.read(&id)? else { return Err(Stop::Missing(id)) };
        let mut entries = Entries::new();
        let mut rest = TreeEntries::new(&data, self.format);
        // A malformed tree keeps the entries before the defect, as its links do.
        while let Ok(Some(entry)) = rest.read() {
            let value = Entry { kind: entry.kind, id: entry.id.to_owned(), raw: entry.raw.to_vec() };
            entries.insert(entry.name.into(), value);
        }
        Ok(entries)
    }

    fn add(&mut self, path: BString) -> Result<(), Stop> {
        for at in path.find_iter(b"/") {
            let directory = &path[..at];
            if !self.directories.contains(directory.as_bstr()) {
                self.bytes += directory.len();
                self.directories.insert(directory.into());
            }
        }
        let bytes = path.len();
        if self.paths.insert(path) {
            self.bytes += bytes;
        }
        if self.paths.len() + self.directories.len() > self.limit || self.bytes > MAX_CHANGED_PATH_BYTES {
            return Err(Stop::TooMany);
        }
        Ok(())
    }
}

fn join(directory: &BString, name: &BString) -> BString {
    if directory.is_empty() { name.clone() } else { [directory.as_bytes(), b"/", name.as_bytes()].concat().into() }
}
