//! `gitferry status`

use clap::Args;
use gitferry::replication::status::RepositoryStatus;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Show how each repository stands on a link: both frontiers, what is pending, lag, last error.
#[derive(Debug, Args)]
#[command(after_help = "Everything is computed from what is durable in both regions.

Exit code 1 when a repository is on two histories or damaged; being behind is no difference.

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
        let names: Vec<String> = match self.link {
            Some(link) => vec![link],
            None => config.links.keys().cloned().collect(),
        };
        let mut exit = Exit::Done;
        for name in names {
            let link = context.link(&config, &name).await?;
            let all = link.status().await?;
            if all.iter().any(|status| matches!(status.standing, "fork" | "damaged")) {
                exit = Exit::Difference;
            }
            let (source, target) = (&link.source.name, &link.target.name);
            if self.json {
                output::json(&json!({ "link": name, "source": source, "target": target, "repositories": all }))?;
                continue;
            }
            output::line(format!("{name}: {source} → {target}, {}", output::count(all.len() as u64, "repository")));
            print(&all);
        }
        Ok(exit)
    }
}

fn print(all: &[RepositoryStatus]) {
    if all.is_empty() {
        return;
    }
    let heading = ["REPOSITORY", "STANDING", "SOURCE", "TARGET", "PENDING", "BYTES", "LAG"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(all.iter().map(|status| {
        let text = |frontier: &gitferry::replication::status::FrontierText| {
            format!("{}.{}-{}", frontier.epoch, frontier.seq, &frontier.hash[..12])
        };
        vec![
            status.repository.clone(),
            status.standing.to_string(),
            text(&status.source),
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
