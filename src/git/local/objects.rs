//! Object directories of a repository and their packs (gitrepository-layout(5)).

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::{Feature, SourceError};
use super::location::read_small_with;
use super::ownership::same_owner;
use super::reader::Reader;

/// Most levels of nested alternates, as in Git (`odb.c`). The repository's own alternates have depth 0.
pub const MAX_ALTERNATE_DEPTH: usize = 5;
/// Most entries of one directory of packs or loose objects.
pub const MAX_DIRECTORY_ENTRIES: usize = 1_000_000;
/// Path of the alternates file in an object directory.
const ALTERNATES: &str = "info/alternates";
/// Most bytes of `objects/info/alternates`.
const MAX_ALTERNATES_BYTES: u64 = 16 * 1024 * 1024;
/// Most listings of a directory until two agree.
const MAX_LISTINGS: usize = 10;

/// Pack of a local repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePack {
    /// Path of the pack. The file name is arbitrary: the id of a pack is its trailer.
    pub pack: PathBuf,
    /// Path of the index.
    pub index: PathBuf,
    /// Size of the pack in bytes.
    pub bytes: u64,
    reader: Reader,
}

impl SourcePack {
    /// Opens the pack. An open pack can be read to its end even if a repack deletes it.
    pub fn open_pack(&self) -> Result<fs::File, SourceError> {
        self.reader.open(&self.pack).map_err(|e| SourceError::io_of_listed(&self.pack, e))
    }

    /// Opens the index. An open index can be read to its end even if a repack deletes it.
    pub fn open_index(&self) -> Result<fs::File, SourceError> {
        self.reader.open(&self.index).map_err(|e| SourceError::io_of_listed(&self.index, e))
    }
}

/// Lists the object directories of a repository and of its alternates, recursively, without repetition and the
/// repository's own first.
///
/// If `reader` is confined, alternates must belong to the owner of the repository. `reader` is extended to them.
pub(super) fn directories(reader: &mut Reader, common_dir: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let own = common_dir.join("objects");
    let canonical = fs::canonicalize(&own).map_err(|e| SourceError::io(&own, e))?;
    let root = fs::canonicalize(common_dir).map_err(|e| SourceError::io(common_dir, e))?;
    if reader.is_confined() && !canonical.starts_with(&root) {
        return Err(SourceError::unsupported(common_dir, Feature::LinkedObjects));
    }
    let mut seen = HashSet::from([canonical.clone()]);
    let mut found = vec![canonical.clone()];
    let mut level = vec![canonical];
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for directory in level {
            for (entry, alternate) in alternates_of(reader, &directory)?.into_iter().enumerate() {
                let file = directory.join(ALTERNATES);
                if depth > MAX_ALTERNATE_DEPTH {
                    return Err(SourceError::unsupported(common_dir, Feature::AlternateDepth(directory)));
                }
                let Ok(canonical) = fs::canonicalize(&alternate) else {
                    return Err(SourceError::unsupported(common_dir, Feature::AlternateMissing(file, entry + 1)));
                };
                if !canonical.is_dir() {
                    return Err(SourceError::unsupported(common_dir, Feature::AlternateMissing(file, entry + 1)));
                }
                if reader.is_confined() && !same_owner(&canonical, &root) {
                    return Err(SourceError::unsupported(common_dir, Feature::AlternateForeign(file, entry + 1)));
                }
                *reader = reader.including(&canonical);
                if seen.insert(canonical.clone()) {
                    found.push(canonical.clone());
                    next.push(canonical);
                }
            }
        }
        level = next;
        depth += 1;
    }
    Ok(found)
}

/// Reads the paths in a directory's `info/alternates`, without comments, unquoted and with relative paths resolved.
fn alternates_of(reader: &Reader, directory: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let file = directory.join(ALTERNATES);
    let Some(text) = read_small_with(reader, &file, MAX_ALTERNATES_BYTES)? else { return Ok(Vec::new()) };
    let paths = gix::odb::alternate::parse(&text);
    let paths = paths.map_err(|_| SourceError::damaged(&file, "it has a line that is no valid path"))?;
    Ok(paths.into_iter().map(|path| directory.join(path)).collect())
}

/// Refuses a repository with a promisor pack, which may lack objects.
pub(super) fn refuse_promisor_packs(common_dir: &Path, object_dirs: &[PathBuf]) -> Result<(), SourceError> {
    for directory in object_dirs {
        let pack_dir = directory.join("pack");
        let names = list_stable(&pack_dir)?;
        for name in &names {
            let path = Path::new(name);
            if path.extension() == Some(OsStr::new("promisor"))
                && names.contains(path.with_extension("pack").as_os_str())
            {
                let how = pack_dir.join(name).display().to_string();
                return Err(SourceError::unsupported(common_dir, Feature::PartialClone(how)));
            }
        }
    }
    Ok(())
}

/// Lists all packs with an index, by directory, then by name.
pub(super) fn packs(reader: &Reader, object_dirs: &[PathBuf]) -> Result<Vec<SourcePack>, SourceError> {
    let mut packs = Vec::new();
    let mut seen = HashSet::new();
    for directory in object_dirs {
        let pack_dir = directory.join("pack");
        let names = list_stable(&pack_dir)?;
        for name in &names {
            let path = Path::new(name);
            let index = path.with_extension("idx");
            if path.extension() != Some(OsStr::new("pack")) || is_temporary(name) || !names.contains(index.as_os_str())
            {
                continue;
            }
            let pack = pack_dir.join(path);
            let metadata = fs::metadata(&pack).map_err(|e| SourceError::io_of_listed(&pack, e))?;
            // Hard links of `git clone --local` lead to the same file.
            if seen.insert((metadata.dev(), metadata.ino())) {
                let index = pack_dir.join(index);
                packs.push(SourcePack { pack, index, bytes: metadata.len(), reader: reader.clone() });
            }
        }
    }
    Ok(packs)
}

/// Returns true for temporary files of Git.
fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"tmp_")
}

/// Lists a directory until two listings agree: a single listing may miss both the old and the new file of a concurrent
/// repack. Empty if the directory does not exist.
fn list_stable(directory: &Path) -> Result<BTreeSet<OsString>, SourceError> {
    let mut before = list(directory)?;
    for _ in 1..MAX_LISTINGS {
        let now = list(directory)?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err(SourceError::Changed { path: directory.to_owned() })
}

/// Lists the names in a directory. Empty if the directory does not exist.
pub(super) fn list(directory: &Path) -> Result<BTreeSet<OsString>, SourceError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(SourceError::io(directory, error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        if names.len() >= MAX_DIRECTORY_ENTRIES {
            let feature = Feature::TooMany("files in one object directory", MAX_DIRECTORY_ENTRIES);
            return Err(SourceError::unsupported(directory, feature));
        }
        names.insert(entry.map_err(|e| SourceError::io(directory, e))?.file_name());
    }
    Ok(names)
}
