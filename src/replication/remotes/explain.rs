//! What the next pass would do for one repository, and why. Changes nothing.

use std::io::{self, Read};

use gix::ObjectId;
use serde::Serialize;
use tokio::runtime::Handle;

use super::checkpoint::Checkpoint;
use super::common::{Common, Found, Search};
use super::ends::End;
use super::error::RemotesError;
use super::lfs::{LfsForecast, forecast};
use super::look::{Decided, Look, decide};
use super::pass::RemoteLink;
use super::plan::{Edit, Held, Plan, all_carried};
use super::report::{MAX_NOTES, Notes, Outcome};
use super::supply::{Supply, Wanted};
use crate::ReplicationError;
use gitferry_config::LfsMode;
use gitferry_engine::region::{Region, blocking};
use gitferry_git::client::{ClientError, RemoteRefs};

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
    /// Bytes of the pack to be sent, where all of it was read.
    pub bytes: Option<u64>,
    /// Bytes of it that were read, where that is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_at_least: Option<u64>,
    /// Objects of Git LFS, where the link carries them and it was looked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lfs: Option<LfsForecast>,
    /// Whether all of the history is to be looked at for LFS objects, since no pass is known to have carried them.
    #[serde(skip)]
    pub looks_for_lfs: bool,
    /// What is to be done to single refs; the first of them.
    pub refs: Vec<Step>,
    /// How many more.
    pub more: u64,
}

/// How far it is looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Only the refs of both sides.
    Refs,
    /// Also at what would be sent: at most the first [`MAX_READ_BYTES`] of it.
    #[default]
    Pack,
    /// At all that would be sent.
    Whole,
}

/// Most bytes of a pack that are read to tell how large it is, unless all of it is asked for.
pub const MAX_READ_BYTES: u64 = 16 << 20;

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
    /// Into a region that the link names, and what the target lacks from there.
    Region,
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
    pub async fn explain(&self, name: &str, depth: Depth) -> Result<Explained, ReplicationError> {
        let names = self.names_of(&[name.to_owned()]).await?;
        let name = names.first().map_or(name, String::as_str);
        let failed = |error| ReplicationError::Remotes { repository: names.concat(), error };
        let (row, _) = self.row(name).await.map_err(|error| failed(error.into()))?;
        let (source, target) = self.ends(name, true).await.map_err(failed)?;
        let (link, runtime) = (self.clone(), Handle::current());
        let looking = move || {
            let ends = (&source, &target);
            LookAhead { link: &link, ends, checkpoint: row.checkpoint.as_ref(), depth, runtime: &runtime }.run()
        };
        let explained = blocking(looking).await.map_err(failed)?;
        let (source, target) = (self.source.name().into(), self.target.name().into());
        Ok(Explained { link: self.name.clone(), repository: name.into(), source, target, ..explained })
    }
}

/// A look at what a pass would do. Blocking.
struct LookAhead<'l> {
    link: &'l RemoteLink,
    ends: (&'l End, &'l End),
    checkpoint: Option<&'l Checkpoint>,
    depth: Depth,
    runtime: &'l Handle,
}

impl LookAhead<'_> {
    fn run(&self) -> Result<Explained, RemotesError> {
        let ((source, target), policy) = (self.ends, &*self.link.policy);
        let Look { mut supply, source: refs, receive, target: there } = Look::at(source, target, policy)?;
        let decided = match decide(&refs, &there, policy, self.checkpoint, self.link.allow_empty, &mut supply, false)? {
            Ok(decided) => decided,
            Err(count) => {
                let why = format!("the source has no refs that the link carries; all {count} of the target would go");
                return Ok(Explained { path: Path::Refused, why, ..Explained::default() });
            }
        };
        let Decided { plan, equal, known, .. } = decided;
        let mut explained = Explained { equal, ..Explained::default() };
        explained.add_steps(&plan);
        let held = Held::of(&there.refs);
        let wants = held.wants(&plan.edits);
        let all = self.link.looks_at_all(self.checkpoint);
        explained.looks_for_lfs = self.link.lfs == LfsMode::Copy && all && self.link.table.is_some();
        if plan.is_empty() || wants.is_empty() {
            explained.needs_nothing(&plan);
            if self.depth != Depth::Refs {
                self.forecast_lfs(&mut explained, &mut supply, Wanted::default(), &refs)?;
            }
        } else if self.depth != Depth::Refs {
            let extra = receive.extra_haves();
            let search = Search { target, held: &held, extra, source: &refs.refs, known: &known };
            let Common { haves, found, .. } = search.run(&plan.edits, &mut supply)?;
            explained.choose_path(found, self.link.via.as_ref());
            let shallow = receive.shallow().to_vec();
            let wanted = Wanted { wants, haves, shallow, thin: true, ofs_delta: true, filter: None };
            if explained.path != Path::Region {
                self.measure(&mut explained, &mut supply, &wanted)?;
            }
            self.forecast_lfs(&mut explained, &mut supply, wanted, &refs)?;
        }
        explained.skip = plan.skipped;
        Ok(explained)
    }

    /// Reads what would be sent: the head of a pack tells how many objects it has, its length only reading it.
    fn measure(&self, explained: &mut Explained, supply: &mut dyn Supply, wanted: &Wanted) -> Result<(), RemotesError> {
        let limit = if self.depth == Depth::Whole { u64::MAX } else { MAX_READ_BYTES };
        let mut pack = supply.pack(wanted)?;
        explained.objects = Some(pack.objects.into());
        let read = io::copy(&mut Read::take(&mut pack.bytes, limit), &mut io::sink());
        let read = read.map_err(|error| match ClientError::from_io(error) {
            Ok(error) => RemotesError::from(error),
            Err(error) => error.into(),
        })?;
        match read < limit {
            true => explained.bytes = Some(read),
            false => explained.bytes_at_least = Some(read),
        }
        Ok(())
    }

    fn forecast_lfs(
        &self,
        explained: &mut Explained,
        supply: &mut dyn Supply,
        mut wanted: Wanted,
        source: &RemoteRefs,
    ) -> Result<(), RemotesError> {
        if self.link.lfs == LfsMode::Ignore {
            return Ok(());
        }
        if self.link.looks_at_all(self.checkpoint) {
            (wanted.wants, wanted.haves) = (all_carried(&source.refs, &self.link.policy), Vec::new());
        }
        let remembered = self.checkpoint.map(Checkpoint::missing_pointers).unwrap_or_default();
        let look = (&wanted, remembered.as_slice());
        let forecast = forecast(self.ends, supply, look, source.format, self.runtime)?;
        if explained.path == Path::None && forecast.lacking > 0 {
            explained.why = "no Git objects are to be sent, but objects of Git LFS that the target lacks".into();
        }
        explained.lfs = Some(forecast);
        Ok(())
    }
}

impl Explained {
    fn needs_nothing(&mut self, plan: &Plan<'_>) {
        (self.objects, self.bytes) = (Some(0), Some(0));
        self.why = match plan.is_empty() {
            true => "nothing is to be done".into(),
            false => "the target has all objects that its refs are to name".into(),
        };
    }

    fn choose_path(&mut self, found: Found, via: Option<&Region>) {
        (self.path, self.why) = match (found, via) {
            (Found::Tips, _) => {
                (Path::PassThrough, "only what the target lacks: both sides have tips in common".into())
            }
            (Found::Ancestors(count), _) => {
                let why = format!(
                    "the source has none of the target's tips, but what they are built on: {count} are told to it"
                );
                (Path::PassThrough, why)
            }
            (Found::Empty, _) => (Path::Full, "everything: the target has no refs".into()),
            (Found::Nothing, None) => {
                let why = "everything: the source has none of the target's tips, and nothing that they are built on \
                           (`via = \"REGION\"` would send only what the target lacks)";
                (Path::Full, why.into())
            }
            (Found::Nothing, Some(region)) => {
                let why = format!(
                    "the source has none of the target's tips, and nothing that they are built on: both sides are \
                     fetched into region {}, and what the target lacks is sent from there",
                    region.name
                );
                (Path::Region, why)
            }
        };
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
