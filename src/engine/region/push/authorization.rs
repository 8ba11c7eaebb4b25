//! Authorization of each ref that a push changes. Access policies are the caller's; this module gathers the facts that
//! they depend on.

use std::collections::BTreeSet;

use gix::ObjectId;
use gix::bstr::{BStr, BString};

use super::rejection::{Refused, Rejection};
use gitferry_git::pack::{PackError, PackSet};
use gitferry_git::receive_pack::{ChangedPaths, Command, Update, changed_paths, is_ancestor};

/// An update of a ref, as access policies see it.
#[derive(Clone, Copy, Debug)]
pub struct RefUpdate<'a> {
    /// Full name of the ref.
    pub name: &'a BStr,
    /// True if the ref is deleted.
    pub deletion: bool,
    /// True if the update loses commits of the ref: it replaces a value without being a fast-forward. Always false
    /// unless [`Facts::forced`] was asked for.
    pub forced: bool,
    /// Full paths of the files that the update changes. Empty unless [`Facts::changed_paths`] was asked for.
    pub changed_paths: &'a BTreeSet<BString>,
}

/// Facts that the decision on a ref depends on, beyond its name and deletion. Each costs a walk over commits or trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The decision depends on [`RefUpdate::forced`].
    pub forced: bool,
    /// The decision depends on [`RefUpdate::changed_paths`], and takes this many of them together with the directories
    /// above them. A push that changes more is refused.
    pub changed_paths: Option<usize>,
}

/// Decides which refs the pusher may change. Without I/O.
pub trait RefAuthorizer: std::fmt::Debug + Send + Sync {
    /// Facts that the decision on a ref depends on.
    fn depends_on(&self, name: &BStr) -> Facts;

    /// Authorizes one update.
    ///
    /// # Errors
    /// The reason in words for the client, without names of policies.
    fn authorize(&self, update: &RefUpdate<'_>) -> Result<(), String>;
}

/// Objects of a push that facts are read from.
#[derive(Clone, Copy)]
pub(super) struct Objects<'a> {
    pub(super) arrived: &'a PackSet,
    pub(super) held: &'a PackSet,
    pub(super) default_branch: Option<ObjectId>,
}

/// Authorizes a command before its objects have arrived, if nothing but its name and kind counts. For a ref behind a
/// symbolic one, both `names` have to be authorized.
pub(super) fn authorize_early(authorizer: &dyn RefAuthorizer, command: &Command, names: &[&BStr]) -> Option<Refused> {
    let unconditional = names.iter().filter(|name| authorizer.depends_on(name) == Facts::default());
    refusal(authorizer, unconditional.copied(), command, false, &BTreeSet::new())
}

/// Authorizes a command whose objects have arrived and are connected.
///
/// # Errors
/// A pack cannot be read.
pub(super) fn authorize(
    authorizer: &dyn RefAuthorizer,
    command: &Command,
    names: &[&BStr],
    objects: Objects<'_>,
) -> Result<Option<Refused>, PackError> {
    let mut facts = Facts::default();
    for name in names {
        let needed = authorizer.depends_on(name);
        facts.forced |= needed.forced;
        facts.changed_paths = facts.changed_paths.into_iter().chain(needed.changed_paths).min();
    }
    let Objects { arrived, held, default_branch } = objects;
    let forced = match (&command.old, &command.new) {
        (Some(old), Some(new)) if facts.forced => !is_ancestor(old, new, [arrived, held])?,
        _ => false,
    };
    let paths = match (&command.new, facts.changed_paths) {
        (Some(new), Some(limit)) => {
            let old = command.old.as_deref();
            let default_branch = default_branch.as_deref();
            let update = Update { old, new, default_branch, arrived, held };
            match changed_paths(update, limit)? {
                ChangedPaths::Known(paths) => paths,
                ChangedPaths::TooMany => return Ok(Some(too_many(limit))),
                ChangedPaths::Missing(id) => {
                    return Ok(Some(Refused::new(Rejection::Objects, format!("missing necessary object {id}"))));
                }
            }
        }
        _ => BTreeSet::new(),
    };
    Ok(refusal(authorizer, names.iter().copied(), command, forced, &paths))
}

fn too_many(limit: usize) -> Refused {
    let reason = format!(
        "access to this ref depends on the changed paths, and the push changes more than {limit} files and \
         directories; push the commits in parts"
    );
    Refused::new(Rejection::Unauthorized, reason)
}

fn refusal<'a>(
    authorizer: &dyn RefAuthorizer,
    names: impl IntoIterator<Item = &'a BStr>,
    command: &Command,
    forced: bool,
    changed_paths: &BTreeSet<BString>,
) -> Option<Refused> {
    let deletion = command.new.is_none();
    names.into_iter().find_map(|name| {
        let update = RefUpdate { name, deletion, forced, changed_paths };
        let reason = authorizer.authorize(&update).err()?;
        Some(Refused::new(Rejection::Unauthorized, reason))
    })
}
