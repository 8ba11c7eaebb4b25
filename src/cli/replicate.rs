//! `gitferry replicate`

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use gitferry_base::Kind;
use gitferry_base::fault::crash_point;
use gitferry_replication::mirror::checkpoint::Hint;
use gitferry_replication::mirror::report::{MirrorOutcome, NoteKind, Notes};
use gitferry_replication::pass::{DEFAULT_JOBS, Summary};
use gitferry_replication::progress::Progress;
use gitferry_service::delivery::Link;
use gitferry_service::delivery::lookup::hint_of;
use gitferry_service::delivery::request::PassRequest;
use gitferry_service::delivery::run;
use gitferry_service::events::codecommit::{self, Announcement, MAX_EVENT_BYTES, StateChange, Subject};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::context::Context;
use super::failure::{Exit, Failure, hint_for_error, is_refusal};
use super::links::{self, AnyLink};
use super::{events, output};

/// Environment variable with an event.
const EVENT_VARIABLE: &str = "GITFERRY_EVENT";

/// Bring the target of a link up to date in one pass.
#[derive(Debug, Args)]
#[command(
    after_help = "Running the command again is always safe: objects that were copied are not copied again. If the
target is a region with an event bus, the command announces the delivered changes there.

A remote cannot be listed. A pass from a remote covers the repositories named on the command line,
or else those that the configuration names in full and those that the link has carried before.

Exit code 1 if a repository has two histories (nothing is overwritten); 2 if every failure is
forbidden by a rule, such as a second active link to one target or a remote that refuses a ref;
3 if anything else failed.

Example:
  gitferry replicate dr
  gitferry replicate dr team/app --json
  gitferry replicate dr --event event.json"
)]
pub struct Replicate {
    /// Link to run.
    link: String,
    /// Repositories to deliver (names or ids) [default: all].
    names: Vec<String>,
    /// Deliver only the repository that an event announces. FILE holds the event as EventBridge, SNS or SQS delivers
    /// it; `-` reads standard input. Without --event and names, the event may be in GITFERRY_EVENT, as for one
    /// container task per event.
    #[arg(long, value_name = "FILE|-", conflicts_with = "names")]
    event: Option<PathBuf>,
    /// Repositories to deliver at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Replicate even if the source, a remote, has no refs, which deletes every ref of the target.
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
            Announced::Nothing(event) => return self.report_nothing(&event),
        };
        let config = context.config()?;
        let mut link = links::open_any(&config, &self.link, true).await?;
        match &mut link {
            AnyLink::Mirror(link) => link.allow_empty(self.allow_empty),
            AnyLink::Regions(_) if self.allow_empty => {
                return Err(Failure::usage(
                    "--allow-empty is for links with a remote at one end; between regions, the ledger decides",
                ));
            }
            AnyLink::Regions(_) => {}
        }
        let link = link.into_delivery();
        let (names, hint) = match announced {
            Some(change) => {
                let (name, hint) = repository_of(&*link, *change);
                (vec![name], hint)
            }
            None => (self.names, None),
        };
        let bars = (!self.json && std::io::stderr().is_terminal()).then(|| show(link.progress()));
        let request = PassRequest { names: &names, hint: hint.as_ref(), concurrency: self.jobs };
        let result = run::pass(&*link, &request).await;
        if let Some(bars) = bars {
            bars.abort();
        }
        let summary = result?;
        // Also without deliveries: another process may have delivered and crashed before its announcement.
        if let Some(region) = link.target_region() {
            let named = (!summary.ids.is_empty() && !names.is_empty()).then(|| summary.ids.clone());
            events::announce(&config, region, named).await;
        }
        crash_point("before-summary");
        if self.json {
            output::json(&summary)?;
        } else {
            print(&summary);
        }
        Ok(exit(&summary))
    }

    fn report_nothing(self, event: &str) -> Result<Exit, Failure> {
        if self.json {
            output::json(&Summary { link: self.link, ..Summary::default() })?;
        } else {
            output::line(format!("{event}: nothing to replicate"));
        }
        Ok(Exit::Done)
    }
}

/// Work that an event asks for.
enum Announced {
    /// No event was given.
    Everything,
    /// A change of one repository.
    Change(Box<StateChange>),
    /// An event, named here, without a change to replicate.
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

/// Returns the name or id by which the link's source knows the repository of an event, and the event's hint about a
/// ref. The id is used only if the source is a region: it means nothing to a remote.
fn repository_of(link: &dyn Link, change: StateChange) -> (String, Option<Hint>) {
    match (link.source_region(), &change.subject) {
        (Some(_), Subject::Gitferry { id, .. }) => (id.to_string(), None),
        _ => {
            let hint = hint_of(&change);
            (change.repository, hint)
        }
    }
}

/// Reads an event from a file or standard input, at most one byte more than [`MAX_EVENT_BYTES`].
fn read_event(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let most = MAX_EVENT_BYTES as u64 + 1;
    let read = if file == Path::new("-") {
        std::io::stdin().take(most).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut text))
    };
    let failed =
        |error: std::io::Error| Failure::usage(format!("the event {} cannot be read: {error}", file.display()));
    read.map_err(failed)?;
    Ok(text)
}

/// Returns the exit status after a pass.
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
                // Errors of a store do not name the repository.
                let text = error.to_string();
                if text.contains(&report.repository) {
                    output::note(format!("error: {text}"));
                } else {
                    output::note(format!("error: {}: {text}", report.repository));
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
        output::line("some failures are temporary: run the same command again, which is always safe");
    }
}

/// Prints the outcome for a repository on a link with a remote, with notes about single refs.
fn print_carried(repository: &str, carried: &MirrorOutcome) {
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

/// Prints notes about single refs.
pub fn print_notes(notes: &Notes) {
    for note in &notes.refs {
        let outcome = match note.outcome {
            NoteKind::Invalid => "left out",
            NoteKind::Diverged => "diverged",
            NoteKind::Preserved => "preserved",
            NoteKind::Refused => "refused",
            NoteKind::Pending => "pending",
        };
        output::line(format!("  {}: {outcome}: {}", note.name, note.reason));
    }
    if notes.more > 0 {
        output::line(format!("  and {}", output::count(notes.more, "more ref")));
    }
}

/// Draws progress bars for repositories and bytes until the task is aborted.
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
