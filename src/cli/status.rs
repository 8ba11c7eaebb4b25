//! `gitferry status`

use clap::Args;
use gitferry_config::Config;
use gitferry_replication::AnyLink;
use gitferry_replication::deliver::Link;
use gitferry_replication::remotes::RemoteLink;
use gitferry_replication::remotes::status::RemoteStatus;
use gitferry_replication::status::RepositoryStatus;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Show how each repository stands on a link: both frontiers, what is pending, lag, last error.
#[derive(Debug, Args)]
#[command(after_help = "Everything is computed from what is durable in both regions; of a link with a remote, from the
refs of both sides (`gitferry explain LINK NAME` tells them one by one).

Exit code 1 when a repository is on two histories, damaged, or without its name at the target; being
behind is no difference. 3 when a side cannot be reached, or when the last delivery failed. One link
or repository that fails is named, and the others are shown.

Example:
  gitferry status dr --json")]
pub struct Status {
    /// The link; all of them when left out.
    link: Option<String>,
    /// Print JSON: one line per link.
    #[arg(long)]
    json: bool,
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
            exit = exit.worse(match self.link(context, &config, &name).await {
                Ok(exit) => exit,
                // The other links are shown all the same.
                Err(failure) if self.link.is_none() => self.fail(&name, failure)?,
                Err(failure) => return Err(failure),
            });
        }
        Ok(exit)
    }

    async fn link(&self, context: &Context, config: &Config, name: &str) -> Result<Exit, Failure> {
        match context.any_link(config, name, false).await? {
            AnyLink::Regions(link) => self.regions(&link).await,
            AnyLink::Remote(link) => self.remote(&link).await,
        }
    }

    /// Shows a link that cannot be looked at.
    fn fail(&self, name: &str, failure: Failure) -> Result<Exit, Failure> {
        if self.json {
            output::json(&json!({ "link": name, "error": failure.message() }))?;
        }
        failure.about(&format!("link {name}")).print();
        Ok(Exit::Failed)
    }

    async fn regions(&self, link: &Link) -> Result<Exit, Failure> {
        let all = link.status().await?;
        let (name, source, target) = (&link.name, &link.source.name, &link.target.name);
        match self.json {
            true => output::json(&json!({ "link": name, "source": source, "target": target, "repositories": all }))?,
            false => {
                output::line(format!("{name}: {source} → {target}, {}", output::count(all.len() as u64, "repository")));
                print(&all);
            }
        }
        Ok(match () {
            () if all.iter().any(RepositoryStatus::is_different) => Exit::Difference,
            () if all.iter().any(RepositoryStatus::has_failed) => Exit::Failed,
            () => Exit::Done,
        })
    }

    async fn remote(&self, link: &RemoteLink) -> Result<Exit, Failure> {
        let all = link.status().await?;
        let (name, source, target) = (&link.name, link.source.name(), link.target.name());
        match self.json {
            true => output::json(&json!({ "link": name, "source": source, "target": target, "repositories": all }))?,
            false => {
                output::line(format!("{name}: {source} → {target}, {}", output::count(all.len() as u64, "repository")));
                print_remote(&all);
            }
        }
        Ok(match () {
            () if all.iter().any(|status| status.standing == "diverged") => Exit::Difference,
            () if all.iter().any(|status| status.last_error.is_some()) => Exit::Failed,
            () => Exit::Done,
        })
    }
}

fn print_remote(all: &[RemoteStatus]) {
    if all.is_empty() {
        output::line("it names no repository in full and has carried none, and a remote cannot be listed");
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
            let reason = "another repository still holds its name in the target; until then it is reachable by id";
            output::line(format!("{}: {reason} {}", status.repository, status.id));
        }
    }
}
