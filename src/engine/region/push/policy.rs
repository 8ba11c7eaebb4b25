//! Rules of a repository for pushes, and the refs that clients neither see nor write.

use gix::bstr::ByteSlice;
use serde::Deserialize;

use super::authorization::RefAuthorizer;
use super::quota::StorageQuota;
use crate::region::lfs::MAX_LFS_BYTES;
use gitferry_git::own_refs::{is_link_ref, is_own};
use gitferry_git::pack::ArrivalLimits;
use gitferry_git::receive_pack::PreReceive;
use gitferry_git::refs::RefValue;
use gitferry_git::{fsck, local::RefPatterns};

/// Largest accepted pack in bytes, unless a policy sets another limit.
pub const MAX_PUSH_BYTES: u64 = 16 << 30;
/// Largest accepted object in bytes, unless a policy sets another limit.
pub const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// Treatment of pointers to LFS objects that the region does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// Refuses the push.
    #[default]
    Refuse,
    /// Accepts the push; the objects may come later.
    Allow,
}

/// Operations that are forbidden on some refs.
#[derive(Clone, Debug)]
pub struct Protection {
    /// Protected refs.
    pub refs: RefPatterns,
    /// Forbids updates that are not fast-forwards.
    pub no_force: bool,
    /// Forbids deletions.
    pub no_delete: bool,
    /// Forbids every change.
    pub no_push: bool,
}

/// Rules of a repository for pushes.
#[derive(Clone, Debug)]
pub struct PushPolicy {
    /// Size limits of the pack and its objects.
    pub limits: ArrivalLimits,
    /// Rules of the object check; `None` skips it.
    pub rules: Option<fsck::Rules>,
    /// Protected refs. Several protections may apply to a ref.
    pub protections: Vec<Protection>,
    /// Refs that clients neither see nor change; `None` for none.
    pub hidden: Option<RefPatterns>,
    /// Treatment of pointers to missing LFS objects.
    pub lfs: Missing,
    /// Largest accepted LFS object, in bytes.
    pub lfs_object_bytes: u64,
    /// Decides which refs the pusher may change; `None` allows all that the other rules allow.
    pub authorizer: Option<std::sync::Arc<dyn RefAuthorizer>>,
    /// Quota on the bytes of packs; `None` for none. Pushes of links have none.
    pub storage: Option<std::sync::Arc<dyn StorageQuota>>,
    /// Hook that accepts or declines the push.
    pub hook: Option<std::sync::Arc<dyn PreReceive>>,
    /// True for pushes of links, which see and write the refs that links keep below `refs/gitferry/`.
    pub mirror: bool,
    /// Sets HEAD along with the push, which Git's protocol cannot express: the branch of the old HEAD may be deleted
    /// then.
    pub with_head: Option<WithHead>,
}

/// HEAD that comes with a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WithHead {
    /// HEAD after the push; `None` leaves HEAD as it is.
    pub head: Option<RefValue>,
}

impl Default for PushPolicy {
    fn default() -> Self {
        PushPolicy {
            limits: ArrivalLimits { pack_bytes: MAX_PUSH_BYTES, object_bytes: MAX_OBJECT_BYTES },
            rules: Some(fsck::Rules::default()),
            protections: Vec::new(),
            hidden: None,
            lfs: Missing::default(),
            lfs_object_bytes: MAX_LFS_BYTES,
            authorizer: None,
            storage: None,
            hook: None,
            mirror: false,
            with_head: None,
        }
    }
}

/// Returns true if clients may not see a ref. Links (`mirror`) see the refs that links keep.
pub fn is_hidden(name: &[u8], hidden: Option<&RefPatterns>, mirror: bool) -> bool {
    is_reserved(name, mirror) || hidden.is_some_and(|hidden| hidden.matches(name.as_bstr()))
}

/// Returns true if clients may not write a ref because it is gitferry's own.
pub(super) fn is_reserved(name: &[u8], mirror: bool) -> bool {
    is_own(name) && !(mirror && is_link_ref(name))
}
