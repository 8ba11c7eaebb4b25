//! Objects made by Git once, in packs that build on each other, and sources that borrow them: a
//! repository in any state is then a matter of writing two small files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gitferry_engine::region::Region;
use gitferry_engine::region::import::{ImportOptions, Imported};

use gitferry_test_support::faulty::Sites;
use gitferry_test_support::git::GitRepo;

/// How many packs there are; each needs those before it.
pub const LEVELS: usize = 8;
/// Commits in one pack.
pub const COMMITS: usize = 6;

/// The pool. It is made when it is first asked for.
pub struct Pool {
    _dir: tempfile::TempDir,
    levels: Vec<Level>,
}

/// One pack, and what refs may name in it.
struct Level {
    objects: PathBuf,
    /// Commits first, then a tag, a tree and a blob.
    ids: Vec<String>,
}

/// The one pool of this process.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(Pool::new)
}

impl Pool {
    fn new() -> Pool {
        let dir = tempfile::tempdir().unwrap();
        let repo = GitRepo::init(dir.path().join("all.git"), &[]);
        let mut script = String::new();
        for number in 0..LEVELS * COMMITS {
            let text = format!("line {number}\n").repeat(number % 9 + 1);
            script += &format!("commit refs/heads/main\nmark :{}\n", number + 1);
            script += &format!("committer C <c@example.com> {} +0000\n", 1_700_000_000 + number);
            script += &format!("data 1\nc\nM 100644 inline dir{}/file{}\n", number % 3, number % 5);
            script += &format!("data {}\n{text}\n", text.len());
            if number % COMMITS == COMMITS - 1 {
                script += &format!("tag t{}\nfrom :{}\n", number / COMMITS, number + 1);
                script += "tagger T <t@example.com> 1700000000 +0000\ndata 1\nt\n";
            }
        }
        repo.feed(&["fast-import", "--quiet"], script.as_bytes());
        let levels = (0..LEVELS).map(|level| Level::pack(&repo, dir.path(), level)).collect();
        Pool { _dir: dir, levels }
    }

    /// What a number stands for among the first `levels` packs.
    pub fn id(&self, levels: usize, number: usize) -> &str {
        let level = &self.levels[number % levels];
        &level.ids[number / levels % level.ids.len()]
    }

    /// A commit in one pack.
    pub fn commit(&self, level: usize, number: usize) -> &str {
        &self.levels[level].ids[number % COMMITS]
    }

    /// The annotated tag in one pack, which reaches all of it and all before.
    pub fn tag(&self, level: usize) -> &str {
        &self.levels[level].ids[COMMITS]
    }

    /// The bytes of one pack.
    pub fn pack(&self, level: usize) -> Vec<u8> {
        let files = std::fs::read_dir(self.levels[level].objects.join("pack")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        std::fs::read(files.find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap()).unwrap()
    }
}

impl Level {
    /// Packs what `refs/tags/t<level>` reaches and the level before does not.
    fn pack(repo: &GitRepo, dir: &Path, level: usize) -> Level {
        let objects = dir.join(format!("level{level}"));
        std::fs::create_dir_all(objects.join("pack")).unwrap();
        let tag = format!("refs/tags/t{level}");
        let mut revisions = format!("{tag}\n");
        if level > 0 {
            revisions += &format!("^refs/tags/t{}\n", level - 1);
        }
        let prefix = objects.join("pack/pack");
        repo.feed(&["pack-objects", "-q", "--revs", prefix.to_str().unwrap()], revisions.as_bytes());
        let mut ids = Vec::new();
        for back in 0..COMMITS {
            ids.push(repo.git(&["rev-parse", &format!("{tag}~{back}^0")]));
        }
        for name in [tag.clone(), format!("{tag}^{{tree}}"), format!("{tag}:dir0/file0")] {
            ids.push(repo.git(&["rev-parse", &name]));
        }
        Level { objects, ids }
    }
}

/// A repository on disk that borrows the first `levels` packs of the pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub path: PathBuf,
    pub levels: usize,
    /// Names and what they name.
    pub refs: BTreeMap<String, String>,
    /// What the file HEAD says.
    pub head: String,
}

impl Source {
    /// An empty one, not written yet.
    pub fn new(path: PathBuf) -> Source {
        Source { path, levels: 1, refs: BTreeMap::new(), head: "ref: refs/heads/main".into() }
    }

    /// One with a few refs, written.
    pub fn with(path: PathBuf, levels: usize, refs: &[(&str, usize)]) -> Source {
        let mut source = Source { levels, ..Source::new(path) };
        for (name, number) in refs {
            source.set(name, *number);
        }
        source.write();
        source
    }

    /// The source of a repository `app` that a region has, with a commit and packs that the region lacks.
    pub async fn ahead(sites: &Sites, region: &str) -> Source {
        let mut source = Source::with(sites.path("source"), 2, &[("refs/heads/main", 3)]);
        source.import(&sites.region(region), "app").await.unwrap();
        source.advance(4, 7);
        source
    }

    /// Borrows so many packs, and moves the main branch.
    pub fn advance(&mut self, levels: usize, number: usize) {
        self.levels = levels;
        self.set("refs/heads/main", number);
        self.write();
    }

    /// Gives a ref a value out of the pool; whatever is in the way of its name goes.
    pub fn set(&mut self, name: &str, number: usize) {
        let id = pool().id(self.levels, number).to_owned();
        self.refs.retain(|other, _| !is_below(other, name) && !is_below(name, other));
        self.refs.insert(name.into(), id);
    }

    /// Makes the files say what this says.
    pub fn write(&self) {
        std::fs::create_dir_all(self.path.join("objects/info")).unwrap();
        std::fs::create_dir_all(self.path.join("refs")).unwrap();
        let alternates = pool().levels[..self.levels].iter().map(|level| format!("{}\n", level.objects.display()));
        std::fs::write(self.path.join("objects/info/alternates"), alternates.collect::<String>()).unwrap();
        let refs = self.refs.iter().map(|(name, id)| format!("{id} {name}\n"));
        let refs = format!("# pack-refs with: sorted \n{}", refs.collect::<String>());
        std::fs::write(self.path.join("packed-refs"), refs).unwrap();
        std::fs::write(self.path.join("HEAD"), format!("{}\n", self.head)).unwrap();
    }

    /// All refs and HEAD, as [`gitferry_test_support::faulty::refs_of`] tells them.
    pub fn expected(&self) -> BTreeMap<String, String> {
        let mut refs = self.refs.clone();
        refs.insert("HEAD".into(), self.head.replace("ref: ", "ref:"));
        refs
    }

    /// Imports it whole.
    pub async fn import(&self, region: &Region, name: &str) -> gitferry_engine::region::Result<Imported> {
        self.import_as(region, name, &[], "tester").await
    }

    /// Imports some of its refs on behalf of somebody.
    pub async fn import_as(
        &self,
        region: &Region,
        name: &str,
        patterns: &[&str],
        actor: &str,
    ) -> gitferry_engine::region::Result<Imported> {
        let patterns = gitferry_git::local::RefPatterns::new(patterns).unwrap();
        let options = ImportOptions { patterns, allow_empty: true, actor: actor.into() };
        region.importer().import(&self.path, name, &options, Default::default()).await
    }
}

fn is_below(name: &str, folder: &str) -> bool {
    name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}
