//! The caller that STS names, as a principal of the account.

use jiff::{SignedDuration, Timestamp};

use crate::account::Account;
use crate::arn::AccountId;
use crate::ids::IdKind;
use crate::principal::{Credential, Principal};
use crate::session::{Session, Subject};

/// Longest session of a role on AWS.
pub const MAX_ROLE_SESSION: SignedDuration = SignedDuration::from_hours(12);
/// Longest session of a user on AWS (`GetSessionToken`).
pub const MAX_USER_SESSION: SignedDuration = SignedDuration::from_hours(36);

/// Caller of `sts:GetCallerIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Account of the caller.
    pub account: AccountId,
    /// ARN of the user, of the role's session, or of the account.
    pub arn: String,
    /// Unique id; for a role's session followed by `:` and the session's name.
    pub user_id: String,
}

impl Caller {
    /// The principal in a state of the account; `None` if the account has no such user or role. `access_key_id` signed.
    ///
    /// AWS does not say when a session began, what its tags are and which policies limit it. The session counts as if it
    /// had begun as early as it can have, so that a policy that revokes older sessions (`aws:TokenIssueTime`) denies it.
    pub(crate) fn principal(
        &self,
        account: &Account,
        access_key_id: &str,
        now: Timestamp,
        expires: Timestamp,
    ) -> Option<Principal> {
        if self.account != account.id() {
            return None;
        }
        let earliest = |longest: SignedDuration| now.checked_sub(longest).unwrap_or(Timestamp::UNIX_EPOCH);
        if self.arn == account.id().root_arn() && self.user_id == account.id().as_str() {
            return Some(Principal::root_caller(account, access_key_id));
        }
        if let Some((role, name)) = self.user_id.split_once(':') {
            let role = account.role_by_id(role).filter(|_| IdKind::Role.is_kind_of(role))?;
            let subject = Subject::Role(role.record.id.clone());
            let session = Session::of_caller(access_key_id, subject, name, earliest(MAX_ROLE_SESSION), expires);
            let principal = Principal::role(account, role, session.into());
            if principal.arn() != self.arn {
                return None;
            }
            return Some(principal.proven_by(Credential::Caller(access_key_id.to_owned())));
        }
        let user = account.user_by_id(&self.user_id).filter(|user| user.arn == self.arn)?;
        let session = IdKind::TemporaryKey.is_kind_of(access_key_id).then(|| {
            let subject = Subject::User(user.record.id.clone());
            Session::of_caller(access_key_id, subject, "", earliest(MAX_USER_SESSION), expires).into()
        });
        Some(Principal::user(account, user, session, Credential::Caller(access_key_id.to_owned())))
    }
}
