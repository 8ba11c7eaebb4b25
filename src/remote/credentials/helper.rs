//! A program that knows credentials, by git-credential's protocol: lines `key=value` on its standard input and output.

use std::process::Stdio;
use std::time::Duration;

use gix::bstr::ByteSlice as _;
use jiff::Timestamp;
use reqwest::Url;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::Identity;
use crate::secret::Secret;

/// How long a helper may take.
const TIME: Duration = Duration::from_secs(30);
/// Most bytes that a helper may say.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A program that knows credentials.
#[derive(Clone, Debug)]
pub struct Helper {
    command: Vec<String>,
    /// Whether it is told the path, too.
    path: bool,
}

/// What a helper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub identity: Identity,
    /// Until when it is good, in seconds since 1970.
    expiry: Option<i64>,
}

impl Answer {
    /// Whether it is no good any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now.as_second())
    }
}

impl Helper {
    pub fn new(command: Vec<String>, path: bool) -> Self {
        Helper { command, path }
    }

    /// Asks for credentials.
    pub async fn get(&self, url: &Url) -> Result<Answer, String> {
        let question = format!("capability[]=authtype\n{}\n", place(url, self.path));
        let said = self.run("get", question.as_bytes()).await.map_err(|reason| self.failed(&reason))?;
        parse(&said).map_err(|reason| self.failed(&reason))
    }

    /// Tells whether what it said was good (`store`) or not (`erase`). It does not matter what comes of it.
    pub async fn tell(&self, verb: &'static str, url: &Url, answer: &Answer) {
        let place = place(url, self.path);
        let text = match &answer.identity {
            Identity::Basic { user, password } => {
                Zeroizing::new(format!("{place}username={}\npassword={}\n\n", user.reveal(), password.reveal()))
            }
            Identity::Typed { scheme, credential } => Zeroizing::new(format!(
                "capability[]=authtype\n{place}authtype={scheme}\ncredential={}\n\n",
                credential.reveal()
            )),
        };
        if let Err(reason) = self.run(verb, text.as_bytes()).await {
            tracing::debug!(helper = self.command.first(), verb, reason, "a credential helper did not take it");
        }
    }

    fn failed(&self, reason: &str) -> String {
        format!("the credential helper {}: {reason}", self.command.first().map_or("", String::as_str))
    }

    /// What it wrote. What it complains of is not kept, as it may hold what it should not.
    async fn run(&self, verb: &str, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let (program, arguments) = self.command.split_first().ok_or("no program is named")?;
        let mut command = Command::new(program);
        command.args(arguments).arg(verb).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        match tokio::time::timeout(TIME, talk(&mut child, input)).await {
            Ok(said) => said,
            Err(_) => Err(format!("it took more than {} s", TIME.as_secs())),
        }
    }
}

async fn talk(child: &mut Child, input: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (mut stdin, stdout) = pipes.ok_or("it has no pipes")?;
    let mut said = Zeroizing::new(Vec::new());
    let write = async {
        // A helper need not read what it does not need.
        let _ = stdin.write_all(input).await;
        drop(stdin);
    };
    let mut limited = stdout.take(MAX_ANSWER_BYTES + 1);
    let (_, read) = tokio::join!(write, limited.read_to_end(&mut said));
    read.map_err(|error| format!("its answer cannot be read: {error}"))?;
    if said.len() as u64 > MAX_ANSWER_BYTES {
        return Err("its answer is too long".into());
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(said),
        false => Err(format!("it ended with {status}; run it by hand to see what it says")),
    }
}

/// What credentials are wanted for.
fn place(url: &Url, path: bool) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path = if path { format!("path={}\n", url.path().trim_start_matches('/')) } else { String::new() };
    format!("protocol={}\nhost={host}{port}\n{path}", url.scheme())
}

/// What an answer says. What is not understood is passed over, as Git does.
fn parse(said: &[u8]) -> Result<Answer, String> {
    let (mut user, mut password, mut scheme, mut credential, mut expiry) = (None, None, None, None, None);
    for line in said.lines() {
        let Some((key, value)) = line.split_once_str(b"=") else { continue };
        let Ok(value) = value.to_str() else { return Err("its answer is no text".into()) };
        match key {
            b"username" => user = Some(Secret::new(value)),
            b"password" => password = Some(Secret::new(value)),
            b"authtype" => scheme = Some(value.to_owned()),
            b"credential" => credential = Some(Secret::new(value)),
            b"password_expiry_utc" => expiry = value.parse().ok(),
            b"quit" if matches!(value, "1" | "true") => return Err("it says to give up".into()),
            _ => {}
        }
    }
    let identity = match (scheme, credential, user, password) {
        (Some(scheme), Some(credential), ..) => Identity::Typed { scheme, credential },
        (.., Some(user), Some(password)) => Identity::Basic { user, password },
        _ => return Err("it knows none".into()),
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
        assert!(basic.is_over(at(100)) && !basic.is_over(at(99)));
        let typed = parse(b"capability[]=authtype\nauthtype=Bearer\ncredential=t\n").unwrap().identity;
        assert_eq!(typed, Identity::Typed { scheme: "Bearer".into(), credential: Secret::new("t") });
        for bad in [&b""[..], b"username=ann\n", b"quit=1\nusername=a\npassword=b\n", b"password=\xff\n", b"\0\0"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn questions() {
        let url = Url::parse("https://git.example:8443/v1/repos/team/app").unwrap();
        assert_eq!(place(&url, true), "protocol=https\nhost=git.example:8443\npath=v1/repos/team/app\n");
        let url = Url::parse("https://git.example:443/app").unwrap();
        assert_eq!(place(&url, false), "protocol=https\nhost=git.example\n");
    }
}
