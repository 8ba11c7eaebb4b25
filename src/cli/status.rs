//! `gitferry status`

use clap::Args;
use gitferry_config::Config;
use gitferry_replication::link::Link;
use gitferry_replication::mirror::RemoteLink;
use gitferry_replication::mirror::status::RemoteStatus;
use gitferry_replication::status::RepositoryStatus;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::links::{self, AnyLink};
use super::output;
use super::usage::Usage;

/// Show the status of each repository on a link: frontiers, pending changes and bytes, lag, last error.
#[derive(Debug, Args)]
#[command(after_help = "The status comes from the durable state of both regions or, for a link with a remote, from the
refs of both sides (`gitferry explain LINK NAME` lists these one by one). A link or repository that
cannot be read is shown with its error, and the others are shown all the same.

Exit code 1 if a repository has two histories, is damaged, or lacks its name at the target; a target
that is behind is no difference. 3 if a side cannot be reached, or if the last delivery failed.

Example:
  gitferry status dr
  gitferry status dr --usage --json")]
pub struct Status {
    /// Link to show [default: all links of the configuration].
    link: Option<String>,
    /// Print one line of JSON per link.
    #[arg(long)]
    json: bool,
    /// Also count the repositories and bytes of both regions, beside the quotas that limit them. Reads the manifest and
    /// the LFS rows of each repository.
    #[arg(long)]
    usage: bool,
}

impl Status {
    pub async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = context.config()?;
        let names: Vec<String> = match self.link.clone() {
            Some(link) => vec![link],
            None => config.links.keys().cloned().collect(),
        };
        let mut exit = Exit::Done;
        for name in names {
            exit = exit.worse(match self.link(&config, &name).await {
                Ok(exit) => exit,
                // One failed link does not hide the others.
                Err(failure) if self.link.is_none() => self.fail(&name, failure)?,
                Err(failure) => return Err(failure),
            });
        }
        Ok(exit)
    }

    async fn link(&self, config: &Config, name: &str) -> Result<Exit, Failure> {
        match links::open_any(config, name, false).await? {
            AnyLink::Regions(link) => self.regions(config, &link).await,
            AnyLink::Mirror(link) => self.remote(&link).await,
        }
    }

    /// Prints the error of a link that cannot be read.
    fn fail(&self, name: &str, failure: Failure) -> Result<Exit, Failure> {
        if self.json {
            output::json(&json!({ "link": name, "error": failure.message() }))?;
        }
        failure.about(&format!("link {name}")).print();
        Ok(Exit::Failed)
    }

    async fn regions(&self, config: &Config, link: &Link) -> Result<Exit, Failure> {
        let all = link.status().await?;
        let usage = self.usage_of(config, link).await?;
        let name = &link.name;
        let source = link.source.name();
        let target = link.target.name();
        if self.json {
            let mut status = json!({ "link": name, "source": source, "target": target, "repositories": all });
            if let Some([source, target]) = &usage {
                status["usage"] = json!({ "source": source.as_json(), "target": target.as_json() });
            }
            output::json(&status)?;
        } else {
            output::line(format!("{name}: {source} → {target}, {}", output::count(all.len() as u64, "repository")));
            print(&all);
            usage.iter().flatten().for_each(Usage::print);
        }
        Ok(if all.iter().any(RepositoryStatus::is_different) {
            Exit::Difference
        } else if all.iter().any(RepositoryStatus::has_failed) {
            Exit::Failed
        } else {
            Exit::Done
        })
    }

    /// Usage of source and target, if it is asked for.
    async fn usage_of(&self, config: &Config, link: &Link) -> Result<Option<[Usage; 2]>, Failure> {
        if !self.usage {
            return Ok(None);
        }
        Ok(Some([Usage::of(config, &link.source).await?, Usage::of(config, &link.target).await?]))
    }

    async fn remote(&self, link: &RemoteLink) -> Result<Exit, Failure> {
        let all = link.status().await?;
        let name = link.name();
        let source = link.source().name();
        let target = link.target().name();
        if self.json {
            output::json(&json!({ "link": name, "source": source, "target": target, "repositories": all }))?;
        } else {
            output::line(format!("{name}: {source} → {target}, {}", output::count(all.len() as u64, "repository")));
            print_remote(&all);
        }
        Ok(if all.iter().any(|status| status.standing == "diverged") {
            Exit::Difference
        } else if all.iter().any(|status| status.last_error.is_some()) {
            Exit::Failed
        } else {
            Exit::Done
        })
    }
}

fn print_remote(all: &[RemoteStatus]) {
    if all.is_empty() {
        output::line("the link names no repository in full and has carried none, and a remote cannot be listed");
        return;
    }
    let heading = ["REPOSITORY", "STANDING", "EQUAL", "PENDING", "SKIPPED", "DELIVERED"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(all.iter().map(|status| {
        vec![
            status.repository.clone(),
            status.standing.into(),
            status.equal.to_string(),
            status.pending_refs.to_string(),
            status.skipped.to_string(),
            status.delivered.map_or("never noted".into(), |time| time.to_string()),
        ]
    }));
    output::table(&rows);
    for status in all {
        if let Some(error) = &status.last_error {
            output::line(format!("{}: {error}", status.repository));
        }
    }
}

fn print(all: &[RepositoryStatus]) {
    if all.is_empty() {
        return;
    }
    let heading = ["REPOSITORY", "STANDING", "SOURCE", "TARGET", "PENDING", "BYTES", "LAG"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(all.iter().map(|status| {
        let text = |frontier: &gitferry_replication::status::FrontierText| {
            format!("{}.{}-{}", frontier.epoch, frontier.seq, &frontier.hash[..12])
        };
        vec![
            status.repository.clone(),
            status.standing.to_string(),
            status.source.as_ref().map_or("unknown".into(), text),
            status.target.as_ref().map_or("none".into(), text),
            status.pending_changes.to_string(),
            output::bytes(status.pending_bytes),
            format!("{:.1} s", status.lag_seconds),
        ]
    }));
    output::table(&rows);
    for status in all {
        if let Some(error) = &status.last_error {
            output::line(format!("{}: last error: {error}", status.repository));
        }
        if status.waits_for_name {
            let reason =
                "another repository still holds this name in the target; until then the replica is reachable as";
            output::line(format!("{}: {reason} {}", status.repository, status.id));
        }
    }
}
