//! A proxy before the AWS services of the tests: it writes down what is asked, and spoils answers by plan.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use gitferry_store::objects::Crc64;
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

/// Closed until the test opens it.
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

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `dynamodb`, `sqs` or `events`; `s3` for all that does not say.
    pub service: &'static str,
    /// `GetItem`, or method and path where the protocol has no name for it.
    pub operation: String,
    /// Its path, with the query.
    pub path: String,
    /// Its body; nothing of what goes to S3.
    pub body: String,
    /// How many bytes its body has.
    pub sent: u64,
    /// How many bytes the body of its answer has, once that is there.
    pub received: u64,
    /// The access key that it is signed with.
    pub signed_by: String,
}

impl Request {
    /// Whether it is this operation of S3.
    pub fn is_s3(&self, operation: &str) -> bool {
        self.service == "s3" && self.operation == operation
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
    requests: Vec<(u64, Request)>,
    numbered: u64,
    /// Those that the services have answered, whether their answers went on or not.
    answered: Vec<Request>,
    tells_checksums: bool,
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
        std::mem::take(&mut self.state.lock().unwrap().requests).into_iter().map(|(_, request)| request).collect()
    }

    /// How many requests there are that [`Proxy::requests`] would return.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().requests.len()
    }

    /// From now on, answers to CopyObject tell the checksum of the copy, as S3's do and the emulator's do not.
    pub fn tell_checksums(&self) {
        self.state.lock().unwrap().tells_checksums = true;
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
    let request = described(&head, &body);
    let (number, fault, tells) = {
        let mut state = state.lock().unwrap();
        state.numbered += 1;
        let number = state.numbered;
        let at = state.faults.iter().position(|(wanted, _)| *wanted == request.operation);
        let fault = at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault);
        let fault = fault.or_else(|| state.rule.as_mut().and_then(|rule| rule(&request)));
        state.requests.push((number, request.clone()));
        (number, fault, state.tells_checksums)
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
    let mut answer = forward(services, &head, &body).await?;
    if tells && request.operation == "CopyObject" {
        answer = with_checksum(services, &request.path, answer).await?;
    }
    let received = body_of(&answer).len() as u64;
    {
        let mut state = state.lock().unwrap();
        if let Some((_, noted)) = state.requests.iter_mut().rev().find(|(other, _)| *other == number) {
            noted.received = received;
        }
        state.answered.push(request.clone());
    }
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

/// What a request is.
fn described(head: &str, body: &[u8]) -> Request {
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let first = head.lines().next().unwrap_or_default().rsplit_once(' ').unwrap_or_default().0;
    let (method, path) = first.split_once(' ').unwrap_or_default();
    let target = header("x-amz-target").unwrap_or_default();
    let named = target.rsplit_once('.');
    let service = match named {
        Some((service, _)) if service.starts_with("DynamoDB") => "dynamodb",
        Some((service, _)) if service.starts_with("AmazonSQS") => "sqs",
        Some((service, _)) if service.starts_with("AWSEvents") => "events",
        _ => "s3",
    };
    let of_s3 = || crate::operation::of_s3(method, path, header("x-amz-copy-source").is_some()).unwrap_or(first);
    let signature = header("authorization").unwrap_or_default();
    let signed_by = signature.split_once("Credential=").and_then(|(_, rest)| rest.split('/').next());
    // Forms have no target: those of STS.
    let is_data = named.is_none() && method != "POST";
    Request {
        service,
        operation: named.map_or_else(of_s3, |(_, operation)| operation).to_owned(),
        path: path.to_owned(),
        body: if is_data { String::new() } else { String::from_utf8_lossy(body).into_owned() },
        sent: body.len() as u64,
        received: 0,
        signed_by: signed_by.unwrap_or_default().to_owned(),
    }
}

/// The answer to a copy with the checksum of what is there now.
async fn with_checksum(services: &str, path: &str, answer: Vec<u8>) -> io::Result<Vec<u8>> {
    const END: &str = "</CopyObjectResult>";
    let text = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.contains(END)) else {
        return Ok(answer);
    };
    if body.contains("ChecksumCRC64NVME") {
        return Ok(answer);
    }
    let path = path.split('?').next().unwrap_or_default();
    let copy = forward(services, &format!("GET {path} HTTP/1.1\r\nHost: {services}\r\n"), b"").await?;
    let crc64 = base64::engine::general_purpose::STANDARD.encode(Crc64::of(body_of(&copy)).0.to_be_bytes());
    let (head, body) =
        with_body(head, &body.replace(END, &format!("<ChecksumCRC64NVME>{crc64}</ChecksumCRC64NVME>{END}")));
    Ok([head.into_bytes(), body].concat())
}

fn body_of(answer: &[u8]) -> &[u8] {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    head.map_or(&[], |end| &answer[end + 4..])
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
