//! Proof that every object that is needed is there.
//!
//! [`closure`] proves it for whole packs from the links that left them, which costs one look-up for each
//! such link: if none is missing, everything that any object names is there, and so is all that any ref
//! can reach. Only where something is missing (old repositories may hold unreachable objects whose links
//! lead nowhere) [`missing_from`] walks from the refs.

use std::collections::HashSet;

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use crate::links::{Link, for_each_link};
use crate::pack::{CheckedPack, Finder, Location, Object, PackError, PackSet};

/// Most problems that [`missing_from`] lists before it gives up.
pub const MAX_MISSING: usize = 1000;

/// The links of checked packs that lead neither to an object of the same pack nor to one that is `held`
/// elsewhere: sorted, each once. The packs are closed together if there are none, provided that `held`
/// covers all these packs, and otherwise only objects that are known to be complete themselves.
pub fn closure<'a>(packs: impl IntoIterator<Item = &'a CheckedPack>, held: &dyn Fn(&oid) -> bool) -> Vec<Link> {
    let unresolved = packs.into_iter().flat_map(|pack| &pack.unresolved);
    let mut missing: Vec<Link> = unresolved.filter(|link| !held(&link.id)).copied().collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

/// An object that is reachable but cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingObject {
    /// The object.
    pub id: ObjectId,
    /// What it is taken for by what refers to it; `None` for what a ref names.
    pub kind: Option<Kind>,
    /// The object that names it; `None` where a ref does.
    pub referred_to_by: Option<ObjectId>,
    /// The ref that it was reached from first.
    pub reached_from: String,
    /// What is wrong.
    pub problem: Problem,
}

/// Why an object cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It is there but is something else.
    IsA(Kind),
    /// What it links to cannot be told.
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

/// Walks from `tips` (ref names and what they name) over all objects in `objects` and returns what is
/// missing, at most [`MAX_MISSING`] of it. The walk stops at objects that are `proven` to be complete.
///
/// Needs one bit for every object of the set and a stack of at most one word for each.
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
    /// One bit for every slot of `objects`.
    seen: Vec<u64>,
    /// Slots of objects whose links have not been followed yet.
    stack: Vec<u64>,
    /// Ids in `missing`.
    listed: HashSet<ObjectId>,
    missing: Vec<MissingObject>,
    /// The ref whose objects are walked now.
    tip: String,
}

impl Walk<'_> {
    /// Looks at an object that `by` takes for a `kind`.
    fn visit(&mut self, id: &oid, kind: Option<Kind>, by: Option<&oid>) -> Result<(), PackError> {
        let Some(location) = self.objects.locate(id) else {
            if !(self.proven)(id) {
                self.report(id, kind, by, Problem::Missing);
            }
            return Ok(());
        };
        let slot = self.objects.slot(location);
        let (word, bit) = ((slot / 64) as usize, 1 << (slot % 64));
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

    /// Visits everything that an object links to.
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

    /// Blobs link to nothing, and may be too large to read.
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
