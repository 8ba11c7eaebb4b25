//! `gitferry verify`

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use gitferry::git::pack::CheckProgress;
use gitferry::ledger::head::HeadItem;
use gitferry::region::Region;
use gitferry::region::verify::Verified;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Prove that a link's two sides are identical, or that a repository is what its ledger says.
#[derive(Debug, Args)]
#[command(after_help = "Checks the hash chain, the refs digest, and that every pack and LFS object is there with the
right size; with --deep also hashes every object and proves that all that is reachable from any
ref is there. Exit code 1, and the exact list, on any difference. A target that is behind is a
difference.

Example:
  gitferry verify dr --deep
  gitferry verify team/app --region eu-west-1 --json")]
pub struct Verify {
    /// A link, or with --region a repository (name or id).
    #[arg(value_name = "LINK|NAME")]
    name: String,
    /// The region of the repository.
    #[arg(long, value_name = "R")]
    region: Option<String>,
    /// Hash all packs and walk all objects.
    #[arg(long)]
    deep: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What was verified, and what differs between sides.
#[derive(Default)]
struct Outcome {
    verified: Vec<Verified>,
    differences: Vec<String>,
}

impl Verify {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let progress = Arc::new(CheckProgress::default());
        let bar = (self.deep && !self.json && std::io::stderr().is_terminal()).then(|| show(progress.clone()));
        let result = match (&self.region, config.links.contains_key(&self.name)) {
            (Some(region), _) => self.repository(&[context.region(region).await?], &progress).await,
            (None, true) => self.link(context, &progress).await,
            (None, false) => {
                let mut regions = Vec::new();
                for name in config.regions.keys() {
                    regions.push(context.region(name).await?);
                }
                self.repository(&regions, &progress).await
            }
        };
        if let Some(bar) = bar {
            bar.abort();
        }
        self.say(&result?)
    }

    /// One repository in each of the regions that have it.
    async fn repository(&self, regions: &[Region], progress: &Arc<CheckProgress>) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for region in regions {
            if let Some(item) = region.find(&self.name).await? {
                outcome.verified.push(region.verify(&item, self.deep, progress.clone()).await?);
            }
        }
        if outcome.verified.is_empty() {
            let names: Vec<&str> = regions.iter().map(|region| region.name.as_str()).collect();
            let what = if self.region.is_some() { "repository" } else { "link or repository" };
            return Err(Failure::usage(format!("there is no {what} {} in {}", self.name, names.join(", "))));
        }
        Ok(outcome)
    }

    async fn link(&self, context: &Context, progress: &Arc<CheckProgress>) -> Result<Outcome, Failure> {
        let config = context.config()?;
        let link = context.link(&config, &self.name).await?;
        let mut outcome = Outcome { differences: link.strays().await?, ..Outcome::default() };
        for pair in link.pairs(&[]).await? {
            outcome.differences.extend(link.differences(&pair).await?);
            let sides: [(&Region, Option<&HeadItem>); 2] =
                [(&link.source, Some(&pair.source)), (&link.target, pair.target.as_ref())];
            for (region, item) in sides {
                if let Some(item) = item {
                    outcome.verified.push(region.verify(item, self.deep, progress.clone()).await?);
                }
            }
        }
        Ok(outcome)
    }

    fn say(&self, outcome: &Outcome) -> Result<Exit, Failure> {
        let findings: usize = outcome.verified.iter().map(|verified| verified.findings.len()).sum();
        let same = findings == 0 && outcome.differences.is_empty();
        if self.json {
            output::json(&json!({
                "ok": same, "deep": self.deep, "differences": outcome.differences, "repositories": outcome.verified,
            }))?;
        } else {
            print(outcome, self.deep);
        }
        Ok(if same { Exit::Done } else { Exit::Difference })
    }
}

fn print(outcome: &Outcome, deep: bool) {
    for verified in &outcome.verified {
        let verdict = if verified.findings.is_empty() { "ok" } else { "DAMAGED" };
        let objects = match deep {
            true => format!(", {} hashed", output::count(verified.objects, "object")),
            false => String::new(),
        };
        output::line(format!(
            "{verdict}  {} in {} at {}: {}, {}, {}{} ({}){objects}",
            verified.repository,
            verified.region,
            verified.frontier,
            output::count(verified.changes, "change"),
            output::count(verified.refs, "ref"),
            output::count(verified.packs, "pack"),
            output::and_lfs(verified.lfs_objects),
            output::bytes(verified.bytes),
        ));
        for finding in &verified.findings {
            output::line(format!("  {finding}"));
        }
    }
    for difference in &outcome.differences {
        output::line(format!("DIFFERENT  {difference}"));
    }
}

/// Draws how many objects have been hashed until it is aborted.
fn show(progress: Arc<CheckProgress>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("hashing {spinner} {human_pos} objects {per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        loop {
            bar.set_position(progress.objects.load(Ordering::Relaxed));
            bar.tick();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}
