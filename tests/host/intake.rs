//! What a host takes in, it can serve; and what a push claims costs no memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gix::ObjectId;

use crate::hostile::packet;
use crate::raw;
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, US};
use gitferry_test_support::pushed_packs::{
    BLOB, COMMIT, OFS_DELTA, TREE, distance, entry, id_of, pack_of, varint, whole,
};

const WHO: &str = "A <a@example.com> 1700000000 +0000";
const NULL: &str = "0000000000000000000000000000000000000000";
/// As in `git::limits` and `git::pack`.
const MAX_TREE_DEPTH: usize = 2048;
const MAX_TAG_DEPTH: usize = 1000;
const MAX_DELTA_DEPTH: usize = 4095;

struct Target {
    pair: Pair,
    repo: GitRepo,
}

impl Target {
    fn new() -> Target {
        Target::on(Pair::open())
    }

    fn on(pair: Pair) -> Target {
        let repo = GitRepo::with_history(pair.path("src.git"), &[]);
        repo.git(&["push", "-q", "--mirror", &pair.url(US, "app")]);
        Target { pair, repo }
    }

    /// The answer to a push of one ref.
    fn push(&self, name: &str, tip: &ObjectId, pack: &[u8]) -> String {
        let command = packet(format!("{NULL} {tip} {name}\0report-status").as_bytes());
        let body = [&command[..], b"0000", pack].concat();
        let head = raw::post("app", "receive-pack", body.len(), "Connection: close\r\n");
        let request = [head.as_bytes(), &body].concat();
        use std::io::{Read as _, Write as _};
        let mut stream = raw::connect(&self.pair, US);
        stream.set_read_timeout(Some(std::time::Duration::from_secs(300))).unwrap();
        stream.write_all(&request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What `work` gives, and by how much the anonymous memory of the host grew at most meanwhile.
    fn growth_mib<T>(&self, work: impl FnOnce() -> T) -> (u64, T) {
        let before = self.pair.memory_mib();
        let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
        let given = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    peak.fetch_max(self.pair.memory_mib(), Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
            let given = work();
            done.store(true, Ordering::Relaxed);
            given
        });
        (peak.into_inner().saturating_sub(before), given)
    }

    fn accepts_only(&self, name: &str, tip: &ObjectId, pack: &[u8]) {
        let answer = self.push(name, tip, pack);
        assert!(answer.contains(&format!("ok {name}")), "{answer}");
    }

    fn accepts(&self, name: &str, tip: &ObjectId, pack: &[u8]) {
        self.accepts_only(name, tip, pack);
        self.clones();
    }

    fn refuses(&self, name: &str, tip: &ObjectId, pack: &[u8], reason: &str) {
        let answer = self.push(name, tip, pack);
        assert!(answer.contains(&format!("ng {name}")) && answer.contains(reason), "{answer}");
        self.clones();
    }

    /// Git clones all of it, in both versions of the protocol.
    fn clones(&self) {
        for version in ["0", "2"] {
            let to = tempfile::tempdir().unwrap();
            let protocol = format!("protocol.version={version}");
            let url = self.pair.url(US, "app");
            let args = ["-c", &protocol, "clone", "-q", "--mirror", &url, to.path().to_str().unwrap()];
            self.repo.git(&args);
            let clone = GitRepo::at(to.path());
            clone.git(&["rev-list", "--objects", "--all", "--quiet"]);
        }
    }
}

/// Directories around a tree, each in the next: the outermost and all their entries of a pack.
fn around(inner: &ObjectId, count: usize) -> (ObjectId, Vec<Vec<u8>>) {
    let (mut id, mut entries) = (*inner, Vec::new());
    for _ in 0..count {
        let tree = [b"40000 d\0", id.as_slice()].concat();
        id = id_of("tree", &tree);
        entries.push(whole(TREE, &tree));
    }
    (id, entries)
}

fn commit(tree: &ObjectId, parent: Option<&ObjectId>, entries: &mut Vec<Vec<u8>>) -> ObjectId {
    let parent = parent.map(|parent| format!("parent {parent}\n")).unwrap_or_default();
    let commit = format!("tree {tree}\n{parent}author {WHO}\ncommitter {WHO}\n\nm\n");
    entries.push(whole(COMMIT, commit.as_bytes()));
    id_of("commit", commit.as_bytes())
}

fn pack(entries: &[Vec<u8>]) -> Vec<u8> {
    pack_of(entries.len() as u32, entries)
}

#[test]
fn directories_as_deep_as_git_reads_them() {
    let target = Target::new();
    let empty = id_of("tree", b"");
    let reason = "core.maxTreeDepth";
    // The innermost of `n` directories around a tree lies `n` deep.
    for (depth, fits) in [(MAX_TREE_DEPTH, true), (MAX_TREE_DEPTH + 1, false)] {
        let (root, mut entries) = around(&empty, depth);
        entries.push(whole(TREE, b""));
        let tip = commit(&root, None, &mut entries);
        match fits {
            true => target.accepts("refs/heads/whole", &tip, &pack(&entries)),
            false => target.refuses("refs/heads/more", &tip, &pack(&entries), reason),
        }
    }
    // In steps, each of which is small: around what is there, with and without a parent that has it elsewhere.
    let (root, mut entries) = around(&empty, MAX_TREE_DEPTH - 2);
    entries.push(whole(TREE, b""));
    let first = commit(&root, None, &mut entries);
    target.accepts("refs/heads/steps", &first, &pack(&entries));
    for parent in [None, Some(&first)] {
        let (one, mut entries) = around(&root, 2);
        let name = format!("refs/heads/two-{}", parent.is_some());
        let tip = commit(&one, parent, &mut entries);
        target.accepts(&name, &tip, &pack(&entries));
        let (one, mut entries) = around(&root, 3);
        let tip = commit(&one, parent, &mut entries);
        target.refuses("refs/heads/three", &tip, &pack(&entries), reason);
        // Deep in history alone, and behind a tag.
        let child = commit(&root, Some(&tip), &mut entries);
        target.refuses("refs/heads/three", &child, &pack(&entries), reason);
        let tag = format!("object {child}\ntype commit\ntag x\ntagger {WHO}\n\nm\n");
        entries.push(whole(4, tag.as_bytes()));
        target.refuses("refs/tags/three", &id_of("tag", tag.as_bytes()), &pack(&entries), reason);
    }
}

#[test]
fn tags_of_as_many_tags_as_are_followed() {
    let target = Target::new();
    let main = ObjectId::from_hex(target.repo.git(&["rev-parse", "main"]).as_bytes()).unwrap();
    let (mut id, mut kind, mut entries) = (main, "commit", Vec::new());
    for number in 1..=MAX_TAG_DEPTH + 1 {
        let tag = format!("object {id}\ntype {kind}\ntag t{number}\ntagger {WHO}\n\nm\n");
        entries.push(whole(4, tag.as_bytes()));
        (id, kind) = (id_of("tag", tag.as_bytes()), "tag");
        if number == MAX_TAG_DEPTH {
            target.accepts("refs/tags/most", &id, &pack(&entries));
        }
    }
    target.refuses("refs/tags/more", &id, &pack(&entries), "more than 1000 nested tags");
    // In steps.
    let last = entries.last().unwrap().clone();
    target.refuses("refs/tags/more", &id, &pack(&[last]), "more than 1000 nested tags");
}

#[test]
fn as_many_deltas_on_each_other_as_git_makes() {
    let target = Target::new();
    let text = |number: usize| format!("{number:08}{}", "x".repeat(100)).into_bytes();
    let (mut tree, mut entries) = (Vec::new(), vec![whole(BLOB, &text(0))]);
    for number in 1..=MAX_DELTA_DEPTH + 1 {
        // Eight bytes of its own, and the rest of the base.
        let size = varint(108);
        let own = text(number)[..8].to_vec();
        let delta = [size.clone(), size, vec![8], own, vec![0x91, 8, 100]].concat();
        let back = entries.last().unwrap().len();
        entries.push(entry(OFS_DELTA, delta.len(), &distance(back), &delta));
        let id = id_of("blob", &text(number));
        tree.extend([format!("100644 {number:08}\0").as_bytes(), id.as_slice()].concat());
        if number >= MAX_DELTA_DEPTH {
            let mut all = entries.clone();
            all.push(whole(TREE, &tree));
            let tip = commit(&id_of("tree", &tree), None, &mut all);
            match number {
                MAX_DELTA_DEPTH => target.accepts("refs/heads/chain", &tip, &pack(&all)),
                _ => target.refuses("refs/heads/more", &tip, &pack(&all), "more than 4095 deltas"),
            }
        }
    }
}

/// Most anonymous memory that a push may add, whatever it claims. (Before there was a budget, it was all of it.)
const MAX_GROWTH_MIB: u64 = 150;

#[test]
fn claimed_sizes_take_no_memory() {
    let target = Target::new();
    let base_bytes = 8 << 20;
    let base = whole(BLOB, &vec![0; base_bytes]);
    // Copies of the whole base, one behind the other; `byte` makes it another object.
    let large = |byte: u8, behind: usize, base_size: usize, copies: usize| {
        let mut delta = [varint(base_size as u64), varint((base_bytes * copies + 1) as u64)].concat();
        for _ in 0..copies {
            delta.extend([0xf0, 0, 0, 0x80]);
        }
        delta.extend([1, byte]);
        entry(OFS_DELTA, delta.len(), &distance(behind), &delta)
    };
    let tip = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    let copies = 48; // 384 MiB
    let first = large(1, base.len(), base_bytes, copies);
    let behind = first.len();
    let alone = vec![base.clone(), first.clone()];
    // The large one is a base itself, so that it has to be kept.
    let chained = vec![base.clone(), first, large(2, behind, base_bytes * copies + 1, copies)];
    // A commit is read by whoever walks the history, so it may not be that large.
    let message = "x".repeat(400 << 20);
    let commit = format!("tree {tip}\nauthor {WHO}\ncommitter {WHO}\n\n{message}\n");
    let commit = vec![whole(COMMIT, commit.as_bytes())];
    drop(message);
    let missing = "ng refs/heads/large missing necessary objects";
    let cases = [(alone, missing), (chained, missing), (commit, "at most 134217728 are supported")];
    for (entries, reason) in cases {
        let pack = pack(&entries);
        assert!(pack.len() < 4 << 20, "{}", pack.len());
        let (growth, answer) = target.growth_mib(|| target.push("refs/heads/large", &tip, &pack));
        assert!(answer.contains(reason), "{answer}");
        assert!(growth < MAX_GROWTH_MIB, "{growth} MiB");
    }
}

/// Blobs of 384 MiB that are stored as a few hundred bytes of delta, and a commit with 100 MiB of message.
#[test]
fn reading_what_is_large_takes_no_memory() {
    let target = Target::on(Pair::with_process("read_memory = \"16MiB\""));
    let base = vec![0; 8 << 20];
    let copies = 48;
    let mut large = base.repeat(copies);
    large.push(1);
    let mut delta = [varint(base.len() as u64), varint(large.len() as u64)].concat();
    (0..copies).for_each(|_| delta.extend([0xf0, 0, 0, 0x80]));
    delta.extend([1, 1]);
    let (base_id, large_id) = (id_of("blob", &base), id_of("blob", &large));
    drop(large);
    let base = whole(BLOB, &base);
    let delta = entry(OFS_DELTA, delta.len(), &distance(base.len()), &delta);
    let mut entries = vec![base, delta];
    for (name, id) in [("base", base_id), ("large", large_id)] {
        let tree = [b"100644 f\0", id.as_slice()].concat();
        entries.push(whole(TREE, &tree));
        let tip = commit(&id_of("tree", &tree), None, &mut entries);
        target.accepts_only(&format!("refs/heads/{name}"), &tip, &pack(&entries));
    }
    let message = "x".repeat(100 << 20);
    let text = format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\n{message}\n", id_of("tree", b""));
    drop(message);
    let tip = id_of("commit", text.as_bytes());
    target.accepts_only("refs/heads/message", &tip, &pack(&[whole(TREE, b""), whole(COMMIT, text.as_bytes())]));
    drop(text);
    let url = target.pair.url(US, "app");
    // Its base is not at the client, so the large blob is made and compressed anew; by filters, its size is asked for.
    for args in [&["--single-branch", "-b", "large"][..], &["--filter=blob:limit=1m"], &["--mirror"]] {
        let clone = |number: usize| {
            let to = target.pair.path(&format!("clone-{}-{number}", args.len()));
            let fixed = ["-c", "core.bigFileThreshold=1m", "clone", "-q", "--bare"];
            target.repo.git(&[&fixed[..], args, &[&url, to.to_str().unwrap()]].concat());
            to
        };
        let (growth, clones) = target.growth_mib(|| {
            std::thread::scope(|scope| {
                let clones = [0, 1, 2].map(|number| scope.spawn(move || clone(number)));
                clones.map(|clone| clone.join().unwrap())
            })
        });
        assert!(growth < MAX_GROWTH_MIB, "{args:?}: {growth} MiB");
        for to in clones {
            let has = |id: &ObjectId| GitRepo::at(&to).try_git(&["cat-file", "-e", &id.to_string()]).status.success();
            if args.len() > 1 || args[0] == "--mirror" {
                assert!(has(&large_id), "{args:?}");
            }
            std::fs::remove_dir_all(to).unwrap();
        }
    }
}
