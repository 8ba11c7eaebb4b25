//! Rows about what changed since the last time: one commit, nothing, one ref among many.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::support::SHORT_RUNS;
use super::support::measure::{Sample, median, run};
use super::support::place::{KeptMirror, Place, Regions, add_refs, commit, gitferry, main_branch, synthetic};
use super::support::report::{Row, millis, ratio};
use super::whole::REPLICATE_KIB;

/// Work that one commit may cost besides starting the process and waiting for the disk.
const WORK: Duration = Duration::from_millis(10);
/// Runs under strace, for the time in system calls that wait for the disk.
const TRACED_RUNS: usize = 3;

/// A repository that grows, replicated and mirrored.
pub struct Growing {
    source: PathBuf,
    branch: String,
    regions: Regions,
    commits: usize,
}

impl Growing {
    /// Takes over a source that is imported and replicated already.
    pub fn new(source: PathBuf, regions: Regions) -> io::Result<Growing> {
        let branch = main_branch(&source)?;
        Ok(Growing { source, branch, regions, commits: 0 })
    }

    /// A synthetic repository, imported and replicated.
    pub fn synthetic(place: &Place, name: &str, commits: usize, refs: usize) -> io::Result<Growing> {
        let source = place.path(&format!("{name}.git"));
        synthetic(&source, commits)?;
        add_refs(&source, refs)?;
        let regions = Regions::new(place.path(name))?;
        regions.import(&source, "repository")?;
        regions.replicate()?;
        Growing::new(source, regions)
    }

    /// One commit more at the source; imported, untimed.
    fn grow(&mut self) -> io::Result<Sample> {
        self.commits += 1;
        commit(&self.source, &self.branch, &format!("commit {}", self.commits))?;
        self.regions.import(&self.source, "repository")
    }

    /// One commit, delivered.
    fn deliver(&mut self) -> io::Result<(Sample, Sample)> {
        let import = self.grow()?;
        Ok((import, self.regions.replicate()?))
    }

    /// Time in fsync and fdatasync while one commit is delivered, and how many there are, by strace.
    fn disk(&mut self, place: &Place) -> io::Result<Option<(Duration, usize)>> {
        if !Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for _ in 0..TRACED_RUNS {
            self.grow()?;
            let log = place.path("strace");
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-T", "-e", "trace=fsync,fdatasync", "-o"]).arg(&log);
            let plain = self.regions.command(&["replicate", "dr"]);
            traced.arg(plain.get_program()).args(plain.get_args()).current_dir(self.regions.dir());
            run(&mut traced)?;
            let text = std::fs::read_to_string(&log)?;
            let times = text.lines().filter_map(|line| line.rsplit_once('<')?.1.strip_suffix('>')?.parse::<f64>().ok());
            let times: Vec<f64> = times.collect();
            found.push((Duration::from_secs_f64(times.iter().sum()), times.len()));
        }
        found.sort_unstable();
        Ok(found.get(found.len() / 2).copied())
    }
}

/// What one commit may cost on this machine, and the row that says how much it does.
pub fn one_commit(
    place: &Place,
    big: &mut Growing,
    kept: &KeptMirror,
    from_nothing: &[Sample],
    runs: usize,
) -> io::Result<Vec<Row>> {
    let mut small = Growing::synthetic(place, "small", 200, 10)?;
    let (mut ours, mut theirs, mut tiny, mut imports, mut start) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..=runs * SHORT_RUNS {
        let (import, replicate) = big.deliver()?;
        let update = kept.update()?;
        let (_, little) = small.deliver()?;
        let version = run(gitferry().arg("--version"))?;
        if round > 0 {
            imports.push(import);
            ours.push(replicate);
            theirs.push(update);
            tiny.push(little);
            start.push(version);
        }
    }
    let mut row = Row::new("one new commit");
    let replicate = row.add("gitferry replicate", &ours);
    row.add("git fetch + git push --mirror, kept mirror", &theirs);
    let little = row.add("gitferry replicate of a repository of 200 commits", &tiny);
    let start = row.add("gitferry --version (start of the process)", &start);
    match big.disk(place)? {
        Some((disk, count)) => {
            let budget = start.wall + disk + WORK;
            let asked = format!(
                "at most start {:.1} ms + {count} fsyncs {:.1} ms + 10 ms = {:.1} ms",
                millis(start.wall),
                millis(disk),
                millis(budget)
            );
            row.at_most(asked, millis(replicate.wall), millis(budget), " ms");
        }
        None => row.at_most("at most 10 ms + start, fsyncs not known (no strace)", millis(replicate.wall), 10.0, " ms"),
    }
    if !from_nothing.is_empty() {
        let again = row.add("git clone --mirror --no-local + git push --mirror", from_nothing);
        row.at_least("at least 1,000 × as fast as cloning again (asked for 318 MB)", replicate, again, 1_000.0);
    }
    row.at_most("at most 1.2 × the small repository", ratio(replicate, little), 1.2, " ×");
    row.memory("anonymous memory below 100 MiB", replicate, REPLICATE_KIB);
    Ok(vec![row, import_again(big, kept, &imports, runs)?])
}

/// Importing again: one commit more, and nothing.
fn import_again(big: &mut Growing, kept: &KeptMirror, one: &[Sample], runs: usize) -> io::Result<Row> {
    let (mut nothing, mut fetch) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        nothing.push(big.regions.import(&big.source, "repository")?);
        fetch.push(kept.fetch()?);
    }
    let mut row = Row::new("import again");
    row.add("gitferry import, nothing changed", &nothing);
    row.add("git fetch into a kept mirror, nothing changed", &fetch);
    row.add("gitferry import, one new commit", one);
    Ok(row)
}

/// Nothing changed since the last pass.
pub fn nothing(big: &Growing, kept: &KeptMirror, runs: usize) -> io::Result<Row> {
    big.regions.replicate()?;
    kept.update()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs * SHORT_RUNS {
        ours.push(big.regions.replicate()?);
        theirs.push(kept.update()?);
    }
    let mut row = Row::new("nothing changed");
    row.add("gitferry replicate", &ours);
    row.add("git fetch + git push --mirror, kept mirror", &theirs);
    Ok(row)
}

/// One ref of very many.
pub fn one_ref(place: &Place, runs: usize) -> io::Result<Row> {
    let mut many = Growing::synthetic(place, "many-refs", 200, 50_000)?;
    let mut few = Growing::synthetic(place, "few-refs", 200, 50)?;
    let kept = KeptMirror::new(place.path("many-refs-kept"), &many.source)?;
    let (mut ours, mut small, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=runs {
        let (_, of_many) = many.deliver()?;
        let (_, of_few) = few.deliver()?;
        let update = kept.update()?;
        if round > 0 {
            ours.push(of_many);
            small.push(of_few);
            theirs.push(update);
        }
    }
    let mut row = Row::new("one ref among 50,000");
    let ours = row.add("gitferry replicate, 50,000 refs", &ours);
    let small = row.add("gitferry replicate, 50 refs", &small);
    row.add("git fetch + git push --mirror, kept mirror, 50,000 refs", &theirs);
    row.at_most("the same as one among 50 (at most 1.2 ×)", ratio(ours, small), 1.2, " ×");
    Ok(row)
}

/// A repository of a million refs, streamed.
pub fn million_refs(place: &Place) -> io::Result<Row> {
    let source = place.path("million.git");
    synthetic(&source, 200)?;
    add_refs(&source, 1_000_000)?;
    let regions = Regions::new(place.path("million"))?;
    let import = regions.import(&source, "repository")?;
    let first = regions.replicate()?;
    let mut grown = Growing::new(source, regions)?;
    let again: Vec<Sample> = (0..5).map(|_| grown.deliver().map(|(_, sample)| sample)).collect::<io::Result<_>>()?;
    let mut row = Row::new("1,000,000 refs");
    row.add("gitferry replicate, first sync", &[first]);
    row.add("gitferry replicate, one ref changed", &again);
    row.add("gitferry import", &[import]);
    row.memory("anonymous memory below 100 MiB", median(&[first]), REPLICATE_KIB);
    row.memory("anonymous memory of the import below 100 MiB", import, REPLICATE_KIB);
    Ok(row)
}
