//! `/_metrics` of a host: what real clients did is counted, for each region by itself, and no repository is named.

use std::time::Duration;

use crate::lfs::{batch, put, upload_of};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::lfs_work::oid_of;
use gitferry_test_support::pair::{EU, Pair, REGIONS, US};
use gitferry_test_support::prometheus::Page;

/// The page of a host as text.
fn text(pair: &Pair, region: usize) -> String {
    let host = pair.address(region);
    let answer = pair.raw(region, &format!("GET /_metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

#[test]
fn a_page_counts_what_real_clients_did() {
    let pair = Pair::open();
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    let url = pair.url(US, "app");
    repo.git(&["push", "-q", &url, "main"]);
    let clone = pair.path("clone");
    repo.git(&["clone", "-q", &url, clone.to_str().unwrap()]);
    assert!(!repo.try_git(&["push", &url, ":main"]).status.success());
    let content = "content of an object";
    let oid = oid_of(content.as_bytes());
    assert_eq!(batch(&pair, US, &upload_of(&oid, content.len() as i64)).status, 200);
    assert_eq!(put(&pair, &oid, "", content).status, 200);
    assert_eq!(batch(&pair, US, &serde_json::json!({})).status, 422);
    let text = text(&pair, US);
    let page = Page::read(&text);
    let requests = |route: &str, outcome: &str| {
        page.sum("gitferry_host_request_duration_seconds_count", &[("route", route), ("outcome", outcome)])
    };
    // The clone asks for refs by a request of its own in version 2.
    assert_eq!([requests("push_refs", "2xx"), requests("push", "2xx")], [2.0, 2.0], "{text}");
    assert_eq!([requests("fetch_refs", "2xx"), requests("fetch", "2xx")], [1.0, 2.0], "{text}");
    assert_eq!([requests("lfs_batch", "2xx"), requests("lfs_batch", "4xx")], [1.0, 1.0], "{text}");
    assert_eq!(requests("lfs_upload", "2xx"), 1.0, "{text}");
    let seconds = page.sum("gitferry_host_request_duration_seconds_sum", &[]);
    assert!(seconds > 0.0 && seconds < 600.0, "{text}");
    let name = |name: &str| page.sum(&format!("gitferry_host_{name}"), &[]);
    assert_eq!([name("pushes_accepted_total"), name("pushes_rejected_total")], [1.0, 1.0], "{text}");
    assert_eq!(page.sum("gitferry_host_pushes_rejected_total", &[("reason", "protected")]), 1.0, "{text}");
    assert_eq!([name("packs_received_total"), name("packs_sent_total")], [1.0, 1.0], "{text}");
    let bytes = |way: &str, route: &str| page.sum(&format!("gitferry_host_{way}_bytes_total"), &[("route", route)]);
    assert_eq!(bytes("received", "lfs_upload"), content.len() as f64, "{text}");
    let pack = std::fs::read_dir(clone.join(".git/objects/pack")).unwrap().map(|entry| entry.unwrap());
    let pack = pack.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pack"));
    let pack = pack.map(|entry| entry.metadata().unwrap().len()).sum::<u64>() as f64;
    assert!(bytes("sent", "fetch") > pack && bytes("sent", "fetch") < pack * 2.0 + 4096.0, "{pack} bytes\n{text}");
    assert!(bytes("received", "push") > 0.0 && bytes("sent", "push") > 0.0, "{text}");
    // Each of them was admitted at once.
    let queue = |name: &str, queue: &str| page.sum(&format!("gitferry_host_queue_{name}"), &[("queue", queue)]);
    assert!(queue("admitted_total", "git") >= 7.0 && queue("admitted_total", "compute") >= 7.0, "{text}");
    assert_eq!(queue("admitted_total", "lfs_uploads"), 1.0, "{text}");
    assert_eq!([name("queue_waiting"), name("queue_refused_total")], [0.0, 0.0], "{text}");
    assert_eq!(name("packs_aside"), 0.0);
    assert!(page.metrics.contains("gitferry_host_packs_aside"), "{text}");
    // The other host of the process has a page of its own, and none names a repository.
    assert_eq!(page.values_of("region"), [REGIONS[US]].into(), "{text}");
    let other = self::text(&pair, EU);
    let other_page = Page::read(&other);
    assert_eq!(other_page.values_of("region"), [REGIONS[EU]].into(), "{other}");
    assert_eq!(other_page.sum("gitferry_host_pushes_accepted_total", &[]), 0.0, "{other}");
    assert!(!text.contains("app") && !other.contains("app") && !text.contains(&oid), "{text}{other}");
}

#[test]
fn a_request_that_waits_in_vain_and_one_that_breaks_off_are_counted() {
    let pair = Pair::with_host("limits = { requests = 1, waiting = 1, longest_wait = \"200ms\" }");
    let repo = GitRepo::with_history(pair.path("src.git"), &[]);
    repo.git(&["push", "-q", &pair.url(US, "app"), "main"]);
    let host = pair.address(US);
    // Holds the only slot: its body does not come.
    let head = "POST /app/git-receive-pack HTTP/1.1\r\nContent-Type: application/x-git-receive-pack-request\r\n";
    let held = std::net::TcpStream::connect(host).unwrap();
    std::io::Write::write_all(&mut &held, format!("{head}Host: {host}\r\nContent-Length: 100\r\n\r\n0").as_bytes())
        .unwrap();
    let get =
        format!("GET /app/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    pair.wait(|| {
        std::thread::sleep(Duration::from_millis(100));
        pair.raw(US, &get).starts_with("HTTP/1.1 503")
    });
    let page = Page::read(&text(&pair, US));
    assert!(page.sum("gitferry_host_queue_refused_total", &[("queue", "git")]) >= 1.0, "{page:?}");
    let count = "gitferry_host_request_duration_seconds_count";
    assert!(page.sum(count, &[("route", "fetch_refs"), ("outcome", "5xx")]) >= 1.0, "{page:?}");
    drop(held);
    pair.wait(|| {
        let page = Page::read(&text(&pair, US));
        page.sum(count, &[("route", "push"), ("outcome", "aborted")]) == 1.0
    });
}
