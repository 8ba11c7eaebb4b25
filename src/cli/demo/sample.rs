//! Repository for the demonstration: borrows the checkout of the current folder, or builds a small repository. Written
//! without Git, in a folder of its own.

use std::path::{Path, PathBuf};

use gitferry_git::local::{RefPatterns, SourceRepository};
use gitferry_git::refs::RefValue;
use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind};
use gix::objs::{Blob, Commit, Tree, Write as _};
use gix::odb::loose::Store;

use crate::cli::failure::Failure;

/// Number of commits of the small repository.
const BUILT_COMMITS: u32 = 20;

/// A bare repository that the demonstration may write to.
pub struct Sample {
    /// Folder of the repository.
    pub path: PathBuf,
    /// Description of its origin, for the output.
    pub origin: String,
    store: Store,
    branch: String,
    tip: Option<ObjectId>,
    commits: u32,
}

impl Sample {
    /// Creates the repository at `path`.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(path.join("objects/info"))?;
        std::fs::create_dir_all(path.join("refs"))?;
        std::fs::write(path.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
        std::fs::write(path.join("HEAD"), "ref: refs/heads/main\n")?;
        let mut sample = Sample {
            path: path.into(),
            origin: "a small repository built for the demonstration".into(),
            store: Store::at(path.join("objects"), gix::hash::Kind::Sha1),
            branch: "refs/heads/main".into(),
            tip: None,
            commits: 0,
        };
        let built = match own_checkout() {
            Some(checkout) => sample.borrow(&checkout).is_ok_and(|found| found),
            None => false,
        };
        if !built {
            for _ in 0..BUILT_COMMITS {
                sample.commit()?;
            }
        }
        Ok(sample)
    }

    /// Takes over the refs of a checkout and, through alternates, its objects. Returns false if HEAD names no commit, or
    /// the object format is not SHA-1.
    fn borrow(&mut self, checkout: &SourceRepository) -> Result<bool, Failure> {
        let failed = |error: gitferry_git::local::SourceError| Failure::usage(error.to_string());
        let head = checkout.head().map_err(failed)?;
        let mut packed = Vec::new();
        let mut tip = None;
        for entry in checkout.refs(&RefPatterns::all()).map_err(failed)? {
            let (name, value) = entry.map_err(failed)?;
            if let RefValue::Object(id) = value {
                packed.extend_from_slice(format!("{id} ").as_bytes());
                packed.extend_from_slice(name.as_bstr());
                packed.push(b'\n');
                if head == RefValue::Symbolic(name.clone()) {
                    tip = Some(id);
                    self.branch = name.to_string();
                }
            }
        }
        if tip.is_none() || checkout.object_format() != gix::hash::Kind::Sha1 {
            return Ok(false);
        }
        let objects = std::path::absolute(checkout.common_dir().join("objects"))?;
        std::fs::write(self.path.join("objects/info/alternates"), format!("{}\n", objects.display()))?;
        std::fs::write(self.path.join("packed-refs"), packed)?;
        std::fs::write(self.path.join("HEAD"), format!("ref: {}\n", self.branch))?;
        self.tip = tip;
        self.origin = format!("the checkout in {}", checkout.path().display());
        Ok(true)
    }

    /// Adds a commit to the branch that HEAD names.
    pub fn commit(&mut self) -> Result<ObjectId, Failure> {
        self.commits += 1;
        let text = format!("change number {} of the demonstration\n", self.commits);
        let blob = self.write(&Blob { data: text.clone().into_bytes() })?;
        let entry = Entry { mode: EntryKind::Blob.into(), filename: "gitferry-demo.txt".into(), oid: blob };
        let tree = self.write(&Tree { entries: vec![entry] })?;
        let who = gix::actor::Signature {
            name: "gitferry demo".into(),
            email: "demo@localhost".into(),
            time: gix::date::Time { seconds: 1_700_000_000 + i64::from(self.commits), offset: 0 },
        };
        let commit = Commit {
            tree,
            parents: self.tip.into_iter().collect(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: text.into(),
            extra_headers: Vec::new(),
        };
        let id = self.write(&commit)?;
        let path = self.path.join(&self.branch);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, format!("{id}\n"))?;
        self.tip = Some(id);
        Ok(id)
    }

    fn write(&self, object: &dyn gix::objs::WriteTo) -> Result<ObjectId, Failure> {
        self.store.write(object).map_err(|error| std::io::Error::other(error.to_string()).into())
    }
}

/// Returns the repository that the current folder belongs to, if it can be imported.
fn own_checkout() -> Option<SourceRepository> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().find_map(|folder| SourceRepository::open(folder).ok())
}
