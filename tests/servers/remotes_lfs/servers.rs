//! From one server to another.

use serde_json::json;

use crate::remotes_lfs::git::{self, GitRepo, noise};
use crate::remotes_lfs::hosts::Hosts;
use gitferry_test_support::backend::Backend;
use gitferry_test_support::lfs_work::{Work, oid_of, stored, with_pointer};
use gitferry_test_support::pair::{EU, US, anonymous_mib};

/// Hosts that take pointers without their objects.
const ALLOW: &str = "[[push_policies]]\nlfs_missing = \"allow\"\n";

fn push(hosts: &Hosts, work: &Work) {
    work.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
}

#[test]
fn objects_are_there_before_refs_and_move_once() {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    let files = [("large.bin", noise(1, (9 << 20) + 5)), ("small.bin", noise(2, 1000)), ("tiny.bin", b"x".to_vec())];
    for (name, content) in &files {
        work.commit(name, content);
    }
    work.commit("again.bin", &files[1].1);
    push(&hosts, &work);
    let before = hosts.taken();
    let told = hosts.run(&["explain", "cc", "app", "--json"]).json();
    assert_eq!(json!([told["lfs"]["objects"], told["lfs"]["lacking"]]), json!([3, 3]), "{told}");
    let lacking = told["lfs"]["lacking_bytes"].clone();
    assert_eq!(hosts.taken() - before, 0, "to look brings nothing");
    let carried = hosts.pass("cc");
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert_eq!(json!([carried["created"], carried["lfs_objects"], carried["lfs_bytes"]]), json!([1, 3, bytes]));
    assert_eq!(lacking, bytes);
    assert_eq!(hosts.taken() - before, 3);
    let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
    for (name, content) in &files {
        assert!(clone.read(name) == *content, "{name}");
    }
    clone.git(&["lfs", "fetch", "--all"]);
    clone.git(&["lfs", "fsck"]);
    // Only what is new moves: a new version, and no object for what only moves within the tree.
    work.commit("large.bin", b"now it is small");
    work.git(&["mv", "tiny.bin", "other.bin"]);
    work.git(&["commit", "-qm", "moved"]);
    push(&hosts, &work);
    let before = hosts.taken();
    let carried = hosts.pass("cc");
    assert_eq!(json!([carried["updated"], carried["lfs_objects"], carried["lfs_bytes"]]), json!([1, 1, 15]));
    assert_eq!(hosts.taken() - before, 1);
    clone.git(&["pull", "-q"]);
    assert_eq!((clone.read("large.bin"), clone.read("other.bin")), (b"now it is small".to_vec(), b"x".to_vec()));
    assert!(hosts.pass("cc").is_null(), "nothing is new");
    // An object that the target has already, by another way, does not move.
    work.commit("known.bin", b"known");
    push(&hosts, &work);
    work.git(&["lfs", "push", "--all", &hosts.pair.url(EU, "app")]);
    let before = hosts.taken();
    let told = hosts.run(&["explain", "cc", "app"]).stdout;
    assert!(told.contains("lfs     0 of 5 objects (0 B of 9.00 MiB) to copy"), "{told}");
    assert_eq!(hosts.pass("cc")["lfs_objects"], 0);
    assert_eq!(hosts.taken(), before);
}

#[test]
fn more_objects_than_one_request_names() {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    for n in 0..230 {
        std::fs::write(work.path.join(format!("{n}.bin")), format!("object {n}")).unwrap();
    }
    work.commit("file", b"no object");
    push(&hosts, &work);
    assert_eq!(hosts.pass("cc")["lfs_objects"], 230);
    let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
    assert_eq!(clone.read("229.bin"), b"object 229");
}

#[test]
fn what_the_source_lacks_refuses_the_pass_unless_that_is_allowed() {
    let hosts = Hosts::start(ALLOW);
    hosts.link("lfs = \"copy\"");
    let repo = with_pointer(&hosts.pair.path("src.git"), b"nobody has it");
    repo.git(&["push", "-q", &hosts.pair.url(US, "app"), "main"]);
    let oid = oid_of(b"nobody has it");
    let words = [oid.as_str(), "(13 bytes)", "does not have an LFS object", "no ref was moved", "lfs_missing"];
    hosts.fails("cc", 2, &words);
    assert_eq!(hosts.refs(EU), "");
    hosts.link("lfs = \"copy\"\nlfs_missing = \"allow\"");
    let carried = hosts.pass("cc");
    assert_eq!(json!([carried["created"], carried["lfs_objects"]]), json!([1, 0]));
    assert!(carried["remarks"][0].as_str().unwrap().contains(&oid), "{carried}");
    assert_eq!(hosts.refs(EU), hosts.refs(US));
}

#[test]
fn refs_that_are_equal_do_not_prove_that_their_objects_are_there() {
    for table in ["", "table = \"sqlite:cc.db\"\n"] {
        let hosts = Hosts::start(ALLOW);
        let link = |lines: &str| {
            hosts.link(lines);
            let file = hosts.pair.path("links.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("[links.cc]\n", &format!("[links.cc]\n{table}"))).unwrap();
            assert!(hosts.run(&["region", "init"]).status.success());
        };
        let lacking = || hosts.run(&["explain", "cc", "app", "--json"]).json()["lfs"]["lacking"].clone();
        let work = Work::new(hosts.pair.path("work"));
        work.commit("there.bin", b"it is there");
        push(&hosts, &work);
        work.commit("missing.bin", b"nobody has it yet");
        let url = hosts.pair.url(US, "app");
        let git = git::command(&work.path).args(["push", "-q", &url, "main"]).env("GIT_LFS_SKIP_PUSH", "1").status();
        assert!(git.unwrap().success());
        // Carried without their objects at first.
        link("");
        hosts.pass("cc");
        assert_eq!(hosts.refs(EU), hosts.refs(US));
        link("lfs = \"copy\"\nlfs_missing = \"allow\"");
        assert_eq!(lacking(), 2, "{table}");
        assert_eq!(hosts.pass("cc")["lfs_objects"], 1, "{table}");
        // What was missing is asked for until it is there.
        assert_eq!(lacking(), 1, "{table}");
        assert!(hosts.pass("cc").is_null(), "{table}");
        work.git(&["lfs", "push", "--all", &url]);
        assert_eq!(lacking(), 1, "{table}");
        assert_eq!(hosts.pass("cc")["lfs_objects"], 1, "{table}");
        let told = hosts.run(&["explain", "cc", "app", "--json"]).json();
        assert!(matches!(told["lfs"]["lacking"].as_u64(), Some(0)), "{told}");
        assert!(hosts.pass("cc").is_null(), "{table}");
        let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
        assert_eq!(clone.read("missing.bin"), b"nobody has it yet");
    }
}

#[test]
fn the_list_of_what_is_missing_is_whole_but_short() {
    let hosts = Hosts::start(ALLOW);
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    for n in 0..130 {
        std::fs::write(work.path.join(format!("{n}.bin")), format!("object {n}")).unwrap();
    }
    work.commit("file", b"no object");
    let url = hosts.pair.url(US, "app");
    let push = git::command(&work.path).args(["push", "-q", &url, "main"]).env("GIT_LFS_SKIP_PUSH", "1").status();
    assert!(push.unwrap().success());
    hosts.fails("cc", 2, &["does not have 130 LFS objects", "and 110 more"]);
}

#[test]
fn damaged_bytes_of_the_source_are_caught() {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    let content = noise(5, 3 << 20);
    work.commit("file.bin", &content);
    work.commit("good.bin", b"good");
    push(&hosts, &work);
    let oid = oid_of(&content);
    let kept = stored(&hosts.region(US), &oid).unwrap();
    let overwrite = |content: &[u8]| {
        std::fs::remove_file(&kept).unwrap();
        std::fs::write(&kept, content).unwrap();
    };
    let mut damaged = content.clone();
    damaged[1 << 20] ^= 1;
    overwrite(&damaged);
    hosts.fails("cc", 3, &[&oid, "is damaged where it comes from"]);
    assert_eq!((hosts.refs(EU).as_str(), stored(&hosts.region(EU), &oid)), ("", None));
    hosts.fails("pull", 3, &[&oid, "is damaged where it comes from"]);
    overwrite(&content);
    // What moved before does not move again.
    assert_eq!(hosts.pass("cc")["lfs_objects"], 1);
    let clone = Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app"));
    assert!(clone.read("file.bin") == content && clone.read("good.bin") == b"good");
}

#[test]
fn pointers_alone_move_where_nothing_else_is_said() {
    let hosts = Hosts::start(ALLOW);
    hosts.link("lfs = \"ignore\"");
    let work = Work::new(hosts.pair.path("work"));
    work.commit("file.bin", b"content");
    push(&hosts, &work);
    let carried = hosts.pass("cc");
    assert_eq!(json!([carried["created"], carried["lfs_objects"]]), json!([1, 0]));
    assert_eq!(hosts.refs(EU), hosts.refs(US));
    assert_eq!(stored(&hosts.region(EU), &oid_of(b"content")), None);
}

#[test]
fn a_link_that_is_told_to_copy_later_makes_up_for_it() {
    let hosts = Hosts::start(ALLOW);
    hosts.link("");
    let work = Work::new(hosts.pair.path("work"));
    work.commit("old.bin", b"old");
    work.commit("file.bin", b"content");
    push(&hosts, &work);
    let table = |lines: &str| {
        hosts.link(lines);
        let text = std::fs::read_to_string(hosts.pair.path("links.toml")).unwrap();
        let cc = text.split_inclusive("[links.pull]").next().unwrap().trim_end_matches("[links.pull]").to_owned();
        std::fs::write(hosts.pair.path("links.toml"), cc + "table = \"sqlite:cc.db\"\n").unwrap();
        assert!(hosts.run(&["region", "init"]).status.success());
    };
    table("");
    hosts.pass("cc");
    table("lfs = \"copy\"");
    let carried = hosts.pass("cc");
    assert_eq!(json!([carried["updated"], carried["lfs_objects"], carried["packs"]]), json!([0, 2, 0]));
    assert_eq!(Work::clone(hosts.pair.dir(), &hosts.pair.url(EU, "app")).read("old.bin"), b"old");
    assert!(hosts.pass("cc").is_null(), "that is done once");
}

#[test]
fn a_source_that_cannot_leave_objects_out_is_told() {
    let hosts = Hosts::start("");
    let root = hosts.pair.path("plain");
    let repo = GitRepo::with_history(root.join("app"), &[]);
    let backend = Backend::serve(&root);
    hosts.link("lfs = \"copy\"");
    let text = std::fs::read_to_string(hosts.pair.path("links.toml")).unwrap();
    let text = text.replace(&hosts.pair.address(US).to_string(), &backend.address.to_string());
    std::fs::write(hosts.pair.path("links.toml"), text).unwrap();
    hosts.fails("cc", 2, &["filter objects: it does not advertise `filter`", "lfs = \"copy\""]);
    assert_eq!(hosts.refs(EU), "");
    // One that can, and has no LFS server, is as good while there are no pointers.
    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    assert_eq!(hosts.pass("cc")["lfs_objects"], 0);
    repo.commit(
        "main",
        "file.bin",
        &format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n", oid_of(b"x")),
    );
    hosts.fails("cc", 2, &["app.git/info/lfs", "LFS batch request for downloads"]);
}

/// Memory does not depend on how large objects are.
#[test]
#[ignore = "takes a minute and three gigabytes of disk"]
fn memory_does_not_depend_on_the_objects() {
    let hosts = Hosts::start("");
    hosts.link("lfs = \"copy\"");
    let work = Work::new(hosts.pair.path("work"));
    for n in 0..4 {
        work.commit(&format!("{n}.bin"), &noise(n, 150 << 20));
    }
    push(&hosts, &work);
    for link in ["cc", "pull"] {
        let mut child = hosts.command(&["replicate", link]).spawn().unwrap();
        let mut most = 0;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None => most = most.max(anonymous_mib(child.id()).unwrap_or(0)),
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        println!("{link}: most anonymous memory: {most} MiB");
        assert!(status.success() && most > 0 && most < 96, "{link}: {status}, {most} MiB");
    }
}
