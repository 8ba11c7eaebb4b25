//! Commit walks, newest first, across several pack sets.

use std::collections::{BinaryHeap, HashSet};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

use crate::links::for_each_link;
use crate::pack::{Finder, Object, PackError, PackSet};

/// Several pack sets as one object database; earlier sets take precedence.
pub(super) struct Objects<'a> {
    sets: Vec<(&'a PackSet, Finder<'a>)>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(sets: impl IntoIterator<Item = &'a PackSet>) -> Result<Self, PackError> {
        let open = |set: &'a PackSet| set.finder().map(|finder| (set, finder)).map_err(|fault| set.blame(0, fault));
        Ok(Objects { sets: sets.into_iter().map(open).collect::<Result<_, _>>()? })
    }

    pub(super) fn kind(&self, id: &oid) -> Result<Option<Kind>, PackError> {
        let found = self.sets.iter().find_map(|(set, finder)| Some((finder, set.locate(id)?)));
        found.map(|(finder, location)| finder.kind(location)).transpose()
    }

    /// Reads an object; `None` if it is missing or a blob.
    pub(super) fn read(&mut self, id: &oid) -> Result<Option<Object>, PackError> {
        for (set, finder) in &mut self.sets {
            if let Some(location) = set.locate(id) {
                if finder.kind(location)? == Kind::Blob {
                    return Ok(None);
                }
                return finder.read(location).map(Some);
            }
        }
        Ok(None)
    }
}

/// Links of a commit.
pub(super) struct Commit {
    pub(super) tree: Option<ObjectId>,
    pub(super) parents: Vec<ObjectId>,
}

impl Commit {
    pub(super) fn parse(data: &[u8], format: gix::hash::Kind) -> Commit {
        let mut commit = Commit { tree: None, parents: Vec::new() };
        // A malformed commit keeps the links before the defect.
        let _ = for_each_link(Kind::Commit, data, format, |id, kind| match kind {
            Kind::Tree => commit.tree = Some(id.to_owned()),
            _ => commit.parents.push(id.to_owned()),
        });
        commit
    }
}

/// Parses the committer time in seconds since 1970; 0 if it is malformed. Affects the order of walks only.
fn committed_at(data: &[u8]) -> i64 {
    let header = data.find(b"\n\n").map_or(data, |end| &data[..end]);
    let line = header.lines().find_map(|line| line.strip_prefix(b"committer "));
    let date = line.and_then(|line| line.rsplit_str(" ").nth(1)).and_then(|date| date.to_str().ok());
    date.and_then(|date| date.parse().ok()).unwrap_or(0)
}

/// Priority queue of commits, newest first, each at most once.
#[derive(Default)]
pub(super) struct Queue {
    heap: BinaryHeap<(i64, ObjectId)>,
    seen: HashSet<ObjectId>,
}

impl Queue {
    /// Adds a commit, or the commit that a tag peels to. Other and missing objects are only marked as seen.
    pub(super) fn push(&mut self, id: &oid, objects: &mut Objects<'_>) -> Result<(), PackError> {
        let mut id = id.to_owned();
        while self.seen.insert(id) {
            let Some(Object { kind, data }) = objects.read(&id)? else { return Ok(()) };
            match kind {
                Kind::Commit => {
                    self.heap.push((committed_at(&data), id));
                    return Ok(());
                }
                Kind::Tag => {
                    let mut target = None;
                    let _ = for_each_link(kind, &data, id.kind(), |id, _| target = Some(id.to_owned()));
                    match target {
                        Some(target) => id = target,
                        None => return Ok(()),
                    }
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Removes the newest commit and adds its parents.
    pub(super) fn pop(&mut self, objects: &mut Objects<'_>) -> Result<Option<(ObjectId, Commit)>, PackError> {
        let Some((_, id)) = self.heap.pop() else { return Ok(None) };
        let Some(object) = objects.read(&id)? else { unreachable!("`push` has read the commit {id}") };
        let commit = Commit::parse(&object.data, id.kind());
        for parent in &commit.parents {
            self.push(parent, objects)?;
        }
        Ok(Some((id, commit)))
    }

    /// Returns true if an object has been added before.
    pub(super) fn has_seen(&self, id: &oid) -> bool {
        self.seen.contains(id)
    }
}

/// Returns true if `new` reaches `old`, so that the update is a fast-forward. Tags are peeled. Walks the commits
/// between the two for a fast-forward, and all ancestors of `new` otherwise.
pub fn is_ancestor<'a>(old: &oid, new: &oid, sets: impl IntoIterator<Item = &'a PackSet>) -> Result<bool, PackError> {
    let mut objects = Objects::new(sets)?;
    let mut queue = Queue::default();
    queue.push(new, &mut objects)?;
    while !queue.has_seen(old) {
        if queue.pop(&mut objects)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_commits() {
        let commit = |line: &str| format!("tree x\nauthor a <a> 1 +0000\n{line}\n\ncommitter c <c> 9 +0000\n");
        assert_eq!(committed_at(commit("committer A B <a@b> 1700000000 +0100").as_bytes()), 1_700_000_000);
        for line in ["committer", "committer x", "committer a <b> x y", "committer "] {
            assert_eq!(committed_at(commit(line).as_bytes()), 0, "{line}");
        }
    }
}
