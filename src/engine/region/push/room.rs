//! [`Room`] of one push.

use super::policy::PushPolicy;
use super::quota::{PackRoom, Reserved, StorageQuota};
use super::state::PushState;
use crate::region::usage::live_bytes;
use gitferry_git::pack::{ArrivalLimits, Fault};
use gitferry_git::receive_pack::IngestError;

/// Size of a pack without objects, in bytes: header and SHA-256.
const MIN_PACK_BYTES: u64 = 12 + 32;

/// Room that quotas leave for the pack of a push.
pub(super) struct Room<'a> {
    quota: Option<&'a dyn StorageQuota>,
    asks: PackRoom,
    /// Bytes that are left.
    left: u64,
}

impl<'a> Room<'a> {
    pub(super) fn of(state: &PushState, policy: &'a PushPolicy) -> Self {
        let asks = PackRoom {
            repository: state.item.id,
            held: live_bytes(&state.manifest),
            generation: state.manifest.generation,
        };
        let quota = policy.storage.as_deref();
        Room { quota, asks, left: quota.map_or(u64::MAX, |quota| quota.room(asks)) }
    }

    /// Limits at which receiving the pack ends. An empty pack is received in any case: a push may name objects that are
    /// there.
    pub(super) fn limits(&self, policy: &PushPolicy) -> ArrivalLimits {
        ArrivalLimits { pack_bytes: policy.limits.pack_bytes.min(self.left.max(MIN_PACK_BYTES)), ..policy.limits }
    }

    /// Returns true if the pack is larger than what is left, and not than the policy allows.
    pub(super) fn is_exceeded(&self, policy: &PushPolicy, error: &IngestError) -> bool {
        let is_too_large =
            matches!(error, IngestError::Pack(error) if matches!(error.fault, Fault::PackTooLarge { .. }));
        is_too_large && self.left < policy.limits.pack_bytes
    }

    /// Reason for refusing a pack that was not received to its end.
    pub(super) fn refusal(&self) -> String {
        let beyond = self.left.max(MIN_PACK_BYTES).saturating_add(1);
        match self.reserve(beyond) {
            Err(reason) => reason,
            // A repository was deleted meanwhile.
            Ok(_) => "a quota on storage was used up; push again".into(),
        }
    }

    pub(super) fn reserve(&self, bytes: u64) -> std::result::Result<Option<Reserved>, String> {
        self.quota.map(|quota| quota.reserve(self.asks, bytes)).transpose()
    }
}
