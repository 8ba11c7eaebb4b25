//! Client of Git credential helpers (git-credential(1)): lines of `key=value` on standard input and output.

use std::process::Stdio;
use std::time::Duration;

use gix::bstr::ByteSlice as _;
use jiff::Timestamp;
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::identity::Identity;
use crate::secret::Secret;
use gitferry_config::host_of;

/// Limit for one run of a helper, after which it is killed.
const RUN_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of a helper's answer.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A configured credential helper.
#[derive(Clone, Debug)]
pub struct Helper {
    command: Vec<String>,
    /// True if requests contain the URL's path (`credential.useHttpPath`).
    path: bool,
}

/// Credentials that a helper supplied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub identity: Identity,
    /// Expiry in Unix seconds; `None` if the helper gave none.
    expiry: Option<i64>,
}

impl Answer {
    /// Returns true if the credentials have expired.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now.as_second())
    }
}

impl Helper {
    pub fn new(command: Vec<String>, path: bool) -> Self {
        Helper { command, path }
    }

    /// Runs the helper's `get` for a URL.
    pub async fn get(&self, url: &Url) -> Result<Answer, String> {
        let request = format!("capability[]=authtype\n{}\n", target(url, self.path));
        let output = self.run("get", request.as_bytes()).await.map_err(|reason| self.failed(&reason))?;
        parse(&output).map_err(|reason| self.failed(&reason))
    }

    /// Reports the credentials as accepted (`store`) or refused (`erase`) by the server. Failures are only logged.
    pub async fn report(&self, verb: &'static str, url: &Url, answer: &Answer) {
        let target = target(url, self.path);
        let text = match &answer.identity {
            Identity::Basic { user, password } => {
                Zeroizing::new(format!("{target}username={}\npassword={}\n\n", user.reveal(), password.reveal()))
            }
            Identity::Typed { scheme, credential } => Zeroizing::new(format!(
                "capability[]=authtype\n{target}authtype={scheme}\ncredential={}\n\n",
                credential.reveal()
            )),
        };
        if let Err(reason) = self.run(verb, text.as_bytes()).await {
            tracing::debug!(helper = self.command.first(), verb, reason, "credential helper failed");
        }
    }

    fn failed(&self, reason: &str) -> String {
        format!("credential helper {}: {reason}", self.command.first().map_or("", String::as_str))
    }

    /// Runs the helper and returns its standard output. Standard error is discarded, as it may contain secrets.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let (program, arguments) = self.command.split_first().ok_or("command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).arg(verb).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("cannot start it: {error}"))?;
        match tokio::time::timeout(RUN_TIMEOUT, talk(&mut child, input)).await {
            Ok(output) => output,
            Err(_) => Err(format!("did not finish within {} s and was killed", RUN_TIMEOUT.as_secs())),
        }
    }
}

async fn talk(child: &mut Child, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (mut stdin, stdout) = pipes.ok_or("its standard input and output are not pipes")?;
    let mut output = Zeroizing::new(Vec::new());
    let write = async {
        // A helper may close its input without reading all of it.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let mut limited = stdout.take(MAX_ANSWER_BYTES + 1);
    let (_, read) = tokio::join!(write, limited.read_to_end(&mut output));
    read.map_err(|error| format!("cannot read its answer: {error}"))?;
    if output.len() as u64 > MAX_ANSWER_BYTES {
        return Err(format!("its answer has more than {MAX_ANSWER_BYTES} bytes"));
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("ended with {status}; run it by hand to see its messages"));
    }
    Ok(output)
}

/// Formats the lines that identify the server, and the repository if `path` is set.
fn target(url: &Url, path: bool) -> String {
    let host = host_of(url);
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if path { format!("path={}\n", url.path().trim_start_matches('/')) } else { String::new() };
    format!("protocol={}\nhost={host}{port}\n{path}", url.scheme())
}

/// Parses the answer to `get`. Unknown keys and malformed lines are skipped, as Git does.
fn parse(output: &[u8]) -> Result<Answer, String> {
    let mut user = None;
    let mut password = None;
    let mut scheme = None;
    let mut credential = None;
    let mut expiry = None;
    for line in output.lines() {
        let Some((key, value)) = line.split_once_str(b"=") else { continue };
        let Ok(value) = value.to_str() else { return Err("its answer is not UTF-8".into()) };
        match key {
            b"username" => user = Some(Secret::new(value)),
            b"password" => password = Some(Secret::new(value)),
            b"authtype" => scheme = Some(value.to_owned()),
            b"credential" => credential = Some(Secret::new(value)),
            b"password_expiry_utc" => expiry = value.parse().ok(),
            b"quit" if matches!(value, "1" | "true") => return Err("refused to supply credentials (quit=1)".into()),
            _ => {}
        }
    }
    let identity = match (scheme, credential, user, password) {
        (Some(scheme), Some(credential), ..) => Identity::Typed { scheme, credential },
        (.., Some(user), Some(password)) => Identity::Basic { user, password },
        _ => return Err("supplied no credentials".into()),
    };
    Ok(Answer { identity, expiry })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let basic = parse(b"protocol=https\nusername=ann\npassword=p=w\npassword_expiry_utc=100\n").unwrap();
        let identity = Identity::Basic { user: Secret::new("ann"), password: Secret::new("p=w") };
        assert_eq!(basic, Answer { identity, expiry: Some(100) });
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(basic.is_expired(at(100)) && !basic.is_expired(at(99)));
        let typed = parse(b"capability[]=authtype\nauthtype=Bearer\ncredential=t\n").unwrap().identity;
        assert_eq!(typed, Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("t") });
        for bad in [&b""[..], b"username=ann\n", b"quit=1\nusername=a\npassword=b\n", b"password=\xff\n", b"\0\0"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn questions() {
        let url = Url::parse("https://git.example:8443/v1/repos/team/app").unwrap();
        assert_eq!(target(&url, true), "protocol=https\nhost=git.example:8443\npath=v1/repos/team/app\n");
        let url = Url::parse("https://git.example:443/app").unwrap();
        assert_eq!(target(&url, false), "protocol=https\nhost=git.example\n");
    }
}
