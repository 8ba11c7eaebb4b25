//! [`Quarantine`]: presents a push that is not yet accepted to hooks, as a bare repository.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use gix::hash::Kind as Format;
use tempfile::TempDir;

use crate::refs::RefValue;
use crate::view::View;

/// Bare repository with the refs from before the push. Holds the objects of the push; held objects come from an
/// alternate. Deleted on drop.
#[derive(Debug)]
pub struct Quarantine {
    dir: TempDir,
}

impl Quarantine {
    /// Creates the repository in the directory `spool`. `held` are the live packs, `new` is the pack of the push, each
    /// with its index.
    pub fn create(
        spool: &Path,
        view: &View,
        held: impl IntoIterator<Item = (PathBuf, PathBuf)>,
        new: Option<(&Path, &Path)>,
    ) -> io::Result<Quarantine> {
        let dir = TempDir::new_in(spool)?;
        let root = dir.path();
        for folder in ["refs", "objects/info", "objects/pack", "held/pack"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::write(root.join("objects/info/alternates"), held_path(root)? + "\n")?;
        for (number, (pack, index)) in held.into_iter().enumerate() {
            link_pack(&root.join("held/pack"), number, &pack, &index)?;
        }
        if let Some((pack, index)) = new {
            link_pack(&root.join("objects/pack"), 0, pack, index)?;
        }
        fs::write(root.join("config"), config(view.format))?;
        write_head(root, &view.head)?;
        write_refs(root, view)?;
        Ok(Quarantine { dir })
    }

    /// Path of the bare repository: `GIT_DIR`.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lists all packs, held and new, each with its index.
    pub fn packs(&self) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let mut packs = Vec::new();
        for folder in ["held/pack", "objects/pack"] {
            for entry in fs::read_dir(self.dir.path().join(folder))? {
                let index = entry?.path();
                if index.extension().is_some_and(|extension| extension == "idx") {
                    packs.push((index.with_extension("pack"), index));
                }
            }
        }
        Ok(packs)
    }

    /// Path of the new objects: `GIT_QUARANTINE_PATH`.
    pub fn objects(&self) -> PathBuf {
        self.dir.path().join("objects")
    }
}

/// Returns the path of the held packs for `info/alternates`.
fn held_path(root: &Path) -> io::Result<String> {
    let held = fs::canonicalize(root)?.join("held");
    held.to_str().map(String::from).ok_or_else(|| io::Error::other("the spool's path is not UTF-8"))
}

/// Links a pack and its index under a numbered name: Git finds packs by the name of their index, whatever it is.
fn link_pack(folder: &Path, number: usize, pack: &Path, index: &Path) -> io::Result<()> {
    let name = format!("pack-{number:040x}");
    symlink(fs::canonicalize(pack)?, folder.join(format!("{name}.pack")))?;
    symlink(fs::canonicalize(index)?, folder.join(format!("{name}.idx")))
}

fn config(format: Format) -> String {
    let version = if format == Format::Sha1 { 0 } else { 1 };
    let mut config = format!("[core]\n\trepositoryformatversion = {version}\n\tbare = true\n");
    if format != Format::Sha1 {
        config.push_str(&format!("[extensions]\n\tobjectformat = {format}\n"));
    }
    config
}

fn write_head(root: &Path, head: &RefValue) -> io::Result<()> {
    let mut file = File::create(root.join("HEAD"))?;
    match head {
        RefValue::Object(id) => writeln!(file, "{id}"),
        RefValue::Symbolic(name) => {
            file.write_all(b"ref: ")?;
            file.write_all(name)?;
            file.write_all(b"\n")
        }
    }
}

fn write_refs(root: &Path, view: &View) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(root.join("packed-refs"))?);
    writeln!(file, "# pack-refs with: sorted ")?;
    for entry in view.refs.iter() {
        if let Some(id) = view.refs.object(&entry) {
            write!(file, "{id} ")?;
            file.write_all(entry.name)?;
            file.write_all(b"\n")?;
        }
    }
    file.into_inner()?.flush()
}
