//! Dry run: predicts the next pass over one repository, with reasons. Changes nothing.

use std::io::{self, Read};
use std::sync::Arc;

use gix::ObjectId;
use serde::Serialize;
use tokio::runtime::Handle;

use super::checkpoint::Checkpoint;
use super::ends::End;
use super::error::MirrorError;
use super::find_haves::{Common, Found, Search};
use super::lfs::{LfsForecast, forecast};
use super::list_refs::{Decision, Listing, decide};
use super::object_source::{ObjectSource, PackRequest};
use super::plan::{Edit, Plan, TargetObjects, all_carried};
use super::policy::RefPolicy;
use super::report::{MAX_NOTES, NoteKind, Notes};
use gitferry_config::LfsMode;
use gitferry_engine::region::Region;
use gitferry_git::client::{ClientError, RemoteRefs};

/// Prediction of the next pass over one repository.
#[derive(Debug, Default, Serialize)]
pub struct Explained {
    /// Name of the link.
    pub link: String,
    /// Name of the repository.
    pub repository: String,
    /// Name of the source in the configuration.
    pub source: String,
    /// Name of the target in the configuration.
    pub target: String,
    /// Way that the objects would take.
    pub path: Path,
    /// Reason for that way.
    pub why: String,
    /// Refs that are equal on both sides.
    pub equal: u64,
    /// Refs to create.
    pub create: u64,
    /// Refs to update; the source has their old values.
    pub update: u64,
    /// Refs to overwrite although the source does not have their old values.
    pub force: u64,
    /// Refs to delete.
    pub delete: u64,
    /// Diverged tips to keep under `refs/gitferry/diverged/`.
    pub preserve: u64,
    /// Refs that stay as they are, with reasons.
    #[serde(skip_serializing_if = "Notes::is_empty")]
    pub skip: Notes,
    /// Objects to send, as the source counts them; `None` where it was not asked.
    pub objects: Option<u64>,
    /// Bytes of the pack to send; `None` where not all of it was read.
    pub bytes: Option<u64>,
    /// Bytes of the pack that were read, where the rest was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_at_least: Option<u64>,
    /// LFS objects to transfer, where the link copies them and pointers were searched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lfs: Option<LfsForecast>,
    /// True if pointers have to be searched for in the whole history, because no complete pass is on record.
    #[serde(skip)]
    pub looks_for_lfs: bool,
    /// First changes of single refs, at most [`MAX_NOTES`].
    pub refs: Vec<Step>,
    /// Number of further changes.
    pub more: u64,
}

/// Depth of a dry run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Refs of both sides only.
    Refs,
    /// Refs, and the pack that would be sent: at most its first [`MAX_READ_BYTES`].
    #[default]
    Pack,
    /// Refs, and the whole pack.
    Whole,
}

/// Most bytes of a pack that are read to learn its size, unless [`Depth::Whole`] is asked for.
pub const MAX_READ_BYTES: u64 = 16 << 20;

/// Way that objects take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// No objects are sent: refs are equal, or move only among objects that the target has.
    #[default]
    None,
    /// From the source straight into the target.
    PassThrough,
    /// From the source straight into the target, without common objects: the whole history is sent.
    Full,
    /// Through the region that the link names as `via`, which sends what the target lacks.
    Region,
    /// Nothing is sent: the pass would be refused.
    Refused,
}

/// Change of one ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Name at the target.
    pub name: String,
    /// `create`, `update`, `force`, `delete` or `preserve`.
    pub action: &'static str,
    /// Value now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// New value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// Dry run over one repository. Blocking.
pub(super) struct DryRun {
    /// Repository at both ends.
    pub ends: (End, End),
    /// Refs that are mirrored.
    pub policy: Arc<RefPolicy>,
    /// Result of the last complete pass.
    pub checkpoint: Option<Checkpoint>,
    /// True if a source without refs may empty the target.
    pub allow_empty: bool,
    /// Handling of Git LFS objects.
    pub lfs: LfsMode,
    /// True if the next pass searches for LFS pointers in the whole history.
    pub scans_all_history: bool,
    /// True if the link records its passes.
    pub has_table: bool,
    /// Region of the detour.
    pub via: Option<Region>,
    /// Depth of the prediction.
    pub depth: Depth,
    /// Runtime that drives requests to LFS servers.
    pub runtime: Handle,
}

impl DryRun {
    /// Predicts the next pass. The names of link, repository and ends are the caller's to fill in.
    pub fn run(&self) -> Result<Explained, MirrorError> {
        let policy = &*self.policy;
        let (source, target) = &self.ends;
        let Listing { refs, mut object_source, receive } = Listing::at(source, target, policy)?;
        let decided = decide(&refs, policy, self.checkpoint.as_ref(), self.allow_empty, &mut object_source, false);
        let Decision { plan, objects } = match decided {
            Err(MirrorError::EmptySource { refs, .. }) => return Ok(Explained::refused(refs)),
            decided => decided?,
        };
        let source_refs = &refs.source;
        let mut explained = Explained { equal: plan.equal, ..Explained::default() };
        explained.add_steps(&plan);
        let held = TargetObjects::of(&refs.target.refs);
        let wants = held.wants(&plan.edits);
        explained.looks_for_lfs = self.lfs == LfsMode::Copy && self.scans_all_history && self.has_table;
        if plan.is_empty() || wants.is_empty() {
            explained.needs_nothing(&plan);
            if self.depth != Depth::Refs {
                self.forecast_lfs(&mut explained, &mut object_source, PackRequest::default(), source_refs)?;
            }
        } else if self.depth != Depth::Refs {
            let extra = receive.extra_haves();
            let search =
                Search { target, target_objects: &held, extra, source: &source_refs.refs, known: objects.known() };
            let Common { haves, found, .. } = search.run(&plan.edits, &mut object_source)?;
            explained.choose_path(found, self.via.as_ref());
            let shallow = receive.shallow().to_vec();
            let wanted = PackRequest { wants, haves, shallow, thin: true, ofs_delta: true, filter: None };
            if explained.path != Path::Region {
                self.measure(&mut explained, &mut object_source, &wanted)?;
            }
            self.forecast_lfs(&mut explained, &mut object_source, wanted, source_refs)?;
        }
        explained.skip = plan.skipped;
        Ok(explained)
    }

    /// Reads the pack that would be sent: its header has the number of objects, its size shows only by reading.
    fn measure(
        &self,
        explained: &mut Explained,
        object_source: &mut dyn ObjectSource,
        wanted: &PackRequest,
    ) -> Result<(), MirrorError> {
        let limit = if self.depth == Depth::Whole { u64::MAX } else { MAX_READ_BYTES };
        let mut pack = object_source.pack(wanted)?;
        explained.objects = Some(pack.objects.into());
        let read = io::copy(&mut Read::take(&mut pack.bytes, limit), &mut io::sink());
        let read = read.map_err(|error| match ClientError::from_io(error) {
            Ok(error) => MirrorError::from(error),
            Err(error) => error.into(),
        })?;
        if read < limit {
            explained.bytes = Some(read);
        } else {
            explained.bytes_at_least = Some(read);
        }
        Ok(())
    }

    fn forecast_lfs(
        &self,
        explained: &mut Explained,
        object_source: &mut dyn ObjectSource,
        mut wanted: PackRequest,
        source: &RemoteRefs,
    ) -> Result<(), MirrorError> {
        if self.lfs == LfsMode::Ignore {
            return Ok(());
        }
        if self.scans_all_history {
            wanted.wants = all_carried(&source.refs, &self.policy);
            wanted.haves.clear();
        }
        let still_missing = self.checkpoint.as_ref().map(Checkpoint::missing_pointers).unwrap_or_default();
        let scope = (&wanted, still_missing.as_slice());
        let ends = (&self.ends.0, &self.ends.1);
        let forecast = forecast(ends, object_source, scope, source.format, &self.runtime)?;
        if explained.path == Path::None && forecast.lacking > 0 {
            explained.why = "no Git objects need sending, but LFS objects that the target lacks".into();
        }
        explained.lfs = Some(forecast);
        Ok(())
    }
}

impl Explained {
    /// A pass that would be refused, since it would delete all `count` refs of the target.
    fn refused(count: u64) -> Self {
        let why = format!("the source has no refs that the link mirrors; all {count} of the target would be deleted");
        Explained { path: Path::Refused, why, ..Explained::default() }
    }

    fn needs_nothing(&mut self, plan: &Plan<'_>) {
        self.objects = Some(0);
        self.bytes = Some(0);
        self.why = if plan.is_empty() {
            "both sides are equal".into()
        } else {
            "the target has all objects already; only its refs change".into()
        };
    }

    fn choose_path(&mut self, found: Found, via: Option<&Region>) {
        (self.path, self.why) = match (found, via) {
            (Found::Tips, _) => {
                (Path::PassThrough, "only what the target lacks: both sides have tips in common".into())
            }
            (Found::Ancestors(count), _) => {
                let why = format!(
                    "the source has none of the target's tips, but what they are built on: {count} commits are common"
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
                    region.name()
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

    /// Returns true if a diverged ref would be left as it is.
    pub fn leaves_diverged(&self) -> bool {
        self.skip.has(NoteKind::Diverged)
    }

    fn add(&mut self, step: Step) {
        if self.refs.len() < MAX_NOTES { self.refs.push(step) } else { self.more += 1 }
    }
}
