//! Rows about writing: one commit, a whole mirror, the same with everything prepared.

use std::io;

use super::Contest;
use super::support::SHORT_RUNS;
use super::support::measure::run;
use super::support::place::{commit, git, settle};
use super::support::report::Row;
use super::wire::prepare_push;

/// One commit onto a branch of the whole repository.
pub fn one_commit(contest: &Contest) -> io::Result<Row> {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..contest.runs * SHORT_RUNS {
        commit(&contest.source, &contest.branch, &format!("commit {round}"))?;
        for (number, server) in contest.servers().into_iter().enumerate() {
            let url = format!("{}/repository", server.url);
            let mut push = git(&contest.source, &["push", "-q", &url, &contest.branch]);
            samples[number].push(server.measure(|| run(&mut push).map(drop))?);
        }
    }
    Ok(row("push of one commit with git", contest, &samples))
}

/// Everything into a new repository.
pub fn mirror(contest: &Contest) -> io::Result<Row> {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..contest.runs {
        for (number, server) in contest.servers().into_iter().enumerate() {
            let name = format!("mirror-{round}");
            server.prepare(&name)?;
            settle();
            let url = format!("{}/{name}", server.url);
            let mut push = git(&contest.source, &["push", "-q", "--mirror", &url]);
            samples[number].push(server.measure(|| run(&mut push).map(drop))?);
        }
    }
    Ok(row("mirror push of everything with git", contest, &samples))
}

/// The same without the time that the client takes to make the pack.
pub fn ingest(contest: &Contest) -> io::Result<Row> {
    let prepared = prepare_push(&contest.source, contest.place.path("push"))?;
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..contest.runs {
        for (number, server) in contest.servers().into_iter().enumerate() {
            let name = format!("ingest-{round}");
            server.prepare(&name)?;
            let url = format!("{}/{name}", server.url);
            // The first request makes the repository.
            run(&mut git(&contest.source, &["push", "-q", "--dry-run", &url, &contest.branch]))?;
            settle();
            samples[number].push(server.measure(|| contest.wire.push(&url, &prepared))?);
        }
    }
    let mut row = Row::new("the same push, prepared: the server alone");
    let ours = row.add(contest.gitferry.who, &samples[0]);
    let theirs = row.add(contest.git.who, &samples[1]);
    row.at_least("push ingest at least 2 × as fast", ours, theirs, 2.0);
    Ok(row)
}

fn row(what: &str, contest: &Contest, samples: &[Vec<super::support::measure::Sample>; 2]) -> Row {
    let mut row = Row::new(what);
    for (number, server) in contest.servers().into_iter().enumerate() {
        row.add(server.who, &samples[number]);
    }
    row
}
