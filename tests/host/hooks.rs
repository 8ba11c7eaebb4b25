//! Pre-receive hooks of a configuration: a command, and a URL that fetches what is pushed before it is visible.

use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use serde_json::{Value, json};

use crate::said;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};

/// What the endpoint was asked, and what it answers.
struct Endpoint {
    questions: Mutex<Vec<(HeaderMap, Value)>>,
    answer: Box<Verdict>,
}

type Verdict = dyn Fn(&Value) -> (StatusCode, String) + Send + Sync;

pub struct Hook {
    url: String,
    endpoint: Arc<Endpoint>,
    _runtime: tokio::runtime::Runtime,
}

impl Hook {
    pub fn start(answer: impl Fn(&Value) -> (StatusCode, String) + Send + Sync + 'static) -> Hook {
        let endpoint = Arc::new(Endpoint { questions: Mutex::default(), answer: Box::new(answer) });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/judge", listener.local_addr().unwrap());
        let router = Router::new().route("/judge", post(judge)).with_state(endpoint.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Hook { url, endpoint, _runtime: runtime }
    }

    pub fn last(&self) -> (HeaderMap, Value) {
        self.endpoint.questions.lock().unwrap().last().expect("nobody asked").clone()
    }
}

async fn judge(State(endpoint): State<Arc<Endpoint>>, headers: HeaderMap, body: String) -> axum::response::Response {
    let question: Value = serde_json::from_str(&body).unwrap();
    endpoint.questions.lock().unwrap().push((headers, question.clone()));
    let (status, answer) = tokio::task::spawn_blocking(move || (endpoint.answer)(&question)).await.unwrap();
    (status, answer).into_response()
}

/// Fetches what is pushed; the content of a file at the tip.
pub fn fetched(question: &Value, file: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let repo = GitRepo::init(dir.path().join("look.git"), &[]);
    let new = question["commands"][0]["new"].as_str().unwrap();
    repo.git(&["fetch", "-q", question["quarantine"].as_str().unwrap(), new]);
    repo.git(&["show", &format!("{new}:{file}")])
}

pub fn policy(hook: &Hook, more: &str) -> String {
    format!("[[push_policies]]\npre_receive = {{ url = \"{}\"{more} }}\n", hook.url)
}

fn push(repo: &GitRepo, url: &str, args: &[&str]) -> Output {
    repo.try_git(&[&["push", "-o", "ticket=7", url][..], args].concat())
}

#[test]
fn an_endpoint_sees_what_is_pushed() {
    let hook = Hook::start(|question| {
        let bad = fetched(question, "file").contains("secret");
        (StatusCode::OK, json!({ "accept": !bad, "messages": ["looked\nat it"] }).to_string())
    });
    let more = ", token_file = \"token\"";
    let pair = Pair::configured(&policy(&hook, more), &[("token", "a-token-for-the-hook\n")]);
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    let url = pair.url(US, "team/app");
    let first = repo.commit("main", "file", "harmless\n");
    let output = push(&repo, &url, &["main"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("remote: looked") && said(&output).contains("remote: at it"), "{}", said(&output));
    let (headers, question) = hook.last();
    assert_eq!(headers["authorization"], "Bearer a-token-for-the-hook");
    assert_eq!(question["repository"], "team/app");
    assert_eq!(question["actor"], "anonymous");
    assert_eq!(question["object_format"], "sha1");
    assert_eq!(question["push_options"], json!(["ticket=7"]));
    assert_eq!(question["commands"], json!([{ "ref": "refs/heads/main", "old": null, "new": first }]));

    repo.commit("main", "file", "a secret\n");
    let output = push(&repo, &url, &["main"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("pre-receive hook declined"), "{}", said(&output));
    assert_eq!(repo.git(&["ls-remote", &url, "main"]), format!("{first}\trefs/heads/main"));
    // Nobody can look any longer.
    let gone = repo.try_git(&["ls-remote", hook.last().1["quarantine"].as_str().unwrap()]);
    assert!(said(&gone).contains("not found"), "{}", said(&gone));
    let log = pair.log();
    let secret = hook.last().1["quarantine"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert!(!log.contains("a-token-for-the-hook") && !log.contains(&secret), "a secret is in the log");
}

#[test]
fn no_clear_verdict_is_a_refusal() {
    let hook =
        Hook::start(|question| match question["commands"][0]["ref"].as_str().unwrap().rsplit('/').next().unwrap() {
            "error" => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            "garbage" => (StatusCode::OK, "fine by me".into()),
            "missing" => (StatusCode::OK, "{\"accepted\": true}".into()),
            "long" => (StatusCode::OK, json!({ "accept": true, "messages": ["x".repeat(1 << 20)] }).to_string()),
            "slow" => {
                std::thread::sleep(std::time::Duration::from_secs(8));
                (StatusCode::OK, json!({ "accept": true }).to_string())
            }
            "redirect" => (StatusCode::TEMPORARY_REDIRECT, String::new()),
            _ => (StatusCode::OK, json!({ "accept": true }).to_string()),
        });
    let pair = Pair::configured(&policy(&hook, ", timeout = \"2s\""), &[]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    for name in ["error", "garbage", "missing", "long", "slow", "redirect"] {
        let output = push(&repo, &url, &[&format!("main:{name}")]);
        assert!(!output.status.success(), "{name}");
        assert!(said(&output).contains("pre-receive hook failed"), "{name}: {}", said(&output));
    }
    assert!(push(&repo, &url, &["main:good"]).status.success());
    assert_eq!(repo.git(&["ls-remote", &url, "refs/*"]).lines().count(), 1);
}

#[test]
fn a_hook_that_is_not_there_refuses() {
    let pair = Pair::configured("[[push_policies]]\npre_receive = { url = \"http://127.0.0.1:9/\" }\n", &[]);
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let output = push(&repo, &pair.url(US, "app"), &["main"]);
    assert!(said(&output).contains("pre-receive hook failed"), "{}", said(&output));
}

#[test]
fn a_command_sees_what_is_pushed() {
    let script = "#!/bin/sh
while read old new ref; do
  echo \"judging $ref for $GITFERRY_ACTOR\"
  git show \"$new:file\" | grep -q secret && exit 1
done
exit 0
";
    let policy = "[[push_policies]]\npre_receive = { command = [\"./hook\", \"x\"] }\n";
    let pair = Pair::configured(policy, &[("hook", script)]);
    let hook = pair.path("data/hook");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(hook, mode).unwrap();
    let repo = GitRepo::init(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.commit("main", "file", "harmless\n");
    let output = push(&repo, &url, &["main"]);
    assert!(said(&output).contains("remote: judging refs/heads/main for anonymous"), "{}", said(&output));
    assert!(output.status.success());
    repo.commit("main", "file", "a secret\n");
    let output = push(&repo, &url, &["main"]);
    assert!(said(&output).contains("pre-receive hook declined"), "{}", said(&output));
}
