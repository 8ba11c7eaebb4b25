//! Writer of a bare repository for plain Git: the target of an export.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::export_error::ExportError;
use super::staging::Staging;
use crate::refs::{RefName, RefValue};

/// Callback that peels a tag object to its final target; `None` for any other object.
pub type Peel<'a, E> = dyn FnMut(&ObjectId) -> Result<Option<ObjectId>, E> + 'a;

/// Bare repository under construction.
///
/// The repository is built in a staging directory next to its target and renamed by [`BareRepository::finish`], so that
/// an incomplete repository is never visible. Dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct BareRepository {
    target: PathBuf,
    format: gix::hash::Kind,
    staging: Staging,
}

impl BareRepository {
    /// Begins a repository at `directory`, which must be absent or empty. Creates missing parents.
    pub fn create(directory: impl AsRef<Path>, format: gix::hash::Kind) -> Result<Self, ExportError> {
        let directory = directory.as_ref();
        let target = std::path::absolute(directory).map_err(ExportError::io(directory))?;
        let exists = || ExportError::Exists { path: directory.to_owned() };
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return Err(exists()) };
        if !is_free(&target)? {
            return Err(exists());
        }
        fs::create_dir_all(parent).map_err(ExportError::io(parent))?;
        let staging = Staging::new(parent, name)?;
        let root = staging.path();
        for name in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(ExportError::io(&path))?;
        }
        write_file(&root.join("config"), config(format).as_bytes())?;
        Ok(BareRepository { target, format, staging })
    }

    /// Path of the repository in staging, until [`BareRepository::finish`]: for files that Git does not know.
    pub fn directory(&self) -> PathBuf {
        self.staging.path().to_path_buf()
    }

    /// Copies a pack and its index, durably. Both are checked against the pack id, which each holds near its end; the
    /// caller has verified all other bytes.
    pub fn add_pack(&mut self, id: &ObjectId, pack: impl Read, index: impl Read) -> Result<(), ExportError> {
        let directory = self.staging.path().join("objects/pack");
        let hash_bytes = id.kind().len_in_bytes() as u64;
        let wrong = |what, reason: String| ExportError::WrongPack { pack: *id, what, reason };
        if id.kind() != self.format {
            return Err(wrong("the id", format!("the repository is {}", self.format)));
        }
        // Git ignores a pack without an index, so the index is written last.
        let pack_path = directory.join(format!("pack-{id}.pack"));
        let index_path = directory.join(format!("pack-{id}.idx"));
        let found = copy(pack, &pack_path, hash_bytes, id)?;
        if found.as_ref() != Some(id) {
            return Err(wrong("the pack file", carries(found)));
        }
        let found = copy(index, &index_path, hash_bytes.saturating_mul(2), id)?;
        if found.as_ref() != Some(id) {
            return Err(wrong("the index", carries(found)));
        }
        Ok(())
    }

    /// Writes `HEAD` and the refs and renames the repository to its target, durably.
    ///
    /// `refs` must be ordered by the bytes of their names. Refs with an object go into `packed-refs`, where names
    /// cannot collide on case-insensitive file systems; symbolic refs need files. With `peel`, `packed-refs` holds the
    /// peeled targets of tags and declares the `fully-peeled` trait.
    pub fn finish<E: From<ExportError>>(
        self,
        head: &RefValue,
        refs: impl IntoIterator<Item = Result<(RefName, RefValue), E>>,
        mut peel: Option<&mut Peel<'_, E>>,
    ) -> Result<(), E> {
        let root = self.staging.path();
        let path = root.join("packed-refs");
        let mut packed = PackedRefsWriter::create(&path, peel.is_some())?;
        let mut last: Option<RefName> = None;
        for entry in refs {
            let (name, value) = entry?;
            if last.as_ref().is_some_and(|last| *last >= name) {
                return Err(bad_ref(&name, "it comes out of order or twice").into());
            }
            match &value {
                RefValue::Object(id) => {
                    self.check_format(&name, id)?;
                    let peeled = match &mut peel {
                        Some(peel) => peel(id)?,
                        None => None,
                    };
                    packed.write(&name, id, peeled.as_ref())?;
                }
                RefValue::Symbolic(_) => write_symbolic(&root, &name, &value)?,
            }
            last = Some(name);
        }
        packed.finish()?;
        if let RefValue::Object(id) = head
            && id.kind() != self.format
        {
            let reason = format!("{id} is not an id of the repository's format, {}", self.format);
            return Err(ExportError::BadRef { name: "HEAD".into(), reason }.into());
        }
        write_file(&root.join("HEAD"), &value_line(head))?;
        Ok(self.publish()?)
    }

    fn check_format(&self, name: &RefName, id: &ObjectId) -> Result<(), ExportError> {
        if id.kind() == self.format {
            return Ok(());
        }
        Err(bad_ref(name, &format!("{id} is not an id of the repository's format, {}", self.format)))
    }

    fn publish(self) -> Result<(), ExportError> {
        let root = self.staging.path();
        sync_directories(&root)?;
        if let Err(error) = fs::rename(&root, &self.target) {
            // The target was created after the check in `create`.
            return Err(match is_free(&self.target) {
                Ok(false) => ExportError::Exists { path: self.target },
                _ => ExportError::Io { path: self.target, source: error },
            });
        }
        match self.target.parent() {
            Some(parent) => sync_directory(parent),
            None => Ok(()),
        }
    }
}

/// Returns true if the path does not exist or is an empty directory.
fn is_free(path: &Path) -> Result<bool, ExportError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(fs::read_dir(path).map_err(ExportError::io(path))?.next().is_none()),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(ExportError::Io { path: path.to_owned(), source }),
    }
}

fn config(format: gix::hash::Kind) -> String {
    // SHA-1 needs no extension, so version 0 suffices, which every version of Git reads.
    let is_sha1 = format == gix::hash::Kind::Sha1;
    let version = if is_sha1 { 0 } else { 1 };
    let mut text = format!("[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n");
    if !is_sha1 {
        text.push_str(&format!("[extensions]\n\tobjectformat = {format}\n"));
    }
    text
}

fn bad_ref(name: &RefName, reason: &str) -> ExportError {
    ExportError::BadRef { name: name.clone().into(), reason: reason.into() }
}

fn carries(found: Option<ObjectId>) -> String {
    match found {
        Some(found) => format!("it has the pack id {found}"),
        None => "it is too short".into(),
    }
}

/// Content of a loose ref file.
fn value_line(value: &RefValue) -> Vec<u8> {
    match value {
        RefValue::Object(id) => format!("{}\n", id.to_hex()).into_bytes(),
        RefValue::Symbolic(target) => [b"ref: ".as_slice(), target.as_bytes(), b"\n"].concat(),
    }
}

fn write_symbolic(root: &Path, name: &RefName, value: &RefValue) -> Result<(), ExportError> {
    let relative = gix::path::from_byte_slice(name).map_err(|e| bad_ref(name, &e.to_string()))?;
    let path = root.join(relative);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ExportError::io(parent))?;
    }
    match write_file(&path, &value_line(value)) {
        Err(ExportError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
            Err(bad_ref(name, "on this file system its name equals that of another symbolic ref"))
        }
        other => other,
    }
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), ExportError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(ExportError::io(path))
}

/// Copies a stream into a new read-only file, durably. Returns the hash that starts `from_end` bytes before the end;
/// `None` if the file is shorter.
fn copy(mut from: impl Read, path: &Path, from_end: u64, id: &ObjectId) -> Result<Option<ObjectId>, ExportError> {
    let mut copy = || {
        let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
        let bytes = io::copy(&mut from, &mut file)?;
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(true);
        file.set_permissions(permissions)?;
        file.sync_all()?;
        let Some(at) = bytes.checked_sub(from_end) else { return Ok(None) };
        let mut hash = vec![0; id.kind().len_in_bytes()];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut hash)?;
        Ok(ObjectId::try_from(hash.as_slice()).ok())
    };
    copy().map_err(ExportError::io(path))
}

fn sync_directory(path: &Path) -> Result<(), ExportError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ExportError::io(path))
}

/// Syncs a directory and all directories below it.
fn sync_directories(path: &Path) -> Result<(), ExportError> {
    for entry in fs::read_dir(path).map_err(ExportError::io(path))? {
        let entry = entry.map_err(ExportError::io(path))?;
        if entry.file_type().map_err(ExportError::io(path))?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(path)
}

/// Writes `packed-refs` (git-pack-refs(1), Git's `refs/packed-backend.c`).
struct PackedRefsWriter<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> PackedRefsWriter<'a> {
    fn create(path: &'a Path, peeled: bool) -> Result<Self, ExportError> {
        let mut file = BufWriter::new(File::create_new(path).map_err(ExportError::io(path))?);
        // Readers rely on these traits. The space at the end is part of the format.
        let traits = if peeled { "peeled fully-peeled sorted" } else { "sorted" };
        writeln!(file, "# pack-refs with: {traits} ").map_err(ExportError::io(path))?;
        Ok(PackedRefsWriter { path, file })
    }

    fn write(&mut self, name: &RefName, id: &ObjectId, peeled: Option<&ObjectId>) -> Result<(), ExportError> {
        let mut write = || {
            write!(self.file, "{} ", id.to_hex())?;
            self.file.write_all(name)?;
            self.file.write_all(b"\n")?;
            match peeled {
                Some(peeled) => writeln!(self.file, "^{}", peeled.to_hex()),
                None => Ok(()),
            }
        };
        write().map_err(ExportError::io(self.path))
    }

    fn finish(self) -> Result<(), ExportError> {
        let file = self.file.into_inner().map_err(|e| e.into_error()).map_err(ExportError::io(self.path))?;
        file.sync_all().map_err(ExportError::io(self.path))
    }
}
