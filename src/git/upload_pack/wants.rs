//! What a client may ask for.

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::{Reachable, check_contents};
use crate::git::protocol::FetchRequest;
use crate::git::view::View;

/// A ref that was wanted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedRef {
    pub(crate) id: ObjectId,
    pub(crate) name: BString,
}

/// What is wanted, with permission.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// Everything.
    pub(crate) slots: Vec<u64>,
    /// The commits among it, also those behind tags.
    pub(crate) commits: Vec<u64>,
    /// Whether all of it leads to commits.
    pub(crate) only_commits: bool,
    pub(crate) refs: Vec<WantedRef>,
}

impl Wants {
    /// Checks that everything that is wanted is visible. What exists but is not visible is answered just like
    /// what does not exist.
    pub(crate) fn check(
        view: &View,
        graph: &mut Graph<'_>,
        reachable: &mut Reachable<'_>,
        request: &FetchRequest,
    ) -> Result<Wants, ServeError> {
        let mut wants = Wants { only_commits: true, ..Wants::default() };
        let (mut known, mut contents) = (graph.no_slots(), Vec::new());
        for name in &request.want_refs {
            let id = match name.as_bytes() {
                b"HEAD" => view.head_object(),
                _ => view.refs.find(name.as_bstr()).and_then(|entry| view.refs.object(&entry)),
            };
            let id = id.ok_or_else(|| ServeError::UnknownRef(name.clone()))?;
            let slot = graph.require(&id, || None)?;
            if known.insert(slot) {
                wants.add(slot, graph)?;
            }
            wants.refs.push(WantedRef { id, name: name.clone() });
        }
        for id in &request.wants {
            let slot = graph.slot(id).ok_or(ServeError::NotOurs(*id))?;
            if !known.insert(slot) {
                continue;
            }
            if !view.is_tip(id) {
                match graph.kind(slot)? {
                    Kind::Tree | Kind::Blob => contents.push(slot),
                    _ if reachable.contains(id, slot, graph)? => {}
                    _ => return Err(ServeError::NotOurs(*id)),
                }
            }
            wants.add(slot, graph)?;
        }
        check_contents(view, &contents, graph)?;
        Ok(wants)
    }

    fn add(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        self.slots.push(slot);
        match graph.peel(slot, |_| {})? {
            (commit, Kind::Commit) => self.commits.push(commit),
            _ => self.only_commits = false,
        }
        Ok(())
    }
}
