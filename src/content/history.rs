//! [`History`] of a file: the commits that changed it, newest first, across renames.

use std::cmp::Reverse;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;

use crate::commit::Commit;
use crate::differences::{Blob, Side, differences};
use crate::entries::{Entry, Mode};
use crate::error::ContentError;
use crate::limits::{
    Bound, MAX_HISTORY_COMMITS, MAX_HISTORY_WIDTH, MAX_RENAME_BYTES, MAX_RENAME_CANDIDATES, MAX_RENAME_TOTAL_BYTES,
    MAX_VERSION_CHILDREN,
};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::similarity::{MIN_SCORE, Sketch, sizes_allow};

/// Version of a file: a commit that changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Id of the commit.
    pub commit: ObjectId,
    /// Id of the blob; `None` if the commit deleted the file.
    pub blob: Option<ObjectId>,
    /// Path of the file in this commit.
    pub path: RepoPath,
    /// Commits with the next newer versions, at most [`MAX_VERSION_CHILDREN`].
    pub children: Vec<ObjectId>,
}

/// Commit that waits for its turn in a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Id of the commit.
    pub commit: ObjectId,
    /// Path of the file in the commit.
    pub path: RepoPath,
    /// Commits with the next newer versions.
    pub children: BTreeSet<ObjectId>,
}

/// Versions, and what is left to walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Versions, newest first.
    pub versions: Vec<Version>,
    /// Commits from which the next page goes on; none at the end of the history.
    pub rest: Vec<Waiting>,
}

/// Queue of a walk: newest first, each commit once for each path.
type Queue = BTreeMap<(Reverse<i64>, ObjectId, RepoPath), Task>;

/// Commit in the queue.
#[derive(Debug)]
struct Task {
    commit: Commit,
    trail: Trail,
    children: BTreeSet<ObjectId>,
}

/// Walk through the history of a file.
///
/// Every commit is walked, as by `git log --follow`: a merge is listed if the file differs from that of every parent,
/// other commits if it differs from that of their parent. Git has one path for a whole walk; here each line of history
/// has its own. A file that a commit adds is followed to the most similar file that the same commit deletes or changes.
#[derive(Debug)]
pub struct History<'r, 'a> {
    reader: &'r mut Reader<'a>,
    queue: Queue,
}

impl<'r, 'a> History<'r, 'a> {
    /// Begins at a commit.
    pub fn new(reader: &'r mut Reader<'a>, tip: ObjectId, path: &RepoPath) -> Result<Self, ContentError> {
        let waiting = Waiting { commit: tip, path: path.clone(), children: BTreeSet::new() };
        History::resume(reader, vec![waiting])
    }

    /// Goes on after a page. A history whose clocks go backwards may list a commit of an earlier page again.
    pub fn resume(reader: &'r mut Reader<'a>, rest: Vec<Waiting>) -> Result<Self, ContentError> {
        let mut history = History { reader, queue: Queue::new() };
        for Waiting { commit: id, path, children } in rest {
            let commit = history.reader.commit(&id)?;
            let trail = Trail::follow(history.reader, commit.tree, &path, None)?;
            history.push(id, path, Task { commit, trail, children })?;
        }
        Ok(history)
    }

    /// Walks until it has `limit` versions, or has walked [`MAX_HISTORY_COMMITS`] commits.
    pub fn page(mut self, limit: usize) -> Result<Page, ContentError> {
        let mut versions = Vec::new();
        for _ in 0..MAX_HISTORY_COMMITS {
            if versions.len() >= limit {
                break;
            }
            let Some(((_, commit, path), task)) = self.queue.pop_first() else { break };
            versions.extend(self.visit(commit, path, task)?);
        }
        let rest = self.queue.into_iter().map(|((_, commit, path), task)| {
            let Task { children, .. } = task;
            Waiting { commit, path, children }
        });
        Ok(Page { versions, rest: rest.collect() })
    }

    fn push(&mut self, id: ObjectId, path: RepoPath, task: Task) -> Result<(), ContentError> {
        match self.queue.entry((Reverse(task.commit.time), id, path)) {
            Slot::Vacant(slot) => {
                slot.insert(task);
            }
            Slot::Occupied(mut slot) => {
                let known = &mut slot.get_mut().children;
                let room = MAX_VERSION_CHILDREN.saturating_sub(known.len());
                known.extend(task.children.iter().take(room));
            }
        }
        if self.queue.len() > MAX_HISTORY_WIDTH { Err(ContentError::Limit(Bound::HistoryWidth)) } else { Ok(()) }
    }

    /// Compares a commit with its parents, and queues these.
    fn visit(&mut self, id: ObjectId, path: RepoPath, task: Task) -> Result<Option<Version>, ContentError> {
        let now = task.trail.file;
        let mut before = Vec::with_capacity(task.commit.parents.len());
        for parent in &task.commit.parents {
            let commit = self.reader.commit(parent)?;
            let trail = Trail::follow(self.reader, commit.tree, &path, Some(&task.trail))?;
            before.push((*parent, commit, trail));
        }
        let changed =
            if before.is_empty() { now.is_some() } else { before.iter().all(|(_, _, trail)| trail.file != now) };
        let children = if changed { BTreeSet::from([id]) } else { task.children.clone() };
        for (parent, commit, mut trail) in before {
            if changed
                && let (Some(now), None) = (now, trail.file)
                && let Some(old) = renamed_from(self.reader, commit.tree, task.commit.tree, &path, now)?
            {
                trail = Trail::follow(self.reader, commit.tree, &old, None)?;
            }
            let path = trail.path.clone();
            self.push(parent, path, Task { commit, trail, children: children.clone() })?;
        }
        let blob = now.map(|entry| entry.id);
        Ok(changed.then(|| Version { commit: id, blob, path, children: task.children.into_iter().collect() }))
    }
}

/// Folders on the way to a file, and the file.
#[derive(Debug)]
struct Trail {
    path: RepoPath,
    folders: Vec<ObjectId>,
    file: Option<Entry>,
}

impl Trail {
    /// Follows a path. Where a folder is that of `known`, a trail of the same path, so is the rest.
    fn follow(
        reader: &mut Reader<'_>,
        root: ObjectId,
        path: &RepoPath,
        known: Option<&Trail>,
    ) -> Result<Trail, ContentError> {
        let mut trail = Trail { path: path.clone(), folders: Vec::new(), file: None };
        let mut here = Entry { mode: Mode::Folder, id: root };
        for (depth, name) in path.names().enumerate() {
            let Some(folder) = here.folder() else { return Ok(trail) };
            if let Some(known) = known
                && known.folders.get(depth) == Some(&folder)
            {
                trail.folders.extend(&known.folders[depth..]);
                trail.file = known.file;
                return Ok(trail);
            }
            trail.folders.push(folder);
            match reader.entry(&folder, name)? {
                Some(entry) => here = entry,
                None => return Ok(trail),
            }
        }
        trail.file = Some(here).filter(|entry| entry.mode != Mode::Folder);
        Ok(trail)
    }
}

/// Finds the file that a commit renamed to `path`.
fn renamed_from(
    reader: &mut Reader<'_>,
    before: ObjectId,
    after: ObjectId,
    path: &RepoPath,
    now: Entry,
) -> Result<Option<RepoPath>, ContentError> {
    if !now.mode.is_blob() {
        return Ok(None);
    }
    let replaced = replaced_files(reader, before, after, now.mode)?;
    let same = replaced.iter().filter(|file| file.id == now.id);
    let same = same.min_by_key(|file| !has_name(file, path));
    if let Some(same) = same {
        return Ok(Some(RepoPath::known(same.path.clone())));
    }
    most_similar(reader, &replaced, path, now)
}

fn has_name(file: &Blob, path: &RepoPath) -> bool {
    RepoPath::known(file.path.clone()).last() == path.last()
}

/// Files of the same type that a commit deletes or changes, up to [`MAX_RENAME_CANDIDATES`].
fn replaced_files(
    reader: &mut Reader<'_>,
    before: ObjectId,
    after: ObjectId,
    mode: Mode,
) -> Result<Vec<Blob>, ContentError> {
    let sides = [before, after].map(|tree| Side { tree, path: None });
    let changes = match differences(reader, Some(sides[0]), sides[1], None) {
        Ok(changes) => changes,
        Err(crate::differences::DifferencesError::Content(error)) => return Err(error),
        // Only a comparison of a path can miss it.
        Err(crate::differences::DifferencesError::NoPath(_)) => return Ok(Vec::new()),
    };
    let mut replaced = Vec::new();
    for change in changes {
        let change = change?;
        if let Some(file) = change.before
            && file.mode.same_type(mode)
        {
            replaced.push(file);
            if replaced.len() == MAX_RENAME_CANDIDATES {
                break;
            }
        }
    }
    Ok(replaced)
}

/// The most similar file of at least [`MIN_SCORE`]; of equal ones, the one with the same name.
fn most_similar(
    reader: &mut Reader<'_>,
    files: &[Blob],
    path: &RepoPath,
    now: Entry,
) -> Result<Option<RepoPath>, ContentError> {
    let size = reader.blob_size(&now.id)?;
    if !now.mode.is_file() || size > MAX_RENAME_BYTES {
        return Ok(None);
    }
    let sketch = Sketch::of(&reader.blob(&now.id)?);
    let mut bytes_left = MAX_RENAME_TOTAL_BYTES;
    let mut best: Option<((u64, bool), &Blob)> = None;
    for file in files {
        let old = reader.blob_size(&file.id)?;
        if old > MAX_RENAME_BYTES || !sizes_allow(size, old) {
            continue;
        }
        let Some(left) = bytes_left.checked_sub(old) else { break };
        bytes_left = left;
        let old = Sketch::of(&reader.blob(&file.id)?);
        let rank = (old.score(&sketch), has_name(file, path));
        if rank.0 >= MIN_SCORE && best.is_none_or(|(known, _)| rank > known) {
            best = Some((rank, file));
        }
    }
    Ok(best.map(|(_, file)| RepoPath::known(file.path.clone())))
}
