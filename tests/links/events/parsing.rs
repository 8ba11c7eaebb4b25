//! Reading events.

use gitferry_service::events::codecommit::{
    Announcement, MAX_EVENT_BYTES, ReferenceEvent, Rejection, StateChange, Subject, parse, parse_value,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use gitferry_test_support::samples;

fn change(event: &Value) -> StateChange {
    match parse(event.to_string().as_bytes()).unwrap() {
        Announcement::Change(change) => change,
        Announcement::Nothing { event } => panic!("{event} is nothing"),
    }
}

#[test]
fn the_documented_events() {
    let created = change(&samples::created());
    assert_eq!(created.repository, "MyDemoRepo");
    assert_eq!(created.events, [ReferenceEvent::Created]);
    assert_eq!(created.subject, Subject::CodeCommit);
    assert_eq!(created.reference.as_deref(), Some("refs/heads/myBranch"));
    assert_eq!((created.commit.as_deref(), created.old_commit), (Some("3e5983DESTINATION"), None));
    let updated = change(&samples::updated());
    assert_eq!(updated.events, [ReferenceEvent::Updated]);
    assert_eq!(updated.commit.as_deref(), Some("7f0103fMERGE"));
    assert_eq!(updated.old_commit.as_deref(), Some("3e5983DESTINATION"));
    let deleted = change(&samples::deleted());
    assert_eq!(deleted.events, [ReferenceEvent::Deleted]);
    assert_eq!((deleted.commit, deleted.old_commit.as_deref()), (None, Some("26a8f2EXAMPLE")));
    let nothing = parse(samples::unreferenced().to_string().as_bytes()).unwrap();
    assert_eq!(nothing, Announcement::Nothing { event: "unreferencedMergeCommitCreated".into() });
}

#[test]
fn one_event_or_several() {
    let mut event = samples::updated();
    event["detail"]["event"] = json!(["referenceCreated", "unreferencedMergeCommitCreated", "referenceDeleted"]);
    assert_eq!(change(&event).events, [ReferenceEvent::Created, ReferenceEvent::Deleted]);
}

#[test]
fn all_envelopes() {
    let plain = samples::updated();
    let expected = change(&plain);
    let (sns, sqs) = (samples::by_sns(&plain), samples::by_sqs(&plain));
    for wrapped in [&sns, &sqs, &samples::by_sqs(&sns)] {
        assert_eq!(change(wrapped), expected, "{wrapped}");
    }
    let deep = (0..10).fold(plain, |event, _| samples::by_sns(&event));
    assert!(matches!(parse_value(deep), Err(Rejection::NotAnEvent(_))));
}

#[test]
fn what_gitferry_says_of_itself() {
    let id = "019a0000-0000-7000-8000-000000000001";
    let mut event = samples::gitferry(id, "app");
    let without = change(&event);
    assert_eq!(without.subject, Subject::Gitferry { id: id.parse().unwrap(), frontier: None });
    event["detail"]["gitferry"] = json!({ "epoch": 1, "seq": 7, "hash": "ab".repeat(32), "region": "us-east-1" });
    let Subject::Gitferry { frontier: Some(frontier), .. } = change(&event).subject else { panic!() };
    assert_eq!((frontier.epoch, frontier.seq), (1, 7));
    event["detail"]["event"] = "repositoryUpdated".into();
    assert_eq!(change(&event).events, [ReferenceEvent::Repository]);
    event["source"] = "aws.codecommit".into();
    assert!(matches!(parse_value(event), Err(Rejection::Unknown { field: "detail.event", .. })));
}

/// A valid event with one thing changed, and the field that the rejection has to name.
#[test]
fn what_is_wrong_is_named() {
    let cases = [
        ("/source", json!("aws.s3"), "source"),
        ("/source", json!(7), "source"),
        ("/detail-type", json!("CodeCommit Pull Request State Change"), "detail-type"),
        ("/detail-type", Value::Null, "detail-type"),
        ("/detail", json!("x"), "detail"),
        ("/detail/event", json!("referenceExploded"), "detail.event"),
        ("/detail/event", json!([]), "detail.event"),
        ("/detail/event", json!([1]), "detail.event"),
        ("/detail/event", json!(vec!["referenceCreated"; 17]), "detail.event"),
        ("/detail/event", json!({}), "detail.event"),
        ("/detail/repositoryName", json!(""), "detail.repositoryName"),
        ("/detail/repositoryName", json!("a\nb"), "detail.repositoryName"),
        ("/detail/repositoryName", json!("x".repeat(5000)), "detail.repositoryName"),
        ("/detail/repositoryName", Value::Null, "detail.repositoryName"),
        ("/detail/commitId", json!(7), "detail.commitId"),
        ("/detail/referenceFullName", json!([]), "detail.referenceFullName"),
    ];
    for (pointer, value, expected) in cases {
        let mut event = samples::updated();
        *event.pointer_mut(pointer).unwrap() = value.clone();
        let rejection = parse_value(event).unwrap_err();
        let (Rejection::Unknown { field, .. } | Rejection::Field { field, .. }) = &rejection else {
            panic!("{pointer} {value}: {rejection}");
        };
        assert_eq!(*field, expected, "{pointer} {value}");
    }
    for (id, state) in [("12", json!(null)), ("019a0000-0000-7000-8000-000000000001", json!({ "seq": 1 }))] {
        let mut event = samples::gitferry(id, "app");
        event["detail"]["gitferry"] = state;
        assert!(matches!(parse_value(event), Err(Rejection::Field { .. })), "{id}");
    }
}

#[test]
fn what_is_no_event() {
    assert!(matches!(parse(b"hello"), Err(Rejection::NotJson(_))));
    assert!(matches!(parse(b""), Err(Rejection::NotJson(_))));
    assert!(matches!(parse(b"[]"), Err(Rejection::NotAnEvent(_))));
    assert!(matches!(parse(b"{}"), Err(Rejection::NotAnEvent(_))));
    assert!(matches!(parse(b"{\"Message\": \"hello\"}"), Err(Rejection::NotJson(_))));
    assert!(matches!(parse("[".repeat(100_000).as_bytes()), Err(Rejection::NotJson(_))));
    let long = vec![b' '; MAX_EVENT_BYTES + 1];
    assert_eq!(parse(&long), Err(Rejection::TooLong { bytes: MAX_EVENT_BYTES + 1 }));
}

/// Words that matter, so that arbitrary JSON gets past the first check.
fn words() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 17] = [
        "detail-type",
        "source",
        "detail",
        "event",
        "repositoryName",
        "repositoryId",
        "gitferry",
        "commitId",
        "Message",
        "body",
        "CodeCommit Repository State Change",
        "aws.codecommit",
        "referenceCreated",
        "seq",
        "epoch",
        "hash",
        "019a0000-0000-7000-8000-000000000001",
    ];
    prop_oneof![3 => proptest::sample::select(&KNOWN[..]).prop_map(String::from), 1 => "\\PC{0,8}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((words(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_json_is_an_event_or_is_rejected(value in any_json(), at in 0usize..12, source in words()) {
        let _ = parse_value(value.clone()).map_err(|rejection| rejection.to_string());
        // A valid event with something arbitrary in one place.
        let mut event = samples::gitferry("019a0000-0000-7000-8000-000000000001", "app");
        event["source"] = source.into();
        let places = [
            "detail-type", "source", "detail", "resources", "detail/event", "detail/repositoryName",
            "detail/repositoryId", "detail/gitferry", "detail/commitId", "detail/oldCommitId", "detail/new",
            "detail/referenceFullName",
        ];
        match places[at].split_once('/') {
            Some((outer, inner)) => event[outer][inner] = value,
            None => event[places[at]] = value,
        }
        if let Ok(Announcement::Change(change)) = parse(event.to_string().as_bytes()) {
            prop_assert!(!change.events.is_empty() && !change.repository.is_empty());
        }
    }

    #[test]
    fn any_bytes_are_an_event_or_are_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }
}
