//! Logins that fail, in the audit trail.

use gitferry_test_support::pair::{REGIONS, US};
use serde_json::{Value, json};

use super::Ssh;
use crate::said;
use gitferry_test_support::sshd::keygen;

/// Records of failed logins at the first host so far.
fn records(ssh: &Ssh) -> Vec<Value> {
    let text = std::fs::read_to_string(ssh.pair.path(&format!("data/audit-{}.jsonl", REGIONS[US])));
    let text = text.unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["eventName"] == "SshLogin").collect()
}

#[test]
fn a_connection_without_a_right_key_has_a_record_for_each_user_name() {
    let ssh = Ssh::with_account();
    let ann = ssh.new_user("ann", &[]);
    ssh.iam().settle(US);
    let other = ssh.key("other");
    keygen(&other, "ed25519", "");
    // A client that offers another key first has not failed.
    assert!(ssh.login(&ann.id, &other, &["-i", ann.file.to_str().unwrap()]).contains(":user/ann!"));
    let unknown = "APKAEIBAERJR2EXAMPLE";
    // People paste secrets into the place of the user name.
    let users = [ann.id.as_str(), unknown, "hunter2-secret-in-place"];
    for user in users {
        assert!(ssh.login(user, &other, &[]).contains("Permission denied"), "{user}");
    }
    ssh.pair.wait(|| records(&ssh).len() >= users.len());
    let records = records(&ssh);
    assert_eq!(records.len(), users.len(), "{records:?}");
    let print = std::process::Command::new("ssh-keygen").arg("-lf").arg(&other).output().unwrap();
    let print = said(&print).split(' ').nth(1).unwrap().to_owned();
    for user in users {
        let identity = if user.starts_with("APKA") {
            json!({ "type": "Unknown", "accessKeyId": user })
        } else {
            json!({ "type": "Unknown" })
        };
        let record = records.iter().find(|record| record["userIdentity"] == identity).unwrap();
        assert_eq!(record["errorCode"], "UnrecognizedClientException");
        assert_eq!((&record["sourceIPAddress"], &record["readOnly"]), (&"127.0.0.1".into(), &true.into()));
        assert_eq!(record["recipientAccountId"], ssh.iam().account());
        let data = &record["additionalEventData"];
        assert_eq!((&data["protocol"], &data["publicKeys"]), (&"SSH".into(), &json!([print])));
    }
    let text = std::fs::read_to_string(ssh.pair.path(&format!("data/audit-{}.jsonl", REGIONS[US]))).unwrap();
    assert!(!text.contains("hunter2"), "a secret is in the audit trail");
}
