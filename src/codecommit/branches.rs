//! Branches, and the default branch.

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Result, shown};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::push::{Pushed, Rejection};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefName;
use gitferry_git::view::RefTable;
use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use gix::objs::Kind;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::describe::{BRANCHES, branch_of};
use crate::failure::{no_branch, no_repository, not_allowed};
use crate::objects::{has_readable, object_id};
use crate::operation::{Ask, Found, Operation, only};
use crate::page::Page;

/// Attempts to change a branch that is being pushed to.
pub const MAX_ATTEMPTS: usize = 16;

/// Ref of a branch.
///
/// # Errors
/// `InvalidBranchNameException` for a name that no branch can have.
pub fn ref_of(branch: &str) -> Result<RefName> {
    let invalid = |reason: String| ApiError::new("InvalidBranchNameException", 400, reason);
    let is_id = |length: usize| branch.len() == length && branch.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id(40) || is_id(64) {
        return Err(invalid(format!("{branch} is the id of an object, and no branch has such a name.")));
    }
    if branch.starts_with('-') || branch == "HEAD" {
        return Err(invalid(format!("Git accepts no branch of the name {}.", shown(branch))));
    }
    RefName::new(format!("{BRANCHES}{branch}")).map_err(|error| invalid(format!("{error}.")))
}

/// Commit of a branch that clients see.
pub fn tip(refs: &RefTable, name: &RefName) -> Option<ObjectId> {
    refs.find(name.as_bstr()).and_then(|entry| refs.object(&entry))
}

/// The structure `BranchInfo`.
fn info(branch: &str, tip: ObjectId) -> Value {
    json!({ "branchName": branch, "commitId": tip.to_string() })
}

/// Changes one ref, with the objects of a pack, under the rules for pushes.
///
/// # Errors
/// The push failed as a whole.
pub async fn push(ask: &Ask<'_>, item: &HeadItem, command: Command, pack: Option<Vec<u8>>) -> Result<Pushed> {
    let workshop = ask.workshop;
    let pushed = workshop.repositories.push(item, vec![command], pack, &ask.actor).await;
    pushed.map_err(|error| workshop.failed(&item.head.name, &error))
}

/// Answer to a refusal of the rules for pushes.
pub fn refusal(pushed: &Pushed, rejection: Rejection) -> ApiError {
    let reason = pushed.report.refs.iter().find_map(|outcome| outcome.result.as_ref().err());
    let reason = reason.or(pushed.report.unpack.as_ref().err()).map_or(rejection.name(), String::as_str);
    match rejection {
        Rejection::Name | Rejection::Conflict => ApiError::new("InvalidBranchNameException", 400, format!("{reason}.")),
        Rejection::Contention | Rejection::Server | Rejection::HookFailed => ApiError::unavailable(),
        _ => not_allowed(format!("A rule for pushes to the repository refuses this: {reason}.")),
    }
}

/// `CreateBranch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateBranch {
    repository_name: String,
    branch_name: String,
    commit_id: String,
}

#[async_trait]
impl Operation for CreateBranch {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.branch_name))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        ask.workshop.check_writable(&item)?;
        let name = ref_of(&self.branch_name)?;
        let invalid = || {
            let text = format!("{} is not the full id of a commit.", shown(&self.commit_id));
            ApiError::new("InvalidCommitIdException", 400, text)
        };
        let id = object_id(&self.commit_id, item.head.format).ok_or_else(invalid)?;
        let exists = || {
            let text = format!("There is a branch {} already.", self.branch_name);
            ApiError::new("BranchNameExistsException", 400, text)
        };
        let state = ask.workshop.state(&item).await?;
        if tip(&state.view.refs, &name).is_some() {
            return Err(exists());
        }
        if !has_readable(ask, state, id, Kind::Commit).await? {
            let text = format!("There is no commit {id}.");
            return Err(ApiError::new("CommitDoesNotExistException", 400, text));
        }
        let pushed =
            push(ask, &item, Command { name: name.as_bstr().to_owned(), old: None, new: Some(id) }, None).await?;
        match pushed.rejection {
            None => Ok(Value::Null),
            Some(Rejection::Stale) => Err(exists()),
            Some(rejection) => Err(refusal(&pushed, rejection)),
        }
    }
}

/// `DeleteBranch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteBranch {
    repository_name: String,
    branch_name: String,
}

#[async_trait]
impl Operation for DeleteBranch {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.branch_name))
    }

    /// A branch that does not exist is deleted.
    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let mut item = only(found)?;
        let name = ref_of(&self.branch_name)?;
        for _ in 0..MAX_ATTEMPTS {
            ask.workshop.check_writable(&item)?;
            let refs = ask.workshop.refs(&item).await?;
            let Some(old) = tip(&refs, &name) else { return Ok(json!({})) };
            if branch_of(&item.head.head) == Some(self.branch_name.as_str()) {
                let text = format!("{} is the default branch.", self.branch_name);
                return Err(ApiError::new("DefaultBranchCannotBeDeletedException", 400, text));
            }
            let command = Command { name: name.as_bstr().to_owned(), old: Some(old), new: None };
            let pushed = push(ask, &item, command, None).await?;
            match pushed.rejection {
                None => return Ok(json!({ "deletedBranch": info(&self.branch_name, old) })),
                // A push came first.
                Some(Rejection::Stale) => {
                    let found = ask.workshop.find(&item.head.name).await?.filter(|found| found.id == item.id);
                    item = found.ok_or_else(|| no_repository(&self.repository_name))?;
                }
                Some(rejection) => return Err(refusal(&pushed, rejection)),
            }
        }
        Err(ApiError::unavailable())
    }
}

/// `GetBranch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetBranch {
    repository_name: String,
    branch_name: String,
}

#[async_trait]
impl Operation for GetBranch {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let name = ref_of(&self.branch_name)?;
        let tip = tip(&*ask.workshop.refs(&item).await?, &name).ok_or_else(|| no_branch(&self.branch_name))?;
        Ok(json!({ "branch": info(&self.branch_name, tip) }))
    }
}

/// `ListBranches`. Branches whose names are not UTF-8 have no place in JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListBranches {
    repository_name: String,
}

#[async_trait]
impl Operation for ListBranches {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let most = ask.workshop.settings.limits.page_items;
        let page = Page::of(ask.operation, &ask.input, &ask.caller.principal.arn(), most)?;
        let refs = ask.workshop.refs(&item).await?;
        let names = refs.with_prefix(BRANCHES.as_bytes()).filter_map(|row| refs.get(row)).map(|entry| entry.name);
        let names = names.filter_map(|name| name.to_str().ok()?.strip_prefix(BRANCHES));
        let behind = names.filter(|name| page.after().is_none_or(|after| *name > after));
        Ok(page.show(behind, |name| (*name).to_owned(), Value::from))
    }
}

/// `UpdateDefaultBranch`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateDefaultBranch {
    repository_name: String,
    default_branch_name: String,
}

#[async_trait]
impl Operation for UpdateDefaultBranch {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let workshop = ask.workshop;
        workshop.check_writable(&item)?;
        let name = ref_of(&self.default_branch_name)?;
        if tip(&*workshop.refs(&item).await?, &name).is_none() {
            return Err(no_branch(&self.default_branch_name));
        }
        // By id: another repository may have the name meanwhile.
        let repositories = workshop.region.repositories();
        let set = repositories.set_default_branch(&item.id.to_string(), &name, false, &ask.actor).await;
        let item = set.map_err(|error| workshop.failed(&self.repository_name, &error))?;
        workshop.repositories.committed(&item);
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_branches() {
        for good in ["main", "team/topic", "ä", &"a".repeat(39)] {
            assert_eq!(ref_of(good).unwrap().to_string(), format!("refs/heads/{good}"));
        }
        for bad in ["-x", "a b", "a..b", "/a", "a/", "a.lock", "HEAD", &"a".repeat(40), &"0".repeat(64), "a\u{7f}"] {
            assert_eq!(ref_of(bad).unwrap_err().code(), "InvalidBranchNameException", "{bad}");
        }
    }
}
