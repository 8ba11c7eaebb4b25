//! Every shape that objects come in at the source.

use std::path::Path;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{SOURCE, TARGET, World};

#[test]
fn sha256_repositories_work_the_same() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &["--object-format=sha256"]);
    world.sync(&repo, "app");
    assert_eq!(world.show("app", TARGET)["format"], "sha256");
    repo.git(&["repack", "-adq"]);
    repo.commit("main", "more", "more\n");
    repo.git(&["update-ref", "-d", "refs/heads/side"]);
    world.sync(&repo, "app");
    // Another format under the same name is refused.
    let other = GitRepo::with_history(world.path("other.git"), &[]);
    let run = world.ends(2, &["import", other.path.to_str().unwrap(), "app", "--region", SOURCE]);
    run.says(&["app", "sha256", "sha1"]);
}

#[test]
fn submodules_are_links_to_elsewhere() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    let module = "5".repeat(40);
    let script = format!(
        "commit refs/heads/main\ncommitter C <c@example.com> 1700000000 +0000\ndata 6\nmodule\nfrom refs/heads/main^0\n\
         M 160000 {module} sub\nM 100644 inline .gitmodules\ndata 38\n[submodule \"sub\"]\npath=sub\nurl=../sub\n\n"
    );
    repo.feed(&["fast-import", "--quiet"], script.as_bytes());
    world.sync(&repo, "app");
}

#[test]
fn a_work_tree_is_as_good_as_a_bare_repository() {
    let world = World::new();
    let bare = GitRepo::with_history(world.path("bare.git"), &[]);
    let work = world.path("work");
    bare.git(&["clone", "-q", bare.path.to_str().unwrap(), work.to_str().unwrap()]);
    let repo = GitRepo::at(work);
    // The remote's branches are packed, HEAD's own is loose, there is a symbolic ref, an index, a stash.
    std::fs::write(repo.path.join("dir/file0"), "changed\n").unwrap();
    repo.git(&["stash", "-q"]);
    repo.git(&["checkout", "-q", "--detach", "origin/side"]);
    world.sync(&repo, "app");
}

#[test]
fn objects_of_alternates_come_along() {
    let world = World::new();
    let far = GitRepo::with_history(world.path("far.git"), &[]);
    far.git(&["repack", "-adq"]);
    let near = GitRepo::init(world.path("near.git"), &[]);
    std::fs::write(near.path.join("objects/info/alternates"), "../../far.git/objects\n").unwrap();
    near.git(&["update-ref", "refs/heads/main", &far.git(&["rev-parse", "main"])]);
    near.commit("main", "near", "near\n");
    world.sync(&near, "app");
    near.git(&["repack", "-adlq"]);
    far.commit("main", "far", "far\n");
    near.git(&["update-ref", "refs/heads/far", &far.git(&["rev-parse", "main"])]);
    world.sync(&near, "app");
}

#[test]
fn garbage_collection_at_the_source_copies_nothing_again() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    repo.git(&["repack", "-adq"]);
    repo.commit("main", "loose", "loose\n");
    world.sync(&repo, "app");
    let before = world.show("app", SOURCE);
    repo.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(world.import(&repo, "app")["change"], serde_json::Value::Null);
    assert_eq!(world.show("app", SOURCE), before);
    // One pack holds both the known objects and the new ones now.
    repo.commit("main", "after", "after gc\n");
    repo.git(&["gc", "-q", "--prune=now"]);
    let imported = world.import(&repo, "app");
    assert_eq!((&imported["objects"], &imported["packs"]), (&3.into(), &1.into()), "{imported}");
    world.replicate();
    world.assert_synced(&repo, "app");
}

#[test]
fn a_pack_of_mostly_new_objects_is_taken_as_it_is() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    repo.git(&["repack", "-adq"]);
    let first = pack_names(&repo);
    world.sync(&repo, "app");
    assert_eq!(pack_ids(&world, SOURCE), first);
    for n in 0..40 {
        repo.commit("main", &format!("new{n}"), &format!("{n}\n"));
    }
    repo.git(&["repack", "-adq"]);
    let second = pack_names(&repo);
    assert_eq!(world.import(&repo, "app")["packs"], 1);
    let mut both = [first, second].concat();
    both.sort();
    assert_eq!(pack_ids(&world, SOURCE), both);
    world.replicate();
    world.assert_synced(&repo, "app");
    assert_eq!(pack_ids(&world, TARGET), both);
}

#[test]
fn several_packs_stay_several_packs() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    repo.git(&["repack", "-dq"]);
    for n in 0..5 {
        repo.commit("main", "grown", &format!("{n}\n").repeat(50));
        repo.git(&["repack", "-dq"]);
    }
    // Both in a pack and loose; and one that is only loose.
    repo.feed(&["hash-object", "-w", "--stdin"], "4\n".repeat(50).as_bytes());
    repo.commit("side", "loose", "loose\n");
    assert_eq!(pack_names(&repo).len(), 6);
    assert_eq!(world.import(&repo, "app")["packs"], 7);
    world.replicate();
    world.assert_synced(&repo, "app");
    assert_eq!(world.show("app", TARGET)["packs"], 7);
}

#[test]
fn a_source_with_more_packs_than_a_manifest_may_list_is_consolidated() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    many_packs(&repo, 1_100);
    let imported = world.import(&repo, "app");
    assert!(imported["packs"].as_u64().unwrap() <= 1_000, "{imported}");
    world.replicate();
    world.assert_synced(&repo, "app");
    // There is room for the next change, too.
    repo.commit("main", "more", "more\n");
    world.sync(&repo, "app");
}

#[test]
fn objects_of_many_parts_arrive_whole() {
    let world = World::new();
    let repo = GitRepo::init(world.path("src.git"), &[]);
    repo.commit_bytes("main", "big", &noise(1, 20 << 20));
    repo.commit_bytes("main", "bigger", &noise(2, 9 << 20));
    world.sync(&repo, "app");
}

/// Commits on main, each in a pack of its own.
fn many_packs(repo: &GitRepo, count: usize) {
    let commit = |n: usize| {
        let message = format!("commit {n}");
        format!(
            "commit refs/heads/main\ncommitter C <c@example.com> 1700000000 +0000\ndata {}\n{message}\n\
             M 100644 inline file\ndata {}\n{n}\n\ncheckpoint\n",
            message.len(),
            n.to_string().len() + 1,
        )
    };
    let script: String = (0..count).map(commit).collect();
    repo.feed(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], script.as_bytes());
    assert_eq!(pack_names(repo).len(), count);
}

/// The checksums of a repository's packs, sorted.
fn pack_names(repo: &GitRepo) -> Vec<String> {
    let entries = std::fs::read_dir(repo.path.join("objects/pack")).unwrap();
    let mut ids: Vec<String> =
        entries.map(|entry| entry.unwrap().path()).filter(|path| is_pack(path)).map(|path| trailer(&path)).collect();
    ids.sort();
    ids
}

fn is_pack(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "pack")
}

fn trailer(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    hex::encode(&bytes[bytes.len() - 20..])
}

/// The checksums of the packs in a region's store, sorted.
fn pack_ids(world: &World, region: &str) -> Vec<String> {
    let mut ids: Vec<String> = world.pack_files(region).iter().map(|path| trailer(path)).collect();
    ids.sort();
    ids
}

#[test]
fn packs_that_overlap_are_not_copied_twice() {
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    repo.commit_bytes("main", "large", &noise(3, 3 << 20));
    repo.git(&["repack", "-adq"]);
    // The large blob once more, in a pack of its own, as Git leaves it after a fetch of a thin pack.
    let blob = repo.git(&["rev-parse", "main:large"]);
    repo.feed(&["pack-objects", "-q", "objects/pack/pack"], format!("{blob}\n").as_bytes());
    let imported = world.import(&repo, "app");
    assert_eq!(imported["packs"], 1);
    assert!(imported["bytes"].as_u64().unwrap() < 4 << 20);
    world.replicate();
    world.assert_synced(&repo, "app");
}

/// What could not be served is not imported either, by the limits of a push: whole, and as a layer around what is there.
#[test]
fn what_could_not_be_served_is_not_imported() {
    const MOST_FOLDERS: usize = 2048;
    const MOST_TAGS: usize = 1000;
    let world = World::new();
    let repo = GitRepo::with_history(world.path("src.git"), &[]);
    let commit = |branch: &str, folders: usize| {
        let path = "d/".repeat(folders);
        let stream = format!(
            "blob\nmark :1\ndata 0\n\ncommit refs/heads/{branch}\ncommitter A <a@b> 1 +0000\ndata 4\ndeep\n\
             M 100644 :1 {path}f\n\ndone\n"
        );
        repo.feed(&["fast-import", "--quiet", "--force", "--done"], stream.as_bytes());
    };
    let path = repo.path.to_str().unwrap();
    let refused = |words: &[&str]| {
        let before = world.run(&["repo", "show", "app", "--region", SOURCE, "--json"]).stdout;
        world.ends(2, &["import", path, "app", "--region", SOURCE]).says(words);
        assert_eq!(world.run(&["repo", "show", "app", "--region", SOURCE, "--json"]).stdout, before);
        // All else can be imported.
        world.ok(&["import", path, "rest", "--region", SOURCE, "--refs", "refs/heads/main"]);
    };
    commit("deep", MOST_FOLDERS + 1);
    refused(&["refs/heads/deep", "core.maxTreeDepth", "--refs"]);
    commit("deep", MOST_FOLDERS);
    // Packs are taken over whole: nothing that was refused may come in with what is not.
    repo.git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.git(&["gc", "-q", "--prune=now"]);
    world.import(&repo, "app");
    // One folder more around what is held.
    commit("deep", MOST_FOLDERS + 1);
    refused(&["refs/heads/deep", "core.maxTreeDepth"]);
    repo.git(&["update-ref", "-d", "refs/heads/deep"]);
    let (mut object, mut kind, mut files) =
        (repo.git(&["rev-parse", "main"]).trim().to_owned(), "commit", String::new());
    let mut tags = Vec::new();
    for number in 1..=MOST_TAGS + 1 {
        let tag = format!("object {object}\ntype {kind}\ntag t{number}\ntagger A <a@b> 1 +0000\n\nm\n");
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, gix::objs::Kind::Tag, tag.as_bytes()).unwrap();
        let file = world.path(&format!("tag-{number}"));
        std::fs::write(&file, tag).unwrap();
        files += &format!("{}\n", file.display());
        (object, kind) = (id.to_string(), "tag");
        tags.push(object.clone());
    }
    repo.feed(&["hash-object", "-t", "tag", "--literally", "-w", "--no-filters", "--stdin-paths"], files.as_bytes());
    repo.git(&["update-ref", "refs/tags/most", &tags[MOST_TAGS - 1]]);
    world.import(&repo, "app");
    repo.git(&["update-ref", "refs/tags/more", &tags[MOST_TAGS]]);
    refused(&["refs/tags/more", "more than 1000 nested tags"]);
}
