//! `gitferry verify`

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use gitferry_base::Kind;
use gitferry_config::Config;
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::Region;
use gitferry_engine::region::verify::Verified;
use gitferry_git::pack::CheckProgress;
use gitferry_replication::pairs::{Broken, Pairs};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{links, output};

/// Prove that both sides of a link are identical, or that a repository matches its ledger.
#[derive(Debug, Args)]
#[command(
    after_help = "Checks the hash chain, the refs digest, the name, and that every pack and LFS object exists with the
recorded size (and checksum, if the store keeps one), without reading its bytes. Objects under
another KMS key than the repository's are listed. --deep reads and hashes every object, and proves
that every object reachable from any ref exists.

Exit code 1 and the exact list on any difference; a target that is behind is a difference. 3 if
something could not be verified; everything else is verified all the same.

Example:
  gitferry verify dr --deep
  gitferry verify team/app --region eu-west-1 --json"
)]
pub struct Verify {
    /// Link, or a repository (name or id) in --region or in every region.
    #[arg(value_name = "LINK|NAME")]
    name: String,
    /// Region of the repository [default: every region that has it].
    #[arg(long, value_name = "R")]
    region: Option<String>,
    /// Hash all packs and LFS objects, and walk all objects.
    #[arg(long)]
    deep: bool,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Properties that a verification without `--deep` proves.
const PROVEN: [&str; 4] =
    ["hash chain of the changes", "digest of the refs", "names", "presence and size of packs, indexes and LFS objects"];
/// Properties that only `--deep` proves.
const PROVEN_DEEP: [&str; 2] = ["bytes of packs and LFS objects", "reachability of every object from every ref"];

/// Outcome of a verification.
#[derive(Default)]
struct Outcome {
    verified: Vec<Verified>,
    differences: Vec<String>,
    /// Repositories and regions that could not be verified, each with the reason.
    failures: Vec<String>,
}

impl Outcome {
    /// Adds the error of one repository: damage counts as a difference, anything else as a failure.
    fn fail(&mut self, repository: &str, region: &str, kind: Kind, error: impl std::fmt::Display) {
        let text = format!("{repository} in {region}: {error}");
        match kind {
            Kind::Corrupt | Kind::Missing => self.differences.push(text),
            _ => self.failures.push(text),
        }
    }
}

impl Verify {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let progress = Arc::new(CheckProgress::default());
        let bar = (self.deep && !self.json && std::io::stderr().is_terminal()).then(|| show(progress.clone()));
        let result = match &self.region {
            Some(region) => self.repository(context, std::slice::from_ref(region), &progress).await,
            None if config.links.contains_key(&self.name) => self.link(&config, &progress).await,
            None => {
                let regions: Vec<String> = config.regions.keys().cloned().collect();
                self.repository(context, &regions, &progress).await
            }
        };
        if let Some(bar) = bar {
            bar.abort();
        }
        self.report(&result?)
    }

    /// Verifies one repository in each of `regions` that has it.
    async fn repository(
        &self,
        context: &Context,
        regions: &[String],
        progress: &Arc<CheckProgress>,
    ) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for name in regions {
            match context.region(name).await {
                Ok(region) => self.in_region(&region, progress, &mut outcome).await,
                Err(failure) if regions.len() == 1 => return Err(failure),
                Err(failure) => outcome.failures.push(format!("region {name}: {}", failure.message())),
            }
        }
        if outcome.verified.is_empty() && outcome.failures.is_empty() && outcome.differences.is_empty() {
            let what = if self.region.is_some() { "repository" } else { "link or repository" };
            return Err(Failure::usage(format!("there is no {what} {} in {}", self.name, regions.join(", "))));
        }
        Ok(outcome)
    }

    async fn in_region(&self, region: &Region, progress: &Arc<CheckProgress>, outcome: &mut Outcome) {
        let verified = match region.repositories().find(&self.name).await {
            Ok(Some(item)) => region.verifier().verify(&item, self.deep, progress.clone()).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match verified {
            Ok(verified) => outcome.verified.push(verified),
            Err(error) => outcome.fail(&self.name, region.name(), error.kind(), error),
        }
    }

    async fn link(&self, config: &Config, progress: &Arc<CheckProgress>) -> Result<Outcome, Failure> {
        let link = links::open_readable(config, &self.name).await?;
        let mut outcome = Outcome { differences: link.strays().await?, ..Outcome::default() };
        let Pairs { sound, broken } = link.pairs(&[]).await?;
        for Broken { repository, error, .. } in &broken {
            outcome.fail(repository, &link.name, error.kind(), error);
        }
        for pair in sound {
            let name = &pair.source.head.name;
            match link.differences(&pair).await {
                Ok(differences) => outcome.differences.extend(differences),
                Err(error) => outcome.fail(name, &link.name, error.kind(), error),
            }
            let sides: [(&Region, Option<&HeadItem>); 2] =
                [(&link.source, Some(&pair.source)), (&link.target, pair.target.as_ref())];
            for (region, item) in sides {
                let Some(item) = item else { continue };
                match region.verifier().verify(item, self.deep, progress.clone()).await {
                    Ok(verified) => outcome.verified.push(verified),
                    Err(error) => outcome.fail(name, region.name(), error.kind(), error),
                }
            }
        }
        Ok(outcome)
    }

    fn report(&self, outcome: &Outcome) -> Result<Exit, Failure> {
        let findings = outcome.verified.iter().map(|verified| verified.findings.len() + verified.other_keys.len());
        let same = findings.sum::<usize>() == 0 && outcome.differences.is_empty();
        let mut proven = PROVEN.to_vec();
        let mut not_proven = Vec::new();
        if self.deep {
            proven.extend(PROVEN_DEEP);
        } else {
            not_proven.extend(PROVEN_DEEP);
        }
        if self.json {
            output::json(&json!({
                "ok": same && outcome.failures.is_empty(), "deep": self.deep,
                "proven": proven, "not_proven": not_proven,
                "differences": outcome.differences, "failures": outcome.failures,
                "repositories": outcome.verified,
            }))?;
        } else {
            print(outcome, self.deep);
            output::line(format!("checked: {}", proven.join(", ")));
            if !self.deep {
                output::line(format!("NOT checked: {} (--deep reads them)", not_proven.join(", ")));
            }
        }
        Ok(if !same {
            Exit::Difference
        } else if !outcome.failures.is_empty() {
            Exit::Failed
        } else {
            Exit::Done
        })
    }
}

fn print(outcome: &Outcome, deep: bool) {
    for verified in &outcome.verified {
        let verdict = match (verified.findings.is_empty(), deep) {
            (true, true) => "ok",
            (true, false) => "present",
            (false, _) => "DAMAGED",
        };
        let objects =
            if deep { format!(", {} hashed", output::count(verified.objects, "object")) } else { String::new() };
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
        for finding in verified.findings.iter().chain(&verified.other_keys) {
            output::line(format!("  {finding}"));
        }
        if !verified.other_keys.is_empty() {
            output::note(format!(
                "  hint: `gitferry repo reencrypt {} --region {}` encrypts these objects under the repository's key",
                verified.repository, verified.region
            ));
        }
    }
    for difference in &outcome.differences {
        output::line(format!("DIFFERENT  {difference}"));
    }
    for failure in &outcome.failures {
        output::line(format!("NOT VERIFIED  {failure}"));
    }
    for damaged in outcome.verified.iter().filter(|verified| !verified.findings.is_empty()) {
        output::note(format!(
            "  hint: `gitferry repair {} --region {} --from OTHER` replaces missing and damaged packs and LFS objects \
             with copies from another region",
            damaged.repository, damaged.region
        ));
    }
}

/// Draws the number of hashed objects until the task is aborted.
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
