//! Many pushes to one repository, over several hosts on one pair of stores: none is refused, packs stay few, and git
//! judges the result.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::ledger::keys;
use gitferry_engine::region::Region;
use gitferry_engine::region::consolidate::{CONSOLIDATE_ABOVE, CROWDED_ABOVE};
use gitferry_git::pack::CheckProgress;
use gitferry_host::auth::Open;
use gitferry_host::{Host, HostOptions};
use gitferry_service::events::in_process;
use gitferry_store::table::lease::Waiter;
use gix::hash::Kind::Sha1;

use gitferry_test_support::git::GitRepo;

/// Longest wait for the maintenance that follows the last push.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Hosts that share a pair of stores, each with its own handles, as processes have.
pub struct Hosts {
    pub dir: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub urls: Vec<String>,
    pub region: Region,
}

impl Hosts {
    pub fn start(count: usize) -> Hosts {
        Hosts::start_with(count, open)
    }

    /// Hosts whose stores are opened in another way; the test has its own, plain handles.
    pub fn start_with(count: usize, opened: impl Fn(&Path) -> Region) -> Hosts {
        // For the client; another test may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let region = open(dir.path());
        runtime.block_on(region.repositories().create("app", Sha1, "test")).unwrap();
        let urls = (0..count).map(|_| runtime.block_on(serve(opened(dir.path()))));
        let urls = urls.collect();
        Hosts { dir, runtime, urls, region }
    }

    pub fn item(&self) -> HeadItem {
        self.runtime.block_on(self.region.repositories().get("app")).unwrap()
    }

    pub fn packs(&self) -> usize {
        self.runtime.block_on(self.region.reader().manifest(&self.item())).unwrap().0.packs.len()
    }

    /// Waits until the hosts, which some requests keep awake, have consolidated.
    pub fn until_few_packs(&self) {
        let started = Instant::now();
        let probe = GitRepo::init(self.dir.path().join("probe.git"), &[]);
        while self.packs() > CONSOLIDATE_ABOVE {
            assert!(started.elapsed() < PATIENCE, "there are still {} packs", self.packs());
            probe.git(&["ls-remote", &self.urls[0]]);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    pub fn verify(&self) {
        let progress = Arc::new(CheckProgress::default());
        let verified = self.runtime.block_on(self.region.verifier().verify(&self.item(), true, progress)).unwrap();
        assert_eq!(verified.findings, Vec::<String>::new());
    }
}

pub fn open(dir: &Path) -> Region {
    Region::open_embedded("us", &dir.join("objects"), &dir.join("table.db")).unwrap()
}

/// Serves a region as it is; the URL of its repository `app`.
pub async fn serve(region: Region) -> String {
    let (sink, _events) = in_process::channel();
    let host = Host::new(region, Arc::new(Open), Arc::new(sink), HostOptions::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/app", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, host.router()).await });
    url
}

/// A commit of one file, as a pack.
pub struct Commit {
    pub id: gix::ObjectId,
    pub pack: Vec<u8>,
}

fn id_of(kind: gix::objs::Kind, data: &[u8]) -> gix::ObjectId {
    gix::objs::compute_hash(Sha1, kind, data).unwrap()
}

pub fn commit(content: &[u8], parent: Option<gix::ObjectId>) -> Commit {
    use gix::objs::Kind::{Blob, Commit as CommitKind, Tree};
    let blob = id_of(Blob, content);
    let tree = [b"100644 file\0", blob.as_slice()].concat();
    let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
    let who = "a <a@b> 1700000000 +0000";
    let tree_id = id_of(Tree, &tree);
    let text = format!("tree {tree_id}\n{parent}author {who}\ncommitter {who}\n\nc\n");
    let id = id_of(CommitKind, text.as_bytes());
    Commit { id, pack: pack(&[(3, content), (2, &tree), (1, text.as_bytes())]) }
}

pub fn pack(objects: &[(u8, &[u8])]) -> Vec<u8> {
    let mut pack = [b"PACK", &2u32.to_be_bytes()[..], &(objects.len() as u32).to_be_bytes()[..]].concat();
    for (kind, data) in objects {
        let mut size = data.len();
        let mut byte = (kind << 4) | (size & 15) as u8;
        size >>= 4;
        while size > 0 {
            pack.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        pack.push(byte);
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(data).unwrap();
        pack.extend(deflate.finish().unwrap());
    }
    let mut hasher = gix::hash::hasher(Sha1);
    hasher.update(&pack);
    pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
    pack
}

/// Pushes a commit; the answer of the server.
pub async fn push(
    client: &reqwest::Client,
    url: &str,
    branch: &str,
    old: Option<gix::ObjectId>,
    commit: Commit,
) -> String {
    let old = old.unwrap_or_else(|| gix::ObjectId::null(Sha1));
    let command = format!("{old} {} refs/heads/{branch}\0 report-status object-format=sha1", commit.id);
    let body = [format!("{:04x}{command}0000", command.len() + 4).into_bytes(), commit.pack].concat();
    let request = client.post(format!("{url}/git-receive-pack"));
    let request = request.header("content-type", "application/x-git-receive-pack-request").body(body);
    let answer = request.send().await.unwrap().bytes().await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// The course of many pushes.
struct Course {
    /// The most packs that there were at any time.
    most_packs: usize,
    /// The times from the start to the answer of each push, in ascending order.
    answered: Vec<Duration>,
}

impl Course {
    /// Prints the pushes of each five seconds, and how many times as long the last tenth of them took as the first.
    fn print(&self) {
        let mut counts: Vec<usize> = Vec::new();
        for answered in &self.answered {
            let window = (answered.as_secs() / 5) as usize;
            counts.resize(counts.len().max(window + 1), 0);
            counts[window] += 1;
        }
        let tenth = self.answered.len() / 10;
        let first = self.answered[tenth];
        let last = self.answered[self.answered.len() - 1] - self.answered[self.answered.len() - 1 - tenth];
        println!("pushes of each 5 s: {counts:?}");
        println!(
            "first tenth {:.1} s, last tenth {:.1} s: {:.2} times; at most {} packs",
            first.as_secs_f64(),
            last.as_secs_f64(),
            last.as_secs_f64() / first.as_secs_f64(),
            self.most_packs
        );
    }
}

/// Lets pushers push to a branch of their own each, to the hosts in turn, `pushes` in all.
fn push_many(hosts: &Hosts, pushers: usize, pushes: usize, bytes: usize) -> Course {
    let left = Arc::new(AtomicUsize::new(pushes));
    let (started, answered) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seed = Arc::new(AtomicU64::new(1));
    let tasks = (0..pushers).map(|pusher| {
        let (left, seed, url) = (left.clone(), seed.clone(), hosts.urls[pusher % hosts.urls.len()].clone());
        let answered = answered.clone();
        hosts.runtime.spawn(async move {
            let client = reqwest::Client::new();
            let mut tip = None;
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                let commit = commit(&noise(seed.fetch_add(1, Ordering::Relaxed), bytes), tip);
                let id = commit.id;
                let answer = push(&client, &url, &format!("b{pusher}"), tip, commit).await;
                assert!(answer.contains("ok refs/heads/"), "{answer}");
                answered.lock().unwrap().push(started.elapsed());
                tip = Some(id);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut most_packs = 0;
    while tasks.iter().any(|task| !task.is_finished()) {
        std::thread::sleep(Duration::from_millis(200));
        most_packs = most_packs.max(hosts.packs());
    }
    for task in tasks {
        hosts.runtime.block_on(task).unwrap();
    }
    let mut answered = std::mem::take(&mut *answered.lock().unwrap());
    answered.sort_unstable();
    Course { most_packs, answered }
}

/// Bytes that do not compress, another run for each seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes.max(16)).collect()
}

fn assert_cloned(hosts: &Hosts, pushes: usize) {
    assert_eq!(hosts.item().head.frontier.seq, pushes as u64 + 1);
    let copy = GitRepo::init(hosts.dir.path().join("copy.git"), &[]);
    copy.git(&["fetch", "-q", &hosts.urls[0], "+refs/*:refs/*"]);
    copy.git(&["fsck", "--full", "--strict", "--no-dangling"]);
    assert_eq!(copy.git(&["rev-list", "--all", "--count"]), pushes.to_string());
}

#[test]
fn many_pushers_over_two_hosts_all_get_in_and_packs_stay_few() {
    const PUSHES: usize = 1_500;
    let hosts = Hosts::start(2);
    let course = push_many(&hosts, 8, PUSHES, 100);
    assert!(course.most_packs <= CROWDED_ABOVE, "{}", course.most_packs);
    hosts.until_few_packs();
    assert_cloned(&hosts, PUSHES);
    hosts.verify();
}

#[test]
#[ignore = "ten thousand pushes of 200 KB, twice"]
fn ten_thousand_pushes_stay_as_fast_as_the_first() {
    const PUSHES: usize = 10_000;
    for count in [1, 3] {
        let hosts = Hosts::start(count);
        let course = push_many(&hosts, 12, PUSHES, 200_000);
        println!("{count} hosts, {PUSHES} pushes");
        course.print();
        assert!(course.most_packs <= CROWDED_ABOVE + 50, "{}", course.most_packs);
        hosts.until_few_packs();
        assert_cloned(&hosts, PUSHES);
        hosts.verify();
    }
}

#[test]
fn a_damaged_pack_is_set_aside_and_stops_no_other() {
    const PUSHES: usize = 150;
    let hosts = Hosts::start(1);
    let id = hosts.item().id;
    // While the test holds the lease, no host consolidates.
    let key = keys::consolidation_lease(id);
    let mut waiter = Waiter::new(hosts.region.shared_table(), hosts.region.shared_clock(), key);
    let lease = hosts.runtime.block_on(waiter.try_take()).unwrap().unwrap();
    push_to(&hosts, "main", PUSHES);
    let manifest = hosts.runtime.block_on(hosts.region.reader().manifest(&hosts.item())).unwrap().0;
    assert_eq!(manifest.packs.len(), PUSHES);
    let pack = &manifest.packs[1];
    let path = hosts.region.objects().local_path(&pack.key).unwrap();
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[40] ^= 0xff;
    write_over(&path, &bad);
    hosts.runtime.block_on(lease.release());
    // A host of another process: this one knows nothing of the pack that was good.
    let region = open(hosts.dir.path());
    hosts.runtime.block_on(region.consolidator().maintain_packs(id, PUSHES));
    assert!(hosts.packs() <= CONSOLIDATE_ABOVE, "{} packs", hosts.packs());
    let aside = || hosts.runtime.block_on(region.packs_aside().all()).unwrap();
    let rows = aside();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].repository, rows[0].pack), (id, pack.id));
    let verify = || {
        let progress = Arc::new(CheckProgress::default());
        hosts.runtime.block_on(region.verifier().verify(&hosts.item(), false, progress)).unwrap().findings
    };
    let findings = verify();
    assert!(findings.iter().any(|finding| finding.contains(&pack.id.to_string())), "{findings:?}");
    // A host counts at most once a minute.
    let counted = || {
        let url = hosts.runtime.block_on(serve(open(hosts.dir.path())));
        let url = url.replace("/app", "/_metrics");
        let text = hosts.runtime.block_on(async { reqwest::get(url).await.unwrap().text().await.unwrap() });
        text.lines().last().unwrap().to_owned()
    };
    assert_eq!(counted(), "gitferry_host_packs_aside{region=\"us\"} 1");
    // Mended, it is like any other again.
    write_over(&path, &good);
    hosts.verify();
    assert_eq!((aside(), verify()), (Vec::new(), Vec::new()));
    assert_eq!(counted(), "gitferry_host_packs_aside{region=\"us\"} 0");
}

fn write_over(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Pushes one after the other to a branch.
pub fn push_to(hosts: &Hosts, branch: &str, count: usize) {
    hosts.runtime.block_on(async {
        let (client, mut tip) = (reqwest::Client::new(), None);
        for number in 0..count {
            let commit = commit(&noise(1_000_000 + number as u64, 100), tip);
            let id = commit.id;
            let answer = push(&client, &hosts.urls[0], branch, tip, commit).await;
            assert!(answer.contains("ok refs/heads/"), "{answer}");
            tip = Some(id);
        }
    });
}
