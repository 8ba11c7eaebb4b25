//! `gitferry replicate`

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry_base::Kind;
use gitferry_base::fault::crash_point;
use gitferry_replication::pass::{DEFAULT_JOBS, Summary};
use gitferry_replication::progress::Progress;
use gitferry_replication::remotes::checkpoint::Hint;
use gitferry_replication::remotes::report::{Carried, Notes, Outcome};
use gitferry_replication::{AnyLink, ReplicationError};
use gitferry_service::events::codecommit::{self, Announcement, MAX_EVENT_BYTES, StateChange, Subject};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::context::Context;
use super::failure::{Exit, Failure, hint_for_error, is_refusal};
use super::{events, output};

/// The variable that may hold an event.
const EVENT_VARIABLE: &str = "GITFERRY_EVENT";

/// Bring the target of a link up to date, in one pass.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 1 when a repository is on two histories (nothing is overwritten), 2 when a rule
forbids all that failed (as a second active link to one target, or a remote that refuses a ref),
3 when anything failed otherwise. Running it again is always safe: what was copied is not copied
again. Where the target is a region with an event bus, the command announces there what it
delivered.

From a remote, which cannot be listed, the repositories are those that are named here, or else
those that the configuration names in full and those that the link has carried before.

Example:
  gitferry replicate dr
  gitferry replicate dr team/app --json
  gitferry replicate dr --event event.json")]
pub struct Replicate {
    /// The link.
    link: String,
    /// Only these repositories (names or ids); all when left out.
    names: Vec<String>,
    /// Only the repository that an event announces: a file with the event as EventBridge, SNS or SQS has it, or `-`
    /// for standard input. Without this and names, an event in GITFERRY_EVENT counts: one container task per event.
    #[arg(long, value_name = "FILE|-", conflicts_with = "names")]
    event: Option<PathBuf>,
    /// Repositories to work on at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Replicate even if that deletes every ref of a repository, because the source (a remote) has none.
    #[arg(long)]
    allow_empty: bool,
    /// Print one line of JSON at the end.
    #[arg(long)]
    json: bool,
}

impl Replicate {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let announced = match self.announced()? {
            Announced::Everything => None,
            Announced::Change(change) => Some(change),
            Announced::Nothing(event) => {
                let nothing = Summary { link: self.link, ..Summary::default() };
                match self.json {
                    true => output::json(&nothing)?,
                    false => output::line(format!("{event}: nothing to replicate")),
                }
                return Ok(Exit::Done);
            }
        };
        let config = context.config()?;
        let mut link = context.any_link(&config, &self.link, true).await?;
        match &mut link {
            AnyLink::Remote(link) => link.allow_empty = self.allow_empty,
            AnyLink::Regions(_) if self.allow_empty => {
                return Err(Failure::usage(
                    "--allow-empty is for links with a remote; a region's ledger says what goes",
                ));
            }
            AnyLink::Regions(_) => {}
        }
        let (names, hint) = match announced {
            Some(change) => {
                let (name, hint) = repository_of(&link, *change);
                (vec![name], hint)
            }
            None => (self.names, None),
        };
        let bars = (!self.json && std::io::stderr().is_terminal()).then(|| show(link.progress()));
        let result = pass(&link, &names, hint.as_ref(), self.jobs).await;
        if let Some(bars) = bars {
            bars.abort();
        }
        let summary = result?;
        // Also where nothing had to be delivered: whoever did may have died before it was announced.
        if let Some(region) = link.target_region() {
            let named = (!summary.ids.is_empty() && !names.is_empty()).then(|| summary.ids.clone());
            events::announce(&config, region, named).await;
        }
        crash_point("before-summary");
        match self.json {
            true => output::json(&summary)?,
            false => print(&summary),
        }
        Ok(exit(&summary))
    }
}

/// Brings the target up to date. A hint is what an event says of the one repository that is named.
async fn pass(link: &AnyLink, names: &[String], hint: Option<&Hint>, jobs: usize) -> Result<Summary, ReplicationError> {
    match (link, names, hint) {
        (AnyLink::Regions(link), ..) => link.pass(names, jobs).await,
        (AnyLink::Remote(link), [name], Some(hint)) => link.pass_announced(name, hint).await,
        (AnyLink::Remote(link), ..) => link.pass(names, jobs).await,
    }
}

/// What an event asks for.
enum Announced {
    /// There is no event.
    Everything,
    /// What has happened to one repository.
    Change(Box<StateChange>),
    /// An event that changes nothing.
    Nothing(String),
}

impl Replicate {
    fn announced(&self) -> Result<Announced, Failure> {
        let text = match &self.event {
            Some(file) => read_event(file)?,
            None if !self.names.is_empty() => return Ok(Announced::Everything),
            None => match std::env::var(EVENT_VARIABLE) {
                Ok(text) if !text.is_empty() => text.into_bytes(),
                Err(std::env::VarError::NotUnicode(_)) => {
                    return Err(Failure::usage(format!("{EVENT_VARIABLE} is not UTF-8")));
                }
                _ => return Ok(Announced::Everything),
            },
        };
        Ok(match codecommit::parse(&text)? {
            Announcement::Change(change) => Announced::Change(Box::new(change)),
            Announcement::Nothing { event } => Announced::Nothing(event),
        })
    }
}

/// The repository of an event as the link's source knows it, and what the event says of one of its refs. The id that one
/// has in a region means nothing where a remote is the source.
fn repository_of(link: &AnyLink, change: StateChange) -> (String, Option<Hint>) {
    match (link.source_region(), &change.subject) {
        (Some(_), Subject::Gitferry { id, .. }) => (id.to_string(), None),
        _ => {
            let hint = change.hint();
            (change.repository, hint)
        }
    }
}

/// Reads an event, but no more than an event can have.
fn read_event(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let most = MAX_EVENT_BYTES as u64 + 1;
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(most).read_to_end(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut text)),
    };
    let failed =
        |error: std::io::Error| Failure::usage(format!("the event {} cannot be read: {error}", file.display()));
    read.map_err(failed)?;
    Ok(text)
}

/// How the command ends after a pass.
pub fn exit(summary: &Summary) -> Exit {
    match (summary.found_difference(), summary.failed) {
        (true, _) => Exit::Difference,
        (false, 0) if summary.refused > 0 => Exit::Refused,
        (false, 0) => Exit::Done,
        (false, _) if summary.failures().all(is_refusal) => Exit::Refused,
        _ => Exit::Failed,
    }
}

fn print(summary: &Summary) {
    for report in &summary.reports {
        if let Some(carried) = &report.carried {
            print_carried(&report.repository, carried);
        }
        match (&report.delivered, &report.error) {
            (_, Some(error)) => {
                // Errors of a store do not know for which repository it was asked.
                let text = error.to_string();
                match text.contains(&report.repository) {
                    true => output::note(format!("error: {text}")),
                    false => output::note(format!("error: {}: {text}", report.repository)),
                }
                if let Some(hint) = hint_for_error(error) {
                    output::note(format!("  hint: {hint}"));
                }
            }
            (Some(delivered), None) => output::line(format!(
                "{}: {}, {}, {}{} ({})",
                report.repository,
                output::count(delivered.changes, "change"),
                output::count(delivered.edits, "ref edit"),
                output::count(delivered.packs, "pack"),
                output::and_lfs(delivered.lfs_objects),
                output::bytes(delivered.bytes),
            )),
            (None, None) => {}
        }
    }
    output::line(format!(
        "{}: {} delivered, {} unchanged, {} failed; {} copied in {}",
        summary.link,
        summary.delivered,
        summary.unchanged,
        summary.failed,
        output::bytes(summary.bytes_copied),
        output::millis(summary.elapsed_ms.unsigned_abs()),
    ));
    if summary.failures().any(Kind::is_retryable) {
        output::line("what failed may pass when it is run again; that is always safe");
    }
}

/// What was done for a repository on a link with a remote, and what there is to tell about single refs.
fn print_carried(repository: &str, carried: &Carried) {
    let counts = [
        (carried.created, "created"),
        (carried.updated, "updated"),
        (carried.deleted, "deleted"),
        (carried.preserved, "preserved"),
        (carried.refused, "refused"),
    ];
    let parts: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")).collect();
    let refs = if parts.is_empty() { "no ref changed".into() } else { parts.join(", ") };
    output::line(format!(
        "{repository}: {refs}; {} in {}{} ({})",
        output::count(carried.objects, "object"),
        output::count(carried.packs, "pack"),
        output::and_lfs(carried.lfs_objects),
        output::bytes(carried.bytes + carried.lfs_bytes),
    ));
    if carried.bytes_via > 0 {
        output::line(format!("  {} fetched into a region on the way", output::bytes(carried.bytes_via)));
    }
    if let Some(head) = &carried.head {
        output::line(format!("  HEAD now names {head}"));
    }
    for remark in &carried.remarks {
        output::line(format!("  {remark}"));
    }
    print_notes(&carried.notes);
}

/// What there is to tell about single refs.
pub fn print_notes(notes: &Notes) {
    for note in &notes.refs {
        let outcome = match note.outcome {
            Outcome::Invalid => "left out",
            Outcome::Diverged => "diverged",
            Outcome::Preserved => "preserved",
            Outcome::Refused => "refused",
            Outcome::Pending => "pending",
        };
        output::line(format!("  {}: {outcome}: {}", note.name, note.reason));
    }
    if notes.more > 0 {
        output::line(format!("  and {}", output::count(notes.more, "more ref")));
    }
}

/// Draws repositories and bytes until it is aborted.
fn show(progress: Arc<Progress>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let bars = MultiProgress::new();
        let style =
            |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let repositories = bars.add(ProgressBar::new(0));
        repositories.set_style(style("repositories {bar:30} {pos}/{len}"));
        let bytes = bars.add(ProgressBar::new(0));
        bytes.set_style(style("bytes        {bar:30} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}"));
        loop {
            repositories.set_length(progress.repositories.get());
            repositories.set_position(progress.repositories_done.get());
            bytes.set_length(progress.bytes.get());
            bytes.set_position(progress.bytes_done.get());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
