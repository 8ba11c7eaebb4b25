//! What a process may do: the modules, `docs/operations.md` and the program's own requests say the same.

use std::collections::BTreeSet;

use hcl::Body;

use crate::hcl_files::{Module, at, root, words};

type Actions = BTreeSet<String>;

/// Has the tables of what processes may do and of their metrics.
pub const OPERATIONS: &str = "docs/operations.md";

/// The actions of a policy document, without those of documents that it builds on.
fn actions(policy: &Body) -> Actions {
    at(policy, "statement.actions").iter().flat_map(|list| words(list)).collect()
}

/// The cells of a table of a document that begins with this heading, by rows.
pub fn documented(document: &str, heading: &str) -> Vec<Vec<String>> {
    let docs = std::fs::read_to_string(root(document)).unwrap();
    let table = docs.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table {heading}");
    rows
}

/// The actions named in a column.
pub fn column(rows: &[Vec<String>], number: usize) -> Actions {
    let named = rows.iter().flat_map(|row| row[number].split('`').skip(1).step_by(2));
    named.filter(|word| word.contains(':')).map(str::to_owned).collect()
}

#[test]
fn modules_grant_what_is_documented() {
    let rows = documented(OPERATIONS, "| on | to read");
    let (read, write) = (column(&rows, 1), column(&rows, 2));
    let region = Module::read("region");
    assert_eq!(actions(region.policy("read").body()), read);
    let [granted, announcing] = ["write", "host"].map(|name| actions(region.policy(name).body()));
    assert_eq!(announcing, Actions::from(["events:PutEvents".to_owned()]));
    assert_eq!(granted.union(&announcing).cloned().collect::<Actions>(), write);
    // Each builds on the one before.
    for (name, before) in [("write", "read"), ("host", "write")] {
        let on = at(region.policy(name).body(), "source_policy_documents").concat();
        assert!(on.contains(&format!("data.aws_iam_policy_document.{before}.json")), "{on}");
    }
    let rows = documented(OPERATIONS, "| on | a worker");
    let queues = column(&rows, 1).union(&column(&rows, 2)).cloned().collect::<Actions>();
    assert_eq!(actions(Module::read("link").policy("queues").body()), queues);
}

/// What IAM calls a request of the SDK, as the service authorization reference has it.
fn action_of(request: &str) -> Option<&'static [&'static str]> {
    Some(match request {
        "get_item" | "transact_get_items" => &["dynamodb:GetItem"],
        "query" => &["dynamodb:Query"],
        "transact_write_items" => {
            &["dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
        }
        "update_item" => &["dynamodb:UpdateItem"],
        "delete_item" => &["dynamodb:DeleteItem"],
        "get_object" | "head_object" => &["s3:GetObject"],
        // A key that is not there is `404` only for who may list.
        "list_objects_v2" => &["s3:ListBucket"],
        "put_object" | "create_multipart_upload" | "upload_part" | "complete_multipart_upload" => &["s3:PutObject"],
        "copy_object" | "upload_part_copy" => &["s3:GetObject", "s3:PutObject"],
        "delete_object" => &["s3:DeleteObject"],
        "abort_multipart_upload" => &["s3:AbortMultipartUpload"],
        "list_parts" => &["s3:ListMultipartUploadParts"],
        "list_multipart_uploads" => &["s3:ListBucketMultipartUploads"],
        "put_events" => &["events:PutEvents"],
        "receive_message" => &["sqs:ReceiveMessage"],
        "delete_message_batch" => &["sqs:DeleteMessage"],
        "send_message" => &["sqs:SendMessage"],
        _ => return None,
    })
}

/// All requests in a source file: `client.NAME()` or `client().NAME()`, over lines or not.
fn requests(path: &str) -> Vec<String> {
    let source = std::fs::read_to_string(root(path)).unwrap();
    let source = source.split("#[cfg(test)]").next().unwrap();
    let after = source.split("client").skip(1);
    let after = after.filter_map(|rest| rest.strip_prefix("()").unwrap_or(rest).trim_start().strip_prefix('.'));
    let name = |rest: &str| rest.split_once("()").map(|(name, _)| name.to_owned());
    let is_name = |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
    after.filter_map(name).filter(is_name).filter(|name| !matches!(name.as_str(), "clone" | "config")).collect()
}

#[test]
fn the_program_asks_for_nothing_else() {
    let mut files = vec!["src/service/events/eventbridge.rs".to_owned(), "src/service/events/sqs.rs".to_owned()];
    files.extend(["src/store/table/dynamodb.rs", "src/store/objects/s3.rs"].map(str::to_owned));
    for folder in ["src/store/table/dynamodb", "src/store/objects/s3"] {
        let entries = std::fs::read_dir(root(folder)).unwrap();
        files.extend(entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap())));
    }
    let mut asked = Actions::new();
    for file in &files {
        for request in requests(file) {
            let actions = action_of(&request).unwrap_or_else(|| panic!("{file}: what does {request} take?"));
            asked.extend(actions.iter().map(|action| (*action).to_owned()));
        }
    }
    let region = Module::read("region");
    let mut granted: Actions =
        ["read", "write", "host"].iter().flat_map(|name| actions(region.policy(name).body())).collect();
    // S3 asks KMS on behalf of the caller.
    granted.retain(|action| !action.starts_with("kms:"));
    granted.extend(["sqs:DeleteMessage", "sqs:ReceiveMessage", "sqs:SendMessage"].map(str::to_owned));
    assert_eq!(asked, granted);
}

#[test]
fn keys_are_granted_for_what_they_are_for() {
    let region = Module::read("region");
    for (policy, action) in [("read", "kms:Decrypt"), ("write", "kms:GenerateDataKey")] {
        let body = region.policy(policy).body();
        let statements = body.blocks().filter(|block| at(block.body(), "actions").concat().contains(action));
        let resources: Vec<String> = statements.map(|block| at(block.body(), "resources").concat()).collect();
        assert_eq!(resources.len(), 1, "{policy}");
        assert!(resources[0].contains("aws_kms_key.objects.arn") && resources[0].contains("var.repository_kms_keys"));
    }
    let host = Module::read("host");
    let sends = std::fs::read_to_string(root("src/service/open/key_services.rs")).unwrap();
    let on_keys = |policy: &str| {
        let mut granted = Vec::new();
        for block in host.policy(policy).body().blocks().filter(|block| block.identifier() == "statement") {
            if at(block.body(), "resources") == ["local.account_keys"] {
                // The names are those of the encryption context that the program sends.
                let contexts = at(block.body(), "condition.values").concat();
                for name in ["gitferry:account", "gitferry:data-key"] {
                    assert!(contexts.contains(name) && sends.contains(&format!("= \"{name}\";")), "{name}: {contexts}");
                }
                granted.extend(at(block.body(), "actions").iter().flat_map(|list| words(list)));
            }
        }
        granted
    };
    // Hosts open, and what founds and rotates seals.
    assert_eq!(
        (on_keys("account"), on_keys("admin")),
        (vec!["kms:Decrypt".to_owned()], vec!["kms:Encrypt".to_owned()])
    );
    assert_eq!(requests("src/store/aws/kms.rs"), ["encrypt", "decrypt"]);
    let keeps = std::fs::read_to_string(root("infra/modules/host/founding.tf")).unwrap();
    assert!(keeps.contains("[\"secretsmanager\", \"put-secret-value\","));
    assert!(actions(host.policy("admin").body()).contains("secretsmanager:PutSecretValue"));
}

/// The audit trail puts events, and identities of AWS are read by what the host may call.
#[test]
fn the_host_module_grants_what_the_host_asks_for() {
    let host = Module::read("host");
    assert_eq!(requests("src/audit/sinks/bus.rs"), ["put_events"]);
    assert_eq!(actions(host.policy("audit").body()), Actions::from(["events:PutEvents".to_owned()]));
    let api = std::fs::read_to_string(root("src/identity/aws/api.rs")).unwrap();
    let api = api.split("#[cfg(test)]").next().unwrap();
    let called = api.split('"').filter(|word| word.starts_with("Get") || word.starts_with("List"));
    let called = called.filter(|word| word.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let called: Actions = called.map(|name| format!("iam:{name}")).collect();
    let aws = host.policy("aws").body();
    let dynamic = at(aws, "dynamic.content.actions");
    let granted: Actions = actions(aws).into_iter().chain(dynamic.iter().flat_map(|list| words(list))).collect();
    assert_eq!(called, granted);
    let rows = documented("docs/aws.md", "| with `auth = \"aws\"` |");
    assert_eq!(column(&rows, 1), granted);
}

#[test]
fn nothing_is_granted_at_large() {
    for name in ["region", "link", "host", "network"] {
        let module = Module::read(name);
        for policy in module.all("data", "aws_iam_policy_document") {
            let statements = policy.body().blocks().flat_map(|block| match block.identifier() {
                "dynamic" => block.body().blocks().map(|content| content.body()).collect::<Vec<_>>(),
                _ => vec![block.body()],
            });
            for statement in statements.filter(|statement| at(statement, "effect") != ["Deny"]) {
                let (actions, resources) = (at(statement, "actions").concat(), at(statement, "resources").concat());
                assert!(!actions.contains('*') && !actions.is_empty(), "{name}: {actions}");
                // One is for no repository in particular, the other for the account.
                let at_large = ["ecr:GetAuthorizationToken", "iam:GetAccountAuthorizationDetails"];
                let everything = words(&resources).iter().any(|resource| resource == "*");
                let actions = words(&actions);
                let expected = actions.len() == 1 && at_large.contains(&actions[0].as_str());
                assert_eq!(everything, expected, "{name}: {actions:?}: {resources}");
                assert!(at(statement, "principals.identifiers").iter().all(|who| !words(who).contains(&"*".into())));
            }
        }
    }
}
