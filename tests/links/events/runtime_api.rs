//! The function and the Runtime API: payloads, deadlines, signals, and an API that fails.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::events::lambda::{Function, Next, Reply};
use crate::events::place::{Place, block_on};
use gitferry_test_support::samples;

fn schedule() -> Value {
    json!({ "detail-type": "Scheduled Event", "source": "aws.events" })
}

/// Exit code of a process that ends by itself.
fn exit_code(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the function goes on");
}

#[test]
fn a_payload_that_is_not_json_fails_its_invocation_alone() {
    let place = Place::new("");
    block_on(async {
        let mut function = Function::start(&place.world).await;
        for payload in ["", "{", "poison"] {
            let (what, body) = function.invoke_for(payload, 60_000).await;
            assert!(what == "error" && body["errorMessage"].as_str().unwrap().contains("not JSON"), "{body}");
            assert_eq!((&body["errorType"], &body["stackTrace"]), (&json!("gitferry.Failed"), &json!([])));
        }
        assert_eq!(function.invoke(schedule()).await.0, "response");
        assert!(place.is_synced());
    });
}

#[test]
fn work_that_the_deadline_cuts_off_comes_again() {
    let place = Place::new("");
    block_on(async {
        let mut function = Function::start(&place.world).await;
        let event = samples::gitferry_at(&place.show()).to_string();
        let batch = json!({ "Records": [{ "messageId": "a", "body": event }] }).to_string();
        for late in [0, -1, -60_000] {
            let (what, body) = function.invoke_for(&batch, late).await;
            let again = json!({ "batchItemFailures": [{ "itemIdentifier": "a" }] });
            assert_eq!((what.as_str(), body), ("response", again));
        }
        assert!(!place.is_synced(), "work was done behind the deadline");
        let (what, body) = function.invoke_for(&batch, 60_000).await;
        assert_eq!((what.as_str(), body), ("response", json!({ "batchItemFailures": [] })));
        assert!(place.is_synced());
        // The invocation fails, not the process.
        function.send(Next::Invocation(schedule().to_string(), i64::MAX)).await;
        let (what, body) = function.answer().await;
        assert_eq!(what, "error");
        assert!(body["errorMessage"].as_str().unwrap().contains("deadline"), "{body}");
        assert_eq!(function.invoke(schedule()).await.0, "response");
    });
}

#[test]
fn an_answer_that_is_refused_or_lost_ends_nothing() {
    let place = Place::new("");
    block_on(async {
        let mut function = Function::start(&place.world).await;
        for (number, reply) in
            [Reply::Refused(413), Reply::Refused(410), Reply::Refused(500), Reply::Lost].into_iter().enumerate()
        {
            place.commit(&number.to_string());
            function.reply(reply);
            assert_eq!(function.invoke(schedule()).await, ("response".into(), json!({ "delivered": 1, "left": 0 })));
            function.reply(Reply::Accepted);
            assert_eq!(function.invoke(schedule()).await, ("response".into(), json!({ "delivered": 0, "left": 0 })));
        }
        assert!(place.is_synced());
    });
}

#[test]
fn a_failure_whose_report_is_refused_or_lost_ends_nothing() {
    let place = Place::new("");
    block_on(async {
        let mut function = Function::start(&place.world).await;
        for reply in [Reply::Refused(413), Reply::Refused(500), Reply::Lost] {
            function.reply(reply);
            assert_eq!(function.invoke_for("poison", 60_000).await.0, "error");
            function.reply(Reply::Accepted);
            assert_eq!(function.invoke(schedule()).await.0, "response");
        }
    });
}

#[test]
fn a_panic_fails_its_invocation_alone() {
    let place = Place::new("");
    block_on(async {
        let armed = |command: &mut Command| _ = command.env("FAILPOINTS", "applied=1*panic(poison)->off");
        let mut function = Function::start_in(&place.world, armed).await;
        let (what, body) = function.invoke(schedule()).await;
        assert!(what == "error" && body["errorMessage"].as_str().unwrap().contains("poison"), "{body}");
        assert_eq!(function.invoke(schedule()).await.0, "response");
        assert!(place.is_synced());
    });
}

#[test]
fn an_api_that_fails_ends_the_function_with_an_error() {
    let place = Place::new("");
    block_on(async {
        for status in [403, 500] {
            let mut function = Function::start(&place.world).await;
            function.send(Next::Error(status)).await;
            // A panic would be 101.
            assert_eq!(exit_code(&mut function.child), Some(3), "{status}");
        }
    });
}

#[test]
fn a_signal_ends_a_function_that_waits() {
    let place = Place::new("");
    block_on(async {
        let mut function = Function::start(&place.world).await;
        assert_eq!(function.invoke(schedule()).await.0, "response");
        let process = i32::try_from(function.child.id()).unwrap();
        // SAFETY: the process is a child of this one, which has not waited for it.
        assert_eq!(unsafe { libc::kill(process, libc::SIGTERM) }, 0);
        assert_eq!(exit_code(&mut function.child), Some(0));
    });
}

#[test]
fn a_variable_of_lambda_that_is_missing_is_named() {
    let place = Place::new("");
    block_on(async {
        for variable in ["NAME", "VERSION", "MEMORY_SIZE"] {
            let without = |command: &mut Command| _ = command.env_remove(format!("AWS_LAMBDA_FUNCTION_{variable}"));
            let mut function = Function::start_in(&place.world, without).await;
            assert_eq!(exit_code(&mut function.child), Some(2), "{variable}");
        }
    });
}
