//! `gitferry health`

use std::time::Duration;

use clap::Args;

use super::failure::{Exit, Failure};
use super::output;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Ask a worker or a host on this machine whether it is alive: for images that have nothing else to ask with.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 when it answers that it is, 1 when not or not within four seconds.

Example:
  gitferry health
  gitferry health 127.0.0.1:8411")]
pub struct Health {
    /// Where it listens, without TLS.
    #[arg(env = "GITFERRY_HEALTH", default_value = super::worker::HEALTH_ADDRESS, value_name = "ADDR")]
    address: std::net::SocketAddr,
    /// Ask whether a worker is ready, too: whether it gets at all that it works with.
    #[arg(long)]
    ready: bool,
}

impl Health {
    pub async fn run(self) -> Result<Exit, Failure> {
        let path = if self.ready { "_ready" } else { "_health" };
        let url = format!("http://{}/{path}", self.address);
        match ask(&url).await {
            Ok((true, body)) => {
                output::line(body.trim_end());
                Ok(Exit::Done)
            }
            Ok((false, reason)) | Err(reason) => {
                output::note(format!("{url}: {}", reason.trim_end()));
                Ok(Exit::Difference)
            }
        }
    }
}

/// Whether it says yes, and its words.
async fn ask(url: &str) -> Result<(bool, String), String> {
    let text = |error: reqwest::Error| error.to_string();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(text)?;
    let answer = client.get(url).send().await.map_err(text)?;
    Ok((answer.status().is_success(), answer.text().await.map_err(text)?))
}
