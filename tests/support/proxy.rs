//! A proxy before the AWS services of the tests: it writes down what is asked, and spoils answers by plan.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It takes effect, and the connection closes without an answer.
    LoseAnswer,
    /// It does not get through, and the connection closes without an answer.
    Lose,
    /// It does not get through; this is the answer: a status and a body.
    Answer(u16, String),
    /// It gets through when the gate opens.
    Hold(Gate),
    /// The services get another body than was sent.
    RewriteRequest(Rewrite),
    /// The body of the answer is another than the services'.
    Rewrite(Rewrite),
    /// It does not get through; when the gate opens, this is the answer: a status and a body.
    HoldAnswer(Gate, u16, String),
}

/// Closed until somebody opens it.
#[derive(Clone, Debug)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Gate {
        Gate(watch::channel(false).0)
    }
}

impl Gate {
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// An answer of DynamoDB that refuses a request.
pub fn refusal(status: u16, code: &str) -> Fault {
    let body = serde_json::json!({
        "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"),
        "message": format!("told to say {code}"),
    });
    Fault::Answer(status, body.to_string())
}

/// An answer of S3 that refuses a request.
pub fn s3_refusal(status: u16, code: &str) -> Fault {
    Fault::Answer(status, format!("<Error><Code>{code}</Code><Message>told to say {code}</Message></Error>"))
}

/// One request: its operation (`GetItem`), or method and path where the protocol has no name for it, its body, and
/// the access key that it is signed with.
#[derive(Clone, Debug)]
pub struct Request {
    pub operation: String,
    pub body: String,
    pub signed_by: String,
}

impl Request {
    /// Whether it is this operation of S3.
    pub fn is_s3(&self, operation: &str) -> bool {
        let query = self.operation.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair.strip_prefix("x-id=") == Some(operation))
    }
}

/// Makes another body of a body.
type NewBody = dyn Fn(&Request, &str) -> String + Send + Sync;

/// Makes another body of that of a request, or of the answer to it.
#[derive(Clone)]
pub struct Rewrite(pub Arc<NewBody>);

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rewrite")
    }
}

/// Decides about requests, one after the other.
type Rule = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// Runs until its test ends.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// Those that the services have answered, whether their answers went on or not.
    answered: Vec<Request>,
    faults: VecDeque<(String, Fault)>,
    rule: Option<Rule>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {:?}", self.requests.len(), self.faults)
    }
}

impl Proxy {
    /// A proxy before the services at this endpoint.
    pub async fn start(endpoint: &str) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy { endpoint: format!("http://{}", listener.local_addr().unwrap()), state: Arc::default() };
        let services =
            endpoint.strip_prefix("http://").expect("the proxy speaks no TLS").trim_end_matches('/').to_owned();
        let state = proxy.state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (services, state) = (services.clone(), state.clone());
                tokio::spawn(async move { serve(client, &services, &state).await });
            }
        });
        proxy
    }

    /// Spoils the next request of this operation that no earlier fault is for.
    pub fn spoil(&self, operation: &str, fault: Fault) {
        self.state.lock().unwrap().faults.push_back((operation.to_owned(), fault));
    }

    /// Spoils what a rule says, as long as no other rule is given. Faults for the next request come first.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.state.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// Spoils nothing any more.
    pub fn relent(&self) {
        let mut state = self.state.lock().unwrap();
        state.rule = None;
        state.faults.clear();
    }

    /// The requests since this was asked the last time.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    /// How many requests of a kind the services have answered.
    pub fn answered(&self, of: impl Fn(&Request) -> bool) -> usize {
        self.state.lock().unwrap().answered.iter().filter(|request| of(request)).count()
    }

    /// Their operations.
    pub fn operations(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.operation).collect()
    }
}

/// One request on each connection.
async fn serve(mut client: TcpStream, services: &str, state: &Mutex<State>) -> io::Result<()> {
    let Some((head, body)) = read_request(&mut client).await? else { return Ok(()) };
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let operation = match header("x-amz-target") {
        Some(target) => target.rsplit('.').next().unwrap_or_default().to_owned(),
        None => head.lines().next().unwrap_or_default().rsplit_once(' ').unwrap_or_default().0.to_owned(),
    };
    let (request, fault) = {
        let mut state = state.lock().unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        let signature = header("authorization").unwrap_or_default();
        let signed_by = signature.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
        let request = Request { operation, body, signed_by: signed_by.unwrap_or_default().to_owned() };
        let at = state.faults.iter().position(|(wanted, _)| *wanted == request.operation);
        let fault = at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault);
        let fault = fault.or_else(|| state.rule.as_mut().and_then(|rule| rule(&request)));
        state.requests.push(request.clone());
        (request, fault)
    };
    match &fault {
        Some(Fault::Lose) => return Ok(()),
        Some(Fault::Hold(gate) | Fault::HoldAnswer(gate, ..)) => gate.pass().await,
        _ => {}
    }
    if let Some(Fault::Answer(status, body) | Fault::HoldAnswer(_, status, body)) = fault {
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status} Told\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        return client.write_all(answer.as_bytes()).await;
    }
    let (head, body) = match &fault {
        Some(Fault::RewriteRequest(Rewrite(rewrite))) => with_body(&head, &rewrite(&request, &request.body)),
        _ => (head, body),
    };
    let answer = forward(services, &head, &body).await?;
    state.lock().unwrap().answered.push(request.clone());
    match fault {
        Some(Fault::LoseAnswer) => Ok(()),
        Some(Fault::Rewrite(Rewrite(rewrite))) => {
            client.write_all(&rewritten(&answer, |body| rewrite(&request, body))).await
        }
        _ => client.write_all(&answer).await,
    }
}

/// An answer with another body.
fn rewritten(answer: &[u8], rewrite: impl Fn(&str) -> String) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (head, body) = with_body(head, &rewrite(body));
    [head.into_bytes(), body].concat()
}

/// A head, with the empty line, for another body, and that body.
fn with_body(head: &str, body: &str) -> (String, Vec<u8>) {
    let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let head = kept.fold(String::new(), |head, line| head + line + "\r\n");
    (format!("{head}Content-Length: {}\r\n\r\n", body.len()), body.as_bytes().to_vec())
}

/// The head of a request, with the empty line, and its body.
async fn read_request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let have = body.len();
    body.resize(length.unwrap_or(0), 0);
    client.read_exact(&mut body[have..]).await?;
    Ok(Some((head, body)))
}

async fn forward(services: &str, head: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(services).await?;
    let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head = kept.fold(String::new(), |head, line| head + line + "\r\n") + "Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}
