//! Objects and `.gitmodules` files that are changed at random: what Git finds in them, we find too.

use super::*;

/// Pseudo-random numbers (xorshift), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Some changes: bytes replaced, pieces inserted, taken away, doubled.
    fn mutate(&mut self, data: &mut Vec<u8>, pieces: &[&[u8]]) {
        for _ in 0..self.below(4) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(8)).min(data.len());
            match self.below(4) {
                0 => drop(data.splice(at..end, [self.below(256) as u8])),
                1 => drop(data.splice(at..at, self.pick(pieces).to_vec())),
                2 => drop(data.drain(at..end)),
                _ => drop(data.splice(at..at, data[at..end].to_vec())),
            }
        }
    }
}

const NAMES: &[&str] = &["a", "a/b", "../a", "a/..", "..", "../../x", "a\\..\\b", "", "a.b", "x\\\"y"];
const URLS: &[&str] = &[
    "https://example.com/a",
    "-u",
    "\"-u\"",
    "./a",
    "../../:x",
    "../..//x",
    "a%0ab",
    "git://h/%0a",
    "http::-x",
    "https:///",
    "ext::sh",
    "./a\\nb",
    "\"../a\" # x",
];
const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"\\\n",
    b"#",
    b";",
    b"[",
    b"]",
    b"=",
    b".",
    b"..",
    b"-",
    b"/",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3\xa4",
    b"\x0b",
    b"\x0c",
    b"%0a",
    b"[submodule \"../x\"]",
    b"\n\turl = -u\n",
    b"url=-u",
    b"\rurl = -u\n",
    b"path = -p\n",
    b"update = !x\n",
    b"[submodule.a]",
    b"\\n",
    b"\\t",
    b"\\x",
];

fn modules(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..=random.below(2) {
        text.extend(format!("[submodule \"{}\"]\n", random.pick(NAMES)).bytes());
        for _ in 0..random.below(4) {
            let line = match random.below(4) {
                0 => format!("\tpath = {}\n", random.pick(&["a", "-a", "\"-a\"", "a-b"])),
                1 => format!("\tupdate = {}\n", random.pick(&["checkout", "!rm", "\"!rm\"", "none"])),
                _ => format!("\turl = {}\n", random.pick(URLS)),
            };
            text.extend(line.bytes());
        }
    }
    random.mutate(&mut text, PIECES);
    text
}

/// Git's messages for each object, and ours.
fn by_object(found: &BTreeSet<(String, ObjectId, String)>) -> BTreeMap<ObjectId, BTreeSet<&str>> {
    let mut all: BTreeMap<ObjectId, BTreeSet<&str>> = BTreeMap::new();
    for (_, id, message) in found {
        all.entry(*id).or_default().insert(message);
    }
    all
}

fn compare_modules(seed: u64, count: usize) {
    let mut random = Random(seed);
    let mut bad = Bad::new();
    for _ in 0..count {
        let id = bad.write(Kind::Blob, &modules(&mut random));
        let tree = bad.entry("100644", b".gitmodules", &id);
        bad.write(Kind::Tree, &tree);
    }
    let (git, ours) = (bad.git_fsck(), bad.our_fsck());
    let (git, ours) = (by_object(&git), by_object(&ours));
    let mut found = 0;
    for (id, (_, data)) in &bad.objects {
        let (git, ours) = (git.get(id).cloned().unwrap_or_default(), ours.get(id).cloned().unwrap_or_default());
        found += git.len();
        // Where a file reads otherwise than memory, which is what `git fsck` looks at, more is found.
        let same = !data.contains(&0xff) && !data.starts_with(b"\xef\xbb\xbf");
        let text = data.escape_ascii();
        assert!(git.is_subset(&ours) && (!same || git == ours), "seed {seed}: {text}: Git {git:?}, we {ours:?}");
    }
    assert!(found > count / 4, "{found} findings in {count} files");
}

fn compare_objects(seed: u64, count: usize) {
    let mut random = Random(seed);
    let mut bad = Bad::new();
    let (tree, blob) = (bad.tree, bad.blob);
    let commit = format!("tree {tree}\nauthor {WHO}\ncommitter {WHO}\nencoding x\n\nmessage\n");
    let tag = format!("object {blob}\ntype blob\ntag name\ntagger {WHO}\n\nmessage\n");
    let entries: Vec<u8> = [("100644", "a"), ("120000", "b"), ("40000", "c"), ("100755", "d")]
        .iter()
        .flat_map(|(mode, name)| bad.entry(mode, name.as_bytes(), if *mode == "40000" { &tree } else { &blob }))
        .collect();
    let words: &[&[u8]] = &[
        b"\n",
        b" ",
        b"<",
        b">",
        b"\0",
        b"0",
        b"+0000",
        b"author ",
        b"parent ",
        b"tree ",
        b"99999999999999999999",
        b"-",
        b"type ",
        b"tagger ",
        b"gpgsig x\n y\n",
        b"\t",
    ];
    let names: &[&[u8]] = &[b".git\0", b".\0", b"..\0", b"/", b"100644 a\0", b"0", b"40000 ", b".gitmodules\0", b"\0"];
    for _ in 0..count {
        let (kind, seed, pieces) = match random.below(3) {
            0 => (Kind::Commit, commit.as_bytes(), words),
            1 => (Kind::Tag, tag.as_bytes(), words),
            _ => (Kind::Tree, &entries[..], names),
        };
        let mut data = seed.to_vec();
        random.mutate(&mut data, pieces);
        bad.write(kind, &data);
    }
    let ids: Vec<ObjectId> = bad.objects.keys().copied().collect();
    for id in ids.into_iter().filter(|id| *id != blob) {
        let ours = bad.names(id).first().copied();
        let git = bad.git_refuses(id);
        let (kind, data) = &bad.objects[&id];
        // What is ignored by default ends the check of `hash-object` all the same.
        if git.as_deref() != Some("extraHeaderEntry") {
            let text = data.escape_ascii();
            assert_eq!(git.is_some(), ours.is_some(), "seed {seed}: {kind} {text}: Git {git:?}, we {ours:?}");
        }
    }
}

#[test]
fn gitmodules_changed_at_random() {
    compare_modules(0x9e37_79b9_7f4a_7c15, 600);
}

#[test]
fn objects_changed_at_random() {
    compare_objects(0x2545_f491_4f6c_dd1d, 150);
}

/// `cargo test --test receive_pack -- --ignored thousands`
#[test]
#[ignore = "a minute or more"]
fn thousands_changed_at_random() {
    for seed in 1..=8 {
        compare_modules(seed * 0x9e37_79b9, 2000);
        compare_objects(seed * 0x2545_f491, 500);
    }
}

#[test]
fn what_only_git_reads_is_found() {
    let mut bad = Bad::new();
    let attacks: [(&[u8], &str); 9] = [
        (b"[submodule \"a\"]\n\tpath = a\n\rurl = -u\n", "gitmodulesUrl"),
        (b"[submodule \"a\"]\r\rurl = -u\r\n", "gitmodulesUrl"),
        (b"[submodule \"../../x\"]\r\tpath = a\n", "gitmodulesName"),
        (b"[submodule \"../../x\"]\n\tpath = a\n[broken\n", "gitmodulesName"),
        (b"[submodule \"a\"] url = -u\n!\n", "gitmodulesUrl"),
        (b"\xef\xbb\xbf[submodule \"a\"]\n\turl = -u\n", "gitmodulesUrl"),
        (b"#\xff\n[submodule \"a\"]\n\tupdate = !x\n", "gitmodulesUpdate"),
        (b"[submodule \"a\"]\n\turl = \\\n-u\n", "gitmodulesUrl"),
        (b"[submodule.a]\n\tPATH = \"\"-p\n", "gitmodulesPath"),
    ];
    for (text, message) in attacks {
        let id = bad.write(Kind::Blob, text);
        let tree = bad.entry("100644", b".gitmodules", &id);
        let tree = bad.write(Kind::Tree, &tree);
        let report = bad.check(&Rules::default(), &[tree]);
        let found = report.findings.iter().any(|f| f.message.name() == message && f.severity == Severity::Error);
        assert!(found, "{}: {:?}", text.escape_ascii(), report.findings);
    }
}
