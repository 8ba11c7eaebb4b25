//! Connectivity check: proof that every reachable object exists.
//!
//! [`closure`] proves connectivity of whole packs from the links that leave them, at the cost of one lookup per link:
//! if no link target is missing, every object that any object names exists, and so does everything that a ref can
//! reach. If a target is missing (old repositories may hold unreachable objects with dangling links), [`missing_from`]
//! walks from the refs.

use std::collections::HashSet;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use crate::links::{Link, for_each_link};
use crate::pack::{CheckedPack, Finder, Location, Object, PackError, PackSet};

/// Most problems that [`missing_from`] lists; the walk stops there.
pub const MAX_MISSING: usize = 1000;

/// Lists the links of checked packs whose target is neither in the same pack nor `held` elsewhere, sorted and without
/// repetition.
///
/// An empty result proves the packs connected, provided that `held` covers these packs and otherwise only objects whose
/// connectivity is proven.
pub fn closure<'a>(packs: impl IntoIterator<Item = &'a CheckedPack>, held: &dyn Fn(&oid) -> bool) -> Vec<Link> {
    let unresolved = packs.into_iter().flat_map(|pack| &pack.unresolved);
    let mut missing: Vec<Link> = unresolved.filter(|link| !held(&link.id)).copied().collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// Reachable object that is missing or unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingObject {
    /// Id of the object.
    pub id: ObjectId,
    /// Kind that the referring object expects; `None` if a ref refers to the object.
    pub kind: Option<Kind>,
    /// Referring object; `None` if a ref refers to the object.
    pub referred_to_by: Option<ObjectId>,
    /// First ref from which the object was reached.
    pub reached_from: String,
    /// Problem of the object.
    pub problem: Problem,
}

/// Problem of a reachable object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The object does not exist.
    Missing,
    /// The object exists with this other kind.
    IsA(Kind),
    /// The links of the object cannot be parsed.
    Unparsable,
}

impl std::fmt::Display for MissingObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "{kind} {}", self.id)?,
            None => write!(f, "object {}", self.id)?,
        }
        match self.problem {
            Problem::Missing => write!(f, " is missing")?,
            Problem::IsA(kind) => write!(f, " is a {kind}")?,
            Problem::Unparsable => write!(f, " cannot be parsed")?,
        }
        if let Some(by) = self.referred_to_by {
            write!(f, "; {by} needs it")?;
        }
        write!(f, "; reached from {}", self.reached_from)
    }
}

/// Walks from `tips` (ref names with their objects) over `objects` and returns at most [`MAX_MISSING`] missing or
/// unusable objects. The walk stops at objects whose connectivity is `proven`.
///
/// Memory: one bit per object of the set, and a stack of at most 8 bytes per object.
pub fn missing_from(
    tips: impl IntoIterator<Item = (String, ObjectId)>,
    objects: &PackSet,
    proven: &dyn Fn(&oid) -> bool,
) -> Result<Vec<MissingObject>, PackError> {
    let finder = objects.finder().map_err(|fault| objects.blame(0, fault))?;
    let words = usize::try_from(objects.slots().div_ceil(64)).unwrap_or(usize::MAX);
    let mut walk = Walk {
        objects,
        proven,
        finder,
        seen: vec![0; words],
        stack: Vec::new(),
        listed: HashSet::new(),
        missing: Vec::new(),
        tip: String::new(),
    };
    for (name, id) in tips {
        walk.tip = name;
        walk.visit(&id, None, None)?;
        while let Some(slot) = walk.stack.pop() {
            if walk.missing.len() >= MAX_MISSING {
                return Ok(walk.missing);
            }
            walk.follow(slot)?;
        }
    }
    Ok(walk.missing)
}

struct Walk<'a> {
    objects: &'a PackSet,
    proven: &'a dyn Fn(&oid) -> bool,
    finder: Finder<'a>,
    /// One bit per slot of `objects`.
    seen: Vec<u64>,
    /// Slots of objects whose links are still to be followed.
    stack: Vec<u64>,
    /// Ids in `missing`.
    listed: HashSet<ObjectId>,
    missing: Vec<MissingObject>,
    /// Ref whose objects are being walked.
    tip: String,
}

impl Walk<'_> {
    /// Visits an object to which `by` refers as a `kind`.
    fn visit(&mut self, id: &oid, kind: Option<Kind>, by: Option<&oid>) -> Result<(), PackError> {
        let Some(location) = self.objects.locate(id) else {
            if !(self.proven)(id) {
                self.report(id, kind, by, Problem::Missing);
            }
            return Ok(());
        };
        let slot = self.objects.slot(location);
        let word = (slot / 64) as usize;
        let bit = 1 << (slot % 64);
        if self.seen[word] & bit != 0 && kind == Some(Kind::Blob) {
            return Ok(());
        }
        if let Some(kind) = kind {
            let found = self.finder.kind(location)?;
            if found != kind {
                self.report(id, Some(kind), by, Problem::IsA(found));
                return Ok(());
            }
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            if kind != Some(Kind::Blob) && !(self.proven)(id) {
                self.stack.push(slot);
            }
        }
        Ok(())
    }

    /// Visits the link targets of an object.
    fn follow(&mut self, slot: u64) -> Result<(), PackError> {
        let Some(location) = self.objects.at_slot(slot) else { return Ok(()) };
        let Some(id) = self.objects.id(location).map(oid::to_owned) else { return Ok(()) };
        let Some(Object { kind, data }) = self.read_unless_blob(location)? else { return Ok(()) };
        let mut failed = Ok(());
        let parsed = for_each_link(kind, &data, self.objects.format(), |link, kind| {
            if failed.is_ok() {
                failed = self.visit(link, Some(kind), Some(&id));
            }
        });
        if parsed.is_err() {
            self.report(&id, Some(kind), None, Problem::Unparsable);
        }
        failed
    }

    /// Reads an object; `None` for a blob, which has no links and may be too large for memory.
    fn read_unless_blob(&mut self, location: Location) -> Result<Option<Object>, PackError> {
        if self.finder.kind(location)? == Kind::Blob { Ok(None) } else { self.finder.read(location).map(Some) }
    }

    fn report(&mut self, id: &oid, kind: Option<Kind>, by: Option<&oid>, problem: Problem) {
        if self.missing.len() < MAX_MISSING && self.listed.insert(id.to_owned()) {
            self.missing.push(MissingObject {
                id: id.to_owned(),
                kind,
                referred_to_by: by.map(oid::to_owned),
                reached_from: self.tip.clone(),
                problem,
            });
        }
    }
}
