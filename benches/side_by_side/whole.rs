//! Rows about a whole repository: first sync, import, deep verification.

use std::io;
use std::path::Path;

use super::support::measure::{Sample, median, run};
use super::support::place::{KeptMirror, Place, Regions, clear, copy_durably, git, settle};
use super::support::report::{Row, ratio};

/// Most anonymous memory of a `replicate`, for a repository of any size.
pub const REPLICATE_KIB: u64 = 100 * 1024;

/// The given repository, and what is made of it.
pub struct Whole<'a> {
    /// A copy of it that may be written to.
    pub source: &'a Path,
    /// Its regions, with the repository imported and replicated at the end.
    pub regions: &'a Regions,
    /// Its kept mirror.
    pub kept: &'a KeptMirror,
    /// How often.
    pub runs: usize,
}

/// The samples that several rows share.
#[derive(Default)]
pub struct Shared {
    import: Vec<Sample>,
    replicate: Vec<Sample>,
    clone: Vec<Sample>,
    /// Clone and push together.
    pub clone_and_push: Vec<Sample>,
    copy: Vec<Sample>,
    index_pack: Vec<Sample>,
}

impl Whole<'_> {
    /// Import, clone, replicate, push, copy, index-pack; all of them in every round.
    pub fn measure(&self, place: &Place) -> io::Result<Shared> {
        let mut shared = Shared::default();
        for _ in 0..self.runs {
            self.regions.clear("us-east-1")?;
            self.regions.clear("eu-west-1")?;
            settle();
            shared.import.push(self.regions.import(self.source, "repository")?);
            let (clone, push) = self.kept.first(self.source)?;
            shared.clone.push(clone);
            shared.clone_and_push.push(clone.then(push));
            settle();
            shared.replicate.push(self.regions.replicate()?);
            shared.copy.push(copy_durably(&self.regions.packs()?, &place.path("copy"))?);
            clear(&place.path("copy"))?;
            shared.index_pack.push(self.index_pack(&place.path("check.idx"))?);
        }
        Ok(shared)
    }

    /// Git's own check of the largest pack, for its memory.
    fn index_pack(&self, index: &Path) -> io::Result<Sample> {
        let packs = self.regions.packs()?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "pack"));
        let largest = packs.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()));
        let Some(pack) = largest else { return Ok(Sample::default()) };
        let mut command = git(Path::new("."), &["index-pack", "-o"]);
        run(command.arg(index).arg(pack))
    }

    /// `verify --deep` beside `git fsck --full`.
    pub fn verify(&self, shared: &Shared) -> io::Result<Row> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            ours.push(run(&mut self.regions.command(&["verify", "repository", "--region", "eu-west-1", "--deep"]))?);
            theirs.push(run(&mut git(self.source, &["fsck", "--full", "--no-progress"]))?);
        }
        let mut row = Row::new("verify the whole repository");
        let verify = row.add("gitferry verify --deep", &ours);
        let fsck = row.add("git fsck --full", &theirs);
        row.at_least("at least 2 × as fast as git fsck --full", verify, fsck, 2.0);
        let limit = median(&shared.index_pack).anon_kib;
        row.memory("anonymous memory at most that of git index-pack", verify, limit);
        Ok(row)
    }
}

impl Shared {
    /// First sync beside Git and beside a plain copy.
    pub fn first_sync(&self) -> Row {
        let mut row = Row::new("first sync: everything to an empty region");
        let replicate = row.add("gitferry replicate", &self.replicate);
        row.add("git clone --mirror --no-local + git push --mirror", &self.clone_and_push);
        let copy = row.add("plain copy of the packs and indexes + fsync", &self.copy);
        row.at_most("at most 1.5 × copy + fsync", ratio(replicate, copy), 1.5, " ×");
        row.memory("anonymous memory below 100 MiB", replicate, REPLICATE_KIB);
        row
    }

    /// Import beside a clone.
    pub fn import(&self) -> Row {
        let mut row = Row::new("import: into a region, every object checked");
        let import = row.add("gitferry import", &self.import);
        let clone = row.add("git clone --mirror --no-local", &self.clone);
        let index_pack = row.add("git index-pack of the largest pack", &self.index_pack);
        row.at_least("at least 3 × as fast as the clone", import, clone, 3.0);
        row.memory("anonymous memory at most that of git index-pack", import, index_pack.anon_kib);
        row
    }
}
