//! The Git repositories that the scenario imports. They are made once and kept with the fixture: other versions of Git
//! and zlib would make packs of other sizes, and imports copy the packs of `bulk` as they are.

use std::path::Path;
use std::process::Command;

use crate::git::GitRepo;
use crate::lfs_work::{oid_of, with_pointer};

/// Commits of [`BUSY`], each in a pack: one more than a repository has without consolidation.
pub const BUSY_COMMITS: usize = 101;
/// Refs of [`MANY`], and their prefix: enough for a change in the object store and a snapshot.
const MANY_REFS: usize = 1_100;
/// Bytes of a large blob and of a large LFS object: two parts of an upload. Zeros, which take no room in an archive.
const LARGE_BYTES: usize = 9 << 20;

pub const APP: &str = "app";
pub const MANY: &str = "many";
pub const BUSY: &str = "busy";
/// One pack of [`LARGE_BYTES`], not compressed.
pub const BULK: &str = "bulk";
/// One LFS object of [`LARGE_BYTES`].
pub const BIG: &str = "big";
/// A pointer to an LFS object that is missing.
pub const POINTERS: &str = "pointers";
pub const LOST: &str = "lost";
/// A repository with SHA-256.
pub const HASHED: &str = "hashed";
/// The repository of the remote `upstream`.
pub const UPSTREAM: &str = "upstream/team/app";

/// A repository below a folder of sources.
pub fn source(folder: &Path, name: &str) -> GitRepo {
    GitRepo::at(folder.join(format!("{name}.git")))
}

/// Makes all sources below a folder. The scenario adds commits to `app`, `busy` and `upstream` step by step: an import
/// takes all loose objects that it finds, and each step is to make a pack of its own.
pub fn make(folder: &Path) {
    let new = |name: &str| GitRepo::init(folder.join(format!("{name}.git")), &[]);
    let app = new(APP);
    add_lfs_object(&app, b"an LFS object\n");
    app.commit("main", "file.bin", &pointer_to(b"an LFS object\n"));

    let many = new(MANY);
    let commit = many.commit("main", "file", "many\n");
    let part = "long".repeat(60);
    many.pack_many_refs(&format!("refs/heads/{part}/{part}/{part}/{part}/"), MANY_REFS, &commit);

    new(BUSY);
    let bulk = new(BULK);
    for (name, value) in [("core.compression", "0"), ("pack.compression", "0"), ("core.looseCompression", "0")] {
        bulk.git(&["config", name, value]);
    }
    bulk.commit_bytes("main", "zeros", &vec![0; LARGE_BYTES]);
    bulk.git(&["repack", "-adqF"]);

    let big = new(BIG);
    let zeros = vec![0; LARGE_BYTES];
    add_lfs_object(&big, &zeros);
    big.commit("main", "zeros.bin", &pointer_to(&zeros));

    with_pointer(&folder.join(format!("{POINTERS}.git")), b"nobody has it\n");
    new(LOST).commit("main", "file", "lost\n");
    let hashed = GitRepo::init(folder.join(format!("{HASHED}.git")), &["--object-format=sha256"]);
    hashed.commit("main", "file", "hashed\n");

    let upstream = new(UPSTREAM);
    upstream.commit("main", "file", "upstream 0\n");
    upstream.git(&["branch", "side", "main"]);
}

fn pointer_to(content: &[u8]) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n", oid_of(content), content.len())
}

fn add_lfs_object(repo: &GitRepo, content: &[u8]) {
    let oid = oid_of(content);
    let folder = repo.path.join("lfs/objects").join(&oid[..2]).join(&oid[2..4]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(oid), content).unwrap();
}

/// Packs folders into an archive.
pub fn pack(archive: &Path, root: &Path, names: &[&str]) {
    // The same files make the same archive, apart from their times.
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-I", "gzip -9n", "-cf"]);
    command.arg(archive).arg("-C").arg(root).args(names);
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// Unpacks an archive into a folder. The files are new: a sweep takes none of them for an old one.
pub fn unpack(archive: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = Command::new("tar");
    command.arg("-xzmf").arg(archive).arg("-C").arg(folder);
    assert!(command.status().unwrap().success(), "{command:?}");
}
