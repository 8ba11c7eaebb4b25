//! Validation of wants: clients may fetch what visible refs reach.

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::{Reachable, check_contents};
use super::slots::SlotSet;
use crate::protocol::{FetchRequest, Want};
use crate::view::View;

/// Resolved `want-ref`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedRef {
    pub(crate) id: ObjectId,
    pub(crate) name: BString,
}

/// Filters wants while a request is read: drops duplicates, and everything after the first unknown object, which the
/// error to the client will name. Bounds memory by the objects that exist.
pub(crate) struct Admission<'v> {
    view: &'v View,
    known: SlotSet,
    failed: bool,
}

impl<'v> Admission<'v> {
    pub(crate) fn new(view: &'v View, graph: &Graph<'_>) -> Self {
        Admission { view, known: graph.empty_set(), failed: false }
    }

    /// Returns true to keep a want. Fails for a ref that does not exist.
    pub(crate) fn admit(&mut self, want: Want<'_>, graph: &Graph<'_>) -> Result<bool, ServeError> {
        match want {
            Want::Ref(name) => match named(self.view, name) {
                Some(_) => Ok(true),
                None => Err(ServeError::UnknownRef(name.into())),
            },
            Want::Object(_) if self.failed => Ok(false),
            Want::Object(id) => match graph.slot(id) {
                Some(slot) => Ok(self.known.insert(slot)),
                None => {
                    self.failed = true;
                    Ok(true)
                }
            },
        }
    }
}

/// Resolves a ref or `HEAD` to an object.
fn named(view: &View, name: &BStr) -> Option<ObjectId> {
    match name.as_bytes() {
        b"HEAD" => view.head_object(),
        _ => view.refs.find(name).and_then(|entry| view.refs.object(&entry)),
    }
}

/// Validated wants.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// All wanted objects.
    pub(crate) slots: Vec<u64>,
    /// Wanted commits, including those that wanted tags peel to.
    pub(crate) commits: Vec<u64>,
    pub(crate) refs: Vec<WantedRef>,
}

impl Wants {
    /// Checks that visible refs reach all wants. Hidden objects fail like missing ones: the error names the first want
    /// of either kind in the order of the request.
    pub(crate) fn check(
        view: &View,
        graph: &mut Graph<'_>,
        reachable: &mut Reachable<'_>,
        request: &FetchRequest,
    ) -> Result<Wants, ServeError> {
        let mut wants = Wants::default();
        let mut known = graph.empty_set();
        let mut contents = Vec::new();
        for name in &request.want_refs {
            let id = named(view, name.as_bstr()).ok_or_else(|| ServeError::UnknownRef(name.clone()))?;
            let slot = graph.require(&id, || None)?;
            if known.insert(slot) {
                wants.add(slot, graph)?;
            }
            wants.refs.push(WantedRef { id, name: name.clone() });
        }
        let mut refused = None;
        for id in &request.wants {
            let Some(slot) = graph.slot(id) else {
                refused = Some(*id);
                break;
            };
            if !known.insert(slot) {
                continue;
            }
            if !view.is_tip(id) {
                match graph.kind(slot)? {
                    Kind::Tree | Kind::Blob => contents.push(slot),
                    _ if graph.metered(|graph| reachable.contains(id, slot, graph))? => {}
                    _ => {
                        refused = Some(*id);
                        break;
                    }
                }
            }
            wants.add(slot, graph)?;
        }
        // Trees and blobs precede the refused want in the request, so their error takes precedence.
        graph.metered(|graph| check_contents(view, &contents, graph))?;
        match refused {
            Some(id) => Err(ServeError::NotOurs(id)),
            None => Ok(wants),
        }
    }

    fn add(&mut self, slot: u64, graph: &mut Graph<'_>) -> Result<(), ServeError> {
        self.slots.push(slot);
        if let (commit, Kind::Commit) = graph.peel(slot, |_| {})? {
            self.commits.push(commit);
        }
        Ok(())
    }
}
