//! Rows about reading: clones, fetches, lists of refs.

use std::io;
use std::path::Path;

use super::Contest;
use super::server::Server;
use super::support::SHORT_RUNS;
use super::support::measure::{Sample, run};
use super::support::place::{clear, copy_repository, git, git_says};
use super::support::report::{Row, mebi};

/// Refs of the repository of many refs.
pub const MANY_REFS: usize = 50_000;
/// Commits that a fetch brings.
const BEHIND: usize = 500;
/// Clones at a time.
const CROWD: usize = 10;
/// What a host may need however many clones there are, and for each of them.
const BASE_KIB: u64 = 100 * 1024;
const CLONE_KIB: u64 = 2 * 1024;

/// Bytes of the packs of a repository: nearly what came over the wire.
fn pack_bytes(repository: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(repository.join("objects/pack"))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "pack") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn clone_into(server: &Server, to: &Path) -> io::Result<()> {
    let url = format!("{}/repository", server.url);
    run(git(Path::new("."), &["clone", "-q", "--bare", &url]).arg(to)).map(drop)
}

/// A full clone.
pub fn clone(contest: &Contest) -> io::Result<Row> {
    let to = contest.place.path("clone.git");
    let mut samples = [Vec::new(), Vec::new()];
    let mut bytes = [0, 0];
    for _ in 0..contest.runs {
        for (number, server) in contest.servers().into_iter().enumerate() {
            clear(&to)?;
            samples[number].push(server.measure(|| clone_into(server, &to))?);
            bytes[number] = pack_bytes(&to)?;
        }
    }
    let mut row = Row::new("full clone with git");
    for (number, server) in contest.servers().into_iter().enumerate() {
        row.add(format!("{}, {}", server.who, mebi(bytes[number])), &samples[number]);
    }
    Ok(row)
}

/// The newest commits, to a clone that has the rest.
pub fn fetch(contest: &Contest) -> io::Result<Row> {
    let old = contest.place.path("old.git");
    let behind =
        git_says(&contest.source, &["rev-list", "--first-parent", &format!("--skip={BEHIND}"), "-1", &contest.branch])?;
    git_says(Path::new("."), &["init", "-q", "--bare", &old.to_string_lossy()])?;
    let source = contest.source.to_string_lossy();
    git_says(&contest.source, &["update-ref", "refs/bench/old", &behind])?;
    git_says(&old, &["fetch", "-q", "--no-tags", &source, "refs/bench/old:refs/heads/old"])?;
    git_says(&old, &["config", "fetch.unpackLimit", "1"])?;
    git_says(&contest.source, &["update-ref", "-d", "refs/bench/old"])?;
    let had = pack_bytes(&old)?;
    let to = contest.place.path("fetch.git");
    let mut samples = [Vec::new(), Vec::new()];
    let mut bytes = [0, 0];
    for _ in 0..contest.runs {
        for (number, server) in contest.servers().into_iter().enumerate() {
            clear(&to)?;
            copy_repository(&old, &to)?;
            let url = format!("{}/repository", server.url);
            let mut fetch =
                git(&to, &["fetch", "-q", "--no-tags", &url, &format!("{}:refs/heads/new", contest.branch)]);
            samples[number].push(server.measure(|| run(&mut fetch).map(drop))?);
            bytes[number] = pack_bytes(&to)? - had;
        }
    }
    let mut row = Row::new(format!("fetch of the last {BEHIND} commits with git"));
    for (number, server) in contest.servers().into_iter().enumerate() {
        row.add(format!("{}, pack {}", server.who, mebi(bytes[number])), &samples[number]);
    }
    Ok(row)
}

/// Clones at the same time, for the server's memory.
pub fn crowd(contest: &Contest) -> io::Result<Row> {
    let mut row = Row::new(format!("{CROWD} clones at the same time"));
    for server in contest.servers() {
        let sample = server.measure(|| {
            std::thread::scope(|scope| {
                let cloning: Vec<_> = (0..CROWD)
                    .map(|number| {
                        scope.spawn(move || {
                            let to = contest.place.path(&format!("crowd-{number}.git"));
                            clone_into(server, &to)?;
                            clear(&to)
                        })
                    })
                    .collect();
                cloning.into_iter().try_for_each(|clone| clone.join().unwrap_or_else(|_| Err(io::Error::other("died"))))
            })
        })?;
        let ours = row.add(server.who, &[sample]);
        if row.lines.len() == 1 {
            row.memory("anonymous memory at most 100 MiB + 2 MiB a clone", ours, BASE_KIB + CROWD as u64 * CLONE_KIB);
        }
    }
    Ok(row)
}

/// All refs of a repository of many.
pub fn refs(contest: &Contest) -> io::Result<Row> {
    let mut asked = [Vec::new(), Vec::new()];
    let mut with_git = [Vec::new(), Vec::new()];
    for _ in 0..contest.runs * SHORT_RUNS {
        for (number, server) in contest.servers().into_iter().enumerate() {
            let url = format!("{}/many", server.url);
            asked[number].push(server.measure(|| match contest.wire.ls_refs(&url)? {
                bytes if bytes > MANY_REFS * 60 => Ok(()),
                bytes => Err(io::Error::other(format!("only {bytes} bytes of refs"))),
            })?);
            with_git[number].push(server.measure(|| run(&mut git(Path::new("."), &["ls-remote", &url])).map(drop))?);
        }
    }
    let mut row = Row::new(format!("{MANY_REFS} refs"));
    let [ours, theirs] = [0, 1]
        .map(|number| -> Sample { row.add(format!("{}, ls-refs", contest.servers()[number].who), &asked[number]) });
    for (number, server) in contest.servers().into_iter().enumerate() {
        row.add(format!("{}, git ls-remote", server.who), &with_git[number]);
    }
    row.at_least("ls-refs at least 2 × as fast", ours, theirs, 2.0);
    Ok(row)
}
