//! [`TreeWalk`]: marks trees and blobs as held or to be sent, subject to filters.

use std::rc::Rc;

use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::slots::SlotSet;
use super::sparse::{ROOT, Sparse};
use crate::limits::MAX_TREE_DEPTH;
use crate::links::{EntryKind, TreeEntries, TreeEntry};
use crate::pack::{self, Object};
use crate::protocol::{Filter, Kinds};

/// Depth of a tree that has not been visited.
const NEVER: u16 = u16::MAX;

/// Raw entries of a tree.
type Content = Rc<pack::Content>;

/// Mark that a walk puts on objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The client has the object.
    Held,
    /// Send the object unless the client has it.
    Send,
}

/// Callback for every object newly marked to be sent. Returns false to end the walk.
pub(crate) type Visit<'v> = dyn FnMut(u64) -> Result<bool, ServeError> + 'v;

/// Marks trees and blobs. Reads every tree about once.
///
/// Compares each tree with the last walked version of the same directory and skips equal entries without a lookup:
/// successive versions of a directory share nearly all entries.
pub(crate) struct TreeWalk {
    blob_limit: Option<u64>,
    tree_depth: Option<u32>,
    kinds: Kinds,
    sparse: Sparse,
    /// Objects that the client has.
    pub(crate) held: SlotSet,
    /// Objects to send.
    pub(crate) send: SlotSet,
    /// Blobs found to reach `blob_limit`.
    oversized: SlotSet,
    /// Objects in `send` whose kind is filtered out: walked but not sent.
    unsent: SlotSet,
    /// Smallest depth at which each tree was visited, by slot. Empty unless the filter limits the depth.
    depths: Vec<u16>,
    /// Root tree walked last.
    last_root: Option<Content>,
}

/// Tree in a walk, at one of its paths.
struct Place {
    slot: u64,
    /// Depth of the tree; while entries are walked, that of the entries.
    depth: u32,
    /// Number of the directory in `sparse`; [`ROOT`] if the walk does not track paths.
    directory: u32,
    mark: Mark,
    /// Content of a similar tree that has been walked: entries equal to its own are skipped.
    reference: Option<Content>,
}

impl TreeWalk {
    /// Creates a walk that applies a filter; `sparse` holds the pattern lists of the filter.
    pub(crate) fn new(graph: &Graph<'_>, filter: &Filter, sparse: Sparse) -> Self {
        let Filter { blob_limit, kinds, .. } = *filter;
        // A filter that omits all trees and blobs needs no tree walk.
        let commits_only = !kinds.contains(Kind::Tree) && !kinds.contains(Kind::Blob);
        let tree_depth = if commits_only { Some(0) } else { filter.tree_depth };
        let trees = if tree_depth.is_some_and(|depth| depth > 1) { graph.packs().slots() } else { 0 };
        let some_slots = |needed| if needed { graph.empty_set() } else { SlotSet::new(0) };
        TreeWalk {
            blob_limit,
            tree_depth,
            kinds,
            sparse,
            held: graph.empty_set(),
            send: graph.empty_set(),
            oversized: some_slots(blob_limit.is_some_and(|limit| limit > 0)),
            unsent: some_slots(kinds != Kinds::ALL),
            depths: vec![NEVER; usize::try_from(trees).unwrap_or(usize::MAX)],
            last_root: None,
        }
    }

    /// Ends the walk. Returns the objects to send and the held objects.
    pub(crate) fn finish(mut self) -> (SlotSet, SlotSet) {
        for slot in self.unsent.iter() {
            self.send.remove(slot);
        }
        (self.send, self.held)
    }

    /// Marks a commit or tag to be sent. The filter applies only to those that are not wanted themselves.
    pub(crate) fn commit_or_tag(
        &mut self,
        (slot, kind): (u64, Kind),
        wanted: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), ServeError> {
        if (wanted || self.kinds.contains(kind)) && self.send.insert(slot) {
            visit(slot)?;
        }
        Ok(())
    }

    /// Calls `visit` for an object new in `send` unless the filter omits its kind. Returns false to end the walk.
    fn report(&mut self, slot: u64, kind: Kind, visit: &mut Visit<'_>) -> Result<bool, ServeError> {
        if self.kinds.contains(kind) {
            return visit(slot);
        }
        self.unsent.insert(slot);
        Ok(true)
    }

    /// Walks the root tree of a commit. Returns false if `visit` ended the walk.
    pub(crate) fn root(
        &mut self,
        graph: &mut Graph<'_>,
        tree: &oid,
        commit: u64,
        mark: Mark,
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        let reference = self.last_root.take();
        let slot = graph.require(tree, || Some(graph.id(commit)))?;
        let place = Place { slot, depth: 0, directory: ROOT, mark, reference: reference.clone() };
        let (go_on, data) = self.tree(graph, place, visit)?;
        self.last_root = data.or(reference);
        Ok(go_on)
    }

    /// Walks a directly wanted object: filters apply to the contents of a tree but not to the object itself.
    pub(crate) fn object(
        &mut self,
        graph: &mut Graph<'_>,
        slot: u64,
        mark: Mark,
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        self.held.remove(slot);
        self.unsent.remove(slot);
        if self.send.insert(slot) && !visit(slot)? {
            return Ok(false);
        }
        if graph.kind(slot)? != Kind::Tree {
            return Ok(true);
        }
        let Object { data, .. } = graph.read(slot)?;
        let place = Place { slot, depth: 0, directory: ROOT, mark, reference: None };
        self.entries(graph, &place, &data, visit)
    }

    /// Walks a tree or blob that a tag names: filters apply as to the root tree of a commit.
    pub(crate) fn tagged(
        &mut self,
        graph: &mut Graph<'_>,
        slot: u64,
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        let place = Place { slot, depth: 0, directory: ROOT, mark: Mark::Send, reference: None };
        match graph.kind(slot)? {
            Kind::Tree => self.tree(graph, place, visit).map(|(go_on, _)| go_on),
            _ => self.blob(graph, (slot, b""), &place, visit),
        }
    }

    /// Marks a tree and its contents. Returns whether to go on, and the content of the tree if it was read.
    fn tree(
        &mut self,
        graph: &mut Graph<'_>,
        place: Place,
        visit: &mut Visit<'_>,
    ) -> Result<(bool, Option<Content>), ServeError> {
        let Place { slot, depth, directory, mark, .. } = place;
        let limit = self.tree_depth.filter(|_| mark == Mark::Send).unwrap_or(u32::MAX);
        if depth >= limit {
            return Ok((true, None));
        }
        let (new, again) = self.mark(slot, mark, (depth, directory))?;
        if new && mark == Mark::Send && !self.report(slot, Kind::Tree, visit)? {
            return Ok((false, None));
        }
        if !(new || again) || depth + 1 >= limit {
            return Ok((true, None));
        }
        let unreadable = |graph: &Graph<'_>, reason| ServeError::Unreadable { id: graph.id(slot), reason };
        if depth > MAX_TREE_DEPTH {
            return Err(unreadable(graph, "its directory is more than 2048 levels deep"));
        }
        graph.check_cancelled()?;
        let Object { kind, data } = graph.read(slot)?;
        if kind != Kind::Tree {
            return Err(unreadable(graph, "a tree or commit refers to it as a tree, but it is none"));
        }
        let go_on = self.entries(graph, &Place { depth: depth + 1, ..place }, &data, visit)?;
        Ok((go_on, Some(data)))
    }

    /// Marks a tree. Returns two flags: the mark is new; a known tree must be walked again, at a smaller depth or at
    /// another path.
    fn mark(&mut self, slot: u64, mark: Mark, (depth, directory): (u32, u32)) -> Result<(bool, bool), ServeError> {
        if mark == Mark::Held {
            return Ok((self.held.insert(slot), false));
        }
        if self.held.contains(slot) {
            return Ok((false, false));
        }
        let depth = u16::try_from(depth).unwrap_or(NEVER);
        let again = self.depths.get_mut(slot as usize).is_some_and(|least| {
            let smaller = depth < *least;
            *least = depth.min(*least);
            smaller
        });
        let again = again || self.sparse.is_active() && self.sparse.visit(slot, directory)?;
        Ok((self.send.insert(slot), again))
    }

    fn entries(
        &mut self,
        graph: &mut Graph<'_>,
        place: &Place,
        data: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        let format = graph.packs().format();
        let reference = place.reference.as_deref().map_or(&[][..], |content| content);
        let mut walked = TreeEntries::new(reference, format);
        let mut entries = TreeEntries::new(data, format);
        let unreadable = |graph: &Graph<'_>, reason| ServeError::Unreadable { id: graph.id(place.slot), reason };
        while let Some(entry) = entries.read().map_err(|reason| unreadable(graph, reason))? {
            let counterpart = Counterpart::find(&mut walked, &entry);
            if matches!(counterpart, Counterpart::Identical) {
                continue;
            }
            let go_on = match entry.kind {
                EntryKind::Submodule => true,
                EntryKind::Blob => {
                    let slot = graph.require(entry.id, || Some(graph.id(place.slot)))?;
                    self.blob(graph, (slot, entry.name), place, visit)?
                }
                EntryKind::Tree => {
                    let slot = graph.require(entry.id, || Some(graph.id(place.slot)))?;
                    let reference = match counterpart {
                        Counterpart::Directory(id) if !self.is_marked(slot, place.mark) => read_tree(graph, id)?,
                        _ => None,
                    };
                    let directory = match place.mark {
                        Mark::Send => self.sparse.enter(place.directory, entry.name)?,
                        Mark::Held => ROOT,
                    };
                    let below = Place { slot, depth: place.depth, directory, mark: place.mark, reference };
                    self.tree(graph, below, visit)?.0
                }
            };
            if !go_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns true if marking the tree would certainly change nothing.
    fn is_marked(&self, slot: u64, mark: Mark) -> bool {
        let once = self.depths.is_empty() && !self.sparse.is_active();
        self.held.contains(slot) || mark == Mark::Send && once && self.send.contains(slot)
    }

    fn blob(
        &mut self,
        graph: &mut Graph<'_>,
        (slot, name): (u64, &[u8]),
        place: &Place,
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        if place.mark == Mark::Held {
            self.held.insert(slot);
            return Ok(true);
        }
        if self.held.contains(slot) || self.send.contains(slot) || self.is_filtered_out(graph, slot, place.depth)? {
            return Ok(true);
        }
        if self.sparse.is_active() && !self.sparse.includes(place.directory, name) {
            return Ok(true);
        }
        self.send.insert(slot);
        self.report(slot, Kind::Blob, visit)
    }

    /// Returns true if the depth or the size of a blob reaches the limit of the filter.
    fn is_filtered_out(&mut self, graph: &mut Graph<'_>, slot: u64, depth: u32) -> Result<bool, ServeError> {
        if self.tree_depth.is_some_and(|limit| depth >= limit) || self.oversized.contains(slot) {
            return Ok(true);
        }
        match self.blob_limit {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(limit) => {
                let location = graph.location(slot);
                let too_large = graph.finder().size(location)? >= limit;
                if too_large {
                    self.oversized.insert(slot);
                }
                Ok(too_large)
            }
        }
    }
}

/// Counterpart of an entry in the reference tree.
enum Counterpart<'r> {
    /// Identical entry.
    Identical,
    /// Another directory of the same name.
    Directory(&'r oid),
    None,
}

impl<'r> Counterpart<'r> {
    /// Advances `walked` to the name of the entry. Unsorted trees yield fewer matches.
    #[inline]
    fn find(walked: &mut TreeEntries<'r>, entry: &TreeEntry<'_>) -> Counterpart<'r> {
        loop {
            if walked.rest().starts_with(entry.raw) {
                walked.skip(entry.raw.len());
                return Counterpart::Identical;
            }
            let mut next = *walked;
            let Ok(Some(other)) = next.read() else { return Counterpart::None };
            if other.name == entry.name {
                *walked = next;
                let directories = other.kind == EntryKind::Tree && entry.kind == EntryKind::Tree;
                return if directories { Counterpart::Directory(other.id) } else { Counterpart::None };
            }
            if sorts_before(entry, &other) {
                return Counterpart::None;
            }
            *walked = next;
        }
    }
}

/// Returns true if one entry sorts before another: directories sort as if their names ended in a slash.
fn sorts_before(one: &TreeEntry<'_>, other: &TreeEntry<'_>) -> bool {
    let end = |entry: &TreeEntry<'_>| (entry.kind == EntryKind::Tree).then_some(b'/');
    one.name.bytes().chain(end(one)).lt(other.name.bytes().chain(end(other)))
}

fn read_tree(graph: &mut Graph<'_>, id: &oid) -> Result<Option<Content>, ServeError> {
    let Some(slot) = graph.slot(id) else { return Ok(None) };
    let Object { kind, data } = graph.read(slot)?;
    Ok((kind == Kind::Tree).then_some(data))
}
