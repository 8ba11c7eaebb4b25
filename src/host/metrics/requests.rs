//! Layer around the router: durations and outcomes of requests, and the bytes of their bodies.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use super::Metrics;
use crate::request::route::{self, Service, Target};
use gitferry_audit::{AuditTrail, Entry};
use gitferry_base::metrics::{self, Counter};
use gitferry_git::protocol::Service as GitService;

/// What the layer records of each request.
#[derive(Debug)]
pub struct Observer {
    /// Metrics of the host.
    pub metrics: Arc<Metrics>,
    /// Audit trail of the host.
    pub audit: AuditTrail,
}

/// Answers a request and records it. The request carries its [`Entry`] in the audit trail to the services.
pub async fn observe(State(observer): State<Arc<Observer>>, mut request: Request, next: Next) -> Response {
    let metrics = observer.metrics.clone();
    let route = route_of(request.method(), request.uri());
    let entry = observer.audit.begin();
    entry.detail("operation", route);
    request.extensions_mut().insert(entry.clone());
    let is_head = request.method() == Method::HEAD;
    let received = metrics.registry.counter(&metrics::RECEIVED_BYTES, &[route]);
    let sent = metrics.registry.counter(&metrics::SENT_BYTES, &[route]);
    let broken = Arc::new(AtomicBool::new(false));
    let counted = (received, entry.clone());
    let start = Instant::now();
    let mut observation =
        Observation { metrics, route, start, status: None, broken: broken.clone(), complete: false, entry };
    let response = next.run(request.map(|body| count_received(body, counted, broken))).await;
    observation.status = Some(response.status());
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    // The connection asks for no frame of such a response.
    observation.complete_if(is_head || length == Some(0) || response.body().is_end_stream());
    response.map(|body| count_sent(body, sent, length, observation))
}

/// A conversation over SSH in progress, recorded when it is dropped.
pub struct ConversationMetrics {
    observation: Observation,
    sent: Counter,
}

/// Begins to observe a conversation. Returns its input with the bytes counted.
pub fn observe_conversation(
    metrics: &Arc<Metrics>,
    route: &'static str,
    entry: Entry,
    input: Body,
) -> (ConversationMetrics, Body) {
    entry.detail("operation", route);
    let received = metrics.registry.counter(&metrics::RECEIVED_BYTES, &[route]);
    let sent = metrics.registry.counter(&metrics::SENT_BYTES, &[route]);
    let broken = Arc::new(AtomicBool::new(false));
    let input = count_received(input, (received, entry.clone()), broken.clone());
    let metrics = metrics.clone();
    let start = Instant::now();
    let observation = Observation { metrics, route, start, status: None, broken, complete: false, entry };
    (ConversationMetrics { observation, sent }, input)
}

impl ConversationMetrics {
    /// Counts bytes of output.
    pub fn sent(&self, bytes: u64) {
        self.sent.increment(bytes);
        self.observation.entry.sent(bytes);
    }

    /// Records the end, in the classes of HTTP's status codes.
    pub fn ended(&mut self, status: StatusCode) {
        self.observation.status = Some(status);
        self.observation.complete = true;
    }
}

/// Value of the label `route`: one of the host's services.
fn route_of(method: &Method, uri: &Uri) -> &'static str {
    let route = match Target::parse(uri.path()) {
        Ok(Target::Health) => return "health",
        Ok(Target::Ready) => return "ready",
        Ok(Target::Metrics) => return "metrics",
        Ok(Target::Apis) => return "api",
        Ok(Target::Quarantine(_)) => return "quarantine",
        Ok(Target::Repository(route)) => route,
        Err(_) => return "other",
    };
    match route.service {
        Service::InfoRefs => match route::advertised(uri.query()) {
            Some(GitService::UploadPack) => "fetch_refs",
            Some(GitService::ReceivePack) => "push_refs",
            None => "other",
        },
        Service::UploadPack => "fetch",
        Service::ReceivePack => "push",
        Service::Frontier => "frontier",
        Service::Head => "head",
        Service::LfsBatch => "lfs_batch",
        Service::LfsVerify => "lfs_verify",
        Service::LfsObject if method == Method::PUT => "lfs_upload",
        Service::LfsObject => "lfs_download",
        Service::LfsLocks => "lfs_locks",
    }
}

/// Value of the label `outcome`: the class of the status, or `aborted` for an exchange that did not reach its end.
fn outcome_of(status: Option<StatusCode>, complete: bool) -> &'static str {
    match status.map(|status| status.as_u16()) {
        Some(..300) if complete => "2xx",
        Some(300..400) if complete => "3xx",
        Some(400..500) if complete => "4xx",
        Some(_) if complete => "5xx",
        _ => "aborted",
    }
}

/// A request in progress, recorded when it is dropped.
struct Observation {
    metrics: Arc<Metrics>,
    route: &'static str,
    start: Instant,
    /// `None` until the response begins.
    status: Option<StatusCode>,
    /// True once the body of the request broke off: the response, if there is one, reaches no client.
    broken: Arc<AtomicBool>,
    /// True once the whole response has been handed to the connection.
    complete: bool,
    /// Entry of the request in the audit trail.
    entry: Entry,
}

impl Observation {
    fn complete_if(&mut self, is_end: bool) {
        self.complete |= is_end;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let complete = self.complete && !self.broken.load(Ordering::Relaxed);
        if complete {
            self.entry.completed();
        }
        let outcome = outcome_of(self.status, complete);
        let histogram = self.metrics.registry.histogram(&metrics::REQUEST_SECONDS, &[self.route, outcome]);
        histogram.record(self.start.elapsed().as_secs_f64());
    }
}

/// Frame of a body, or the body's end or failure.
type FrameResult = Option<Result<Frame<Bytes>, axum::Error>>;

/// Body whose frames `watch` sees as they are read, with true if the body ends with the frame.
struct WatchedBody<W> {
    body: Body,
    watch: W,
}

impl<W: FnMut(&FrameResult, bool) + Unpin> HttpBody for WatchedBody<W> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<FrameResult> {
        let WatchedBody { body, watch } = &mut *self;
        let frame = ready!(Pin::new(&mut *body).poll_frame(context));
        watch(&frame, body.is_end_stream());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the bytes of a request as they are read. `broken` turns true once the body breaks off.
fn count_received(body: Body, (received, entry): (Counter, Entry), broken: Arc<AtomicBool>) -> Body {
    let watch = move |frame: &FrameResult, _: bool| {
        let bytes = data_bytes(frame);
        received.increment(bytes);
        entry.received(bytes);
        if matches!(frame, Some(Err(_))) {
            broken.store(true, Ordering::Relaxed);
        }
    };
    Body::new(WatchedBody { body, watch })
}

/// Counts the bytes of a response as the connection takes them, and completes the observation. `length` is the
/// response's `Content-Length`: its connection does not ask for the end of the body.
fn count_sent(body: Body, sent: Counter, length: Option<u64>, observation: Observation) -> Body {
    let mut left = length;
    let mut observation = observation;
    let watch = move |frame: &FrameResult, is_end: bool| {
        let bytes = data_bytes(frame);
        sent.increment(bytes);
        observation.entry.sent(bytes);
        left = left.map(|left| left.saturating_sub(bytes));
        observation.complete_if(frame.is_none() || left == Some(0) || is_end);
    };
    Body::new(WatchedBody { body, watch })
}

fn data_bytes(frame: &FrameResult) -> u64 {
    let Some(Ok(frame)) = frame else { return 0 };
    frame.data_ref().map_or(0, Bytes::len) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::response::IntoResponse as _;
    use futures::StreamExt as _;
    use gitferry_base::metrics::BUCKETS;
    use gitferry_engine::region::push::Rejection;
    use tower_service::Service as _;

    use super::*;

    /// Values of the label `route`.
    const ROUTES: [&str; 17] = [
        "api",
        "fetch",
        "fetch_refs",
        "frontier",
        "head",
        "health",
        "lfs_batch",
        "lfs_download",
        "lfs_locks",
        "lfs_upload",
        "lfs_verify",
        "metrics",
        "other",
        "push",
        "push_refs",
        "quarantine",
        "ready",
    ];
    const OUTCOMES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "aborted"];

    fn observer(metrics: &Arc<Metrics>) -> Arc<Observer> {
        Arc::new(Observer { metrics: metrics.clone(), audit: AuditTrail::default() })
    }

    fn router(metrics: &Arc<Metrics>, answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Router {
        Router::new().fallback(async move || answer()).layer(from_fn_with_state(observer(metrics), observe))
    }

    fn request(method: &str, uri: &str, body: &'static str) -> Request {
        Request::builder().method(method).uri(uri).body(Body::from(body)).unwrap()
    }

    /// All samples of a page with this name, as the rest of their lines.
    fn samples<'a>(page: &'a str, name: &'a str) -> Vec<&'a str> {
        page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')).collect()
    }

    async fn read(response: Response) {
        let mut frames = response.into_body().into_data_stream();
        while let Some(frame) = frames.next().await {
            frame.unwrap();
        }
    }

    /// Every path with every method and every status ends in few series, and no path is on the page.
    #[tokio::test]
    async fn labels_are_bounded_whatever_is_asked_for() {
        let metrics = Metrics::new("us");
        let oid = "a".repeat(64);
        let services = [
            "info/refs?service=git-upload-pack",
            "info/refs?service=git-receive-pack",
            "info/refs?service=secret",
            "git-upload-pack",
            "git-receive-pack",
            "info/frontier",
            "info/head",
            "info/lfs/objects/batch",
            "info/lfs/objects/verify",
            &format!("info/lfs/objects/{oid}"),
            "info/lfs/locks",
            "",
        ];
        let own = ["/", "/_health", "/_ready", "/_metrics", "/_quarantine/secret/info/refs"].map(str::to_owned);
        let names = (0..50).map(|number| format!("/secret-{number}"));
        let paths = names.flat_map(|name| services.map(|service| format!("{name}/{service}")));
        for (number, path) in paths.chain(own).enumerate() {
            for (turn, method) in ["GET", "HEAD", "POST", "PUT", "BREW"].into_iter().enumerate() {
                let status = StatusCode::from_u16([200, 302, 404, 503][(number + turn) % 4]).unwrap();
                let mut router = router(&metrics, move || (status, "answer").into_response());
                let response = router.call(request(method, &path, "question")).await.unwrap();
                if turn > 0 {
                    read(response).await;
                }
            }
        }
        let page = metrics.registry.page();
        assert!(!page.contains("secret") && !page.contains(&oid), "{page}");
        let name = "gitferry_host_request_duration_seconds_count";
        let labels = |sample: &str| {
            let values: Vec<String> = sample.split('"').skip(3).step_by(2).map(str::to_owned).collect();
            <[String; 2]>::try_from(values).unwrap()
        };
        let seen: Vec<[String; 2]> = samples(&page, name).into_iter().map(labels).collect();
        let routes: BTreeSet<&str> = seen.iter().map(|[route, _]| route.as_str()).collect();
        let outcomes: BTreeSet<&str> = seen.iter().map(|[_, outcome]| outcome.as_str()).collect();
        assert_eq!((routes, outcomes), (BTreeSet::from(ROUTES), BTreeSet::from(OUTCOMES)));
        let per_series = BUCKETS.len() + 3;
        let most = ROUTES.len() * OUTCOMES.len() * per_series + 2 * ROUTES.len() + Rejection::ALL.len() + 100;
        assert!(page.lines().count() <= most, "{} lines", page.lines().count());
    }

    #[tokio::test]
    async fn a_response_that_is_not_read_to_its_end_is_aborted() {
        fn streamed() -> Response {
            Body::from_stream(futures::stream::iter(["one", "two"].map(Ok::<_, std::io::Error>))).into_response()
        }
        fn with_length() -> Response {
            ([(header::CONTENT_LENGTH, "6")], streamed().into_body()).into_response()
        }
        let metrics = Metrics::new("us");
        let answer = async |answer: fn() -> Response, frames: usize| {
            let response = router(&metrics, answer).call(request("POST", "/app/git-upload-pack", "")).await.unwrap();
            let mut frames_left = response.into_body().into_data_stream().take(frames);
            while frames_left.next().await.is_some() {}
        };
        answer(streamed, 1).await;
        answer(with_length, 1).await;
        answer(streamed, 3).await;
        // The connection stops at the announced length.
        answer(with_length, 2).await;
        let page = metrics.registry.page();
        let counts = samples(&page, "gitferry_host_request_duration_seconds_count");
        let mut ends: Vec<&str> = counts.iter().map(|sample| sample.split_once("outcome=").unwrap().1).collect();
        ends.sort_unstable();
        assert_eq!(ends, ["\"2xx\"} 2", "\"aborted\"} 2"]);
        assert_eq!(samples(&page, "gitferry_host_sent_bytes_total"), ["region=\"us\",route=\"fetch\"} 18"]);
    }

    /// The host may answer a request that broke off, and the client is gone.
    #[tokio::test]
    async fn an_answer_to_a_request_that_broke_off_is_aborted() {
        let metrics = Metrics::new("us");
        let reading = async |request: Request| {
            let mut frames = request.into_body().into_data_stream();
            while let Some(Ok(_)) = frames.next().await {}
            "the request broke off"
        };
        let mut router = Router::new().fallback(reading).layer(from_fn_with_state(observer(&metrics), observe));
        let broken = [Ok("begin"), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
        let body = Body::from_stream(futures::stream::iter(broken));
        let request = Request::builder().method("POST").uri("/app/git-receive-pack").body(body).unwrap();
        read(router.call(request).await.unwrap()).await;
        let page = metrics.registry.page();
        let counts = samples(&page, "gitferry_host_request_duration_seconds_count");
        assert_eq!(counts, ["region=\"us\",route=\"push\",outcome=\"aborted\"} 1"]);
        assert_eq!(samples(&page, "gitferry_host_received_bytes_total"), ["region=\"us\",route=\"push\"} 5"]);
    }

    #[tokio::test]
    async fn a_request_whose_client_leaves_before_the_response_is_aborted() {
        let metrics = Metrics::new("us");
        let router = Router::new().fallback(async || std::future::pending::<Response>().await);
        let mut router = router.layer(from_fn_with_state(observer(&metrics), observe));
        let answering = router.call(request("GET", "/app/info/frontier", ""));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(10), answering).await.is_err());
        let page = metrics.registry.page();
        let counts = samples(&page, "gitferry_host_request_duration_seconds_count");
        assert_eq!(counts, ["region=\"us\",route=\"frontier\",outcome=\"aborted\"} 1"]);
    }
}
