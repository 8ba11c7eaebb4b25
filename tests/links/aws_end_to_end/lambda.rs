//! The same way with `gitferry lambda`: this very program as `bootstrap` in a zip file, run by Lambda, fed from the
//! queue by an event source mapping. No other process here could deliver anything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::{Emulator, REGION, fresh};
use gitferry_test_support::pair::{EU, talk};
use gitferry_test_support::waiting::{block_on, eventually};

/// How often a message comes before the queue itself puts it aside.
const RECEIVES: u32 = 2;

/// A function, with what feeds it; gone when it is dropped.
struct Function {
    name: String,
    mapping: String,
}

impl Function {
    /// Makes one of a zip file in a bucket. `queue`: the ARN of the queue that feeds it.
    fn create(bucket: &str, key: &str, queue: &str, cache: &Path) -> Function {
        let name = fresh("function");
        ask(
            "POST",
            "/2015-03-31/functions",
            &json!({
                "FunctionName": name,
                "Runtime": "provided.al2023",
                "Handler": "bootstrap",
                "Role": "arn:aws:iam::000000000000:role/git",
                "Code": { "S3Bucket": bucket, "S3Key": key },
                "Timeout": 60,
                "Environment": { "Variables": { "GITFERRY_LOG": "info", "XDG_CACHE_HOME": cache } },
            }),
        );
        let mapping = ask(
            "POST",
            "/2015-03-31/event-source-mappings",
            &json!({
                "FunctionName": name,
                "EventSourceArn": queue,
                "BatchSize": 10,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            }),
        );
        Function { name, mapping: mapping["UUID"].as_str().unwrap().to_owned() }
    }

    /// What the last batch came to.
    fn last_result(&self) -> String {
        let mapping = ask("GET", &format!("/2015-03-31/event-source-mappings/{}", self.mapping), &Value::Null);
        mapping["LastProcessingResult"].as_str().unwrap_or_default().to_owned()
    }

    /// Calls it directly.
    fn invoke(&self, event: &Value) -> Value {
        ask("POST", &format!("/2015-03-31/functions/{}/invocations", self.name), event)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let paths = [format!("event-source-mappings/{}", self.mapping), format!("functions/{}", self.name)];
        for path in paths {
            // A test that has failed already says so itself.
            let _ = try_ask("DELETE", &format!("/2015-03-31/{path}"), &Value::Null);
        }
    }
}

/// A request to Lambda's API that must be granted.
fn ask(method: &str, path: &str, body: &Value) -> Value {
    let answer = try_ask(method, path, body).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {answer}");
    serde_json::from_str(body).unwrap_or(Value::Null)
}

/// Emulators read from a signature whom and what it is for, and do not check it.
fn try_ask(method: &str, path: &str, body: &Value) -> std::io::Result<String> {
    let address: SocketAddr = Emulator::get().endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let scope = format!("test/20260101/{REGION}/lambda/aws4_request");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00\r\n\
         Connection: close\r\n\r\n{body}"
    );
    talk(address, &request)
}

/// The program without what only debuggers want, with its configuration, as Lambda takes it.
fn package(folder: &Path, config: &str) -> PathBuf {
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("gitferry.toml"), config).unwrap();
    let must = |command: &mut Command| {
        let output = command.current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    must(Command::new("strip").args(["-o", "bootstrap"]).arg(gitferry_test_support::paths::gitferry()));
    must(Command::new("python3").args(["-m", "zipfile", "-c", "function.zip", "bootstrap", "gitferry.toml"]));
    folder.join("function.zip")
}

async fn upload(place: &Place, zip: &Path) -> String {
    let config = aws_sdk_s3::config::Builder::from(&Emulator::get().sdk_config().await).force_path_style(true).build();
    let put = aws_sdk_s3::Client::from_conf(config).put_object().bucket(&place.stores[0].bucket).key("function.zip");
    put.body(ByteStream::from(std::fs::read(zip).unwrap())).send().await.unwrap();
    "function.zip".into()
}

/// After some receives, a message goes to the dead-letter queue by itself.
async fn redrive(place: &Place) {
    let queues = place.queues();
    let policy = json!({ "deadLetterTargetArn": queues.arn(&queues.dead).await, "maxReceiveCount": RECEIVES });
    let request = queues.client.set_queue_attributes().queue_url(&queues.url);
    request.attributes(QueueAttributeName::RedrivePolicy, policy.to_string()).send().await.unwrap();
}

#[test]
fn from_a_push_through_a_function_to_a_clone() {
    block_on(async {
        if Emulator::get().has_own_credentials() {
            return eprintln!("skipped: a function there would need a role");
        }
        let place = Place::new().await;
        redrive(&place).await;
        // The link has no queue here: what cannot be acted on is named in the answer, and comes again.
        let zip = package(&place.world.path("package"), &place.config(Emulator::get().endpoint(), ""));
        let key = upload(&place, &zip).await;
        let queue = place.queues().arn(&place.queues().url).await;
        let function = Function::create(&place.stores[0].bucket, &key, &queue, &place.world.path("cache-of-function"));
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        place.assert_replicated();
        // What the function has committed, it announces.
        place.stores[EU].queues.take(place.first_events()).await;
        assert_eq!(place.unannounced(EU).await, 0);
        // One that fails comes again alone, and goes aside in the end; the others are done.
        place.queues().send_text("poison").await;
        eventually("the batch failed in part", async || function.last_result().contains("1 partial failure")).await;
        place.commit("two");
        eventually("the others go on", async || place.is_synced().await).await;
        eventually("it went aside", async || place.queues().count(&place.queues().dead).await == 1).await;
        eventually("the queue is empty", async || place.queues().count(&place.queues().url).await == 0).await;
        assert_eq!(place.queues().dead_letters().await[0].0, "poison");
        place.stores[EU].queues.take(1).await;
        // A schedule finds what no event has told of.
        place.stores[0].bus.lose_events().await;
        place.commit("three");
        eventually("it was announced", async || place.unannounced(0).await == 0).await;
        assert!(!place.is_synced().await, "nothing can have told of it");
        let swept = function.invoke(&json!({ "detail-type": "Scheduled Event", "source": "aws.events" }));
        assert_eq!(swept, json!({ "delivered": 1, "left": 0 }));
        place.assert_replicated();
        place.stores[EU].queues.take(1).await;
    });
}
