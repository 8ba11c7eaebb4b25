//! What a client may ask for.

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::{Reachable, check_contents};
use super::slots::SlotSet;
use crate::protocol::{FetchRequest, Want};
use crate::view::View;

/// A ref that was wanted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedRef {
    pub(crate) id: ObjectId,
    pub(crate) name: BString,
}

/// Looks at wants while a request arrives: keeps each object once, and none behind the first one that is not here,
/// which the answer to the client names.
pub(crate) struct Admission<'v> {
    view: &'v View,
    known: SlotSet,
    failed: bool,
}

impl<'v> Admission<'v> {
    pub(crate) fn new(view: &'v View, graph: &Graph<'_>) -> Self {
        Admission { view, known: graph.no_slots(), failed: false }
    }

    /// Whether to keep a want.
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

/// The object that a ref, or `HEAD`, names.
fn named(view: &View, name: &BStr) -> Option<ObjectId> {
    match name.as_bytes() {
        b"HEAD" => view.head_object(),
        _ => view.refs.find(name).and_then(|entry| view.refs.object(&entry)),
    }
}

/// What is wanted, with permission.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    /// Everything.
    pub(crate) slots: Vec<u64>,
    /// The commits among it, also those behind tags.
    pub(crate) commits: Vec<u64>,
    pub(crate) refs: Vec<WantedRef>,
}

impl Wants {
    /// Checks that everything that is wanted is visible. What exists but is not visible is answered just like
    /// what does not exist: the first of them in the order of the request is named.
    pub(crate) fn check(
        view: &View,
        graph: &mut Graph<'_>,
        reachable: &mut Reachable<'_>,
        request: &FetchRequest,
    ) -> Result<Wants, ServeError> {
        let (mut wants, mut known, mut contents) = (Wants::default(), graph.no_slots(), Vec::new());
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
        // Those before it in the request come first.
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
