//! Pattern lists of `sparse:oid` filters: blobs of the repository that the client names.

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::Kind;

use super::error::ServeError;
use super::graph::Graph;
use super::reachable::{Reachable, check_contents};
use super::sparse::{Sparse, parse_list};
use crate::links::{EntryKind, TreeEntries};
use crate::pack::Object;
use crate::view::View;

/// Size limit of a pattern list in bytes.
const MAX_LIST_BYTES: u64 = 256 << 10;

/// Reads the pattern lists of a filter. A visible ref must reach each blob: otherwise the choice of objects would
/// reveal the content of hidden blobs.
pub(crate) fn read(
    view: &View,
    graph: &mut Graph<'_>,
    reachable: &mut Reachable<'_>,
    names: &[BString],
) -> Result<Sparse, ServeError> {
    let mut lists = Vec::with_capacity(names.len());
    for name in names {
        let blob = graph.metered(|graph| find(view, graph, reachable, name.as_bstr()))?;
        let list = parse_list(&blob);
        lists.push(list.ok_or_else(|| unusable(name.as_bstr(), "it has more than 2000 patterns"))?);
    }
    Ok(Sparse::new(lists))
}

/// Reads the blob that a client names by id, by ref or as `<ref or id>:<path>`.
fn find(view: &View, graph: &mut Graph<'_>, reachable: &mut Reachable<'_>, name: &BStr) -> Result<Vec<u8>, ServeError> {
    let nothing = || unusable(name, "it names no blob that a ref reaches: give its id, or a ref and a path");
    let (base, path) = match name.split_once_str(":") {
        Some((base, path)) => (base.as_bstr(), Some(path)),
        None => (name, None),
    };
    let slot = visible(view, graph, reachable, base)?.ok_or_else(nothing)?;
    let slot = match path {
        Some(path) => within(graph, slot, path)?.ok_or_else(nothing)?,
        None => slot,
    };
    if graph.kind(slot)? != Kind::Blob {
        return Err(nothing());
    }
    let location = graph.location(slot);
    if graph.finder().size(location)? > MAX_LIST_BYTES {
        return Err(unusable(name, "it exceeds 256 KiB, the limit for a list of patterns"));
    }
    Ok(graph.read(slot)?.data.to_vec())
}

/// Resolves a ref or an id to an object that a visible ref reaches.
fn visible(
    view: &View,
    graph: &mut Graph<'_>,
    reachable: &mut Reachable<'_>,
    name: &BStr,
) -> Result<Option<u64>, ServeError> {
    let head = if name == "HEAD" { view.head_object() } else { None };
    if let Some(id) = head.or_else(|| view.refs.expand(name).and_then(|entry| view.refs.object(&entry))) {
        return Ok(graph.slot(&id));
    }
    let id = ObjectId::from_hex(name).ok().filter(|id| id.kind() == view.format);
    let Some((id, slot)) = id.and_then(|id| graph.slot(&id).map(|slot| (id, slot))) else { return Ok(None) };
    if view.is_tip(&id) {
        return Ok(Some(slot));
    }
    match graph.kind(slot)? {
        Kind::Commit | Kind::Tag => Ok(reachable.contains(&id, slot, graph)?.then_some(slot)),
        Kind::Tree | Kind::Blob => match check_contents(view, &[slot], graph) {
            Err(ServeError::NotOurs(_)) => Ok(None),
            checked => checked.map(|()| Some(slot)),
        },
    }
}

/// Resolves a path below a commit, tag or tree.
fn within(graph: &mut Graph<'_>, slot: u64, path: &[u8]) -> Result<Option<u64>, ServeError> {
    let (mut at, kind) = graph.peel(slot, |_| {})?;
    if kind == Kind::Commit {
        let tree = graph.unshallow_commit(at)?.tree;
        at = graph.require(&tree, || Some(graph.id(at)))?;
    }
    for name in path.split(|byte| *byte == b'/') {
        let Object { kind, data } = graph.read(at)?;
        if kind != Kind::Tree {
            return Ok(None);
        }
        let mut entries = TreeEntries::new(&data, graph.packs().format());
        let found = loop {
            match entries.read().map_err(|reason| ServeError::Unreadable { id: graph.id(at), reason })? {
                None => return Ok(None),
                Some(entry) if entry.name == name && entry.kind != EntryKind::Submodule => break entry.id.to_owned(),
                Some(_) => {}
            }
        };
        at = graph.require(&found, || Some(graph.id(at)))?;
    }
    Ok(Some(at))
}

fn unusable(name: &BStr, reason: &'static str) -> ServeError {
    ServeError::Sparse { name: name[..name.len().min(200)].into(), reason }
}
