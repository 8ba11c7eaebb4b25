//! Renames on one side of a merge of files that the other side changed too, found as Git finds them: equal content first,
//! then the same name, then the most similar content.
//!
//! Other renames need no detection, as a deletion and an addition give the same tree. Renames of folders are not detected:
//! a file that the other side adds to the old folder stays there (`merge.directoryRenames=false`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use gix::ObjectId;

use crate::differences::{Blob, DifferencesError, Side, differences};
use crate::entries::Entry;
use crate::error::ContentError;
use crate::limits::{MAX_MERGE_PATHS, MAX_RENAME_BYTES, MAX_RENAME_CANDIDATES, MAX_RENAME_TOTAL_BYTES};
use crate::path::RepoPath;
use crate::reader::Reader;
use crate::similarity::{MAX_SCORE, MIN_SCORE, Sketch};

/// Least score of files that alone have their name: three quarters.
const MIN_NAMED_SCORE: u64 = MAX_SCORE * 3 / 4;

/// Treatment of renames in a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// A change of a file follows the file to the path to which the other side renamed it.
    Follow,
    /// A rename is a deletion and an addition, as by `git merge-tree -X no-renames`.
    Ignore,
}

/// Changed files of one side of a merge.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Files that only the base has.
    pub(super) deleted: BTreeMap<RepoPath, Entry>,
    /// Files that only the side has.
    pub(super) added: BTreeMap<RepoPath, Entry>,
    modified: BTreeSet<RepoPath>,
}

/// Renames of one side: new path by old path.
pub(super) type Renames = BTreeMap<RepoPath, RepoPath>;

impl Changes {
    /// Lists the changes from a base; `None` if there are more than [`MAX_MERGE_PATHS`].
    pub(super) fn list(
        reader: &mut Reader<'_>,
        base: ObjectId,
        side: ObjectId,
    ) -> Result<Option<Changes>, ContentError> {
        let [before, after] = [base, side].map(|tree| Side { tree, path: None });
        let listed = match differences(reader, Some(before), after, None) {
            Ok(listed) => listed,
            Err(DifferencesError::Content(error)) => return Err(error),
            // Only a comparison of a path can miss it.
            Err(DifferencesError::NoPath(_)) => return Ok(None),
        };
        let mut changes = Changes::default();
        for (number, change) in listed.enumerate() {
            let change = change?;
            if number > MAX_MERGE_PATHS {
                return Ok(None);
            }
            let file = |blob: Blob| (RepoPath::known(blob.path), Entry { mode: blob.mode, id: blob.id });
            match (change.before, change.after) {
                (Some(before), None) => changes.deleted.extend([file(before)]),
                (None, Some(after)) => changes.added.extend([file(after)]),
                (_, after) => changes.modified.extend(after.map(|after| file(after).0)),
            }
        }
        Ok(Some(changes))
    }

    fn has_changed(&self, path: &RepoPath) -> bool {
        self.modified.contains(path) || self.deleted.contains_key(path)
    }
}

/// Finds the renames of one side of files that the other side changed or deleted.
pub(super) fn renames(reader: &mut Reader<'_>, side: &Changes, other: &Changes) -> Result<Renames, ContentError> {
    let empty = ObjectId::empty_blob(reader.format());
    let is_candidate = |entry: &Entry| entry.mode.is_blob() && entry.id != empty;
    let sources = side.deleted.iter().filter(|(path, entry)| other.has_changed(path) && is_candidate(entry));
    let mut search = Search {
        sources: sources.map(|(path, entry)| (path, *entry)).collect(),
        targets: side
            .added
            .iter()
            .map(|(path, entry)| (path, *entry))
            .filter(|(_, entry)| is_candidate(entry))
            .collect(),
        found: Renames::new(),
    };
    search.equal();
    if search.sources.is_empty() || search.targets.is_empty() {
        return Ok(search.found);
    }
    if search.sources.len() > MAX_RENAME_CANDIDATES || search.targets.len() > MAX_RENAME_CANDIDATES {
        return Ok(search.found);
    }
    if let Some(sketches) = search.sketches(reader)? {
        search.named(&sketches);
        search.similar(&sketches);
    }
    Ok(search.found)
}

/// Deleted and added files that are in no pair yet.
struct Search<'c> {
    sources: BTreeMap<&'c RepoPath, Entry>,
    targets: BTreeMap<&'c RepoPath, Entry>,
    found: Renames,
}

type Sketches = HashMap<ObjectId, Sketch>;

impl<'c> Search<'c> {
    fn pair(&mut self, source: &'c RepoPath, target: &'c RepoPath) {
        self.sources.remove(source);
        self.targets.remove(target);
        self.found.insert(source.clone(), target.clone());
    }

    /// Pairs files of equal content, those of equal names first.
    fn equal(&mut self) {
        let targets: Vec<(&RepoPath, Entry)> = self.targets.iter().map(|(path, entry)| (*path, *entry)).collect();
        for (target, entry) in targets {
            let same =
                self.sources.iter().filter(|(_, source)| source.id == entry.id && source.mode.same_type(entry.mode));
            let best = same.map(|(path, _)| *path).min_by_key(|path| path.last() != target.last());
            if let Some(source) = best {
                self.pair(source, target);
            }
        }
    }

    /// Reads all files that are left; `None` if they exceed [`MAX_RENAME_TOTAL_BYTES`]. Files larger than
    /// [`MAX_RENAME_BYTES`] have no sketch.
    fn sketches(&self, reader: &mut Reader<'_>) -> Result<Option<Sketches>, ContentError> {
        let mut sketches = Sketches::new();
        let mut bytes_left = MAX_RENAME_TOTAL_BYTES;
        for entry in self.sources.values().chain(self.targets.values()) {
            if !entry.mode.is_file() || sketches.contains_key(&entry.id) {
                continue;
            }
            let size = reader.blob_size(&entry.id)?;
            if size > MAX_RENAME_BYTES {
                continue;
            }
            let Some(left) = bytes_left.checked_sub(size) else { return Ok(None) };
            bytes_left = left;
            let data = reader.blob(&entry.id)?;
            sketches.insert(entry.id, Sketch::of(&data));
        }
        Ok(Some(sketches))
    }

    /// Pairs files that alone have their name among the deleted and among the added ones.
    fn named(&mut self, sketches: &Sketches) {
        let sources = by_name(self.sources.keys().copied());
        let targets = by_name(self.targets.keys().copied());
        for (name, source) in sources {
            let (Some(source), Some(Some(target))) = (source, targets.get(name).copied()) else { continue };
            let (Some(one), Some(two)) = (self.sources.get(source), self.targets.get(target)) else { continue };
            if score(sketches, one, two) >= MIN_NAMED_SCORE {
                self.pair(source, target);
            }
        }
    }

    /// Pairs the most similar files, best pairs first.
    fn similar(&mut self, sketches: &Sketches) {
        let mut pairs = Vec::new();
        for (target, to) in &self.targets {
            for (source, from) in &self.sources {
                let score = score(sketches, from, to);
                if score >= MIN_SCORE {
                    let is_other_name = source.last() != target.last();
                    pairs.push((Reverse(score), is_other_name, *target, *source));
                }
            }
        }
        pairs.sort();
        for (_, _, target, source) in pairs {
            if self.targets.contains_key(target) && self.sources.contains_key(source) {
                self.pair(source, target);
            }
        }
    }
}

fn score(sketches: &Sketches, from: &Entry, to: &Entry) -> u64 {
    match (sketches.get(&from.id), sketches.get(&to.id)) {
        (Some(from), Some(to)) => from.score(to),
        _ => 0,
    }
}

/// Paths by their last name; `None` for names of several paths.
fn by_name<'c>(paths: impl Iterator<Item = &'c RepoPath>) -> BTreeMap<&'c [u8], Option<&'c RepoPath>> {
    let mut names: BTreeMap<&[u8], Option<&RepoPath>> = BTreeMap::new();
    for path in paths {
        names.entry(path.last()).and_modify(|known| *known = None).or_insert(Some(path));
    }
    names
}
