//! What comes in from outside and is not as it should be: nothing of it gets in.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use gitferry_engine::region::Region;

use crate::faults::disk::{assert_same, damage, files, flip, gone, half, state};
use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{Run, SOURCE, World};

fn import(world: &World, source: &GitRepo) -> Run {
    world.run(&["import", source.path.to_str().unwrap(), "team/app", "--region", SOURCE])
}

/// The import fails with this code, says these words and changes nothing.
fn refuses(world: &World, source: &GitRepo, code: i32, words: &[&str]) {
    let before = state(world, SOURCE);
    let run = import(world, source);
    assert_eq!(run.status.code(), Some(code), "{}{}", run.stdout, run.stderr);
    run.says(words);
    assert_same(&before, &state(world, SOURCE));
    assert_eq!(files(&world.path(SOURCE).join("objects/.staging")), Vec::<PathBuf>::new(), "left in the spool");
}

/// A repository that has been imported, and then got a second pack: pack and index.
fn with_second_pack(world: &World) -> (GitRepo, PathBuf, PathBuf) {
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    source.git(&["repack", "-adq"]);
    world.import(&source, "team/app");
    for number in 0..20 {
        source.commit_bytes("main", &format!("new{number}"), &noise(number, 2_000));
    }
    source.commit("main", "text", &"compressible\n".repeat(500));
    let first = world_packs(&source);
    source.git(&["repack", "-dq"]);
    let pack = world_packs(&source).into_iter().find(|path| !first.contains(path)).unwrap();
    let index = pack.with_extension("idx");
    (source, pack, index)
}

fn world_packs(source: &GitRepo) -> Vec<PathBuf> {
    let mut all = files(&source.path.join("objects/pack"));
    all.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
    all
}

#[test]
fn a_damaged_pack_or_index_stays_outside() {
    let world = World::new();
    let (source, pack, index) = with_second_pack(&world);
    let name = pack.file_stem().unwrap().to_str().unwrap();
    type Change = Box<dyn FnOnce(Vec<u8>) -> Option<Vec<u8>>>;
    let changes: Vec<(&PathBuf, Change)> = vec![
        (&pack, Box::new(half)),
        (&pack, Box::new(|bytes| Some(bytes[..bytes.len() - 1].to_vec()))),
        (&pack, Box::new(|bytes| Some(bytes[..10].to_vec()))),
        (&pack, Box::new(|_| Some(Vec::new()))),
        (&pack, Box::new(|bytes| Some([bytes, vec![0]].concat()))),
        (&pack, Box::new(flip(0))),
        (&pack, Box::new(flip(100))),
        (&pack, Box::new(flip(500))),
        (&pack, Box::new(flip(999))),
        // The trailer.
        (&pack, Box::new(flip(1_000))),
        (&index, Box::new(half)),
        (&index, Box::new(flip(300))),
        (&index, Box::new(flip(700))),
        (&index, Box::new(flip(1_000))),
        (&index, Box::new(|_| Some(Vec::new()))),
    ];
    for (path, change) in changes {
        let _damaged = damage(path, change);
        refuses(&world, &source, 3, &[name]);
    }
    // With the cause gone the next run works.
    world.sync(&source, "team/app");
}

#[test]
fn an_index_of_another_pack_stays_outside() {
    let world = World::new();
    let (source, pack, index) = with_second_pack(&world);
    let other = world_packs(&source).into_iter().find(|path| *path != pack).unwrap().with_extension("idx");
    let swapped = damage(&index, |_| Some(std::fs::read(other).unwrap()));
    // Its objects cannot be found, as Git cannot find them.
    let before = state(&world, SOURCE);
    let run = import(&world, &source);
    assert_eq!(run.status.code(), Some(3), "{}{}", run.stdout, run.stderr);
    assert_same(&before, &state(&world, SOURCE));
    drop(swapped);
    world.sync(&source, "team/app");
}

#[test]
fn a_pack_without_its_index_is_not_there_and_what_it_held_is_missed() {
    let world = World::new();
    let (source, _, index) = with_second_pack(&world);
    let tip = source.git(&["rev-parse", "main"]);
    let removed = damage(&index, gone);
    refuses(&world, &source, 3, &["team/app", &tip, "refs/heads/main", "missing"]);
    drop(removed);
    world.sync(&source, "team/app");
}

#[test]
fn a_pack_is_known_by_its_trailer_whatever_its_file_is_called() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    source.git(&["repack", "-adq"]);
    let pack = world_packs(&source).remove(0);
    let bytes = std::fs::read(&pack).unwrap();
    let trailer: String = bytes[bytes.len() - 20..].iter().map(|byte| format!("{byte:02x}")).collect();
    let other = format!("pack-{}", "5".repeat(40));
    for path in files(&source.path.join("objects/pack")) {
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        std::fs::rename(&path, path.with_file_name(format!("{other}.{extension}"))).unwrap();
    }
    world.sync(&source, "team/app");
    let stored = world.pack_files(SOURCE).remove(0).display().to_string();
    assert!(stored.contains(&trailer) && !stored.contains("5555555"), "{stored}");
    // Under yet another name it is still nothing new.
    for path in files(&source.path.join("objects/pack")) {
        let extension = path.extension().unwrap().to_str().unwrap().to_owned();
        std::fs::rename(&path, path.with_file_name(format!("pack-{}.{extension}", "6".repeat(40)))).unwrap();
    }
    assert!(world.import(&source, "team/app")["change"].is_null());
}

fn loose_path(source: &GitRepo, id: &str) -> PathBuf {
    source.path.join("objects").join(&id[..2]).join(&id[2..])
}

#[test]
fn a_missing_object_below_a_ref_is_named_with_the_ref() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    let whole = |name: &str| source.git(&["rev-parse", name]);
    let cases = [
        (whole("side:other"), "reached from refs/heads/main"),
        (whole("side^{tree}"), "reached from refs/heads/main"),
        (whole("v1"), "reached from refs/tags/v"),
        (whole("main~4"), "reached from refs/heads/main"),
        (whole("light"), "reached from refs/"),
    ];
    for (id, reference) in &cases {
        let removed = damage(&loose_path(&source, id), gone);
        refuses(&world, &source, 3, &["team/app", id, reference, "missing"]);
        drop(removed);
    }
    world.sync(&source, "team/app");
}

#[test]
fn a_damaged_loose_object_stays_outside() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    let id = source.git(&["rev-parse", "side:other"]);
    for change in [flip(200), flip(900)] {
        let _damaged = damage(&loose_path(&source, &id), change);
        refuses(&world, &source, 3, &[&id[2..]]);
    }
    let other = std::fs::read(loose_path(&source, &source.git(&["rev-parse", "main:dir/file0"]))).unwrap();
    let swapped = damage(&loose_path(&source, &id), |_| Some(other));
    // A good object under another's name.
    let before = state(&world, SOURCE);
    assert_eq!(import(&world, &source).status.code(), Some(3));
    assert_same(&before, &state(&world, SOURCE));
    drop(swapped);
    world.sync(&source, "team/app");
}

#[tokio::test]
async fn what_is_missing_below_garbage_only_is_no_harm_until_a_ref_reaches_it() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    let absent = "1234567890123456789012345678901234567890";
    let people = "author A <a@example.com> 1 +0000\ncommitter C <c@example.com> 1 +0000\n\ngarbage\n";
    let write = |text: String| {
        let id = source.feed(&["hash-object", "-t", "commit", "-w", "--literally", "--stdin"], text.as_bytes());
        String::from_utf8(id).unwrap().trim().to_owned()
    };
    let tree = source.git(&["rev-parse", "main^{tree}"]);
    let garbage = write(format!("tree {tree}\nparent {absent}\n{people}"));
    let above = write(format!("tree {tree}\nparent {garbage}\n{people}"));
    world.sync(&source, "team/app");

    let us = Region::open_embedded(SOURCE, &world.path(SOURCE).join("objects"), &world.path(SOURCE).join("table.db"));
    let us = us.unwrap();
    let item = us.repositories().get("team/app").await.unwrap();
    let packs = us.reader().manifest(&item).await.unwrap().0.packs;
    assert_eq!(packs.iter().map(|pack| pack.closed).collect::<Vec<_>>(), [false]);

    // The garbage is in the region now, but that proves nothing.
    for tip in [&garbage, &above] {
        let file = source.path.join("refs/heads/late");
        std::fs::write(&file, format!("{tip}\n")).unwrap();
        refuses(&world, &source, 3, &["team/app", absent, &garbage, "refs/heads/late", "missing"]);
        std::fs::remove_file(file).unwrap();
    }
    // Refs to what is whole go on as ever.
    source.git(&["update-ref", "refs/heads/fine", "main~1"]);
    source.commit("main", "more", "more\n");
    world.sync(&source, "team/app");
}

#[test]
fn what_is_no_repository_is_refused() {
    let world = World::new();
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(world.path("file"), "text").unwrap();
    for name in ["empty", "file", "nowhere"] {
        let path = world.path(name);
        refuses(&world, &GitRepo::at(&path), 2, &[path.to_str().unwrap()]);
    }
}

#[test]
fn what_cannot_be_read_faithfully_is_refused_with_a_way_out() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    let tip = source.git(&["rev-parse", "main"]);
    let (shallow, grafts) = (source.path.join("shallow"), source.path.join("info/grafts"));
    for (file, words) in [(shallow, ["shallow", "--unshallow"]), (grafts, ["grafts", "--convert-graft-file"])] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{tip}\n")).unwrap();
        refuses(&world, &source, 2, &words);
        std::fs::remove_file(&file).unwrap();
    }
    source.git(&["config", "remote.origin.promisor", "true"]);
    refuses(&world, &source, 2, &["partial clone", "remote.origin.promisor", "--mirror"]);
    source.git(&["config", "--unset", "remote.origin.promisor"]);
    let config = std::fs::read(source.path.join("config")).unwrap();
    for (key, value, words) in [
        ("extensions.refStorage", "reftable", ["reftable", "git refs migrate"]),
        ("extensions.objectFormat", "sha512", ["sha512", "git clone --mirror"]),
        ("extensions.novelty", "true", ["extensions.novelty", "git clone --mirror"]),
    ] {
        let file = source.path.join("config").display().to_string();
        for (key, value) in [("core.repositoryFormatVersion", "1"), (key, value)] {
            GitRepo::at(world.path("")).git(&["config", "-f", &file, key, value]);
        }
        refuses(&world, &source, 2, &words);
        std::fs::write(&file, &config).unwrap();
    }
    world.sync(&source, "team/app");
}

#[test]
fn an_import_never_empties_or_converts_a_repository_by_accident() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    world.sync(&source, "team/app");
    refuses(&world, &GitRepo::init(world.path("empty.git"), &[]), 2, &["team/app", "--allow-empty"]);
    let sha256 = GitRepo::with_history(world.path("sha256.git"), &["--object-format=sha256"]);
    refuses(&world, &sha256, 2, &["team/app", "sha1", "sha256"]);
}

#[test]
fn a_source_that_may_not_be_read_is_named() {
    let world = World::new();
    let source = GitRepo::with_history(world.path("source.git"), &[]);
    source.git(&["repack", "-adq"]);
    let pack = world_packs(&source).remove(0);
    let allow = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(0);
    let args = ["import", source.path.to_str().unwrap(), "team/app", "--region", SOURCE];
    let mut command = world.command(&args);
    if std::fs::File::open(&pack).is_ok() {
        // Nothing is forbidden to us: nobody does it.
        let Some(nobody) = as_nobody(&world, &args) else {
            eprintln!("SKIPPED a_source_that_may_not_be_read_is_named: cannot become another user");
            return;
        };
        command = nobody;
    }
    let run = Run::of(command);
    assert_eq!(run.status.code(), Some(3), "{}{}", run.stdout, run.stderr);
    run.says(&[pack.to_str().unwrap(), "Permission denied", "fix permissions"]);
    allow(0o644);
    let _ = give(&world.path(""), std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()));
    world.sync(&source, "team/app");
}

/// Gives a folder and all in it to a user.
fn give(path: &std::path::Path, user: u32) -> std::io::Result<()> {
    std::os::unix::fs::lchown(path, Some(user), Some(user))?;
    if std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}

/// The command with these arguments, run by an unprivileged user in a folder that is made theirs.
fn as_nobody(world: &World, args: &[&str]) -> Option<std::process::Command> {
    const NOBODY: u32 = 65_534;
    let binary = world.path("gitferry");
    std::fs::copy(gitferry_test_support::paths::gitferry(), &binary).ok()?;
    give(&world.path(""), NOBODY).ok()?;
    let mut command = std::process::Command::new(binary);
    command.args(args).current_dir(world.path("")).env_clear().uid(NOBODY).gid(NOBODY);
    Some(command)
}
