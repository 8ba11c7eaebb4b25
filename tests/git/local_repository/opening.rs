//! Which repositories open, and which are refused with which way out.

use std::fs;
use std::path::Path;

use gitferry_base::Kind;
use gitferry_git::local::{Feature, SourceError, SourceRepository};

use crate::local_repository::git::{Place, all_objects, assert_same, for_each_ref, git, objects_of, refs_of, words};

fn refusal(path: &Path) -> Feature {
    match SourceRepository::open(path) {
        Err(error @ SourceError::Unsupported { .. }) => {
            assert_eq!(error.kind(), Kind::Refused);
            let SourceError::Unsupported { feature, .. } = &error else { unreachable!() };
            let text = error.to_string();
            assert!(text.contains(&path.display().to_string()) || path.join(".git").exists(), "{text}");
            assert!(text.contains(feature.way_out()), "{text}");
            feature.clone()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn append(path: &Path, text: &str) {
    let mut content = fs::read_to_string(path).unwrap_or_default();
    content.push_str(text);
    fs::write(path, content).unwrap();
}

#[test]
fn every_shape_of_repository() {
    let place = Place::new();
    let work = place.repository("work", "");
    assert_same(&work);
    assert_same(&work.join(".git"));
    git(place.0.path(), words("clone -q --mirror --no-local work bare.git"));
    assert_same(&place.path("bare.git"));

    git(&work, words("worktree add -q ../linked side/deep/er"));
    git(&place.path("linked"), words("update-ref refs/bisect/bad HEAD"));
    let linked = SourceRepository::open(place.path("linked")).unwrap();
    assert_eq!(refs_of(&place.path("linked")), for_each_ref(&work));
    assert_eq!(objects_of(&place.path("linked")), objects_of(&work));
    assert_eq!(linked.head().unwrap().to_bytes(), "ref:refs/heads/main", "HEAD is the repository's");
    // The file itself, and a directory that a .git file names.
    assert_eq!(refs_of(&place.path("linked/.git")), for_each_ref(&work));

    let outer = place.repository("outer", "");
    git(&outer, ["-c", "protocol.file.allow=always", "submodule", "-q", "add", work.to_str().unwrap(), "sub"]);
    assert!(outer.join("sub/.git").is_file());
    assert_same(&outer.join("sub"));

    git(place.0.path(), ["init", "-q", "--separate-git-dir", "elsewhere.git", "separate"]);
    assert_eq!(
        SourceRepository::open(place.path("separate")).unwrap().common_dir().canonicalize().unwrap(),
        place.path("elsewhere.git").canonicalize().unwrap()
    );
}

#[test]
fn both_object_formats() {
    let place = Place::new();
    for format in ["sha1", "sha256"] {
        let path = place.repository(format, &format!("--object-format={format}"));
        assert_same(&path);
        git(&path, words("repack -adq"));
        git(&path, words("pack-refs --all"));
        assert_same(&path);
        assert_eq!(SourceRepository::open(&path).unwrap().object_format().to_string(), format);
    }
}

#[test]
fn harmless_settings_are_allowed() {
    let place = Place::new();
    let path = place.repository("work", "");
    // By hand: this Git does not know all of them yet and would stop.
    let config = path.join(".git/config");
    let version_1 = fs::read_to_string(&config).unwrap().replace("version = 0", "version = 1");
    let harmless = "[extensions]\n\tnoop\n\tnoop-v1 = x\n\tpreciousObjects = true\n\tworktreeConfig = true\n\
        \trelativeWorktrees = true\n\trefStorage = files\n\tobjectFormat = sha1\n\
        [remote \"origin\"]\n\tpromisor = false\n";
    fs::write(&config, version_1 + harmless).unwrap();
    fs::write(path.join(".git/shallow"), "").unwrap();
    fs::write(path.join(".git/info/grafts"), "# nothing\n").unwrap();
    SourceRepository::open(&path).unwrap();

    // Version 0 does not look at extensions that it does not know, and there may be no config at all.
    let old = place.repository("old", "");
    git(&old, words("config extensions.fromTheFuture true"));
    assert_same(&old);
    fs::remove_file(old.join(".git/config")).unwrap();
    assert_same(&old);
}

#[test]
fn unreadable_formats_are_refused() {
    let place = Place::new();
    let reftable = place.empty("reftable", "--ref-format=reftable");
    // Without reflogs, which this Git cannot take along yet when it migrates.
    git(&reftable, words("config core.logAllRefUpdates false"));
    git(&reftable, words("commit -q --allow-empty -m first"));
    assert_eq!(refusal(&reftable), Feature::RefStorage("reftable".into()));
    assert!(Feature::RefStorage("reftable".into()).way_out().contains("git refs migrate --ref-format=files"));
    // The way out works.
    git(&reftable, words("refs migrate --ref-format=files"));
    assert_same(&reftable);

    let path = place.repository("work", "");
    let config = path.join(".git/config");
    let plain = fs::read_to_string(&config).unwrap();
    let version_1 = plain.replace("repositoryformatversion = 0", "repositoryformatversion = 1");
    let unknown = |name: &str| Feature::Extension(name.into());
    for (base, addition, feature) in [
        (&version_1, "[extensions]\n\tFromTheFuture = x\n", unknown("fromthefuture")),
        (&version_1, "[Extensions]\n\tfromTheFuture\n", unknown("fromthefuture")),
        (&version_1, "[extensions \"sub\"]\n\tnoop = x\n", unknown("sub.noop")),
        (&version_1, "[extensions]\n\tcompatObjectFormat = sha256\n", Feature::CompatObjectFormat),
        (&version_1, "[extensions]\n\tobjectFormat = sha512\n", Feature::ObjectFormat("sha512".into())),
        (&version_1, "[extensions]\n\trefStorage\n", Feature::RefStorage("".into())),
        (&plain, "[extensions]\n\tobjectFormat = sha1\n", Feature::ExtensionNeedsVersion1("objectformat".into())),
        (&plain, "[extensions]\n\tpartialClone = o\n", Feature::PartialClone("extensions.partialClone".into())),
        (&plain, "[remote \"o\"]\n\tpromisor\n", Feature::PartialClone("remote.o.promisor".into())),
        (&plain, "[remote \"o\"]\n\tpromisor = on\n", Feature::PartialClone("remote.o.promisor".into())),
        (&plain, "[core]\n\trepositoryFormatVersion = 2\n", Feature::FormatVersion("2".into())),
        (&plain, "[core]\n\trepositoryFormatVersion = one\n", Feature::FormatVersion("one".into())),
    ] {
        fs::write(&config, format!("{base}{addition}")).unwrap();
        assert_eq!(refusal(&path), feature, "{addition}");
    }
    fs::write(&config, "[core\n").unwrap();
    let error = SourceRepository::open(&path).unwrap_err();
    assert!(matches!(error, SourceError::Damaged { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Corrupt);
}

#[test]
fn incomplete_and_pretended_history_is_refused() {
    let place = Place::new();
    let work = place.repository("work", "");
    git(&work, words("config uploadpack.allowFilter true"));
    let url = format!("file://{}", work.display());
    git(place.0.path(), ["clone", "-q", "--depth=1", &url, "shallow"]);
    assert_eq!(refusal(&place.path("shallow")), Feature::Shallow);
    git(&place.path("shallow"), words("fetch -q --unshallow"));
    assert_eq!(objects_of(&place.path("shallow")), all_objects(&place.path("shallow")));

    git(place.0.path(), ["clone", "-q", "--filter=blob:none", "--bare", &url, "partial"]);
    assert!(matches!(refusal(&place.path("partial")), Feature::PartialClone(_)));
    // Its configuration may be gone; the packs still say it.
    fs::write(place.path("partial/config"), "[core]\n\tbare = true\n").unwrap();
    let Feature::PartialClone(how) = refusal(&place.path("partial")) else { panic!() };
    assert!(how.ends_with(".promisor"), "{how}");
    // Also in an alternate.
    git(place.0.path(), words("init -q borrower"));
    append(
        &place.path("borrower/.git/objects/info/alternates"),
        &format!("{}\n", place.path("partial/objects").display()),
    );
    assert!(matches!(refusal(&place.path("borrower")), Feature::PartialClone(_)));

    let head = git(&work, words("rev-parse HEAD"));
    append(&work.join(".git/info/grafts"), &format!("{head}\n"));
    assert_eq!(refusal(&work), Feature::Grafts);
    git(&work, words("-c advice.graftFileDeprecated=false replace --convert-graft-file"));
    assert_same(&work);
    assert!(refs_of(&work).iter().any(|(name, _)| name.starts_with(b"refs/replace/")));
}

#[test]
fn what_is_no_repository() {
    let place = Place::new();
    let not_found = |path: &Path| {
        let error = SourceRepository::open(path).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        assert!(matches!(error, SourceError::NotFound { .. }), "{error}");
        error.to_string()
    };
    assert!(not_found(&place.path("nowhere")).contains("does not exist"));
    assert!(not_found(place.0.path()).contains("has no HEAD"));
    fs::write(place.path("file"), "gitfile: what\n").unwrap();
    assert!(not_found(&place.path("file")).contains("gitdir"));
    fs::write(place.path("pointer"), "gitdir: gone\n").unwrap();
    not_found(&place.path("pointer"));
    // Parents are not searched: what was named is not a repository.
    let work = place.repository("work", "");
    fs::create_dir(work.join("below")).unwrap();
    not_found(&work.join("below"));

    let source = SourceRepository::open(&work).unwrap();
    fs::remove_file(work.join(".git/HEAD")).unwrap();
    not_found(&work);
    assert_eq!(source.head().unwrap_err().kind(), Kind::Transient);
}

#[cfg(unix)]
#[test]
fn what_the_system_will_not_read() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let place = Place::new();
    symlink("loop", place.path("loop")).unwrap();
    let error = SourceRepository::open(place.path("loop")).unwrap_err();
    assert!(matches!(error, SourceError::Io { .. }), "{error}");
    assert!(error.to_string().contains("loop"), "{error}");

    let work = place.repository("work", "");
    let config = work.join(".git/config");
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    let error = SourceRepository::open(&work).unwrap_err();
    assert_eq!(error.kind(), Kind::Environment, "{error}");
    fs::remove_dir(&config).unwrap();

    let refs = work.join(".git/refs/heads");
    fs::set_permissions(&refs, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads everything.
    if fs::read_dir(&refs).is_err() {
        let source = SourceRepository::open(&work).unwrap();
        let error = source.refs(&Default::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::Environment, "{error}");
        assert!(error.to_string().contains("refs/heads"), "{error}");
    }
    fs::set_permissions(&refs, fs::Permissions::from_mode(0o755)).unwrap();
}
