//! The row about small pushes into a repository of many refs: alone, and beside seven others.

use std::io::{self, Write as _};
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind::Sha1;

use super::Contest;
use super::server::{Server, configure};
use super::support::measure::Sample;
use super::support::place::{Regions, add_refs, copy_repository, git_says, synthetic};
use super::support::report::Row;
use super::wire::{Wire, packet};

/// Refs of the repository.
const REFS: usize = 150_000;
/// Pushers at a time, each with a branch of its own.
const PUSHERS: usize = 8;
/// Pushes of each of them in a round: processor time is counted in hundredths of a second.
const PUSHES: usize = 32;
/// Most times the processor time of a push alone that one may take beside seven others.
const BESIDE: f64 = 1.5;

/// One push of one commit, prepared.
pub fn push(contest: &Contest) -> io::Result<Row> {
    let source = contest.place.path("crowded.git");
    synthetic(&source, 100)?;
    add_refs(&source, REFS)?;
    let regions = Regions::new(contest.place.path("crowded"))?;
    regions.import(&source, "crowded")?;
    let ours = Server::gitferry_host(regions.dir().to_owned())?;
    let copy = contest.git.dir.join("crowded");
    copy_repository(&source, &copy)?;
    configure(&copy)?;
    let tree = git_says(&source, &["rev-parse", "refs/heads/branch-0000000^{tree}"])?;
    let mut row = Row::new(format!("a push of one commit, prepared, into {REFS} refs"));
    let servers = [&ours, &contest.git];
    let mut pushers = servers.map(|server| {
        let url = format!("{}/crowded", server.url);
        (0..PUSHERS).map(|number| Pusher::new(&url, number, &tree)).collect::<Vec<_>>()
    });
    for pushers in &mut pushers {
        // Opens the repository and makes the branches.
        pushers.iter_mut().try_for_each(|pusher| pusher.push(&contest.wire, 1))?;
    }
    let mut samples = servers.map(|_| [Vec::new(), Vec::new()]);
    for _ in 0..contest.runs {
        for (number, server) in servers.into_iter().enumerate() {
            for (crowd, samples) in [1, PUSHERS].into_iter().zip(&mut samples[number]) {
                let pushers = &mut pushers[number][..crowd];
                samples.push(each(server.measure(|| push_beside(&contest.wire, pushers))?, crowd * PUSHES));
            }
        }
    }
    for (server, [alone, beside]) in servers.into_iter().zip(&samples) {
        let alone = row.add(format!("{}, alone", server.who), alone);
        let beside = row.add(format!("{}, one of {PUSHERS} at a time", server.who), beside);
        if row.lines.len() == 2 {
            row.at_most_cpu(format!("processor time at most {BESIDE} × that of a push alone"), beside, alone, BESIDE);
        }
    }
    Ok(row)
}

/// What one of several pushes took, on average.
fn each(all: Sample, pushes: usize) -> Sample {
    let share = |time: Duration| time.div_f64(pushes.max(1) as f64);
    Sample { wall: share(all.wall), cpu: share(all.cpu), ..all }
}

fn push_beside(wire: &Wire, pushers: &mut [Pusher]) -> io::Result<()> {
    std::thread::scope(|scope| {
        let pushing: Vec<_> = pushers.iter_mut().map(|pusher| scope.spawn(|| pusher.push(wire, PUSHES))).collect();
        pushing.into_iter().try_for_each(|pushing| pushing.join().unwrap_or_else(|_| Err(io::Error::other("died"))))
    })
}

/// A client with a branch that grows by one commit a push.
struct Pusher {
    url: String,
    branch: String,
    /// The tree of all its commits.
    tree: String,
    tip: Option<ObjectId>,
}

impl Pusher {
    fn new(url: &str, number: usize, tree: &str) -> Self {
        Pusher { url: url.into(), branch: format!("refs/heads/pusher-{number}"), tree: tree.into(), tip: None }
    }

    fn push(&mut self, wire: &Wire, pushes: usize) -> io::Result<()> {
        for _ in 0..pushes {
            let parent = self.tip.map_or_else(String::new, |tip| format!("parent {tip}\n"));
            let who = "Bench <bench@example.org> 1700000000 +0000";
            let (tree, branch) = (&self.tree, &self.branch);
            let text = format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{branch}\n");
            let new = gix::objs::compute_hash(Sha1, gix::objs::Kind::Commit, text.as_bytes());
            let new = new.map_err(io::Error::other)?;
            let old = self.tip.unwrap_or_else(|| ObjectId::null(Sha1));
            let command = packet(&format!("{old} {new} {branch}\0 report-status object-format=sha1 agent=bench"));
            let body = [command.as_bytes(), b"0000", &pack_of_commit(text.as_bytes())?].concat();
            wire.push_bytes(&self.url, body)?;
            self.tip = Some(new);
        }
        Ok(())
    }
}

/// A pack of one commit (gitformat-pack(5)).
fn pack_of_commit(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut pack = [b"PACK", &2u32.to_be_bytes()[..], &1u32.to_be_bytes()[..]].concat();
    let (mut size, mut byte) = (text.len() >> 4, 0x10 | (text.len() & 15) as u8);
    while size > 0 {
        pack.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    pack.push(byte);
    let mut deflate = ZlibEncoder::new(pack, Compression::fast());
    deflate.write_all(text)?;
    let mut pack = deflate.finish()?;
    let mut hasher = gix::hash::hasher(Sha1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().map_err(io::Error::other)?.as_slice());
    Ok(pack)
}
