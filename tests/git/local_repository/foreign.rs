//! Sources that mean harm: of other users, with links into what is not theirs, with pipes in place of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::time::Duration;

use gitferry_git::local::{RefPatterns, SourceRepository};

use crate::local_repository::git::{Place, git, words};

/// All that an import reads, and every error on the way, as text.
fn read_everything(path: &Path) -> String {
    let mut said = String::new();
    let mut tell = |error: &dyn std::fmt::Display| said.push_str(&format!("{error}\n"));
    let source = match SourceRepository::open(path) {
        Ok(source) => source,
        Err(error) => return error.to_string(),
    };
    source.head().map_err(|error| tell(&error)).ok();
    match source.refs(&RefPatterns::all()) {
        Ok(refs) => refs.filter_map(Result::err).for_each(|error| tell(&error)),
        Err(error) => tell(&error),
    }
    for entry in source.loose_objects() {
        match entry.and_then(|entry| entry.read(1 << 20)) {
            Ok(_) => {}
            Err(error) => tell(&error),
        }
    }
    for pack in source.packs().unwrap_or_default() {
        pack.open_pack().map(drop).unwrap_or_else(|error| tell(&error));
        pack.open_index().map(drop).unwrap_or_else(|error| tell(&error));
    }
    said
}

const FILES: [&str; 9] = [
    "HEAD",
    "config",
    "packed-refs",
    "refs/heads/x",
    "objects/info/alternates",
    "commondir",
    "shallow",
    "info/grafts",
    "objects/12/34567890123456789012345678901234567890",
];

/// Puts something in the place of a file of a repository, and takes it away afterwards.
fn in_place_of(git_dir: &Path, file: &str, put: impl FnOnce(&Path), look: impl FnOnce()) {
    let (path, aside) = (git_dir.join(file), git_dir.join("aside"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let was_there = fs::rename(&path, &aside).is_ok();
    put(&path);
    look();
    fs::remove_file(&path).unwrap();
    if was_there {
        fs::rename(&aside, &path).unwrap();
    }
}

#[test]
fn pipes_and_devices_are_not_waited_for() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -dq"));
    let git_dir = path.join(".git");
    let pack = fs::read_dir(git_dir.join("objects/pack")).unwrap().map(|entry| entry.unwrap().file_name());
    let packs: Vec<String> = pack.map(|name| format!("objects/pack/{}", name.to_str().unwrap())).collect();
    for file in FILES.iter().map(|file| (*file).to_owned()).chain(packs) {
        for device in [false, true] {
            let put = |path: &Path| match device {
                true => symlink("/dev/zero", path).unwrap(),
                false => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            };
            in_place_of(&git_dir, &file, put, || {
                let (done, ended) = channel();
                let path = path.clone();
                std::thread::spawn(move || done.send(read_everything(&path)));
                // A test that hangs would not say which file it is.
                ended.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| panic!("{file} is waited for"));
            });
        }
    }
    assert_eq!(read_everything(&path), "");
}

#[test]
fn errors_tell_no_content_of_files() {
    let place = Place::new();
    let path = place.repository("work", "");
    let secret = "$6$HASH";
    let id = "1".repeat(40);
    let contents = [
        format!("root:{secret}:19000\n"),
        format!("{secret}\n"),
        format!("/{secret}/x\n"),
        format!("\"{secret}\n"),
        format!("ref: {secret}\n"),
        format!("ref: refs/heads/{secret} x..y\n"),
        format!("{id} {secret}\n"),
        format!("{id} refs/heads/{secret}..\n"),
        format!("{secret} refs/heads/x\n"),
        format!("# pack-refs with: sorted\n{secret} refs/heads/x\n"),
        format!("# {secret}\n{id} refs/heads/x\n"),
        format!("gitdir: {secret}\n"),
        format!("[core]\n\tbare = {secret}\n{secret}\n"),
        format!("[core]\n\trepositoryFormatVersion = {secret}\n"),
        format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = {secret}\n"),
        format!("[extensions]\n\trefStorage = {secret}\n"),
        format!("[core]\n\trepositoryFormatVersion = 1\n[extensions \"{secret}\"]\n\tx = y\n"),
        format!("[remote \"{secret}\"]\n\tpromisor = true\n"),
        format!("[{secret}]\n"),
    ];
    let outside = place.path("outside");
    let mut errors = 0;
    for content in contents {
        fs::write(&outside, &content).unwrap();
        for file in FILES {
            in_place_of(
                &path.join(".git"),
                file,
                |path| symlink(&outside, path).unwrap(),
                || {
                    let said = read_everything(&path);
                    errors += usize::from(!said.is_empty());
                    assert!(!said.contains("HASH"), "{file} with {content:?}: {said}");
                },
            );
        }
        let pointer = place.path("pointer");
        symlink(&outside, &pointer).unwrap();
        let said = read_everything(&pointer);
        assert!(!said.is_empty() && !said.contains("HASH"), "{said}");
        fs::remove_file(&pointer).unwrap();
    }
    assert!(errors > 80, "{errors}");
}

/// `gitferry import` into a new region, with what `safe.directory` says.
fn import(place: &Place, source: &Path, safe: &[&str]) -> Output {
    let gitferry = gitferry_test_support::paths::gitferry();
    let dir = tempfile::tempdir().unwrap();
    let init = Command::new(gitferry).args(["init", "--dir"]).arg(dir.path()).output().unwrap();
    assert!(init.status.success());
    let config = place.path("gitconfig");
    let lines: String = safe.iter().map(|value| format!("[safe]\n\tdirectory = {value}\n")).collect();
    fs::write(&config, lines).unwrap();
    let mut command = Command::new(gitferry);
    command.arg("--config").arg(dir.path().join("gitferry.toml"));
    command.arg("import").arg(source).args(["copy", "--region", "us-east-1"]);
    command.env("GIT_CONFIG_GLOBAL", config).env("GIT_CONFIG_NOSYSTEM", "1").env_remove("SUDO_UID").output().unwrap()
}

/// Only the superuser can give files away: for others this tests nothing, and the rules are tested beside the code.
#[test]
fn repositories_of_other_users() {
    // SAFETY: the call has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("not the superuser: skipped");
        return;
    }
    let place = Place::new();
    let root = place.path("").canonicalize().unwrap();
    let work = place.repository("work", "");
    git(&root, ["clone", "-q", "--bare", work.to_str().unwrap(), "own.git"]);
    let own = place.path("own.git");
    let give = |path: &Path| {
        assert!(Command::new("chown").args(["-hR", "65534"]).arg(path).status().unwrap().success());
    };
    let refused = |source: &Path, safe: &[&str], reason: &str| {
        let output = import(&place, source, safe);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(reason), "{}: {said}", source.display());
    };
    let taken = |source: &Path, safe: &[&str]| {
        let output = import(&place, source, safe);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    taken(&own, &[]);
    // What Git asks, too.
    let foreign = place.path("foreign.git");
    git(&root, ["clone", "-q", "--bare", own.to_str().unwrap(), "foreign.git"]);
    give(&foreign);
    refused(&foreign, &[], "git config --global --add safe.directory");
    refused(&foreign, &["/elsewhere", "*", ""], "safe.directory");
    for safe in ["*", root.join("foreign.git").to_str().unwrap(), root.join("*").to_str().unwrap()] {
        taken(&foreign, &[safe]);
    }
    // A repository that is trusted, but leads out of itself into what its owner may not read.
    let links: [&[&str]; 6] = [
        &["refs/heads"],
        &["objects/pack"],
        &["objects"],
        &["refs"],
        &["packed-refs"],
        &["refs/heads", "objects/pack"],
    ];
    git(&own, words("repack -adq"));
    git(&own, words("update-ref refs/heads/private main"));
    for names in links {
        let evil = place.path("evil.git");
        git(&root, ["clone", "-q", "--bare", "--no-local", own.to_str().unwrap(), "evil.git"]);
        if names.iter().any(|name| name.starts_with("refs")) {
            fs::remove_file(evil.join("packed-refs")).unwrap();
        }
        for name in names {
            let path = evil.join(name);
            let _ = fs::remove_dir_all(&path);
            let _ = fs::remove_file(&path);
            assert!(own.join(name).exists(), "{name}");
            symlink(own.join(name), path).unwrap();
        }
        give(&evil);
        let output = import(&place, &evil, &["*"]);
        assert!(!output.status.success(), "{names:?}: {}", String::from_utf8_lossy(&output.stdout));
        fs::remove_dir_all(&evil).unwrap();
    }
    let borrower = place.empty("borrower", "--bare");
    fs::create_dir_all(borrower.join("objects/info")).unwrap();
    fs::write(borrower.join("objects/info/alternates"), format!("{}\n", own.join("objects").display())).unwrap();
    give(&borrower);
    refused(&borrower, &["*"], "an alternate that belongs to a different user");
    let pointer = place.path("pointer");
    fs::create_dir(&pointer).unwrap();
    fs::write(pointer.join(".git"), format!("gitdir: {}\n", own.display())).unwrap();
    give(&pointer);
    refused(&pointer, &["*"], "its parts belong to different users");
}
