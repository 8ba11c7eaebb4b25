//! The events of a change, as CodeCommit would send them: one for each ref that it edits.

use serde_json::{Map, Value, json};

use super::codecommit::{FRONTIER_FIELD, ReferenceEvent};
use gitferry_engine::ledger::change::{Actor, RefEdit};
use gitferry_engine::ledger::head::{Frontier, RepositoryId};
use gitferry_git::refs::RefValue;

/// Fields that all events of a change share.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The region that the change is visible in now.
    pub region: String,
    /// Id of the repository.
    pub id: RepositoryId,
    /// Name of the repository.
    pub repository: String,
    /// The state that the change makes.
    pub frontier: Frontier,
    /// Author of the change.
    pub actor: String,
}

impl Announced {
    /// The `detail` of the event of one ref edit.
    pub fn of_edit(&self, edit: &RefEdit) -> Value {
        let event = match (&edit.old, &edit.new) {
            (None, _) => ReferenceEvent::Created,
            (Some(_), Some(_)) => ReferenceEvent::Updated,
            (Some(_), None) => ReferenceEvent::Deleted,
        };
        let mut detail = self.detail(event);
        let full = edit.name.to_string();
        let (kind, name) = kind_of(&full);
        let mut set = |field: &str, value: &str| detail.insert(field.into(), value.into());
        set("referenceType", kind);
        set("referenceName", name);
        set("referenceFullName", &full);
        // A symbolic ref has no commit of its own.
        if let Some(RefValue::Object(id)) = &edit.new {
            set("commitId", &id.to_string());
        }
        if let Some(RefValue::Object(id)) = &edit.old {
            set("oldCommitId", &id.to_string());
        }
        detail.into()
    }

    /// The `detail` of the event of a change that edits no ref.
    pub fn of_repository(&self) -> Value {
        self.detail(ReferenceEvent::Repository).into()
    }

    fn detail(&self, event: ReferenceEvent) -> Map<String, Value> {
        let mut detail = Map::new();
        detail.insert("event".into(), event.as_str().into());
        detail.insert("repositoryName".into(), self.repository.as_str().into());
        detail.insert("repositoryId".into(), self.id.to_string().into());
        // CodeCommit has the ARN of the caller here; a user of a token has none.
        let caller = Actor::parse(&self.actor).name();
        if caller.starts_with("arn:") {
            detail.insert("callerUserArn".into(), caller.into());
        }
        let Frontier { epoch, seq, hash } = self.frontier;
        let state = json!({ "region": self.region, "epoch": epoch, "seq": seq, "hash": hash });
        detail.insert(FRONTIER_FIELD.into(), state);
        detail
    }
}

/// Returns `referenceType` and `referenceName`. CodeCommit knows branches and tags only.
fn kind_of(full: &str) -> (&'static str, &str) {
    match (full.strip_prefix("refs/heads/"), full.strip_prefix("refs/tags/")) {
        (Some(name), _) => ("branch", name),
        (_, Some(name)) => ("tag", name),
        _ => ("other", full.strip_prefix("refs/").unwrap_or(full)),
    }
}
