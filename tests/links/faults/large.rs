//! Slow: one blob of several gigabytes, and a pack whose offsets need more than 31 bits.
//! `cargo test --release --test faults -- --ignored large` writes about 14 GB below the temporary folder
//! and takes minutes, most of them to write the source (8 on a busy machine with 2 cores, in a debug build).

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use gitferry_test_support::git::{GitRepo, noise};
use gitferry_test_support::world::{LINK, Run, SOURCE, TARGET, World};

/// Bytes of the large blob.
const BLOB: u64 = 2_700 << 20;
/// Blobs that lie behind it in the pack.
const BEHIND: u64 = 3;
const MEGABYTE: u64 = 1 << 20;
/// `replicate` stays below this for a repository of any size.
const REPLICATE_RSS: u64 = 100 * MEGABYTE;
/// What checking a pack holds for deltas and buffers, however large the blobs in it are.
const CHECK_RSS: u64 = 160 * MEGABYTE;

/// Runs the command, which must succeed, and tells its largest anonymous memory in bytes.
fn measured(world: &World, args: &[&str]) -> u64 {
    let mut command = world.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(anonymous(&std::fs::read_to_string(&status).unwrap_or_default()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{args:?}: {text}");
    println!("{:<10} {:>4} MB of anonymous memory", args[0], peak / MEGABYTE);
    peak
}

/// `RssAnon` of a process, in bytes.
fn anonymous(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.and_then(|text| text.trim().parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes * 1024)
}

/// Writes `bytes` bytes that do not compress.
fn write_noise(path: &Path, seed: u64, bytes: u64) {
    let piece = noise(seed, MEGABYTE as usize - 8);
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for part in 0..bytes / MEGABYTE {
        out.write_all(&part.to_be_bytes()).unwrap();
        out.write_all(&piece).unwrap();
    }
    out.flush().unwrap();
}

/// One pack: the large blob, small ones behind it, and the commit that holds them all.
fn large_source(world: &World) -> GitRepo {
    let source = GitRepo::init(world.path("source.git"), &[]);
    source.git(&["config", "core.compression", "0"]);
    let file = world.path("file");
    let mut blobs = Vec::new();
    for number in 0..=BEHIND {
        write_noise(&file, number, if number == 0 { BLOB } else { MEGABYTE });
        blobs.push(source.git(&["hash-object", "-w", file.to_str().unwrap()]));
    }
    std::fs::remove_file(file).unwrap();
    let entries = blobs.iter().enumerate().map(|(number, id)| format!("100644 blob {id}\tblob{number}\n"));
    let tree = source.feed(&["mktree"], entries.collect::<String>().as_bytes());
    let tree = String::from_utf8(tree).unwrap().trim().to_owned();
    let commit = source.git(&["commit-tree", &tree, "-m", "large"]);
    source.git(&["update-ref", "refs/heads/main", &commit]);
    let order = [blobs, vec![tree, commit]].concat().join("\n") + "\n";
    // Git has put the large blob into a pack of its own already; that one goes.
    let before = crate::faults::disk::files(&source.path.join("objects/pack"));
    source.feed(&["pack-objects", "-q", "--compression=0", "objects/pack/pack"], order.as_bytes());
    before.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    source.git(&["prune-packed"]);
    source
}

#[test]
#[ignore = "writes 14 GB and takes minutes"]
fn a_large_blob_and_what_lies_behind_it_go_all_the_way() {
    let world = World::new();
    let source = large_source(&world);
    let index = source.git(&["verify-pack", "-v", &pack_of(&source)]);
    let offsets = index.lines().filter_map(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok());
    assert!(offsets.filter(|offset| *offset > 1 << 31).count() as u64 >= BEHIND);

    let path = source.path.to_str().unwrap();
    assert!(measured(&world, &["import", path, "team/app", "--region", SOURCE]) < CHECK_RSS);
    assert!(measured(&world, &["replicate", LINK]) < REPLICATE_RSS);
    assert!(measured(&world, &["verify", LINK, "--deep"]) < CHECK_RSS);
    // The source region is not needed any more; room for the export.
    std::fs::remove_dir_all(world.path(SOURCE)).unwrap();
    let to = world.path("export.git");
    let export = ["export", "team/app", "--region", TARGET, "--to", to.to_str().unwrap()];
    assert!(measured(&world, &export) < REPLICATE_RSS);
    let export = GitRepo::at(to);
    assert_eq!(export.fsck(), source.fsck());
    assert_eq!((export.refs(), export.reachable()), (source.refs(), source.reachable()));
}

#[test]
#[ignore = "writes 9 GB and takes a minute"]
fn a_large_pack_that_is_cut_or_flipped_is_not_carried_on() {
    let world = World::new();
    let source = large_source(&world);
    let path = source.path.to_str().unwrap();
    world.ok(&["import", path, "team/app", "--region", SOURCE]);
    let pack = world.pack_files(SOURCE).remove(0);
    // Far behind 2 GiB, in place: no second copy of the pack is made.
    flip_at(&pack, 1 << 31);
    let run = Run::of(world.command(&["replicate", LINK]));
    assert_eq!(run.status.code(), Some(3), "{}", run.stderr);
    run.says(&["team/app", SOURCE, "damaged"]);
    flip_at(&pack, 1 << 31);
    assert!(measured(&world, &["replicate", LINK]) < REPLICATE_RSS);
    world.ok(&["verify", "team/app", "--region", TARGET, "--deep"]);
}

fn flip_at(path: &Path, offset: u64) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

fn pack_of(source: &GitRepo) -> String {
    let mut packs = crate::faults::disk::files(&source.path.join("objects/pack"));
    packs.retain(|path| path.extension().is_some_and(|extension| extension == "idx"));
    packs.remove(0).display().to_string()
}
