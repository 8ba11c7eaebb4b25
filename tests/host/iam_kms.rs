//! Hosts whose account is sealed under keys of KMS: the emulator's, on the way from a key file to KMS, and when a key is
//! disabled.

use crate::iam::{Iam, POWER_USER, with_helper, works};
use crate::said;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use serde_json::Value;

/// A new KMS key in each AWS region of [`REGIONS`]; their ARNs.
fn new_keys() -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut arns = Vec::new();
        for region in REGIONS {
            let made = client(region).await.create_key().send().await.unwrap();
            arns.push(made.key_metadata.unwrap().arn.unwrap());
        }
        arns
    })
}

async fn client(region: &'static str) -> aws_sdk_kms::Client {
    let sdk = Emulator::get().sdk_config().await;
    let region = aws_sdk_kms::config::Region::from_static(region);
    aws_sdk_kms::Client::from_conf(aws_sdk_kms::config::Builder::from(&sdk).region(region).build())
}

fn set_enabled(region: usize, arn: &str, is_enabled: bool) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = client(REGIONS[region]).await;
        if is_enabled {
            client.enable_key().key_id(arn).send().await.map(drop).unwrap();
        } else {
            client.disable_key().key_id(arn).send().await.map(drop).unwrap();
        }
    });
}

fn configured(lines: &str) -> String {
    format!("[account]\n{lines}\nkms = {{ endpoint_url = \"{}\" }}\n", Emulator::get().endpoint())
}

fn environment() -> Vec<(String, String)> {
    Emulator::get().environment().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Replaces the section `[account]` of the configuration.
fn configure(pair: &Pair, lines: &str) {
    let file = pair.path("data/gitferry.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("[account]").unwrap();
    std::fs::write(&file, format!("{before}{}", configured(lines))).unwrap();
}

fn key_line(arns: &[String]) -> String {
    format!("kms_key = {arns:?}")
}

#[test]
fn an_account_under_kms_keys_of_two_regions_moves_to_other_keys() {
    let arns = new_keys();
    let mut pair = Pair::with_iam_and(&configured(&key_line(&arns)), environment());
    assert!(!pair.path("data/account.key").exists(), "KMS keys need no file");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let key = {
        let iam = Iam { pair: &pair };
        iam.user("ann", &[POWER_USER]);
        let key = iam.json(&["access-key", "create", "--user", "ann"]);
        iam.settle(US);
        key
    };
    let from = repo.path.to_str().unwrap().to_owned();
    let push = |pair: &Pair, branch: &str| {
        let url = pair.url(US, "app");
        with_helper(pair, &key, &["-C", &from, "push", "-q", &url, &format!("main:refs/heads/{branch}")])
    };
    let pushed = push(&pair, "one");
    assert!(works(&pushed), "{}", said(&pushed));
    let listed: Value = Iam { pair: &pair }.json(&["data-key", "list"]);
    assert_eq!(listed["data_keys"][0]["sealed_under"].as_array().unwrap().len(), 2);
    // The key of one region is enough. Without both, access keys do not work, and passwords do.
    set_enabled(US, &arns[US], false);
    pair.restart();
    let bob = Iam { pair: &pair }.user("bob", &[POWER_USER]);
    pair.wait(|| works(&push(&pair, "two")));
    set_enabled(EU, &arns[EU], false);
    pair.restart();
    pair.wait(|| works(&repo.try_git(&["ls-remote", &bob.url(&pair, US, "app")])));
    assert!(!works(&push(&pair, "three")));
    let refused = pair.gitferry(&["iam", "access-key", "create", "--user", "bob", "--region", REGIONS[US]]);
    assert!(said(&refused).contains("is disabled") && said(&refused).contains("enable-key"), "{}", said(&refused));
    assert_eq!(refused.status.code(), Some(3));
    set_enabled(EU, &arns[EU], true);
    pair.wait(|| works(&push(&pair, "three")));
    // To a key file, and away from the keys.
    set_enabled(US, &arns[US], true);
    configure(&pair, &format!("key = \"account.key\"\n{}", key_line(&arns)));
    make_key_file(&pair);
    let dry = Iam { pair: &pair }.json(&["data-key", "rotate", "--dry-run"]);
    assert_eq!((dry["sealed_under"].as_array().unwrap().len(), dry["secrets"].as_u64()), (3, Some(2)));
    let rotated = Iam { pair: &pair }.json(&["data-key", "rotate"]);
    assert_eq!((rotated["secrets"].as_u64(), rotated["unreadable"].as_array().unwrap().len()), (Some(2), 0));
    let without = [&["data-key", "rotate"], &["--without", &arns[US], "--without", &arns[EU]][..]].concat();
    let alone = Iam { pair: &pair }.json(&without);
    assert_eq!(alone["sealed_under"].as_array().unwrap().len(), 1);
    for (region, arn) in arns.iter().enumerate() {
        set_enabled(region, arn, false);
    }
    pair.restart();
    pair.wait(|| works(&push(&pair, "four")));
}

/// A key file as `gitferry iam init` makes it.
fn make_key_file(pair: &Pair) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = pair.path("data/account.key");
    std::fs::write(&file, [7; 32]).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
