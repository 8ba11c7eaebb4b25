//! Whose credentials sign the requests, and what becomes of work whose credentials end.

use std::sync::{Arc, Mutex};

use crate::aws_end_to_end::git::noise;
use crate::aws_end_to_end::place::Place;
use gitferry_test_support::aws::Emulator;
use gitferry_test_support::pair::{EU, US};
use gitferry_test_support::proxy::{Fault, Gate, Proxy, Request, refusal, s3_refusal};
use gitferry_test_support::waiting::{block_on, eventually, wait};
use gitferry_test_support::world::LINK;

/// Parts that get through before the first credentials end, of two.
const PARTS_BEFORE: usize = 1;
/// The size of what does not compress in the pack, in bytes: a part and some more.
const LARGE: usize = (8 << 20) + 100_000;

/// Gives other credentials each time it is asked, all of them good for many years, as it says.
const PROCESS: &str = r#"
n=$(($(cat "$1" 2>/dev/null || echo 0) + 1))
echo $n > "$1"
echo '{ "Version": 1, "AccessKeyId": "key-'$n'", "SecretAccessKey": "s", "SessionToken": "t",
        "Expiration": "2099-01-01T00:00:00Z" }'
"#;

/// Whoever replicates gets its credentials from a process.
fn with_process(place: &mut Place, endpoint: &str) {
    let world = &mut place.world;
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let (script, count, file) = (path("process"), path("count"), path("aws-config"));
    std::fs::write(&script, PROCESS).unwrap();
    let profile = format!("[profile issued]\ncredential_process = /bin/sh {script} {count}\n");
    std::fs::write(&file, profile).unwrap();
    world.environment.retain(|(name, _)| !name.starts_with("AWS_") || name == "AWS_EC2_METADATA_DISABLED");
    for (name, value) in [("AWS_CONFIG_FILE", file.as_str()), ("PATH", "/usr/bin:/bin")] {
        world.environment.push((name.into(), value.into()));
    }
    place.configure(endpoint);
    let config = std::fs::read_to_string(place.world.path("gitferry.toml")).unwrap();
    let config = config.replace("aws = { ", "aws = { profile = \"issued\", ");
    std::fs::write(place.world.path("gitferry.toml"), config).unwrap();
}

/// And not of a probe.
fn is_part_of_pack(request: &Request) -> bool {
    request.is_s3("UploadPart") && request.path.contains("/objects/pack/")
}

#[test]
fn credentials_end_in_the_middle_of_a_copy() {
    block_on(async {
        if Emulator::get().has_own_credentials() {
            return eprintln!("skipped: these services look at credentials");
        }
        let mut place = Place::new().await;
        place.repo.commit_bytes("main", "large", &noise(4, LARGE));
        place.push();
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        with_process(&mut place, &proxy.endpoint);
        let parts = Arc::new(Mutex::new(Vec::new()));
        let (taken, landed) = (parts.clone(), Gate::default());
        let held = landed.clone();
        proxy.rule(move |request| {
            let mut taken = taken.lock().unwrap();
            if request.signed_by == "key-1" && taken.len() >= PARTS_BEFORE {
                // Not before the parts that got through have arrived: else they would be cut off with the others.
                let is_s3 = request.service == "s3";
                let refused =
                    if is_s3 { s3_refusal(400, "ExpiredToken") } else { refusal(400, "ExpiredTokenException") };
                let Fault::Answer(status, body) = refused else { unreachable!() };
                return Some(Fault::HoldAnswer(held.clone(), status, body));
            }
            // The bytes go through the worker, in parts.
            if request.is_s3("CopyObject") || request.is_s3("UploadPartCopy") {
                return Some(s3_refusal(403, "AccessDenied"));
            }
            if is_part_of_pack(request) {
                let query = request.path.split_once('?').unwrap().1;
                let part = query.split('&').find(|pair| pair.starts_with("partNumber=")).unwrap();
                taken.push((request.signed_by.clone(), part.to_owned()));
            }
            None
        });
        let watching = proxy.clone();
        let opening = std::thread::spawn(move || {
            wait("the first parts have arrived", || watching.answered(is_part_of_pack) == PARTS_BEFORE);
            landed.open();
        });
        place.world.ok(&["replicate", LINK]);
        opening.join().unwrap();
        let taken = parts.lock().unwrap().clone();
        let by_first = taken.iter().filter(|(key, _)| key == "key-1").count();
        assert!(by_first == PARTS_BEFORE && taken.len() > PARTS_BEFORE, "{taken:?}");
        // What the first ones have brought is not sent again.
        let mut numbers: Vec<&String> = taken.iter().map(|(_, number)| number).collect();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), taken.len(), "{taken:?}");
        proxy.relent();
        place.assert_replicated();
    });
}

/// A region of another account, reached by a role that may be assumed there.
#[test]
fn a_region_of_another_account() {
    const ACCOUNT: &str = "222222222222";
    block_on(async {
        if Emulator::get().has_own_credentials() {
            return eprintln!("skipped: these services have real accounts");
        }
        let place = Place::across(ACCOUNT).await;
        let proxy = Proxy::start(Emulator::get().endpoint()).await;
        place.configure(&proxy.endpoint);
        let worker = place.worker().await;
        place.push();
        eventually("it is there", async || place.is_synced().await).await;
        place.assert_replicated();
        assert_eq!(worker.stop().0, Some(0));
        let requests = proxy.requests();
        let assumed = requests.iter().filter(|request| request.body.contains("Action=AssumeRole")).collect::<Vec<_>>();
        assert!(!assumed.is_empty() && assumed.iter().all(|request| request.signed_by == "test"), "{assumed:?}");
        let signers = |at: usize| {
            let stores = &place.stores[at];
            let about = requests.iter().filter(|request| {
                request.body.contains(&stores.table) || request.path.contains(&format!("/{}/", stores.bucket))
            });
            let mut signers: Vec<&str> = about.map(|request| &request.signed_by[..4]).collect();
            signers.sort();
            signers.dedup();
            signers
        };
        // Temporary credentials begin with ASIA.
        assert_eq!((signers(US), signers(EU)), (vec!["test"], vec!["ASIA"]));
        // Without the role, the region is not even there.
        let config = std::fs::read_to_string(place.world.path("gitferry.toml")).unwrap();
        let role = format!(", role_arn = \"arn:aws:iam::{ACCOUNT}:role/git\"");
        assert!(config.contains(&role));
        std::fs::write(place.world.path("gitferry.toml"), config.replace(&role, "")).unwrap();
        place.world.ends(3, &["replicate", LINK]).says(&[&place.stores[EU].table]);
    });
}
