//! `gitferry demo`

mod sample;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use gitferry_config::{Config, DEFAULT_FILE};
use gitferry_engine::region::import::{ImportOptions, ImportProgress, Imported};
use gitferry_git::local::RefPatterns;
use gitferry_git::pack::CheckProgress;
use gitferry_replication::link::Link;
use gitferry_replication::pass::{DEFAULT_JOBS, Summary};

use super::failure::{Exit, Failure};
use super::{init, links, output};
use sample::Sample;

const LINK: &str = "dr";
const NAME: &str = "demo";

/// Demonstrate replication: create two regions, import, replicate, commit, replicate again, verify.
#[derive(Debug, Args)]
#[command(
    after_help = "Works in a temporary folder, and only reads the repository of the current folder, if there is one.

Example:
  gitferry demo
  gitferry demo --dir /tmp/tour     # keeps the two regions to look around"
)]
pub struct Demo {
    /// Folder to keep the two regions in; it must not contain a gitferry.toml.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Counts the steps and prints each with its duration and result.
struct Steps(u32);

impl Steps {
    fn print(&mut self, start: Instant, title: &str, result: &str) {
        self.0 += 1;
        let took = format!("{:.1} ms", start.elapsed().as_secs_f64() * 1000.0);
        output::line(format!("{}. {title:<34} {took:>11}   {result}", self.0));
    }
}

impl Demo {
    pub async fn run(self) -> Result<Exit, Failure> {
        let temporary = tempfile::TempDir::with_prefix("gitferry-demo-")?;
        let dir = self.dir.clone().unwrap_or_else(|| temporary.path().join("regions"));
        let mut steps = Steps(0);

        let start = Instant::now();
        init::make(&dir).await?;
        let config = dir.join(DEFAULT_FILE);
        let link = links::open_writable(&Config::load(&config)?, LINK).await?;
        let source = link.source.name().to_owned();
        let target = link.target.name().to_owned();
        steps.print(start, "create two regions", &format!("{source} and {target}, link {LINK}"));

        let start = Instant::now();
        let path = temporary.path().join("source.git");
        let (mut sample, path) = off_thread(move || Ok((Sample::make(&path)?, path))).await?;
        steps.print(start, "prepare a repository", &sample.origin);

        let start = Instant::now();
        let imported = import(&link, &path).await?;
        steps.print(start, &format!("import it into {source}"), &import_text(&imported));

        let start = Instant::now();
        let summary = pass(&config).await?;
        steps.print(start, &format!("replicate to {target}"), &summary_text(&summary));

        let start = Instant::now();
        let sample = off_thread(move || sample.commit().map(|_| sample)).await?;
        let imported = import(&link, &path).await?;
        steps.print(start, &format!("commit and import into {source}"), &import_text(&imported));
        drop(sample);

        let start = Instant::now();
        let summary = pass(&config).await?;
        steps.print(start, &format!("replicate to {target}"), &summary_text(&summary));

        let start = Instant::now();
        let summary = pass(&config).await?;
        steps.print(start, "replicate with nothing to do", &summary_text(&summary));

        let start = Instant::now();
        let (same, text) = verify(&link).await?;
        steps.print(start, "verify both regions, deeply", &text);

        match &self.dir {
            Some(_) => output::line(format!("look around: gitferry --config {} status", config.display())),
            None => output::line("the two regions were temporary; --dir DIR keeps them"),
        }
        Ok(if same { Exit::Done } else { Exit::Difference })
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

async fn import(link: &Link, path: &std::path::Path) -> Result<Imported, Failure> {
    let options = ImportOptions { patterns: RefPatterns::all(), allow_empty: false, actor: "demo".into() };
    Ok(link.source.importer().import(path, NAME, &options, Arc::new(ImportProgress::default())).await?)
}

/// Runs a pass as a new process would: opens the link again.
async fn pass(config: &std::path::Path) -> Result<Summary, Failure> {
    let link = links::open_writable(&Config::load(config)?, LINK).await?;
    let mut summary = link.pass(&[], DEFAULT_JOBS).await?;
    match summary.reports.iter_mut().find_map(|report| report.error.take()) {
        Some(error) => Err(error.into()),
        None => Ok(summary),
    }
}

async fn verify(link: &Link) -> Result<(bool, String), Failure> {
    let progress = Arc::new(CheckProgress::default());
    let mut findings = Vec::new();
    let mut objects = 0;
    let mut frontiers = Vec::new();
    for region in [&link.source, &link.target] {
        let verified =
            region.verifier().verify(&region.repositories().get(NAME).await?, true, progress.clone()).await?;
        objects += verified.objects;
        frontiers.push(verified.frontier);
        findings.extend(verified.findings);
    }
    let same = findings.is_empty() && frontiers[0] == frontiers[1];
    let text = if same {
        format!("identical at {}, {} hashed", frontiers[0], output::count(objects, "object"))
    } else {
        format!("DIFFERENT: {}", findings.join("; "))
    };
    Ok((same, text))
}

fn import_text(imported: &Imported) -> String {
    format!(
        "{}, {}, {} ({})",
        output::count(imported.objects, "object"),
        output::count(imported.created + imported.updated + imported.deleted, "ref edit"),
        output::count(imported.packs, "pack"),
        output::bytes(imported.bytes)
    )
}

fn summary_text(summary: &Summary) -> String {
    format!("{}, {} copied", output::count(summary.changes, "change"), output::bytes(summary.bytes_copied))
}
