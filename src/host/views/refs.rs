//! The refs of one state of a repository, as readers and links see them. A newer state shares the unchanged parts of its
//! tables with the older one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use gix::bstr::ByteSlice;
use gix::hash::Kind as Format;
use jiff::Timestamp;

use gitferry_engine::ledger::LedgerError;
use gitferry_engine::ledger::change::RefEdit;
use gitferry_engine::ledger::head::{Frontier, HeadItem};
use gitferry_engine::ledger::log::{ChangeRow, read_chain, read_chain_above};
use gitferry_engine::ledger::refs::RefsAt;
use gitferry_engine::region::push::{is_hidden, without};
use gitferry_engine::region::{Region, Result, blocking};
use gitferry_git::local::RefPatterns;
use gitferry_git::own_refs::{OWN_PREFIX, is_own, is_transit_ref};
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RecentTips, RefTable};

/// Most changes that are read for replaced values when a repository is opened that is not in the cache.
const MAX_RECENT_CHANGES: u64 = 1_000;
/// Most replaced values that are kept per repository.
const MAX_RECENT_TIPS: usize = 100_000;

/// The refs of a state.
#[derive(Clone, Debug)]
pub struct Refs {
    /// All refs.
    pub all: Arc<RefTable>,
    /// Refs as readers see them.
    pub visible: Arc<RefTable>,
    /// Refs as links see them that push here; set by the first such push.
    pub for_links: OnceLock<Arc<RefTable>>,
    /// Values that recent changes replaced.
    pub recent: RecentTips,
}

impl Refs {
    /// Loads all refs from snapshot and log, and the values that changes since `since` replaced.
    pub async fn load(
        region: &Region,
        hidden: Option<&RefPatterns>,
        item: &HeadItem,
        since: Timestamp,
    ) -> Result<Refs> {
        let refs = region.reader().refs(item).await?;
        let from = item.head.frontier.seq.saturating_sub(MAX_RECENT_CHANGES).max(item.head.floor);
        let rows = read_chain_above(region.table(), item.id, from, item.head.frontier).await?;
        let log = region.log();
        let id = item.id;
        let format = item.head.format;
        let hidden = hidden.cloned();
        blocking(move || {
            let table = table_of(format, refs)?;
            let mut recent = RecentTips::default();
            for row in rows.iter().filter(|row| row.facts.time >= since) {
                log.read(id, row, |header, edit| note_replaced(&mut recent, hidden.as_ref(), header.time, &edit))?;
            }
            let all = Arc::new(table);
            let visible = visible_in(&all, hidden.as_ref())?;
            Ok(Refs { all, visible, for_links: OnceLock::new(), recent })
        })
        .await
    }

    /// Loads the refs that readers see, and nothing else.
    pub async fn load_visible(region: &Region, hidden: Option<&RefPatterns>, item: &HeadItem) -> Result<Arc<RefTable>> {
        let refs = region.reader().refs(item).await?;
        let format = item.head.format;
        let hidden = hidden.cloned();
        blocking(move || visible_in(&Arc::new(table_of(format, refs)?), hidden.as_ref())).await
    }

    /// Derives the refs of the newer state `item` from these of state `from`: their tables with the changes since then.
    pub async fn follow(
        self,
        region: &Region,
        hidden: Option<&RefPatterns>,
        from: Frontier,
        item: &HeadItem,
    ) -> Result<Refs> {
        let rows: Vec<ChangeRow> = read_chain(region.table(), item.id, from, item.head.frontier).await?;
        let log = region.log();
        let id = item.id;
        let hidden = hidden.cloned();
        let Refs { all: old, visible: shown, for_links: linked, mut recent } = self;
        blocking(move || {
            let mut edits: Edits = BTreeMap::new();
            for row in &rows {
                log.read(id, row, |header, edit| {
                    note_replaced(&mut recent, hidden.as_ref(), header.time, &edit);
                    edits.insert(edit.name, edit.new);
                })?;
            }
            let all = if edits.is_empty() { old.clone() } else { Arc::new(edited(&old, edits.clone())?) };
            let whole = (&old, &all);
            let visible = subset_after(&shown, whole, &edits, |name| is_hidden_from_readers(name, hidden.as_ref()))?;
            let for_links = OnceLock::new();
            if let Some(linked) = linked.get() {
                let _ =
                    for_links.set(subset_after(linked, whole, &edits, |name| is_hidden(name, hidden.as_ref(), true))?);
            }
            Ok(Refs { all, visible, for_links, recent })
        })
        .await
    }
}

fn table_of(format: Format, refs: RefsAt) -> Result<RefTable> {
    let mut table = RefTable::empty(format);
    for entry in refs.open()? {
        let (name, value) = entry?;
        table.push(name, value).map_err(|error| LedgerError::Corrupt(error.to_string()))?;
    }
    Ok(table)
}

/// The refs that readers see: the same table if they see all.
fn visible_in(all: &Arc<RefTable>, hidden: Option<&RefPatterns>) -> Result<Arc<RefTable>> {
    let visible = match hidden {
        None if all.with_prefix(OWN_PREFIX.as_bytes()).is_empty() => None,
        hidden => without(all, |name| is_hidden_from_readers(name, hidden))?,
    };
    Ok(visible.map_or_else(|| all.clone(), Arc::new))
}

/// New values of refs by name; `None` deletes a ref.
type Edits = BTreeMap<RefName, Option<RefValue>>;

fn edited(table: &RefTable, edits: Edits) -> Result<RefTable> {
    Ok(table.with_edits(edits).map_err(|error| LedgerError::Corrupt(error.to_string()))?)
}

/// The visible subset of a table after some edits, derived from the subset before them; `whole` is the full table
/// before and after.
fn subset_after(
    part: &Arc<RefTable>,
    whole: (&Arc<RefTable>, &Arc<RefTable>),
    edits: &Edits,
    is_hidden: impl Fn(&[u8]) -> bool,
) -> Result<Arc<RefTable>> {
    let shown = |name: &&RefName| !is_hidden(name.as_bytes());
    if Arc::ptr_eq(part, whole.0) && edits.keys().all(|name| shown(&name)) {
        return Ok(whole.1.clone());
    }
    let edits = edits.iter().filter(|(name, _)| shown(name)).map(|(name, value)| (name.clone(), value.clone()));
    let edits: Edits = edits.collect();
    if edits.is_empty() {
        return Ok(part.clone());
    }
    Ok(Arc::new(edited(part, edits)?))
}

/// Returns true if fetches may not see a ref.
fn is_hidden_from_readers(name: &[u8], hidden: Option<&RefPatterns>) -> bool {
    match hidden {
        None => is_transit_ref(name),
        Some(hidden) => is_own(name) || hidden.matches(name.as_bstr()),
    }
}

/// Forgets the values that were replaced before `since`, and those beyond [`MAX_RECENT_TIPS`].
pub fn forget_older(recent: &mut RecentTips, since: Timestamp) {
    while recent.first_time().is_some_and(|time| time < since) || recent.len() > MAX_RECENT_TIPS {
        recent.forget_first();
    }
}

fn note_replaced(recent: &mut RecentTips, hidden: Option<&RefPatterns>, time: Timestamp, edit: &RefEdit) {
    if let Some(RefValue::Object(old)) = &edit.old
        && !is_hidden_from_readers(edit.name.as_bytes(), hidden)
    {
        recent.push(time, *old);
    }
}
