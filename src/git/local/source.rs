//! Local repository as the source of an import.

use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec;

use super::error::SourceError;
use super::loose::LooseObjects;
use super::loose_refs::LooseRef;
use super::objects::SourcePack;
use super::packed_refs::PackedRefs;
use super::pattern::RefPatterns;
use super::reader::Reader;
use super::{features, location, loose_refs, objects, ownership};
use crate::refs::{RefName, RefValue};

/// Git repository on the local disk, opened for reading.
///
/// The repository may be in use. A reader misses nothing that stays reachable if it follows the order in which Git
/// writes: [`head`](Self::head) and [`refs`](Self::refs), then [`loose_objects`](Self::loose_objects) (objects move
/// from there into packs), then [`packs`](Self::packs), all of which should be [opened](SourcePack::open_pack) at once.
#[derive(Debug)]
pub struct SourceRepository {
    path: PathBuf,
    common_dir: PathBuf,
    object_format: gix::hash::Kind,
    object_dirs: Vec<PathBuf>,
    reader: Reader,
}

impl SourceRepository {
    /// Opens the repository at `path`: a bare repository, a work tree (linked or not), a submodule, or a `.git`
    /// directory or file. Parent directories are not searched.
    ///
    /// # Errors
    /// Unsupported features, and repositories of another user that `safe.directory` does not list, are refused before
    /// anything else is read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let (common_dir, places) = location::find(path)?;
        let mut reader = if ownership::is_own(path, &places)? {
            Reader::default()
        } else {
            Reader::within(vec![common_dir.canonicalize().map_err(|error| SourceError::io(path, error))?])
        };
        let object_format = features::check(&reader, &common_dir)?;
        let object_dirs = objects::directories(&mut reader, &common_dir)?;
        objects::refuse_promisor_packs(&common_dir, &object_dirs)?;
        Ok(SourceRepository { path: path.to_owned(), common_dir, object_format, object_dirs, reader })
    }

    /// Opens a regular file that Git itself does not read, such as an LFS object. In a repository of another user, the
    /// file must be inside the repository.
    pub fn open_file(&self, path: &Path) -> std::io::Result<std::fs::File> {
        self.reader.open(path)
    }

    /// Path passed to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Directory that holds `config`, `refs` and `objects`.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// Object format of the repository.
    pub fn object_format(&self) -> gix::hash::Kind {
        self.object_format
    }

    /// `HEAD` of the repository (of its main work tree, if it has linked ones): symbolic, even for an unborn branch, or
    /// an object when detached.
    pub fn head(&self) -> Result<RefValue, SourceError> {
        loose_refs::head(&self.reader, &self.common_dir, self.object_format)
    }

    /// Lists the refs that match the patterns, ordered by the bytes of their names; loose refs hide packed ones.
    ///
    /// Symbolic refs stay symbolic, including those whose target does not exist or does not match the patterns: `git
    /// for-each-ref` skips them in the source and in a copy alike, and prints the same for both. A ref with a broken
    /// value or name ends the listing with an error that names the ref. Per-worktree refs (`refs/bisect`,
    /// `refs/worktree`, `refs/rewritten`) of linked work trees are left out; those of the main work tree are included,
    /// as Git lists them.
    pub fn refs(&self, patterns: &RefPatterns) -> Result<Refs, SourceError> {
        // In this order: see `loose_refs::list`.
        let loose = loose_refs::list(&self.reader, &self.common_dir, self.object_format, patterns)?;
        let loose = loose.into_iter().peekable();
        let packed = PackedRefs::open(&self.reader, &self.common_dir, self.object_format, patterns)?;
        Ok(Refs { loose, packed, next_packed: None, patterns: patterns.clone() })
    }

    /// Lists all packs with an index in the repository and its alternates, including kept and cruft packs.
    pub fn packs(&self) -> Result<Vec<SourcePack>, SourceError> {
        objects::packs(&self.reader, &self.object_dirs)
    }

    /// Lists all loose objects of the repository and its alternates, ordered by id, without repetition.
    pub fn loose_objects(&self) -> LooseObjects {
        LooseObjects::new(self.reader.clone(), self.object_dirs.clone(), self.object_format)
    }
}

/// Iterator over the refs of a repository, ordered by name. Ends after an error.
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
