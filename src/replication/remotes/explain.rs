//! What the next pass would do for one repository, and why. Changes nothing.

use gix::ObjectId;
use serde::Serialize;

use super::checkpoint::Checkpoint;
use super::error::RemotesError;
use super::look::{Decided, Look, decide};
use super::pass::RemoteLink;
use super::plan::{Edit, Held, Plan};
use super::policy::RefPolicy;
use super::report::{MAX_NOTES, Notes, Outcome};
use super::supply::{Supply, Wanted};
use crate::git::client::Server;
use crate::git::view::RefTable;
use crate::region::blocking;
use crate::replication::ReplicationError;

/// What the next pass would do.
#[derive(Debug, Default, Serialize)]
pub struct Explained {
    /// The link.
    pub link: String,
    /// The repository.
    pub repository: String,
    /// Where it is read.
    pub source: String,
    /// Where it is written.
    pub target: String,
    /// Which way its objects would take.
    pub path: Path,
    /// Why that one.
    pub why: String,
    /// Refs that are as they are at the source.
    pub equal: u64,
    /// Refs to be created.
    pub create: u64,
    /// Refs to be moved; what they name now is the source's own.
    pub update: u64,
    /// Refs to be overwritten although the source does not have what they name.
    pub force: u64,
    /// Refs to be deleted.
    pub delete: u64,
    /// Tips to be kept under `refs/gitferry/diverged/`.
    pub preserve: u64,
    /// Refs that stay as they are, and why.
    #[serde(skip_serializing_if = "Notes::is_empty")]
    pub skip: Notes,
    /// Objects to be sent, as the source counts them; `None` where it was not asked.
    pub objects: Option<u64>,
    /// Bytes to be sent, where that is known: a server tells them only by sending them.
    pub bytes: Option<u64>,
    /// What is to be done to single refs; the first of them.
    pub refs: Vec<Step>,
    /// How many more.
    pub more: u64,
}

/// Which way objects take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// None: both sides are equal, or refs only move among what is there.
    #[default]
    None,
    /// From the source straight into the target.
    PassThrough,
    /// The same, but everything: the target has nothing that the source knows.
    Full,
    /// Nothing would be done: the pass would refuse.
    Refused,
}

/// What is to be done to one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name at the target.
    pub name: String,
    /// `create`, `update`, `force`, `delete` or `preserve`.
    pub action: &'static str,
    /// What it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl RemoteLink {
    /// What the next pass would do for one repository.
    pub async fn explain(&self, name: &str) -> Result<Explained, ReplicationError> {
        let names = self.names_of(&[name.to_owned()]).await?;
        let name = names.first().map_or(name, String::as_str);
        let failed = |error| ReplicationError::Remotes { repository: names.concat(), error };
        let (row, _) = self.row(name).await.map_err(|error| failed(error.into()))?;
        let (source, target) = self.ends(name, true).await.map_err(failed)?;
        let (policy, allow_empty) = (self.policy.clone(), self.allow_empty);
        let looking = move || look(&source, &target, &policy, row.checkpoint.as_ref(), allow_empty);
        let explained = blocking(looking).await.map_err(failed)?;
        let (source, target) = (self.source.name().into(), self.target.name().into());
        Ok(Explained { link: self.name.clone(), repository: name.into(), source, target, ..explained })
    }
}

fn look(
    source: &dyn Server,
    target: &dyn Server,
    policy: &RefPolicy,
    checkpoint: Option<&Checkpoint>,
    allow_empty: bool,
) -> Result<Explained, RemotesError> {
    let Look { mut supply, source: refs, receive, target: there } = Look::at(source, target, policy)?;
    let decided = match decide(&refs, &there, policy, checkpoint, allow_empty, &mut supply)? {
        Ok(decided) => decided,
        Err(count) => {
            let why = format!("the source has no refs that the link carries; all {count} of the target would go");
            return Ok(Explained { path: Path::Refused, why, ..Explained::default() });
        }
    };
    let Decided { plan, equal, known } = decided;
    let mut explained = Explained { equal, ..Explained::default() };
    explained.add_steps(&plan);
    let held = Held::of(&there.refs);
    let wants = held.wants(&plan.edits);
    let haves = held.haves(&plan.edits, &refs.refs, &known);
    let is_common = |id: &ObjectId| refs.refs.names(id) || known.contains(id);
    let common = haves.iter().any(is_common);
    explained.choose_path(&plan, &wants, common, &there.refs);
    if explained.path == Path::PassThrough {
        // The head of a pack tells how many objects it has; the rest of it is not read.
        let shallow = receive.shallow().to_vec();
        let pack = supply.pack(&Wanted { wants, haves, shallow, thin: true, ofs_delta: true, filter: None })?;
        explained.objects = Some(pack.objects.into());
    }
    explained.skip = plan.skipped;
    Ok(explained)
}

impl Explained {
    fn choose_path(&mut self, plan: &Plan<'_>, wants: &[ObjectId], common: bool, target: &RefTable) {
        (self.path, self.why) = match () {
            () if plan.is_empty() => (Path::None, "nothing is to be done".into()),
            () if wants.is_empty() => (Path::None, "the target has all objects that its refs are to name".into()),
            () if common => {
                let why = "only what the target lacks: both sides have tips in common";
                (Path::PassThrough, why.into())
            }
            () if target.is_empty() => (Path::Full, "everything: the target has no refs".into()),
            () => {
                let why = "the source has none of the target's tips: what they are built on is looked for first, then \
                           everything is sent";
                (Path::Full, why.into())
            }
        };
        if wants.is_empty() {
            (self.objects, self.bytes) = (Some(0), Some(0));
        }
    }

    fn add_steps(&mut self, plan: &Plan<'_>) {
        for kept in &plan.preserve {
            self.preserve += 1;
            let id = Some(kept.id.to_string());
            self.add(Step { name: kept.name.to_string(), action: "preserve", old: None, new: id });
        }
        for edit in plan.deletions.iter().chain(&plan.edits) {
            let (count, action) = match edit {
                Edit { new: None, .. } => (&mut self.delete, "delete"),
                Edit { diverged: true, .. } => (&mut self.force, "force"),
                Edit { old: None, .. } => (&mut self.create, "create"),
                _ => (&mut self.update, "update"),
            };
            *count += 1;
            let text = |id: Option<ObjectId>| id.map(|id| id.to_string());
            self.add(Step { name: edit.name.to_string(), action, old: text(edit.old), new: text(edit.new) });
        }
    }

    /// Whether a ref has diverged and would be left alone.
    pub fn leaves_diverged(&self) -> bool {
        self.skip.has(Outcome::Diverged)
    }

    fn add(&mut self, step: Step) {
        match self.refs.len() < MAX_NOTES {
            true => self.refs.push(step),
            false => self.more += 1,
        }
    }
}
