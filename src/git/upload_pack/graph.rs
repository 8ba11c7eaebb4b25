//! [`Graph`]: the object graph by slot, with a meter for the work of a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::oid;
use gix::objs::Kind;

use super::error::ServeError;
use super::slots::SlotSet;
use crate::limits::MAX_TAG_DEPTH;
use crate::links::for_each_link;
use crate::pack::{Finder, Location, Object, PackSet};

/// Number of objects between two checks of the time limit.
const CLOCK_EVERY: u64 = 256;

/// Limits on the work of one request before its pack is sent. Sending is not limited: its cost is that of the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkLimits {
    /// Most objects read by reachability checks and negotiation. Past this limit haves count as unknown, and wants
    /// whose reachability is unproven are refused with [`ServeError::TooMuchWork`].
    pub objects: u64,
    /// Most time spent on the same work, excluding waits for the client.
    pub time: Duration,
    /// Most commits read to decide whether the server is `ready`. Past this limit it asks for more haves.
    pub ready_commits: u64,
}

impl Default for WorkLimits {
    fn default() -> Self {
        WorkLimits { objects: 1 << 23, time: Duration::from_secs(60), ready_commits: 1 << 18 }
    }
}

/// Work that a request has caused so far.
#[derive(Debug)]
struct Meter {
    limits: WorkLimits,
    objects: u64,
    time: Duration,
    /// Start of the step being measured.
    running: Option<Instant>,
}

impl Meter {
    fn charge(&mut self) -> Result<(), ServeError> {
        let Some(begin) = self.running else { return Ok(()) };
        self.objects += 1;
        let late = || self.time + begin.elapsed() > self.limits.time;
        if self.objects > self.limits.objects || self.objects.is_multiple_of(CLOCK_EVERY) && late() {
            // Exhausted for good: a later query must not mistake an aborted walk for a finished one.
            self.objects = self.limits.objects;
            return Err(ServeError::TooMuchWork);
        }
        Ok(())
    }
}

/// Fields of a commit that walks need.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    /// Slots of the parents; empty for commits on the shallow boundary.
    pub(crate) parents: Vec<u64>,
    /// Committer time in seconds since 1970; 0 if it cannot be parsed.
    pub(crate) time: i64,
}

/// Reads the objects of a pack set. An object in several packs is represented by its slot in the first one.
pub(crate) struct Graph<'a> {
    packs: &'a PackSet,
    finder: Finder<'a>,
    cancel: &'a AtomicBool,
    meter: Meter,
    /// Number of objects read so far.
    reads: u64,
    /// Shallow boundary: commits whose parents the client neither has nor receives.
    cut: Option<SlotSet>,
}

impl<'a> Graph<'a> {
    pub(crate) fn new(packs: &'a PackSet, limits: WorkLimits, cancel: &'a AtomicBool) -> Result<Self, ServeError> {
        let finder = packs.finder().map_err(|fault| packs.blame(0, fault))?;
        let meter = Meter { limits, objects: 0, time: Duration::ZERO, running: None };
        Ok(Graph { packs, finder, cancel, meter, reads: 0, cut: None })
    }

    /// Runs a step whose reads and time count towards the [`WorkLimits`] of the request. Fails with
    /// [`ServeError::TooMuchWork`] past them. Steps do not nest.
    pub(crate) fn metered<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, ServeError>,
    ) -> Result<T, ServeError> {
        debug_assert!(self.meter.running.is_none(), "metered steps do not nest");
        let begin = Instant::now();
        self.meter.running = Some(begin);
        let result = step(self);
        self.meter.running = None;
        self.meter.time += begin.elapsed();
        result
    }

    /// Work limits of the request.
    pub(crate) fn work_limits(&self) -> WorkLimits {
        self.meter.limits
    }

    /// Number of objects read for the request so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads
    }

    /// Returns true if the history has a shallow boundary.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    pub(crate) fn packs(&self) -> &'a PackSet {
        self.packs
    }

    pub(crate) fn finder(&mut self) -> &mut Finder<'a> {
        &mut self.finder
    }

    /// Returns an empty set sized for the slots of the pack set.
    pub(crate) fn empty_set(&self) -> SlotSet {
        SlotSet::new(self.packs.slots())
    }

    /// Fails with [`ServeError::Cancelled`] once the caller has set the `cancel` flag.
    pub(crate) fn check_cancelled(&self) -> Result<(), ServeError> {
        if self.cancel.load(Ordering::Relaxed) { Err(ServeError::Cancelled) } else { Ok(()) }
    }

    /// Returns the slot of an object; `None` if no pack contains the object.
    #[inline]
    pub(crate) fn slot(&self, id: &oid) -> Option<u64> {
        self.packs.locate_first(id).map(|location| self.packs.slot(location))
    }

    /// Returns the slot of an object that must exist; otherwise fails with [`ServeError::Missing`].
    #[inline]
    pub(crate) fn require(&self, id: &oid, by: impl FnOnce() -> Option<ObjectId>) -> Result<u64, ServeError> {
        self.slot(id).ok_or_else(|| ServeError::Missing { id: id.to_owned(), by: by() })
    }

    pub(crate) fn location(&self, slot: u64) -> Location {
        let Some(location) = self.packs.at_slot(slot) else {
            unreachable!("slot {slot} comes from a location of the same pack set");
        };
        location
    }

    pub(crate) fn id(&self, slot: u64) -> ObjectId {
        let Some(id) = self.packs.id(self.location(slot)) else {
            unreachable!("the location of slot {slot} is a row of its pack's index");
        };
        id.to_owned()
    }

    pub(crate) fn kind(&self, slot: u64) -> Result<Kind, ServeError> {
        Ok(self.finder.kind(self.location(slot))?)
    }

    pub(crate) fn read(&mut self, slot: u64) -> Result<Object, ServeError> {
        self.meter.charge()?;
        self.reads += 1;
        let location = self.location(slot);
        Ok(self.finder.read(location)?)
    }

    /// Adds a commit to the shallow boundary: from now on [`Graph::commit`] returns it without parents.
    pub(crate) fn cut(&mut self, slot: u64) {
        let slots = self.packs.slots();
        self.cut.get_or_insert_with(|| SlotSet::new(slots)).insert(slot);
    }

    /// Reads a commit; without its parents if it is on the shallow boundary.
    pub(crate) fn commit(&mut self, slot: u64) -> Result<Commit, ServeError> {
        let mut commit = self.unshallow_commit(slot)?;
        if self.cut.as_ref().is_some_and(|cut| cut.contains(slot)) {
            commit.parents.clear();
        }
        Ok(commit)
    }

    /// Reads a commit with all parents, even on the shallow boundary.
    pub(crate) fn unshallow_commit(&mut self, slot: u64) -> Result<Commit, ServeError> {
        self.check_cancelled()?;
        let Object { kind, data } = self.read(slot)?;
        if kind != Kind::Commit {
            return Err(ServeError::NotACommit { id: self.id(slot), found: kind });
        }
        let mut tree = None;
        let mut parents = Vec::new();
        let mut failed = None;
        let parsed = for_each_link(kind, &data, self.packs.format(), |id, kind| match kind {
            Kind::Commit => match self.require(id, || Some(self.id(slot))) {
                Ok(parent) => parents.push(parent),
                Err(error) => failed = Some(error),
            },
            _ => tree = Some(id.to_owned()),
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let reason = |reason| ServeError::Unreadable { id: self.id(slot), reason };
        parsed.map_err(|error| reason(error.reason))?;
        Ok(Commit { tree: tree.ok_or_else(|| reason("it has no tree"))?, parents, time: committer_time(&data) })
    }

    /// Peels tags, at most [`MAX_TAG_DEPTH`], and calls `each` for every tag. Returns the first object that is no tag.
    pub(crate) fn peel(&mut self, slot: u64, mut each: impl FnMut(u64)) -> Result<(u64, Kind), ServeError> {
        let mut at = slot;
        for _ in 0..=MAX_TAG_DEPTH {
            let kind = self.kind(at)?;
            if kind != Kind::Tag {
                return Ok((at, kind));
            }
            each(at);
            let Object { kind, data } = self.read(at)?;
            let mut target = None;
            for_each_link(kind, &data, self.packs.format(), |id, _| target = Some(id.to_owned()))
                .map_err(|error| ServeError::Unreadable { id: self.id(at), reason: error.reason })?;
            let unreadable = || ServeError::Unreadable { id: self.id(at), reason: "it has no target" };
            let target = target.ok_or_else(unreadable)?;
            at = self.require(&target, || Some(self.id(at)))?;
        }
        Err(ServeError::Unreadable { id: self.id(slot), reason: "it is a tag of too many tags" })
    }
}

/// Parses the time in `committer NAME <EMAIL> TIME ZONE` as leniently as Git; 0 if there is none.
fn committer_time(data: &[u8]) -> i64 {
    let header = data.find(b"\n\n").map_or(data, |end| &data[..end]);
    let line = header.find(b"\ncommitter ").map(|at| &header[at + 1..]);
    let line = line.map(|line| line.lines().next().unwrap_or_default());
    let Some(after_email) = line.and_then(|line| line.rfind_byte(b'>').map(|at| &line[at + 1..])) else { return 0 };
    let time = after_email.fields().next().and_then(|time| time.to_str().ok()?.parse::<i64>().ok());
    time.unwrap_or(0).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let time = |committer: &str| {
            committer_time(
                format!("tree x\nauthor A <a> 5 +0\ncommitter {committer}\n\ncommitter B <b> 9 +0").as_bytes(),
            )
        };
        assert_eq!(time("C <c@x> 1700000000 +0100"), 1_700_000_000);
        assert_eq!(time("C > D <c@x> 7 +0100"), 7);
        assert_eq!(time("C <c@x> -7 +0100"), 0);
        for nothing in ["", "C", "C <c@x>", "C <c@x> soon", "C <c@x> 99999999999999999999 +0"] {
            assert_eq!(time(nothing), 0);
        }
    }
}
