//! Repositories made by Git, and packs made by hand.

use std::io::Write;
use std::path::{Path, PathBuf};

use gitferry_git::pack::{CheckOptions, CheckProgress, CheckedPack, Fault, PackSet, check_pack};
use gitferry_test_support::git;
use gix::ObjectId;
use gix::hash::Kind as Format;
use tempfile::TempDir;

pub const FORMATS: [Format; 2] = [Format::Sha1, Format::Sha256];

/// A repository that lives as long as the value.
pub struct Repo {
    pub dir: TempDir,
    pub format: Format,
}

impl Repo {
    pub fn new(format: Format) -> Repo {
        let repo = Repo { dir: tempfile::tempdir().unwrap(), format };
        repo.git(&["init", "-q", "--bare", &format!("--object-format={format}"), "."]);
        repo
    }

    /// Sixty commits on files that grow, in directories; tags; a submodule; a merge.
    pub fn with_history(format: Format) -> Repo {
        let repo = Repo::new(format);
        let mut script = Vec::new();
        let mut text = String::new();
        for commit in 0..60 {
            text.push_str(&format!("line {commit} {}\n", commit * 7919 % 101));
            let data = |script: &mut Vec<u8>, data: &str| write!(script, "data {}\n{data}\n", data.len()).unwrap();
            writeln!(script, "commit refs/heads/main\nmark :{}", commit + 1).unwrap();
            writeln!(script, "committer C <c@example.org> {} +0000", 1_700_000_000 + commit).unwrap();
            data(&mut script, &format!("commit {commit}"));
            if commit == 30 {
                writeln!(script, "merge :3").unwrap();
            }
            for file in 0..8 {
                if (commit + file) % 3 == 0 {
                    writeln!(script, "M 100644 inline dir{}/sub/file{file}", file % 3).unwrap();
                    data(&mut script, &format!("file {file}\n{text}"));
                }
            }
            if commit == 5 {
                writeln!(script, "M 160000 {} module", "5".repeat(format.len_in_hex())).unwrap();
            }
        }
        writeln!(script, "tag v1\nfrom :60\ntagger T <t@example.org> 1700000100 +0000\ndata 2\nv1").unwrap();
        repo.git_with(&["fast-import", "--quiet"], &script);
        repo
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_with(arguments, b"")
    }

    /// Runs Git with something on its standard input; its output without the last newline.
    pub fn git_with(&self, arguments: &[&str], input: &[u8]) -> String {
        String::from_utf8(self.raw(arguments, input)).unwrap().trim_end().into()
    }

    pub fn raw(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let (success, output) = self.run(arguments, input);
        assert!(success, "git {arguments:?} failed");
        output
    }

    pub fn run(&self, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>) {
        let output = git::run(self.path(), arguments, input);
        (output.status.success(), output.stdout)
    }

    /// Writes what `git pack-objects` makes of `input` to a file.
    pub fn pack(&self, name: &str, arguments: &[&str], input: &str) -> PathBuf {
        let arguments = [&["pack-objects", "-q", "--stdout"], arguments].concat();
        let path = self.path().join(name);
        std::fs::write(&path, self.raw(&arguments, input.as_bytes())).unwrap();
        path
    }

    /// All objects of the repository in one pack.
    pub fn pack_all(&self, name: &str, arguments: &[&str]) -> PathBuf {
        self.pack(name, &[&["--all", "--revs"], arguments].concat(), "")
    }

    /// The index that Git makes for a pack; `None` if it refuses to.
    pub fn index_pack(&self, pack: &Path, arguments: &[&str]) -> Option<PathBuf> {
        let index = pack.with_extension("git.idx");
        let _ = std::fs::remove_file(&index);
        let format = format!("--object-format={}", self.format);
        let fixed = ["index-pack", &format, "-o", index.to_str().unwrap()];
        let (success, _) = self.run(&[&fixed, arguments, &[pack.to_str().unwrap()]].concat(), b"");
        success.then_some(index)
    }

    pub fn write_object(&self, kind: &str, data: &[u8]) -> ObjectId {
        let id = self.git_with(&["hash-object", "-w", "--literally", "-t", kind, "--stdin"], data);
        ObjectId::from_hex(id.as_bytes()).unwrap()
    }

    pub fn rev_parse(&self, name: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", name]).as_bytes()).unwrap()
    }
}

/// Checks a pack with an index that was written next to it.
pub fn check(pack: &Path, hint: Option<&Path>, options: &CheckOptions) -> Result<CheckedPack, Fault> {
    let progress = CheckProgress::default();
    check_pack(pack, hint, options, &pack.with_extension("our.idx"), &progress).map_err(|error| {
        assert_eq!(error.path, pack);
        error.fault
    })
}

/// A set of one checked pack.
pub fn pack_set(packs: &[(&Path, &CheckedPack)], format: Format) -> PackSet {
    let mut set = PackSet::new(format);
    for (path, checked) in packs {
        set.add(path, &checked.index).unwrap();
    }
    set
}

/// One entry of a pack: type code, size as claimed, what stands between header and data, data.
pub fn entry(code: u8, size: u64, between: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = size >> 4;
    out.push((code << 4) | (size & 15) as u8 | if rest > 0 { 0x80 } else { 0 });
    while rest > 0 {
        let bits = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(bits | if rest > 0 { 0x80 } else { 0 });
    }
    out.extend_from_slice(between);
    out.extend_from_slice(&deflate(data));
    out
}

pub fn blob(data: &[u8]) -> Vec<u8> {
    entry(3, data.len() as u64, b"", data)
}

pub fn deflate(data: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(data).unwrap();
    out.finish().unwrap()
}

/// A pack with a good header and trailer around some entries.
pub fn assemble(entries: &[Vec<u8>]) -> Vec<u8> {
    let header = [*b"PACK", 2u32.to_be_bytes(), (entries.len() as u32).to_be_bytes()].concat();
    seal([header, entries.concat()].concat(), Format::Sha1)
}

/// Appends the checksum of some content.
pub fn seal(mut content: Vec<u8>, format: Format) -> Vec<u8> {
    let mut hasher = gix::hash::hasher(format);
    hasher.update(&content);
    content.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    content
}

/// An index of version 2 that says what it is told to.
pub fn index_of(pack: &[u8], mut rows: Vec<(ObjectId, u32, u32)>) -> Vec<u8> {
    rows.sort();
    let mut out = b"\xfftOc\0\0\0\x02".to_vec();
    for byte in 0..=255 {
        let count = rows.iter().filter(|row| row.0.first_byte() <= byte).count() as u32;
        out.extend_from_slice(&count.to_be_bytes());
    }
    rows.iter().for_each(|row| out.extend_from_slice(row.0.as_slice()));
    rows.iter().for_each(|row| out.extend_from_slice(&row.1.to_be_bytes()));
    rows.iter().for_each(|row| out.extend_from_slice(&row.2.to_be_bytes()));
    out.extend_from_slice(&pack[pack.len() - 20..]);
    seal(out, Format::Sha1)
}

pub fn blob_id(data: &[u8]) -> ObjectId {
    gix::objs::compute_hash(Format::Sha1, gix::objs::Kind::Blob, data).unwrap()
}

/// Some bytes that do not compress, the same every time.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
