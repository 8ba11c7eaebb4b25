//! `gitferry health`

use std::time::Duration;

use clap::Args;

use super::failure::{Exit, Failure};
use super::output;

/// Maximum time for connecting and answering.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Check whether a worker or host on this machine is alive. For container images without curl.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0 if the process answers within four seconds that it is alive (or ready), else 1.

Example:
  gitferry health
  gitferry health 127.0.0.1:8411")]
pub struct Health {
    /// Address of the health endpoint, without TLS.
    #[arg(env = "GITFERRY_HEALTH", default_value = super::worker::HEALTH_ADDRESS, value_name = "ADDR")]
    address: std::net::SocketAddr,
    /// Check /_ready in place of /_health: whether the worker reaches all its stores, queues and servers.
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

/// Sends the request. Returns whether the status was a success, and the answer's text.
async fn ask(url: &str) -> Result<(bool, String), String> {
    let text = |error: reqwest::Error| gitferry_base::error::chain(&error.without_url());
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().map_err(text)?;
    let answer = client.get(url).send().await.map_err(text)?;
    Ok((answer.status().is_success(), answer.text().await.map_err(text)?))
}
