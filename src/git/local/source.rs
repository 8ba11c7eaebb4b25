//! A local repository as the source of an import.

use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec;

use gix::ObjectId;

use super::error::SourceError;
use super::loose::{LooseEntry, LooseObjects};
use super::loose_refs::LooseRef;
use super::objects::SourcePack;
use super::packed_refs::PackedRefs;
use super::pattern::RefPatterns;
use super::reader::Reader;
use super::{features, location, loose, loose_refs, objects, ownership};
use crate::refs::{RefName, RefValue};

/// A Git repository on the local disk, opened for reading.
///
/// It may be in use meanwhile. Read it in this order, which follows the order in which Git writes, and
/// nothing that stays reachable is missed: [`head`](Self::head) and [`refs`](Self::refs), then
/// [`loose_objects`](Self::loose_objects) (objects move from there into packs), then
/// [`packs`](Self::packs), all of which are best [opened](SourcePack::open_pack) at once. If something is
/// missing in the end, [`check_unchanged`](Self::check_unchanged) tells a repack from damage.
#[derive(Debug)]
pub struct SourceRepository {
    path: PathBuf,
    common_dir: PathBuf,
    object_format: gix::hash::Kind,
    object_dirs: Vec<PathBuf>,
    reader: Reader,
}

impl SourceRepository {
    /// Opens a repository: the path of a bare one, of a work tree (linked or not), of a submodule, or of
    /// a `.git` directory or file. Parent directories are not searched. What cannot be read faithfully
    /// is refused here, before anything else is read, and so is a repository of another user unless `safe.directory`
    /// lists it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let (common_dir, places) = location::find(path)?;
        let mut reader = match ownership::is_own(path, &places)? {
            true => Reader::default(),
            false => Reader::within(vec![common_dir.canonicalize().map_err(|error| SourceError::io(path, error))?]),
        };
        let object_format = features::check(&reader, &common_dir)?;
        let object_dirs = objects::directories(&mut reader, &common_dir)?;
        objects::refuse_promisor_packs(&common_dir, &object_dirs)?;
        Ok(SourceRepository { path: path.to_owned(), common_dir, object_format, object_dirs, reader })
    }

    /// Opens a file of the repository that is no part of Git, such as an LFS object: a regular file, and nothing outside of a
    /// repository that belongs to another user.
    pub fn open_file(&self, path: &Path) -> std::io::Result<std::fs::File> {
        self.reader.open(path)
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that holds `config`, `refs` and `objects`.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// How its objects are named.
    pub fn object_format(&self) -> gix::hash::Kind {
        self.object_format
    }

    /// `HEAD` of the repository (of its main work tree, where it has linked ones): symbolic, even if the
    /// branch is not born yet, or an object when it is detached.
    pub fn head(&self) -> Result<RefValue, SourceError> {
        loose_refs::head(&self.reader, &self.common_dir, self.object_format)
    }

    /// All refs that the patterns take, ordered by the bytes of their names, loose ones over packed ones.
    ///
    /// Symbolic refs stay symbolic, also those whose target does not exist (or is not taken by the
    /// patterns): `git for-each-ref` passes over them in the source and in a copy alike, and gives the
    /// same answer for both. A ref with a broken value or name ends the listing with an error that names
    /// it. Refs of single linked work trees (`refs/bisect`, `refs/worktree`, `refs/rewritten` there) are
    /// not the repository's and are left out; those of the main work tree are in, as Git lists them.
    pub fn refs(&self, patterns: &RefPatterns) -> Result<Refs, SourceError> {
        // In this order: see `loose_refs::list`.
        let loose = loose_refs::list(&self.reader, &self.common_dir, self.object_format, patterns)?;
        let loose = loose.into_iter().peekable();
        let packed = PackedRefs::open(&self.reader, &self.common_dir, self.object_format, patterns)?;
        Ok(Refs { loose, packed, next_packed: None, patterns: patterns.clone() })
    }

    /// All packs of the repository and its alternates that have an index, including kept and cruft ones.
    pub fn packs(&self) -> Result<Vec<SourcePack>, SourceError> {
        objects::packs(&self.reader, &self.object_dirs)
    }

    /// Whether packs listed before are still there; [`SourceError::Changed`] if not.
    pub fn check_unchanged(&self, packs: &[SourcePack]) -> Result<(), SourceError> {
        let now = self.packs()?;
        match packs.iter().find(|pack| !now.contains(pack)) {
            Some(gone) => Err(SourceError::Changed { path: gone.pack.clone() }),
            None => Ok(()),
        }
    }

    /// All loose objects of the repository and its alternates, ordered by id, each once.
    pub fn loose_objects(&self) -> LooseObjects {
        LooseObjects::new(self.reader.clone(), self.object_dirs.clone(), self.object_format)
    }

    /// A loose object, if there is one of that id.
    pub fn find_loose(&self, id: &ObjectId) -> Result<Option<LooseEntry>, SourceError> {
        loose::find(&self.reader, &self.object_dirs, id)
    }

    /// Reads a loose object of at most `limit` bytes into memory and checks its hash. `None` where there
    /// is no such loose object; [`SourceError::TooLarge`] where [`LooseEntry::open`] should stream it.
    pub fn read_loose(&self, id: &ObjectId, limit: u64) -> Result<Option<(gix::object::Kind, Vec<u8>)>, SourceError> {
        self.find_loose(id)?.map(|entry| entry.read(limit)).transpose()
    }
}

/// The refs of a repository, ordered by name. After an error there is nothing more.
#[derive(Debug)]
pub struct Refs {
    loose: Peekable<vec::IntoIter<LooseRef>>,
    packed: Option<PackedRefs>,
    next_packed: Option<(RefName, RefValue)>,
    patterns: RefPatterns,
}

impl Refs {
    fn next_ref(&mut self) -> Result<Option<(RefName, RefValue)>, SourceError> {
        if self.next_packed.is_none()
            && let Some(packed) = &mut self.packed
        {
            self.next_packed = packed.next_ref()?;
            if self.next_packed.is_none() {
                self.packed = None;
            }
        }
        let order = match (self.loose.peek(), &self.next_packed) {
            (Some((loose, _)), Some((packed, _))) => loose.cmp(packed),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        if order.is_eq() {
            self.next_packed = None;
        }
        Ok(if order.is_le() { self.loose.next() } else { self.next_packed.take() })
    }
}

impl Iterator for Refs {
    type Item = Result<(RefName, RefValue), SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_ref() {
                Ok(Some((name, value))) if self.patterns.matches(name.as_bstr()) => return Some(Ok((name, value))),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    self.loose = Vec::new().into_iter().peekable();
                    self.packed = None;
                    self.next_packed = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
