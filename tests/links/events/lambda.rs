//! `gitferry lambda`, as the file `bootstrap`, against a Runtime API of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response};
use axum::routing::{get, post};
use gitferry_service::delivery::pending::PendingJobs;
use gitferry_service::events::outbox::Publisher;
use gitferry_service::lambda::handler::Handler;
use gitferry_service::lambda::links::Served;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::events::outbox::{self, Told};
use crate::events::place::{Place, block_on};
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::queues::Queues;
use gitferry_test_support::samples;
use gitferry_test_support::world::{LINK, TARGET, World};

/// Answer of the Runtime API to a request for the next invocation.
pub enum Next {
    /// An event, and its deadline in milliseconds since 1970.
    Invocation(String, i64),
    /// An error with this status.
    Error(u16),
}

/// Reply of the Runtime API to an answer of the function.
#[derive(Clone, Copy)]
pub enum Reply {
    Accepted,
    Refused(u16),
    /// The connection breaks before the reply.
    Lost,
}

struct Shared {
    next: Mutex<mpsc::Receiver<Next>>,
    answers: mpsc::Sender<(String, Value)>,
    reply: std::sync::Mutex<Reply>,
}

/// The function in its sandbox.
pub struct Function {
    invocations: mpsc::Sender<Next>,
    answers: mpsc::Receiver<(String, Value)>,
    shared: Arc<Shared>,
    pub child: Child,
}

impl Function {
    pub async fn start(world: &World) -> Function {
        Self::start_in(world, |_| {}).await
    }

    /// Starts it in an environment that `change` makes of Lambda's.
    pub async fn start_in(world: &World, change: impl FnOnce(&mut Command)) -> Function {
        let (invocations, next) = mpsc::channel(1);
        let (sender, answers) = mpsc::channel(10);
        let reply = std::sync::Mutex::new(Reply::Accepted);
        let shared = Arc::new(Shared { next: Mutex::new(next), answers: sender, reply });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
            .route("/2018-06-01/runtime/invocation/{id}/{what}", post(answer))
            .route("/2018-06-01/runtime/init/error", post(failed_to_start))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut command = Command::new(bootstrap(world));
        command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "gitferry")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("GITFERRY_CONFIG", world.path("gitferry.toml"))
            .envs(Emulator::get().environment())
            .current_dir(world.path(""))
            .stdin(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        Function { invocations, answers, shared, child }
    }

    /// `response` or `error`, and its body.
    pub async fn invoke(&mut self, event: Value) -> (String, Value) {
        self.invoke_for(&event.to_string(), 60_000).await
    }

    /// Invokes it with a deadline in `millis` from now.
    pub async fn invoke_for(&mut self, event: &str, millis: i64) -> (String, Value) {
        let deadline = gitferry_base::clock::SystemClock::shared().now().as_millisecond() + millis;
        self.send(Next::Invocation(event.to_owned(), deadline)).await;
        self.answer().await
    }

    pub async fn send(&self, next: Next) {
        self.invocations.send(next).await.unwrap();
    }

    pub fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub async fn answer(&mut self) -> (String, Value) {
        tokio::time::timeout(Duration::from_secs(60), self.answers.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bootstrap(world: &World) -> PathBuf {
    let file = world.path("bootstrap");
    if !file.exists() {
        std::os::unix::fs::symlink(gitferry_test_support::paths::gitferry(), &file).unwrap();
    }
    file
}

async fn next_invocation(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let response = Response::builder();
    let response = match shared.next.lock().await.recv().await.unwrap() {
        Next::Error(status) => response.status(status).body(Body::empty()),
        Next::Invocation(event, deadline) => response
            .header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("Lambda-Runtime-Deadline-Ms", deadline.to_string())
            .body(Body::from(event)),
    };
    response.unwrap()
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path((id, what)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let error_type = headers.get("lambda-runtime-function-error-type").map(|value| value.to_str().unwrap());
    assert_eq!(error_type, (what == "error").then_some("gitferry.Failed"));
    assert_eq!(id, "8476a536-e9f4-11e8-9739-2dfe598c3fcd");
    let reply = *shared.reply.lock().unwrap();
    shared.answers.send((what, serde_json::from_str(&body).unwrap())).await.unwrap();
    let status = match reply {
        Reply::Accepted => 202,
        Reply::Refused(status) => status,
        Reply::Lost => std::panic::resume_unwind(Box::new("the connection breaks")),
    };
    Response::builder().status(status).body(Body::empty()).unwrap()
}

async fn failed_to_start(State(shared): State<Arc<Shared>>, body: String) {
    shared.answers.send(("init".into(), serde_json::from_str(&body).unwrap())).await.unwrap();
}

fn record(id: &str, body: &str) -> Value {
    json!({ "messageId": id, "receiptHandle": id, "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn" })
}

/// A handler in this process.
fn handler(place: &Place, queues: Option<&Queues>) -> Handler {
    Handler::new(vec![Served { link: Arc::new(place.link()), queue: queues.map(Queues::open), publisher: None }], 4)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn a_batch_with_partial_failures() {
    let place = Place::new("");
    let mut broken = samples::updated_of("app");
    broken["detail"]["event"] = "referenceExploded".into();
    block_on(async {
        let mut function = Function::start(&place.world).await;
        let good = samples::gitferry_at(&place.show()).to_string();
        let records = [record("a", &good), record("b", "poison"), record("c", &good), record("d", &broken.to_string())];
        let (what, body) = function.invoke(json!({ "Records": records })).await;
        // Without a dead-letter queue of its own, they come again until the queue's redrive policy takes them.
        let failures = json!({ "batchItemFailures": [{ "itemIdentifier": "b" }, { "itemIdentifier": "d" }] });
        assert_eq!((what.as_str(), body), ("response", failures));
        assert!(place.is_synced());
        // A single event; then one that cannot be acted on, which ends nothing.
        place.commit("two");
        let (what, body) = function.invoke(samples::updated_of("app")).await;
        assert_eq!((what.as_str(), &body["delivered"]), ("response", &1.into()));
        assert!(place.is_synced());
        let (what, body) = function.invoke(json!({ "hello": 1 })).await;
        assert_eq!(what, "error");
        assert!(body["errorMessage"].as_str().unwrap().contains("detail-type"), "{body}");
        // A schedule finds what no event announced.
        place.commit("three");
        let (what, body) = function.invoke(json!({ "detail-type": "Scheduled Event", "source": "aws.events" })).await;
        assert_eq!((what.as_str(), &body["delivered"]), ("response", &1.into()));
        assert!(place.is_synced());
    });
    place.world.assert_synced(&place.repo, "app");
}

#[test]
fn a_function_that_cannot_start_says_so() {
    let place = Place::new("");
    std::fs::write(place.config(), "links = 7").unwrap();
    block_on(async {
        let mut function = Function::start(&place.world).await;
        let (what, body) = function.answer().await;
        assert_eq!(what, "init");
        assert!(body["errorMessage"].as_str().unwrap().contains("gitferry.toml"), "{body}");
        assert_eq!(function.child.wait().unwrap().code(), Some(2));
    });
}

#[test]
fn dead_letters_of_a_batch_are_no_failures() {
    let place = Place::new("");
    block_on(async {
        let queues = Queues::new().await;
        let batch = json!({ "Records": [record("a", "poison")] });
        let answer = handler(&place, Some(&queues)).handle(batch.to_string().as_bytes(), soon()).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        assert_eq!(queues.dead_letters().await.len(), 1);
        let event = json!({ "hello": 1 }).to_string();
        let answer = handler(&place, Some(&queues)).handle(event.as_bytes(), soon()).await.unwrap();
        assert!(answer["rejected"].is_string(), "{answer}");
    });
}

#[test]
fn a_deadline_that_has_passed_leaves_all_for_the_next_invocation() {
    let place = Place::new("");
    let event = samples::gitferry_at(&place.show());
    let batch = json!({ "Records": [record("a", &event.to_string())] }).to_string();
    block_on(async {
        let late = Instant::now();
        // Without a queue to ask by, the message comes again.
        let answer = handler(&place, None).handle(batch.as_bytes(), late).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "a" }] }));
        // With one, a fresh message does, whose receives nobody has counted yet.
        let queues = Queues::new().await;
        let with_queue = handler(&place, Some(&queues));
        let answer = with_queue.handle(batch.as_bytes(), late).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        assert!(!place.is_synced(), "work was done behind the deadline");
        let target = place.region(TARGET);
        let marks = PendingJobs::new(&target, LINK);
        assert_eq!(marks.read(target.clock().now()).await.unwrap().len(), 1);
        let messages = queues.open().receive(Duration::from_secs(10)).await.unwrap();
        assert_eq!(messages.len(), 1);
        let next = json!({ "Records": [record("b", &messages[0].body)] }).to_string();
        let answer = with_queue.handle(next.as_bytes(), soon()).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        assert!(place.is_synced());
        assert_eq!(marks.read(target.clock().now()).await.unwrap(), []);
    });
}

#[test]
fn a_delivery_that_fails_comes_again_alone() {
    let place = Place::new("");
    let good = gitferry_test_support::git::GitRepo::with_history(place.world.path("good.git"), &[]);
    for pack in place.world.pack_files(gitferry_test_support::world::SOURCE) {
        std::fs::remove_file(pack).unwrap();
    }
    place.world.import(&good, "good");
    let records = ["app", "good"].map(|name| record(name, &samples::updated_of(name).to_string()));
    block_on(async {
        let batch = json!({ "Records": records }).to_string();
        let answer = handler(&place, None).handle(batch.as_bytes(), soon()).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [{ "itemIdentifier": "app" }] }));
    });
    place.world.ok(&["repo", "show", "good", "--region", TARGET]);
}

#[test]
fn what_was_delivered_and_not_announced_is_announced_by_the_next_invocation() {
    let place = Place::new("");
    let told = Arc::new(Told::default());
    *told.refuses.lock().unwrap() = 1;
    let target = place.region(TARGET);
    let publisher = Some(Publisher::new(target.clone(), told.clone()));
    let handler = Handler::new(vec![Served { link: Arc::new(place.link()), queue: None, publisher }], 4);
    let marks = PendingJobs::new(&target, LINK);
    let batch = json!({ "Records": [record("a", &samples::gitferry_at(&place.show()).to_string())] }).to_string();
    block_on(async {
        let answer = handler.handle(batch.as_bytes(), soon()).await.unwrap();
        assert_eq!(answer, json!({ "batchItemFailures": [] }));
        assert!(place.is_synced());
        assert_eq!((told.take(), outbox::rows(&target).await), (vec![1], 1));
        assert_eq!(marks.read(target.clock().now()).await.unwrap().len(), 1, "it is not done");
        let schedule = json!({ "detail-type": "Scheduled Event", "source": "aws.events" }).to_string();
        handler.handle(schedule.as_bytes(), soon()).await.unwrap();
        assert_eq!((told.take(), outbox::rows(&target).await), (vec![1], 0));
        assert_eq!(marks.read(target.clock().now()).await.unwrap(), []);
    });
}
