//! [`Differences`] between two trees, in the order of paths. Equal folders are skipped, blobs are not read.

use std::cmp::Ordering;

use gix::ObjectId;
use gix::bstr::{BStr, BString};

use gitferry_git::limits::MAX_TREE_DEPTH;

use crate::entries::{Cursor, Entry, Mode, order};
use crate::error::ContentError;
use crate::limits::Bound;
use crate::lookup::find;
use crate::path::{RepoPath, joined};
use crate::reader::Reader;

/// One side of a comparison.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Root tree.
    pub tree: ObjectId,
    /// File or folder to compare; `None` compares all.
    pub path: Option<&'a RepoPath>,
}

/// File, link or submodule on one side of a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Path from the root.
    pub path: BString,
    /// Id of the blob or of the submodule's commit.
    pub id: ObjectId,
    /// Mode.
    pub mode: Mode,
}

/// Kind of a change, as in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only the later side has the path.
    Added,
    /// Both sides have it: content, mode or type differ.
    Modified,
    /// Only the earlier side has the path.
    Deleted,
}

impl Change {
    /// Letter of the API and of Git.
    pub fn letter(self) -> &'static str {
        match self {
            Change::Added => "A",
            Change::Modified => "M",
            Change::Deleted => "D",
        }
    }
}

/// Changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path relative to the compared folders, or the whole path where all is compared. A later page begins after it.
    pub place: BString,
    /// Earlier version.
    pub before: Option<Blob>,
    /// Later version.
    pub after: Option<Blob>,
}

impl Difference {
    /// Kind of the change.
    pub fn change(&self) -> Change {
        match (&self.before, &self.after) {
            (None, _) => Change::Added,
            (_, None) => Change::Deleted,
            (Some(_), Some(_)) => Change::Modified,
        }
    }
}

/// Failure of a comparison.
#[derive(Debug, thiserror::Error)]
pub enum DifferencesError {
    /// No side has the path that is to be compared.
    #[error("path {0} exists on neither side of the comparison")]
    NoPath(RepoPath),
    /// An object cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
}

/// Iterator over changed paths. Holds the trees from the root to the current path, and nothing else.
#[derive(Debug)]
pub struct Differences<'r, 'a> {
    reader: &'r mut Reader<'a>,
    frames: Vec<Frame>,
    /// Folders of both sides: paths of the result begin with them.
    prefixes: [BString; 2],
    /// Path of the innermost frame, relative to the prefixes.
    folder: Vec<u8>,
    /// Last path of the page before.
    resume: Option<BString>,
    /// Difference of a comparison of two files.
    single: Option<Difference>,
}

/// Folder that is being compared.
#[derive(Debug)]
struct Frame {
    sides: [Option<Cursor>; 2],
    /// Length of the path of the folder above.
    parent_bytes: usize,
}

/// Compares two trees from the path after `resume` on. Where one side has no path, the other side's applies to both.
///
/// # Errors
/// Neither side has the path, or an object cannot be read.
pub fn differences<'r, 'a>(
    reader: &'r mut Reader<'a>,
    before: Option<Side<'_>>,
    after: Side<'_>,
    resume: Option<&BStr>,
) -> Result<Differences<'r, 'a>, DifferencesError> {
    let before_path = before.and_then(|side| side.path).or(after.path);
    let after_path = after.path.or(before_path);
    let prefix = |path: Option<&RepoPath>| path.map_or_else(BString::default, |path| path.as_bstr().to_owned());
    let mut compared = Differences {
        reader,
        frames: Vec::new(),
        prefixes: [prefix(before_path), prefix(after_path)],
        folder: Vec::new(),
        resume: resume.map(BStr::to_owned),
        single: None,
    };
    let one = compared.root(before.map(|side| side.tree), before_path)?;
    let two = compared.root(Some(after.tree), after_path)?;
    if let (None, None, Some(path)) = (one, two, after_path) {
        return Err(DifferencesError::NoPath(path.clone()));
    }
    compared.begin(one, two)?;
    Ok(compared)
}

impl Differences<'_, '_> {
    fn root(&mut self, tree: Option<ObjectId>, path: Option<&RepoPath>) -> Result<Option<Entry>, ContentError> {
        let Some(tree) = tree else { return Ok(None) };
        match path {
            None => Ok(Some(Entry { mode: Mode::Folder, id: tree })),
            Some(path) => Ok(find(self.reader, tree, path)?.entry()),
        }
    }

    /// Begins with the compared entries: files give a difference of their own, folders the first frame.
    fn begin(&mut self, one: Option<Entry>, two: Option<Entry>) -> Result<(), ContentError> {
        if one == two {
            return Ok(());
        }
        let file = |entry: Option<Entry>| entry.filter(|entry| entry.mode != Mode::Folder);
        let files = [file(one), file(two)];
        // The place of the files themselves is the empty path, which comes before all others.
        if files != [None, None] && self.resume.is_none() {
            self.single = Some(self.difference(BString::default(), files));
        }
        let folders = [one, two].map(|entry| entry.and_then(|entry| entry.folder()));
        if folders != [None, None] { self.descend(folders, b"") } else { Ok(()) }
    }

    fn difference(&self, place: BString, entries: [Option<Entry>; 2]) -> Difference {
        let blob = |side: usize| {
            let Entry { mode, id } = entries[side]?;
            let prefix = &self.prefixes[side];
            let path = if place.is_empty() { prefix.clone() } else { joined(prefix, &place) };
            Some(Blob { path, id, mode })
        };
        Difference { before: blob(0), after: blob(1), place }
    }

    fn descend(&mut self, folders: [Option<ObjectId>; 2], name: &[u8]) -> Result<(), ContentError> {
        if self.frames.len() > MAX_TREE_DEPTH as usize {
            return Err(ContentError::Limit(Bound::TreeDepth));
        }
        let mut sides = [None, None];
        for (side, folder) in sides.iter_mut().zip(folders) {
            *side = folder.map(|id| self.reader.cursor(&id)).transpose()?;
        }
        let parent_bytes = self.folder.len();
        self.folder = joined(&self.folder, name).into();
        self.frames.push(Frame { sides, parent_bytes });
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Difference>, ContentError> {
        if let Some(single) = self.single.take() {
            return Ok(Some(single));
        }
        while let Some(frame) = self.frames.last_mut() {
            let Some(pair) = frame.next()? else {
                self.folder.truncate(frame.parent_bytes);
                self.frames.pop();
                continue;
            };
            let place = joined(&self.folder, &pair.name);
            let is_folder = pair.entries.iter().flatten().any(|entry| entry.mode == Mode::Folder);
            if !is_folder {
                if self.resume.as_ref().is_none_or(|resume| place > *resume) {
                    self.resume = None;
                    return Ok(Some(self.difference(place, pair.entries)));
                }
            } else if self.has_places_left(&place) {
                let folders = pair.entries.map(|entry| entry.and_then(|entry| entry.folder()));
                self.descend(folders, &pair.name)?;
            }
        }
        Ok(None)
    }

    /// Returns true if paths in a folder come after the path to resume from.
    fn has_places_left(&self, folder: &BString) -> bool {
        let Some(resume) = &self.resume else { return true };
        let mut below = folder.clone();
        below.push(b'/');
        below > *resume || resume.starts_with(&below)
    }
}

impl Iterator for Differences<'_, '_> {
    type Item = Result<Difference, ContentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.frames.clear();
        }
        next.transpose()
    }
}

/// Entries of one name in both folders; both are folders, or neither is.
struct Pair {
    name: BString,
    entries: [Option<Entry>; 2],
}

impl Frame {
    /// Next entries that differ.
    fn next(&mut self) -> Result<Option<Pair>, ContentError> {
        let [one, two] = &mut self.sides;
        loop {
            let ordering = match (head(one), head(two)) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(two)) => order(one, two),
            };
            if ordering == Ordering::Equal
                && let (Some(one), Some(two)) = (one.as_mut(), two.as_mut())
                && one.is_same(two)
            {
                one.advance()?;
                two.advance()?;
                continue;
            }
            let named = if ordering == Ordering::Greater { head(two) } else { head(one) };
            let name: BString = named.map_or_else(BString::default, |(name, _)| name.into());
            let mut entries = [None, None];
            if ordering != Ordering::Greater {
                entries[0] = take(one.as_mut())?;
            }
            if ordering != Ordering::Less {
                entries[1] = take(two.as_mut())?;
            }
            return Ok(Some(Pair { name, entries }));
        }
    }
}

fn head(cursor: &Option<Cursor>) -> Option<(&[u8], Mode)> {
    cursor.as_ref().and_then(Cursor::name)
}

fn take(cursor: Option<&mut Cursor>) -> Result<Option<Entry>, ContentError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let entry = cursor.entry();
    cursor.advance()?;
    Ok(entry)
}
