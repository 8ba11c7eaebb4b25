//! `gitferry backup`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use gitferry_replication::pass::DEFAULT_JOBS;
use gitferry_service::worker::backup::{Backup, BackupOptions, backup, check_seal};
use jiff::SignedDuration;
use serde_json::Value;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::metrics::Metrics;
use super::worker::duration;
use super::{events, links, output, replicate};

/// Back up a region: replicate, verify the target, and write a manifest of its repositories.
#[derive(Debug, Args)]
#[command(
    after_help = "The manifest is one line of JSON that ends with its own SHA-256; `--check FILE` verifies it. It
names the frontier of every verified repository, and the recovery point: the age of the oldest
committed change that the target lacks.

Exit code 1 if the recovery point is older than --max-age, a repository has two histories, or
something did not verify; 3 if something failed and running the command again may help. The
manifest is written in all these cases.

Example:
  gitferry backup dr --max-age 15m --out manifest.json
  gitferry backup --check manifest.json"
)]
pub struct BackupCommand {
    /// Link whose target is the backup.
    #[arg(required_unless_present = "check")]
    link: Option<String>,
    /// Maximum age of a committed change that the target lacks, such as 15m.
    #[arg(long, value_name = "DURATION", value_parser = duration, required_unless_present = "check")]
    max_age: Option<Duration>,
    /// File for the manifest [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Hash all packs and LFS objects of the target, and walk all objects.
    #[arg(long)]
    deep: bool,
    /// Repositories to deliver at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS, value_name = "N")]
    jobs: usize,
    /// Only check that a manifest was not changed since it was written.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["link", "max_age", "out", "deep"])]
    check: Option<PathBuf>,
    #[command(flatten)]
    metrics: Metrics,
    /// Print one line of JSON: the manifest.
    #[arg(long)]
    json: bool,
}

impl BackupCommand {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if let Some(file) = &self.check {
            return check(file, self.json);
        }
        let (Some(link), Some(max_age)) = (&self.link, self.max_age) else {
            return Err(Failure::usage("a link and --max-age are required"));
        };
        let max_age = SignedDuration::try_from(max_age).map_err(|error| Failure::usage(error.to_string()))?;
        let config = context.config()?;
        if config.has_remote(config.link(link)?) {
            let reason = format!("link {link} has a remote at one end: only links between regions have backups");
            return Err(Failure::usage(reason).hint(format!(
                "`gitferry replicate {link}` brings the target up to date, `gitferry status {link}` compares both \
                 sides, and `gitferry verify NAME --region REGION` verifies a repository in a region"
            )));
        }
        let link = links::open_writable(&config, link).await?;
        let made = backup(&link, BackupOptions { jobs: self.jobs, deep: self.deep, max_age }).await?;
        events::announce(&config, &link.target, None).await;
        let text = made.manifest.seal()?;
        if let Some(file) = &self.out {
            write(file, &text)
                .map_err(|error| Failure::from(error).about(&format!("cannot write {}", file.display())))?;
        }
        if self.json || self.out.is_none() {
            output::line(text.trim_end());
        } else {
            print(&made);
        }
        self.metrics.print(&[made.metrics()]);
        Ok(exit(&made))
    }
}

fn exit(made: &Backup) -> Exit {
    let replicated = replicate::exit(&made.summary);
    match replicated {
        _ if made.is_too_old() => Exit::Difference,
        Exit::Done if !made.manifest.ok => Exit::Difference,
        other => other,
    }
}

fn print(made: &Backup) {
    let manifest = &made.manifest;
    for finding in &manifest.findings {
        output::line(format!("FOUND  {finding}"));
    }
    output::line(format!(
        "{}: {} in {}, recovery point {:.1} s (at most {:.0} s): {}",
        manifest.link,
        output::count(manifest.repositories.len() as u64, "repository"),
        manifest.target,
        manifest.recovery_point_seconds,
        manifest.max_age_seconds,
        if manifest.ok { "ok" } else { "NOT OK" },
    ));
    if !manifest.deep {
        output::line(
            "checked: ledgers, refs, presence of packs and LFS objects. NOT checked: their bytes (--deep reads them)",
        );
    }
}

/// Replaces the manifest atomically: after a crash, the file is the old one or the new one.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

fn check(file: &Path, json: bool) -> Result<Exit, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::from(error).about(&format!("cannot read {}", file.display())))?;
    match check_seal(&text) {
        Ok(manifest) => {
            let at = |field: &str| manifest.get(field).and_then(Value::as_str).unwrap_or_default();
            if json {
                output::json(&manifest)?;
            } else {
                output::line(format!("{} of link {}, made {}: unchanged", at("format"), at("link"), at("made")));
            }
            Ok(Exit::Done)
        }
        Err(error) => {
            output::note(format!("{}: {error}", file.display()));
            Ok(Exit::Difference)
        }
    }
}
