//! `git http-backend` behind a plain CGI server (RFC 3875): Git's own server over HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio_util::io::{ReaderStream, StreamReader};

/// Answers for the repositories below a folder.
pub fn router(root: PathBuf) -> Router {
    Router::new().fallback(answer).with_state(Arc::new(root))
}

async fn answer(State(root): State<Arc<PathBuf>>, request: Request) -> Response {
    match call(&root, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn call(root: &Path, request: Request) -> io::Result<Response> {
    let (parts, body) = request.into_parts();
    let mut child = command(root, &parts).spawn()?;
    let pipe = || io::Error::other("no pipe");
    let mut stdin = child.stdin.take().ok_or_else(pipe)?;
    let (broken, on_broken) = oneshot::channel();
    tokio::spawn(async move {
        let bytes = body.into_data_stream().map_err(io::Error::other);
        let copied = tokio::io::copy(&mut StreamReader::new(bytes.boxed()), &mut stdin).await;
        match copied {
            // Git, told that more is to come, would wait for it for ever, and busily.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(broken.send(())),
            _ => drop(stdin.shutdown().await),
        }
    });
    let mut output = BufReader::with_capacity(64 * 1024, child.stdout.take().ok_or_else(pipe)?);
    let mut response = Response::new(Body::empty());
    let mut line = String::new();
    while output.read_line(&mut line).await? > 0 {
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name {
            "Status" => {
                let code = value.split(' ').next().and_then(|code| code.parse().ok());
                *response.status_mut() = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            }
            _ => {
                let name: HeaderName = name.parse().map_err(io::Error::other)?;
                response.headers_mut().insert(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
            }
        }
        line.clear();
    }
    *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(output, 64 * 1024));
    tokio::spawn(reap(child, on_broken));
    Ok(response)
}

/// Waits for its end, and brings it about where its request broke off.
async fn reap(mut child: Child, on_broken: oneshot::Receiver<()>) {
    tokio::select! {
        _ = child.wait() => {}
        Ok(()) = on_broken => {
            let _ = child.kill().await;
        }
    }
    let _ = child.wait().await;
}

/// The program itself: `git` before it would leave it behind when it is killed, and it spins when its request is cut off.
fn backend() -> &'static Path {
    static BACKEND: OnceLock<PathBuf> = OnceLock::new();
    BACKEND.get_or_init(|| {
        let told = std::process::Command::new("git").arg("--exec-path").output().map(|output| output.stdout);
        Path::new(String::from_utf8_lossy(&told.unwrap_or_default()).trim_end()).join("git-http-backend")
    })
}

fn command(root: &Path, request: &Parts) -> Command {
    let mut command = Command::new(backend());
    // A client that is gone before the answer begins takes the handler, and so Git, with it.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // And so does a server that is killed: Git spins when its request is cut off.
    #[cfg(target_os = "linux")]
    // SAFETY: prctl(2) with plain numbers is all that runs between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        })
    };
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "somebody");
    command.env("REQUEST_METHOD", request.method.as_str()).env("PATH_INFO", decoded(request.uri.path()));
    command.env("QUERY_STRING", request.uri.query().unwrap_or_default());
    for (header, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-length", "CONTENT_LENGTH"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.headers.get(header).and_then(|value| value.to_str().ok()) {
            command.env(variable, value);
        }
    }
    command
}

/// A path without its percent-encoding, as a CGI program gets it.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &after[2..]),
            None => (bytes.push(*first), rest = after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
