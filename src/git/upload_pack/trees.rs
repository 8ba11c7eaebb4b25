//! Walks over trees and what is in them.

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

/// Depth of a tree that has not been met.
const NEVER: u16 = u16::MAX;

/// What a tree consists of.
type Content = Rc<pack::Content>;

/// What objects are marked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The client has it.
    Held,
    /// It is to be sent, unless the client has it.
    Send,
}

/// Called with every object that is newly marked to be sent; says whether to go on.
pub(crate) type Visit<'v> = dyn FnMut(u64) -> Result<bool, ServeError> + 'v;

/// Marks trees and blobs. Every tree is read about once.
///
/// A tree is compared with the one at the same path that was walked before: entries that are the same in both
/// need not be looked up, and among successive versions of a directory nearly all are.
pub(crate) struct TreeWalk {
    blob_limit: Option<u64>,
    tree_depth: Option<u32>,
    kinds: Kinds,
    sparse: Sparse,
    /// What the client has.
    pub(crate) held: SlotSet,
    /// What is to be sent.
    pub(crate) send: SlotSet,
    /// Blobs that turned out too large.
    left_out: SlotSet,
    /// Objects in `send` that are of a kind that is left out: they are walked but not sent.
    muted: SlotSet,
    /// The least depth that each tree was met at, where that makes a difference.
    depths: Vec<u16>,
    /// The root tree that was walked last.
    last_root: Option<Content>,
}

/// A tree that is being read, at a place.
struct Place {
    slot: u64,
    /// Of its entries.
    depth: u32,
    /// The directory that it is, where paths matter.
    directory: u32,
    mark: Mark,
    /// The content of a tree that has been walked, best one that is much like it.
    reference: Option<Content>,
}

impl TreeWalk {
    /// A walk that leaves out what a filter does; `sparse` has its lists of patterns.
    pub(crate) fn new(graph: &Graph<'_>, filter: &Filter, sparse: Sparse) -> Self {
        let Filter { blob_limit, kinds, .. } = *filter;
        // Where neither trees nor blobs are sent, trees need not be read.
        let commits_only = !kinds.contains(Kind::Tree) && !kinds.contains(Kind::Blob);
        let tree_depth = if commits_only { Some(0) } else { filter.tree_depth };
        let trees = if tree_depth.is_some_and(|depth| depth > 1) { graph.packs().slots() } else { 0 };
        let some_slots = |needed| if needed { graph.no_slots() } else { SlotSet::new(0) };
        TreeWalk {
            blob_limit,
            tree_depth,
            kinds,
            sparse,
            held: graph.no_slots(),
            send: graph.no_slots(),
            left_out: some_slots(blob_limit.is_some_and(|limit| limit > 0)),
            muted: some_slots(kinds != Kinds::ALL),
            depths: vec![NEVER; usize::try_from(trees).unwrap_or(usize::MAX)],
            last_root: None,
        }
    }

    /// Ends the walk: objects to send, and objects that the client has.
    pub(crate) fn finish(mut self) -> (SlotSet, SlotSet) {
        for slot in self.muted.iter() {
            self.send.remove(slot);
        }
        (self.send, self.held)
    }

    /// Marks a commit or tag to be sent. One that the client has not wanted is left out if its kind is.
    pub(crate) fn passing(
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

    /// Calls `visit` for an object that is new in `send`, unless its kind is left out; says whether to go on.
    fn meet(&mut self, slot: u64, kind: Kind, visit: &mut Visit<'_>) -> Result<bool, ServeError> {
        if self.kinds.contains(kind) {
            return visit(slot);
        }
        self.muted.insert(slot);
        Ok(true)
    }

    /// Walks the tree of a commit.
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

    /// Walks an object that is wanted for itself: no filter leaves it out, only what it contains.
    pub(crate) fn object(
        &mut self,
        graph: &mut Graph<'_>,
        slot: u64,
        mark: Mark,
        visit: &mut Visit<'_>,
    ) -> Result<bool, ServeError> {
        self.held.remove(slot);
        self.muted.remove(slot);
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

    /// Walks a tree or blob that a tag names: filters take it for one that a commit names.
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

    /// Marks a tree and what is in it. Its content, if it was read.
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
        if new && mark == Mark::Send && !self.meet(slot, Kind::Tree, visit)? {
            return Ok((false, None));
        }
        if !(new || again) || depth + 1 >= limit {
            return Ok((true, None));
        }
        let unreadable = |graph: &Graph<'_>, reason| ServeError::Unreadable { id: graph.id(slot), reason };
        if depth > MAX_TREE_DEPTH {
            return Err(unreadable(graph, "it lies in too many directories"));
        }
        graph.check_cancelled()?;
        let Object { kind, data } = graph.read(slot)?;
        if kind != Kind::Tree {
            return Err(unreadable(graph, "it is no tree but named as one"));
        }
        let go_on = self.entries(graph, &Place { depth: depth + 1, ..place }, &data, visit)?;
        Ok((go_on, Some(data)))
    }

    /// Marks a tree: whether it is new, and whether it is not but has to be entered for the smaller depth, or for
    /// the other path.
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
        let again = again || self.sparse.is_active() && self.sparse.is_new(slot, directory)?;
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
            let same = Same::find(&mut walked, &entry);
            if matches!(same, Same::Object) {
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
                    let reference = match same {
                        Same::Directory(id) if !self.is_marked(slot, place.mark) => read_tree(graph, id)?,
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

    /// Whether marking a tree would surely change nothing.
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
        if self.held.contains(slot) || self.send.contains(slot) || self.leaves_out(graph, slot, place.depth)? {
            return Ok(true);
        }
        if self.sparse.is_active() && !self.sparse.takes(place.directory, name) {
            return Ok(true);
        }
        self.send.insert(slot);
        self.meet(slot, Kind::Blob, visit)
    }

    fn leaves_out(&mut self, graph: &mut Graph<'_>, slot: u64, depth: u32) -> Result<bool, ServeError> {
        if self.tree_depth.is_some_and(|limit| depth >= limit) || self.left_out.contains(slot) {
            return Ok(true);
        }
        match self.blob_limit {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(limit) => {
                let location = graph.location(slot);
                let too_large = graph.finder().size(location)? >= limit;
                if too_large {
                    self.left_out.insert(slot);
                }
                Ok(too_large)
            }
        }
    }
}

/// What a tree that has been walked has in the place of an entry.
enum Same<'r> {
    /// The same object.
    Object,
    /// Another directory of the same name.
    Directory(&'r oid),
    Nothing,
}

impl<'r> Same<'r> {
    /// Reads on in `walked` as far as the entry's name. If entries are out of order, less is found.
    #[inline]
    fn find(walked: &mut TreeEntries<'r>, entry: &TreeEntry<'_>) -> Same<'r> {
        loop {
            if walked.rest().starts_with(entry.raw) {
                walked.skip(entry.raw.len());
                return Same::Object;
            }
            let mut next = *walked;
            let Ok(Some(other)) = next.read() else { return Same::Nothing };
            if other.name == entry.name {
                *walked = next;
                let directories = other.kind == EntryKind::Tree && entry.kind == EntryKind::Tree;
                return if directories { Same::Directory(other.id) } else { Same::Nothing };
            }
            if sorts_before(entry, &other) {
                return Same::Nothing;
            }
            *walked = next;
        }
    }
}

/// Whether an entry stands before another of another name: directories are sorted as if their names ended
/// in a slash.
fn sorts_before(one: &TreeEntry<'_>, other: &TreeEntry<'_>) -> bool {
    let end = |entry: &TreeEntry<'_>| (entry.kind == EntryKind::Tree).then_some(b'/');
    let (a, b) = (one.name.bytes().chain(end(one)), other.name.bytes().chain(end(other)));
    a.lt(b)
}

fn read_tree(graph: &mut Graph<'_>, id: &oid) -> Result<Option<Content>, ServeError> {
    let Some(slot) = graph.slot(id) else { return Ok(None) };
    let Object { kind, data } = graph.read(slot)?;
    Ok((kind == Kind::Tree).then_some(data))
}
