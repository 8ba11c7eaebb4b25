//! Refused pushes tell nothing of objects that the client may not see: an object that is hidden and one that is absent
//! get the same answer, word by word.

use gitferry_git::local::RefPatterns;
use gix::ObjectId;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pushed_packs::{BLOB, COMMIT, REF_DELTA, TREE, entry, id_of, pack_of, varint, whole};
use gitferry_test_support::receiving::Host;

const WHO: &str = "A <a@example.com> 1700000000 +0000";
const SECRET: &[u8] = b"password = correct horse battery staple\n";

/// What is held and not shown, by kind, with its bytes.
struct Hidden {
    host: Host,
    client: GitRepo,
    commit: (ObjectId, Vec<u8>),
    tree: (ObjectId, Vec<u8>),
    blob: (ObjectId, Vec<u8>),
    modules: (ObjectId, Vec<u8>),
    pointer: (ObjectId, Vec<u8>),
}

impl Hidden {
    /// With a ref that is hidden, or one that has been deleted.
    fn new(deleted: bool) -> Hidden {
        let host = Host::new();
        let client = GitRepo::with_history(host.dir.path().join("client"), &[]);
        host.push(&client, &["main"]);
        let modules = b"[submodule \"../x\"]\n\turl = -u\n".to_vec();
        let oid = "1".repeat(64);
        let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5\n").into_bytes();
        client.commit_bytes("secret", "a", SECRET);
        client.commit_bytes("secret", "b", &modules);
        client.commit_bytes("secret", "c", &pointer);
        host.accept(|policy| policy.lfs = gitferry_engine::region::push::Missing::Allow);
        host.push(&client, &["secret:refs/secret/x"]);
        host.accept(|policy| policy.lfs = gitferry_engine::region::push::Missing::Refuse);
        match deleted {
            true => drop(host.push(&client, &["--delete", "refs/secret/x"])),
            false => host.accept(|policy| policy.hidden = Some(RefPatterns::new(["refs/secret/*"]).unwrap())),
        }
        let object = |name: &str, kind: &str| {
            let id = client.git(&["rev-parse", name]);
            (ObjectId::from_hex(id.as_bytes()).unwrap(), client.feed(&["cat-file", kind, &id], b""))
        };
        let commit = object("secret", "commit");
        let tree = object("secret^{tree}", "tree");
        let blob = object("secret:a", "blob");
        let (modules, pointer) = (object("secret:b", "blob"), object("secret:c", "blob"));
        Hidden { host, client, commit, tree, blob, modules, pointer }
    }

    /// The answers to a push of a pack to a new branch, without and with words for a person, ids of `about` masked.
    /// Without progress, which depends on the load of the machine.
    fn answer(&self, tip: &ObjectId, pack: &[u8], about: &ObjectId) -> String {
        let before = (self.host.head().head.frontier, self.host.pack_keys());
        let commands = [format!("{} {tip} refs/heads/new", "0".repeat(40))];
        let answers = ["report-status", "report-status side-band-64k quiet"]
            .map(|capabilities| self.host.talk_with(capabilities, &commands, pack));
        let answer = answers.concat();
        assert_eq!(answer.matches("ng refs/heads/new").count(), 2, "went through: {answer}");
        assert_eq!((self.host.head().head.frontier, self.host.pack_keys()), before);
        let answer = answer.replace(&about.to_string(), "<id>").replace(&tip.to_string(), "<tip>");
        self.without_own_ids(answer)
    }

    /// The answer without ids of what came with the push, which differ with what they name. None is of what is hidden.
    fn without_own_ids(&self, mut answer: String) -> String {
        for (id, _) in [&self.commit, &self.tree, &self.blob, &self.modules, &self.pointer] {
            assert!(!answer.contains(&id.to_string()), "{id}: {answer}");
        }
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        let mut masked = String::new();
        while let Some(start) = answer.find(is_hex) {
            let rest = answer.split_off(start);
            let (word, behind) = rest.split_at(rest.find(|c| !is_hex(c)).unwrap_or(rest.len()));
            masked += &answer;
            masked += if word.len() == 40 { "<own>" } else { word };
            answer = behind.to_owned();
        }
        masked + &answer
    }

    /// The same push about a hidden object and about one that is not there.
    fn same(&self, what: &str, hidden: &ObjectId, push: impl Fn(&ObjectId) -> (ObjectId, Vec<u8>)) {
        let absent = ObjectId::from_hex(&[b'5'; 40]).unwrap();
        let answers = [hidden, &absent].map(|about| {
            let (tip, pack) = push(about);
            self.answer(&tip, &pack, about)
        });
        assert_eq!(answers[0], answers[1], "{what}");
    }
}

fn commit(tree: &ObjectId, parents: &[ObjectId]) -> Vec<u8> {
    let parents: String = parents.iter().map(|parent| format!("parent {parent}\n")).collect();
    format!("tree {tree}\n{parents}author {WHO}\ncommitter {WHO}\n\nm\n").into_bytes()
}

fn tree(mode: &str, name: &str, id: &ObjectId) -> Vec<u8> {
    [mode.as_bytes(), b" ", name.as_bytes(), b"\0", id.as_slice()].concat()
}

/// A commit of a tree.
fn with_tree(tree: Vec<u8>) -> (ObjectId, Vec<u8>) {
    let commit = commit(&id_of("tree", &tree), &[]);
    (id_of("commit", &commit), pack_of(2, &[whole(TREE, &tree), whole(COMMIT, &commit)]))
}

fn delta(base: &ObjectId, base_size: usize, result: usize, instructions: &[u8]) -> Vec<u8> {
    let data = [varint(base_size as u64), varint(result as u64), instructions.to_vec()].concat();
    entry(REF_DELTA, data.len(), base.as_slice(), &data)
}

#[test]
fn links_and_tips() {
    for deleted in [true, false] {
        let hidden = Hidden::new(deleted);
        let main = ObjectId::from_hex(hidden.client.git(&["rev-parse", "main"]).as_bytes()).unwrap();
        let empty = id_of("tree", b"");
        let all = [&hidden.commit, &hidden.tree, &hidden.blob, &hidden.modules, &hidden.pointer];
        for (id, _) in all {
            hidden.same("tip", id, |id| (*id, pack_of(0, &[])));
            hidden.same("parent", id, |id| {
                let commit = commit(&empty, &[main, *id]);
                (id_of("commit", &commit), pack_of(2, &[whole(COMMIT, &commit), whole(TREE, b"")]))
            });
            hidden.same("tree", id, |id| {
                let commit = commit(id, &[main]);
                (id_of("commit", &commit), pack_of(1, &[whole(COMMIT, &commit)]))
            });
            for (mode, name) in [
                ("100644", "a"),
                ("40000", "a"),
                ("100644", ".gitmodules"),
                ("40000", ".gitmodules"),
                ("160000", ".gitmodules"),
                ("100644", ".gitattributes"),
                ("160000", ".gitattributes"),
                ("120000", "a"),
            ] {
                hidden.same(&format!("{mode} {name}"), id, |id| with_tree(tree(mode, name, id)));
            }
            for kind in ["commit", "tree", "blob", "tag"] {
                hidden.same("tag", id, |id| {
                    let tag = format!("object {id}\ntype {kind}\ntag x\ntagger {WHO}\n\nm\n");
                    (id_of("tag", tag.as_bytes()), pack_of(1, &[whole(4, tag.as_bytes())]))
                });
            }
        }
        hidden.host.verified();
    }
}

#[test]
fn delta_bases() {
    for deleted in [true, false] {
        let hidden = Hidden::new(deleted);
        for (id, data) in [&hidden.commit, &hidden.tree, &hidden.blob] {
            let size = data.len();
            let first = [0x91, 0, 1];
            let one = |base: &ObjectId, size: usize, result: usize, code: &[u8]| {
                (ObjectId::from_hex(&[b'3'; 40]).unwrap(), pack_of(1, &[delta(base, size, result, code)]))
            };
            for wrong in [size - 1, size, size + 1, 1 << 40] {
                hidden.same("size", id, |id| one(id, wrong, 1, b"\x01x"));
                hidden.same("result", id, |id| one(id, wrong, 1, &first));
                hidden.same("out of bounds", id, |id| one(id, size, 1, &[0x95, 0xff, 0xff, 1]));
                hidden.same("too large", id, |id| one(id, size, 1 << 40, &first));
            }
            // What the delta makes would be in the pack twice, or malformed: both would be named.
            hidden.same("twice", id, |id| {
                let mut entries: Vec<Vec<u8>> = (0..=255).map(|byte| whole(BLOB, &[byte])).collect();
                entries.push(delta(id, size, 1, &first));
                (ObjectId::from_hex(&[b'3'; 40]).unwrap(), pack_of(257, &entries))
            });
            // With deltas by place, and beside a base that everyone sees.
            let seen = hidden.client.feed(&["cat-file", "commit", "main"], b"");
            let seen_id = id_of("commit", &seen);
            hidden.same("beside another", id, |id| {
                let small = delta(&seen_id, seen.len(), 1, &first);
                (ObjectId::from_hex(&[b'3'; 40]).unwrap(), pack_of(2, &[small, delta(id, size, 1, &first)]))
            });
            hidden.same("chain", id, |id| {
                let made = id_of("blob", &data[..1]);
                let next = delta(&made, 1, 1, &first);
                (ObjectId::from_hex(&[b'3'; 40]).unwrap(), pack_of(2, &[delta(id, size, 1, &first), next]))
            });
        }
        assert_eq!(hidden.host.spooled(), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn lfs_pointers_in_hidden_blobs_are_new() {
    for deleted in [true, false] {
        let hidden = Hidden::new(deleted);
        // The blob itself comes along, so nothing is missing but the LFS object.
        let push = |data: &[u8]| {
            let tree = tree("100644", "p", &id_of("blob", data));
            let commit = commit(&id_of("tree", &tree), &[]);
            let entries = [whole(BLOB, data), whole(TREE, &tree), whole(COMMIT, &commit)];
            let tip = id_of("commit", &commit);
            hidden.answer(&tip, &pack_of(3, &entries), &tip)
        };
        let other = String::from_utf8(hidden.pointer.1.clone()).unwrap().replace(&"1".repeat(64), &"2".repeat(64));
        let told = |text: String| text.replace(&"2".repeat(64), &"1".repeat(64));
        assert_eq!(push(&hidden.pointer.1), told(push(other.as_bytes())));
    }
}

#[test]
fn names_of_hidden_refs_are_not_told() {
    let hidden = Hidden::new(false);
    let main = hidden.client.git(&["rev-parse", "main"]);
    for name in ["refs/secret", "refs/secret/x/y", "refs/secret/x"] {
        let said = hidden.host.try_push(&hidden.client, &[&format!("{main}:{name}")]);
        let said = gitferry_test_support::receiving::said(&said).replace(&format!("-> {name}"), "");
        assert!(said.contains("rejected") && !said.contains("refs/secret/x "), "{said}");
    }
}

#[test]
fn a_hidden_object_that_is_brought_whole_is_taken() {
    let hidden = Hidden::new(true);
    let pack = hidden.client.feed(&["pack-objects", "--revs", "--stdout", "-q"], b"secret~1\n");
    let tip = hidden.client.git(&["rev-parse", "secret~1"]);
    let answer = hidden.host.talk(&[format!("{} {tip} refs/heads/new", "0".repeat(40))], &pack);
    assert!(answer.contains("ok refs/heads/new"), "{answer}");
    hidden.host.verified();
}
