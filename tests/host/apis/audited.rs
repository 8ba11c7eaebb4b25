//! Requests of the APIs in the audit trail.

use gitferry_test_support::pair::{Pair, US};
use serde_json::Value;

use super::cli::{aws, json};
use super::{account, administrator};
use crate::audit::{BOTH, file, wait_for};

#[test]
fn each_request_has_a_record_without_secrets() {
    let pair = Pair::with_iam_and_each_host(BOTH);
    let admin = administrator(&pair);
    let of = |event: &'static str| move |record: &Value| record["eventName"] == event;
    json(&aws(&pair, &admin, &["iam", "create-user", "--user-name", "ann"]));
    let key = json(&aws(&pair, &admin, &["iam", "create-access-key", "--user-name", "ann"]))["AccessKey"].clone();
    let made = &wait_for(&pair, US, 1, of("CreateAccessKey"))[0];
    assert_eq!((&made["eventSource"], &made["readOnly"]), (&"iam.amazonaws.com".into(), &false.into()), "{made}");
    assert_eq!(made["userIdentity"]["arn"], format!("arn:aws:iam::{}:user/administrator", account(&pair)));
    assert_eq!(made["additionalEventData"]["protocol"], "API");
    assert_eq!(made["requestParameters"]["UserName"], "ann", "{made}");
    assert!(made.get("errorCode").is_none() && made["responseElements"].to_string().contains("AKIA"), "{made}");
    // A denial, a signature under a wrong secret, and a request without one.
    assert!(!aws(&pair, &key, &["iam", "list-users"]).status.success());
    let denied = &wait_for(&pair, US, 1, of("ListUsers"))[0];
    assert_eq!((&denied["errorCode"], &denied["userIdentity"]["userName"]), (&"AccessDenied".into(), &"ann".into()));
    let mut wrong = key.clone();
    wrong["SecretAccessKey"] = "x".repeat(40).into();
    assert!(!aws(&pair, &wrong, &["sts", "get-caller-identity"]).status.success());
    wait_for(&pair, US, 1, |record| record["errorCode"] == "SignatureDoesNotMatch");
    assert!(!aws(&pair, &key, &["sts", "get-caller-identity", "--no-sign-request"]).status.success());
    wait_for(&pair, US, 1, |record| record["errorCode"] == "MissingAuthenticationToken");
    let text = std::fs::read_to_string(file(&pair, US)).unwrap();
    let secret = key["SecretAccessKey"].as_str().unwrap();
    assert!(!text.contains(secret) && !text.contains(admin["SecretAccessKey"].as_str().unwrap()));
}
