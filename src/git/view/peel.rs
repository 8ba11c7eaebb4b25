//! Peeling of tags: from a tag to the object at the end of its chain of tags.

use gix::ObjectId;
use gix::hash::oid;
use gix::objs::Kind;

use crate::limits::MAX_TAG_DEPTH;
use crate::links::for_each_link;
use crate::pack::{Finder, Object, PackError, PackSet};

/// Peels tags down to the first object that is no tag; `None` if an object on the way is missing, or after
/// [`MAX_TAG_DEPTH`] tags.
pub(super) fn peel(packs: &PackSet, finder: &mut Finder<'_>, id: &oid) -> Result<Option<ObjectId>, PackError> {
    let mut id = id.to_owned();
    for _ in 0..=MAX_TAG_DEPTH {
        let Some(location) = packs.locate(&id) else { return Ok(None) };
        if finder.kind(location)? != Kind::Tag {
            return Ok(Some(id));
        }
        match tag_target(packs, finder.read(location)?) {
            Some(target) => id = target,
            None => return Ok(None),
        }
    }
    Ok(None)
}

fn tag_target(packs: &PackSet, Object { kind, data }: Object) -> Option<ObjectId> {
    let mut target = None;
    for_each_link(kind, &data, packs.format(), |id, _| target = Some(id.to_owned())).ok()?;
    target
}
