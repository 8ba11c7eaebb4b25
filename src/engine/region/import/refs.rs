//! Refs in imports: two sorted streams, the source's refs and the ledger's, become edits.

use std::iter::Peekable;

use gix::ObjectId;

use crate::ledger::LedgerError;
use crate::ledger::change::{EditSpool, RefEdit};
use crate::region::{RegionError, Result};
use gitferry_git::local::{RefPatterns, SourceError};
use gitferry_git::refs::{RefName, RefValue};

/// Difference between the refs of a source and of a repository.
#[derive(Debug)]
pub struct RefsDiff {
    /// Edits from the repository's refs to the source's.
    pub edits: EditSpool,
    /// Number of new refs.
    pub created: u64,
    /// Number of refs with another value.
    pub updated: u64,
    /// Number of deleted refs.
    pub deleted: u64,
    /// Number of unchanged refs.
    pub kept: u64,
    /// Objects that new values name: sorted, each once.
    pub tips: Vec<ObjectId>,
}

impl RefsDiff {
    /// Returns the number of refs created minus the number deleted.
    pub fn refs_added(&self) -> i64 {
        self.created as i64 - self.deleted as i64
    }

    /// Returns true if no ref would remain of those that exist.
    pub fn deletes_all(&self) -> bool {
        self.deleted > 0 && self.created + self.updated + self.kept == 0
    }
}

/// Merges both streams by name. Refs that do not match `patterns` are left alone.
pub fn diff(
    source: impl Iterator<Item = std::result::Result<(RefName, RefValue), SourceError>>,
    ledger: impl Iterator<Item = std::result::Result<(RefName, RefValue), LedgerError>>,
    patterns: &RefPatterns,
    edits: EditSpool,
) -> Result<RefsDiff> {
    let ledger = ledger.filter(|entry| match entry {
        Ok((name, _)) => patterns.matches(name.as_bstr()),
        Err(_) => true,
    });
    let mut source = source.peekable();
    let mut ledger = ledger.peekable();
    let mut diff = RefsDiff { edits, created: 0, updated: 0, deleted: 0, kept: 0, tips: Vec::new() };
    loop {
        let order = match (front(&mut source)?, front(&mut ledger)?) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(new), Some(old)) => new.cmp(old),
        };
        let new = if order.is_le() { take(&mut source)? } else { None };
        let old = if order.is_ge() { take(&mut ledger)? } else { None };
        diff.add(old, new)?;
    }
    diff.tips.sort_unstable();
    diff.tips.dedup();
    Ok(diff)
}

type Entry<E> = std::result::Result<(RefName, RefValue), E>;

/// Returns the name at the front; an error at the front is removed and returned.
fn front<'a, E, I>(refs: &'a mut Peekable<I>) -> Result<Option<&'a RefName>>
where
    E: Into<RegionError> + 'a,
    I: Iterator<Item = Entry<E>>,
{
    if let Some(Err(error)) = refs.next_if(std::result::Result::is_err) {
        return Err(error.into());
    }
    Ok(match refs.peek() {
        Some(Ok((name, _))) => Some(name),
        _ => None,
    })
}

fn take<E: Into<RegionError>, I: Iterator<Item = Entry<E>>>(
    refs: &mut Peekable<I>,
) -> Result<Option<(RefName, RefValue)>> {
    refs.next().transpose().map_err(Into::into)
}

impl RefsDiff {
    fn add(&mut self, old: Option<(RefName, RefValue)>, new: Option<(RefName, RefValue)>) -> Result<()> {
        let (name, old, new) = match (old, new) {
            (None, None) => return Ok(()),
            (Some((name, old)), None) => (name, Some(old), None),
            (None, Some((name, new))) => (name, None, Some(new)),
            (Some((name, old)), Some((_, new))) => (name, Some(old), Some(new)),
        };
        if old == new {
            self.kept += 1;
            return Ok(());
        }
        match (&old, &new) {
            (None, _) => self.created += 1,
            (_, None) => self.deleted += 1,
            _ => self.updated += 1,
        }
        if let Some(RefValue::Object(id)) = &new {
            self.tips.push(*id);
        }
        let edit = RefEdit { name, old, new };
        self.edits.push(&edit).map_err(|error| LedgerError::corrupt(error.to_string()).into())
    }
}
