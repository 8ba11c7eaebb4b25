//! LFS pointers in pushes.

use super::judged::Judged;
use super::policy::{Missing, PushPolicy};
use super::rejection::{Refused, Rejection};
use crate::ledger::change::MAX_LFS_OBJECTS;
use crate::ledger::head::RepositoryId;
use crate::region::Result;
use crate::region::lfs::{LfsStore, SettledPointers};
use gitferry_git::lfs::Pointer;
use gitferry_git::receive_pack::Command;

/// Most missing LFS objects that are listed for a client.
pub const MAX_REPORTED_LFS: usize = 20;

/// Refuses a push whose LFS objects are missing, unless the policy allows that. The change has to name the held
/// objects, and afterwards forgets which of them were noted as missing.
pub(super) async fn judge_lfs(
    store: LfsStore<'_>,
    id: RepositoryId,
    policy: &PushPolicy,
    commands: &[Command],
    judged: &mut Judged,
) -> Result<SettledPointers> {
    let pointers = std::mem::take(&mut judged.pointers);
    if pointers.is_empty() || judged.facts.iter().all(|fact| fact.refused.is_some()) {
        return Ok(SettledPointers::default());
    }
    if pointers.len() > MAX_LFS_OBJECTS {
        let reason = format!("more than {MAX_LFS_OBJECTS} LFS objects at once; push the history in steps");
        refuse(judged, commands, &reason);
        return Ok(SettledPointers::default());
    }
    let mut settled = store.settle_pointers(id, &pointers).await?;
    if policy.lfs == Missing::Allow && settled.wrong.is_empty() {
        store.await_missing(id, &mut settled).await?;
    }
    if !settled.wrong.is_empty() {
        report(judged, "pointers give LFS objects another size than they have", &settled.wrong);
        refuse(judged, commands, "LFS objects have another size");
    }
    if policy.lfs == Missing::Refuse && !settled.missing.is_empty() {
        report(judged, "LFS objects are missing here", &settled.missing);
        let hint =
            "hint: upload them with `git lfs push --all REMOTE` (or `git lfs push REMOTE BRANCH`), then push again";
        judged.messages.push(hint.into());
        refuse(judged, commands, "LFS objects are missing");
    }
    Ok(settled)
}

fn report(judged: &mut Judged, what: &str, pointers: &[Pointer]) {
    judged.messages.push(format!("error: {} {what}:", pointers.len()));
    let lines = pointers.iter().take(MAX_REPORTED_LFS);
    judged.messages.extend(lines.map(|Pointer { oid, size }| format!("error:   {oid} ({size} bytes)")));
    if let Some(more) = pointers.len().checked_sub(MAX_REPORTED_LFS).filter(|more| *more > 0) {
        judged.messages.push(format!("error:   and {more} more"));
    }
}

/// Refuses the commands that create or update refs; deletions proceed.
fn refuse(judged: &mut Judged, commands: &[Command], reason: &str) {
    for (command, fact) in commands.iter().zip(&mut judged.facts) {
        if command.new.is_some() {
            fact.refused.get_or_insert_with(|| Refused::new(Rejection::Lfs, reason));
        }
    }
}
