//! What is measured.

use std::io;
use std::path::{Path, PathBuf};

use super::clients::{KEPT, REPOSITORY, Site, bytes_of};
use super::support::SHORT_RUNS;
use super::support::measure::Sample;
use super::support::place::{commit, git_says};
use super::support::report::{Row, mebi, ratio};

/// Commits that are new in the second row.
const BEHIND: usize = 500;
/// Resident memory of a pass over refs and objects of any number, and what each ref may add.
const BASE_KIB: u64 = 64 * 1024;
const REF_BYTES: u64 = 200;
/// Requests of a pass that finds nothing new.
const IDLE_REQUESTS: u64 = 2;

const GITFERRY: &str = "gitferry replicate";
const COLD: &str = "git clone --mirror + git push --mirror, cold";

/// Both servers with the repository, and what all rows share.
pub struct Contest {
    pub site: Site,
    /// The source's main branch.
    pub branch: String,
    /// How many refs the source has.
    pub refs: u64,
    pub runs: usize,
}

impl Contest {
    /// The repository at the source.
    pub fn source(&self) -> PathBuf {
        self.site.source.path(REPOSITORY)
    }

    fn resident(&self, row: &mut Row, ours: Sample) {
        let limit = BASE_KIB + (self.refs * REF_BYTES).div_ceil(1024);
        row.resident(format!("peak at most 64 MiB + {REF_BYTES} bytes for each of {} refs", self.refs), ours, limit);
        row.at_most("nothing written to disk", ours.written as f64, 0.0, " bytes");
    }

    fn kept_label(&self) -> io::Result<String> {
        let bytes = bytes_of(&self.site.clients.join(KEPT))?;
        Ok(format!("git fetch + git push, keeping {}", mebi(bytes)))
    }

    /// Everything to an empty target; also what git needed for it.
    pub fn first(&self) -> io::Result<(Row, Vec<Sample>)> {
        let (mut ours, mut cold) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            self.site.target.make_empty(REPOSITORY)?;
            ours.push(self.site.gitferry()?);
            cold.push(self.site.cold()?);
        }
        let mut row = Row::new("first copy, to an empty target");
        let (gitferry, git) = (row.add(GITFERRY, &ours), row.add(COLD, &cold));
        row.at_most_cpu("processor time at most 0.05 × that of git", gitferry, git, 0.05);
        row.at_most("time at most 0.6 × that of git", ratio(gitferry, git), 0.6, " ×");
        self.resident(&mut row, gitferry);
        Ok((row, cold))
    }

    /// Leaves the source one branch and what was merged into it before its last commits; makes a repository that lacks
    /// those commits.
    pub fn fall_behind(&self, base: &Path) -> io::Result<()> {
        let (source, branch) = (self.source(), &self.branch);
        let tip = git_says(&source, &["rev-parse", branch])?;
        let skip = format!("--skip={BEHIND}");
        let behind = git_says(&source, &["rev-list", "--first-parent", &skip, "-1", branch])?;
        let merged = git_says(&source, &["for-each-ref", "--merged", &behind, "--format=%(objectname) %(refname)"])?;
        let merged: Vec<&str> = merged.lines().filter(|line| !line.ends_with(branch)).collect();
        let line = format!("{behind} {branch}");
        let packed: String = merged.iter().chain([&line.as_str()]).map(|line| format!("{line}\n")).collect();
        std::fs::remove_dir_all(source.join("refs"))?;
        std::fs::create_dir_all(source.join("refs/heads"))?;
        std::fs::write(source.join("packed-refs"), packed)?;
        git_says(&source, &["symbolic-ref", "HEAD", branch])?;
        let arguments = ["clone", "-q", "--mirror", "--no-local", ".", &base.to_string_lossy()];
        git_says(&source, &arguments)?;
        git_says(&source, &["update-ref", branch, &tip]).map(drop)
    }

    /// The last commits.
    pub fn last_commits(&self, base: &Path) -> io::Result<Row> {
        let (mut ours, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            self.site.reset(base)?;
            ours.push(self.site.gitferry()?);
            kept.push(self.site.kept()?);
        }
        let mut row = Row::new(format!("the last {BEHIND} commits of the first parents of {}", self.branch));
        let gitferry = row.add(GITFERRY, &ours);
        row.add(self.kept_label()?, &kept);
        self.resident(&mut row, gitferry);
        Ok(row)
    }

    /// One commit.
    pub fn one_commit(&self, cold: &[Sample]) -> io::Result<Row> {
        let (mut ours, mut kept) = (Vec::new(), Vec::new());
        for number in 0..self.runs * SHORT_RUNS {
            commit(&self.source(), &self.branch, &format!("commit {number}"))?;
            ours.push(self.site.gitferry()?);
            kept.push(self.site.kept()?);
        }
        let mut row = Row::new("one commit");
        let gitferry = row.add(GITFERRY, &ours);
        let git = row.add(self.kept_label()?, &kept);
        row.at_least("no slower than the kept mirror", gitferry, git, 1.0);
        if !cold.is_empty() {
            let cold = row.add(COLD, cold);
            row.at_least("at least 100 × as fast as a cold mirror", gitferry, cold, 100.0);
        }
        self.resident(&mut row, gitferry);
        Ok(row)
    }

    /// Nothing at all.
    pub fn nothing(&self) -> io::Result<Row> {
        let (mut ours, mut kept) = (Vec::new(), Vec::new());
        for _ in 0..self.runs * SHORT_RUNS {
            ours.push(self.site.gitferry()?);
            kept.push(self.site.kept()?);
        }
        let mut row = Row::new("nothing changed");
        let gitferry = row.add(GITFERRY, &ours);
        let git = row.add(self.kept_label()?, &kept);
        row.at_least("no slower than the kept mirror", gitferry, git, 1.0);
        let requests = gitferry.requests.unwrap_or(u64::MAX);
        row.at_most("at most two requests", requests as f64, IDLE_REQUESTS as f64, "");
        self.resident(&mut row, gitferry);
        Ok(row)
    }
}
