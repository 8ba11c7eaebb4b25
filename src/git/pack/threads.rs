//! Threads that resolve the objects of a pack, and what they find together.

use gix::ObjectId;

use super::error::Fault;
use super::family::{Findings, MAX_LISTED_UNPARSABLE, Worker};
use super::index::leading;
use super::link_sink::{Expected, LinkSink};
use super::resolve::Resolver;
use crate::fsck::{Checker, Rules};
use crate::lfs::Pointers;
use crate::links::Link;

/// Runs the threads and returns their findings, or the fault that stopped them.
pub(super) fn run<'a>(resolver: &'a Resolver<'a>, sink: impl Fn() -> LinkSink<'a>) -> Result<Vec<Findings<'a>>, Fault> {
    let workers = (0..resolver.threads).map(|_| Worker::new(resolver, sink()));
    let workers = workers.collect::<Result<Vec<_>, Fault>>()?;
    if workers.len() == 1 {
        return workers.into_iter().map(Worker::run).collect();
    }
    let results: Vec<Result<Findings<'a>, Fault>> = std::thread::scope(|scope| {
        let start = |worker: Worker<'a>| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || worker.run());
            thread.map_err(|source| {
                resolver.halt();
                Fault::Io { action: "start a thread", source }
            })
        };
        let threads: Vec<_> = workers.into_iter().map(start).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Findings<'a>, Fault>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(|thread| thread.and_then(join)).collect()
    });
    let mut found = Vec::new();
    let mut cancelled = None;
    for result in results {
        match result {
            Ok(findings) => found.push(findings),
            // Either the caller cancelled, or another thread failed and returns the cause.
            Err(Fault::Cancelled) => cancelled = Some(Fault::Cancelled),
            Err(fault) => return Err(fault),
        }
    }
    cancelled.map_or(Ok(found), Err)
}

/// Merges the fsck checks of all threads; `None` without rules.
pub(super) fn merge_checkers<'r>(
    rules: Option<&'r Rules>,
    format: gix::hash::Kind,
    found: &mut [Findings<'_>],
) -> Option<Checker<'r>> {
    let mut all = Checker::new(rules?, format);
    for some in found.iter_mut().filter_map(|findings| findings.checker.take()) {
        all.merge(&some);
    }
    Some(all)
}

/// Findings of all threads.
pub(super) struct Merged {
    pub unparsable: Vec<ObjectId>,
    pub unparsable_count: u64,
    pub pointers: Pointers,
}

/// Merges the findings of all threads; `each` receives their links.
pub(super) fn merge<'a>(
    found: Vec<Findings<'a>>,
    mut each: impl FnMut(LinkSink<'a>) -> Result<(), Fault>,
) -> Result<Merged, Fault> {
    let mut merged = Merged { unparsable: Vec::new(), unparsable_count: 0, pointers: Pointers::default() };
    for findings in found {
        merged.unparsable.extend(findings.unparsable);
        merged.unparsable_count += findings.unparsable_count;
        merged.pointers.merge(findings.pointers);
        each(findings.sink)?;
    }
    merged.unparsable.sort_unstable();
    merged.unparsable.truncate(MAX_LISTED_UNPARSABLE);
    merged.pointers.found.sort_unstable();
    Ok(merged)
}

/// Lists objects with links that expect another kind. `rows` yields entries with their rows.
pub(super) fn mismatched(
    resolver: &Resolver<'_>,
    expected: &Expected,
    rows: impl Iterator<Item = (u32, u32)>,
) -> Vec<Link> {
    let mut all: Vec<Link> = rows
        .flat_map(|(entry, row)| {
            let wrong = expected.wrong(row, resolver.kind_code(entry));
            wrong.map(move |kind| (entry, kind))
        })
        .map(|(entry, kind)| Link { id: resolver.id(entry), kind })
        .collect();
    all.sort_unstable();
    all
}

/// Sorts all entries by id; fails with [`Fault::Duplicate`] if an id occurs twice.
pub(super) fn order_by_id(resolver: &Resolver<'_>) -> Result<Vec<u32>, Fault> {
    let mut order: Vec<(u32, u32)> =
        (0..resolver.pack.objects).map(|entry| (leading(resolver.id(entry).as_slice()), entry)).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| resolver.id(a.1).cmp(&resolver.id(b.1))));
    for pair in order.windows(2) {
        let a = pair[0];
        let b = pair[1];
        if a.0 == b.0 && resolver.id(a.1) == resolver.id(b.1) {
            let offset = |entry: u32| resolver.boundaries.offsets[entry as usize];
            let first = offset(a.1.min(b.1));
            let second = offset(a.1.max(b.1));
            return Err(Fault::Duplicate { id: resolver.id(a.1), first, second });
        }
    }
    Ok(order.into_iter().map(|(_, entry)| entry).collect())
}
