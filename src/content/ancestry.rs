//! Ancestry of commits: fast-forwards and merge bases, as `git merge-base --all` finds them.

use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::ObjectId;

use crate::commit::Commit;
use crate::error::ContentError;
use crate::limits::{Bound, MAX_BASE_COMMITS};
use crate::reader::Reader;

/// Reached from the first side.
const ONE: u8 = 1;
/// Reached from the second side.
const TWO: u8 = 2;
/// Reached from a common ancestor.
const STALE: u8 = 4;

/// Returns true if `ancestor` is the commit `of`, or one of its ancestors.
pub fn is_ancestor(reader: &mut Reader<'_>, ancestor: ObjectId, of: ObjectId) -> Result<bool, ContentError> {
    if ancestor == of {
        return Ok(true);
    }
    let walk = Walk::run(reader, &[ancestor], &[of])?;
    Ok(walk.has(&ancestor, TWO))
}

/// Returns the best common ancestors of two commits, newest first; none if the histories are unrelated.
pub fn merge_bases(reader: &mut Reader<'_>, one: ObjectId, two: ObjectId) -> Result<Vec<ObjectId>, ContentError> {
    bases_of(reader, &[one], &[two])
}

/// Returns the merge bases of two sides. A side of several commits stands for a commit with these parents.
pub(crate) fn bases_of(
    reader: &mut Reader<'_>,
    ones: &[ObjectId],
    twos: &[ObjectId],
) -> Result<Vec<ObjectId>, ContentError> {
    let walk = Walk::run(reader, ones, twos)?;
    let mut found: Vec<ObjectId> = walk.common.iter().filter(|id| !walk.has(id, STALE)).copied().collect();
    if found.len() > 1 {
        found = independent(reader, found)?;
    }
    let mut dated = Vec::with_capacity(found.len());
    for id in found {
        dated.push((reader.commit(&id)?.time, id));
    }
    dated.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    Ok(dated.into_iter().map(|(_, id)| id).collect())
}

/// Removes commits that others reach: clocks that go backwards leave some.
fn independent(reader: &mut Reader<'_>, mut commits: Vec<ObjectId>) -> Result<Vec<ObjectId>, ContentError> {
    let mut at = 0;
    while at < commits.len() {
        let id = commits[at];
        let others: Vec<ObjectId> = commits.iter().filter(|other| **other != id).copied().collect();
        let walk = Walk::run(reader, &[id], &others)?;
        if walk.has(&id, TWO) {
            commits.remove(at);
        } else {
            at += 1;
        }
    }
    Ok(commits)
}

/// Walk from both sides, newest first, until only ancestors of common ancestors are left.
struct Walk {
    flags: HashMap<ObjectId, u8>,
    /// Commits that both sides reach, in the order found.
    common: Vec<ObjectId>,
    queue: BinaryHeap<(i64, ObjectId)>,
    queued: HashSet<ObjectId>,
    /// Queued commits that are not stale.
    fresh: usize,
}

impl Walk {
    fn run(reader: &mut Reader<'_>, ones: &[ObjectId], twos: &[ObjectId]) -> Result<Walk, ContentError> {
        let mut walk = Walk {
            flags: HashMap::new(),
            common: Vec::new(),
            queue: BinaryHeap::new(),
            queued: HashSet::new(),
            fresh: 0,
        };
        let mut commits: HashMap<ObjectId, Commit> = HashMap::new();
        for (tips, flag) in [(ones, ONE), (twos, TWO)] {
            for tip in tips {
                walk.mark(reader, &mut commits, *tip, flag)?;
            }
        }
        let mut walked = 0;
        while walk.fresh > 0 {
            let Some((_, id)) = walk.queue.pop() else { break };
            walked += 1;
            if walked > MAX_BASE_COMMITS {
                return Err(ContentError::Limit(Bound::BaseCommits));
            }
            let flags = walk.visit(id);
            let commit = match commits.remove(&id) {
                Some(commit) => commit,
                None => reader.commit(&id)?,
            };
            for parent in commit.parents {
                walk.mark(reader, &mut commits, parent, flags)?;
            }
        }
        Ok(walk)
    }

    fn has(&self, id: &ObjectId, flag: u8) -> bool {
        self.flags.get(id).is_some_and(|flags| flags & flag != 0)
    }

    /// Takes a commit off the queue; returns the flags that its parents get.
    fn visit(&mut self, id: ObjectId) -> u8 {
        self.queued.remove(&id);
        let flags = self.flags.get(&id).copied().unwrap_or(0);
        if flags & STALE == 0 {
            self.fresh -= 1;
        }
        if flags & (ONE | TWO) != ONE | TWO {
            return flags;
        }
        if flags & STALE == 0 && !self.common.contains(&id) {
            self.common.push(id);
        }
        flags | STALE
    }

    /// Adds flags to a commit, and queues it if they are new.
    fn mark(
        &mut self,
        reader: &mut Reader<'_>,
        commits: &mut HashMap<ObjectId, Commit>,
        id: ObjectId,
        flags: u8,
    ) -> Result<(), ContentError> {
        let old = self.flags.get(&id).copied().unwrap_or(0);
        let new = old | flags;
        if new == old {
            return Ok(());
        }
        self.flags.insert(id, new);
        if self.queued.contains(&id) {
            if old & STALE == 0 && new & STALE != 0 {
                self.fresh -= 1;
            }
            return Ok(());
        }
        let commit = reader.commit(&id)?;
        self.queue.push((commit.time, id));
        commits.insert(id, commit);
        self.queued.insert(id);
        if new & STALE == 0 {
            self.fresh += 1;
        }
        Ok(())
    }
}
