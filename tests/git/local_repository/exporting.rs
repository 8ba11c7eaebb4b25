//! Bare repositories as they are written, opened by Git.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use gitferry_base::Kind;
use gitferry_git::local::{BareRepository, ExportError, RefPatterns, SourceRepository};
use gitferry_git::refs::{RefName, RefValue};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};

use crate::local_repository::git::{Place, all_objects, for_each_ref, git, refs_of, run, words, write_loose_refs};

type Refs = Vec<Result<(RefName, RefValue), Box<dyn Error>>>;

fn pack_id(file: &mut File, format: gix::hash::Kind) -> ObjectId {
    use std::io::{Read, Seek, SeekFrom};
    let mut id = vec![0; format.len_in_bytes()];
    file.seek(SeekFrom::End(-(format.len_in_bytes() as i64))).unwrap();
    file.read_exact(&mut id).unwrap();
    file.rewind().unwrap();
    ObjectId::try_from(id.as_slice()).unwrap()
}

/// Exports a packed repository; tags are peeled if `peel`.
fn export(from: &Path, to: &Path, peel: bool) -> Result<(), Box<dyn Error>> {
    let source = SourceRepository::open(from)?;
    let mut bare = BareRepository::create(to, source.object_format())?;
    for pack in source.packs()? {
        let mut file = pack.open_pack()?;
        let id = pack_id(&mut file, source.object_format());
        bare.add_pack(&id, file, pack.open_index()?)?;
    }
    let mut peeler = |id: &ObjectId| -> Result<Option<ObjectId>, Box<dyn Error>> {
        let peeled = git(from, ["rev-parse", &format!("{id}^{{}}")]);
        let peeled = ObjectId::from_hex(&peeled)?;
        Ok((peeled != *id).then_some(peeled))
    };
    let refs = source.refs(&RefPatterns::all())?.map(|entry| entry.map_err(Box::from));
    bare.finish(&source.head()?, refs, if peel { Some(&mut peeler) } else { None })
}

fn assert_equal_to_git(from: &Path, to: &Path) {
    assert_eq!(for_each_ref(to), for_each_ref(from));
    assert_eq!(refs_of(to), refs_of(from));
    assert_eq!(
        git(to, words("for-each-ref --format=%(refname)%(*objectname)")),
        git(from, words("for-each-ref --format=%(refname)%(*objectname)"))
    );
    assert_eq!(run(to, words("show-ref -d")).stdout, run(from, words("show-ref -d")).stdout);
    assert_eq!(all_objects(to), all_objects(from));
    let heads = [from, to].map(|path| {
        let output = run(path, words("symbolic-ref -q HEAD"));
        let id = run(path, words("rev-parse -q --verify HEAD"));
        (output.status.code(), BString::from(output.stdout), BString::from(id.stdout))
    });
    assert_eq!(heads[0], heads[1]);
    let fsck = [from, to].map(|path| run(path, words("fsck --strict --no-dangling --no-progress")));
    assert_eq!(fsck[0].status.code(), fsck[1].status.code());
    assert_eq!(fsck[0].stdout.as_bstr(), fsck[1].stdout.as_bstr());
    assert_eq!(fsck[0].stderr.as_bstr(), fsck[1].stderr.as_bstr());
    assert_eq!(git(to, words("rev-parse --is-bare-repository")), "true");
}

#[test]
fn an_export_is_what_the_source_is() {
    let place = Place::new();
    for format in ["sha1", "sha256"] {
        let path = place.repository(format, &format!("--object-format={format}"));
        git(&path, words("tag -am nested nested annotated"));
        git(&path, words("update-ref refs/remotes/origin/main HEAD"));
        git(&path, words("symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/main"));
        git(&path, words("symbolic-ref refs/heads/dangling refs/heads/gone"));
        git(&path, words("repack -adq"));
        for peel in [true, false] {
            let to = place.path(&format!("export-{format}-{peel}/deep/er.git"));
            export(&path, &to, peel).unwrap();
            assert_equal_to_git(&path, &to);
            let packed = fs::read(to.join("packed-refs")).unwrap();
            assert_eq!(packed.find(b"\n^").is_some(), peel);
            assert_eq!(packed.starts_with(b"# pack-refs with: peeled fully-peeled sorted \n"), peel);
            // Git goes on with it.
            git(&to, words("update-ref refs/heads/new HEAD"));
            git(&to, words("pack-refs --all"));
            git(&to, words("gc -q"));
            git(place.0.path(), ["clone", "-q", "--no-local", to.to_str().unwrap(), &format!("clone-{format}-{peel}")]);
        }
    }
}

#[test]
fn every_head_and_an_empty_repository() {
    let place = Place::new();
    let empty = place.empty("empty", "");
    export(&empty, &place.path("empty.git"), true).unwrap();
    assert_equal_to_git(&empty, &place.path("empty.git"));
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    git(&path, words("symbolic-ref HEAD refs/heads/unborn/branch"));
    export(&path, &place.path("unborn.git"), true).unwrap();
    assert_equal_to_git(&path, &place.path("unborn.git"));
    git(&path, words("checkout -q --detach main^"));
    export(&path, &place.path("detached.git"), true).unwrap();
    assert_equal_to_git(&path, &place.path("detached.git"));
}

#[test]
fn names_that_would_collide_as_files() {
    let place = Place::new();
    let path = place.repository("work", "");
    let id = git(&path, words("rev-parse HEAD")).to_string();
    git(&path, words("repack -adq"));
    let long = "x".repeat(900);
    let mut text = BString::from("# pack-refs with: \n");
    for name in ["Case", "case", "CASE/x", "caf\u{e9}", "cafe\u{301}", "aux", "con.", "a:", &long] {
        if !name.ends_with(['.', ':']) {
            text.extend_from_slice(format!("{id} refs/heads/{name}\n").as_bytes());
        }
    }
    text.extend_from_slice(&[id.as_bytes(), b" refs/heads/\xff\xfe\n"].concat());
    fs::write(path.join(".git/packed-refs"), text).unwrap();
    let to = place.path("export.git");
    export(&path, &to, true).unwrap();
    assert_equal_to_git(&path, &to);
    let files = fs::read_dir(to.join("refs/heads")).unwrap().count();
    assert_eq!(files, 0, "nothing lies there as a file");
    let count = refs_of(&to).len();
    assert_eq!(count, 4 + 8);
}

#[test]
fn ten_thousand_refs() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    write_loose_refs(&path, "refs/heads/many", 10_000);
    let to = place.path("export.git");
    export(&path, &to, false).unwrap();
    assert_equal_to_git(&path, &to);
}

#[test]
fn a_taken_place_is_left_alone() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    fs::write(place.path("file"), "mine").unwrap();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/file"), "mine").unwrap();
    for name in ["file", "full"] {
        let error = BareRepository::create(place.path(name), gix::hash::Kind::Sha1).unwrap_err();
        assert!(matches!(error, ExportError::Exists { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Refused);
    }
    // An empty directory is as good as none.
    fs::create_dir(place.path("empty")).unwrap();
    export(&path, &place.path("empty"), true).unwrap();
    assert_equal_to_git(&path, &place.path("empty"));

    // Someone takes the place meanwhile.
    let bare = BareRepository::create(place.path("raced"), gix::hash::Kind::Sha1).unwrap();
    fs::create_dir(place.path("raced")).unwrap();
    fs::write(place.path("raced/file"), "mine").unwrap();
    let head: RefValue = "ref:refs/heads/main".parse().unwrap();
    let error = bare.finish::<ExportError>(&head, [], None).unwrap_err();
    assert!(matches!(error, ExportError::Exists { .. }), "{error}");
    assert_eq!(fs::read(place.path("raced/file")).unwrap(), b"mine");
    assert_eq!(hidden(&place), 0);
}

/// How many unfinished exports lie about.
fn hidden(place: &Place) -> usize {
    let names = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_encoded_bytes().find(b".export-").is_some()).count()
}

#[test]
fn nothing_half_made_ever_shows() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    let to = place.path("export.git");
    let bare = BareRepository::create(&to, gix::hash::Kind::Sha1).unwrap();
    assert!(!to.exists());
    assert_eq!(hidden(&place), 1);
    drop(bare);
    assert_eq!(hidden(&place), 0);

    // A source of refs that fails in the middle.
    let bare = BareRepository::create(&to, gix::hash::Kind::Sha1).unwrap();
    let id = ObjectId::from_hex(&git(&path, words("rev-parse HEAD"))).unwrap();
    let refs: Refs = vec![Ok(("refs/heads/a".parse().unwrap(), id.into())), Err("no more".into())];
    assert_eq!(bare.finish(&id.into(), refs, None).unwrap_err().to_string(), "no more");
    assert!(!to.exists());

    // A crash leaves a directory; the next export of that name removes it, but not one in use.
    let crashed = place.path(".export.git.export-crashd");
    fs::create_dir_all(crashed.join("repository")).unwrap();
    fs::write(crashed.join("lock"), "").unwrap();
    let living = BareRepository::create(&to, gix::hash::Kind::Sha1).unwrap();
    assert!(!crashed.exists());
    let second = BareRepository::create(&to, gix::hash::Kind::Sha1).unwrap();
    assert_eq!(hidden(&place), 2);
    living.finish::<ExportError>(&id.into(), [], None).unwrap();
    assert!(matches!(second.finish::<ExportError>(&id.into(), [], None), Err(ExportError::Exists { .. })));
    assert_eq!(hidden(&place), 0);
}

#[test]
fn wrong_packs_and_refs() {
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    let source = SourceRepository::open(&path).unwrap();
    let pack = source.packs().unwrap().remove(0);
    let id = pack_id(&mut pack.open_pack().unwrap(), gix::hash::Kind::Sha1);
    let new = || BareRepository::create(place.path("export.git"), gix::hash::Kind::Sha1).unwrap();
    let other = ObjectId::from_hex(&[b'1'; 40]).unwrap();
    for (id, pack, index) in [
        (other, pack.open_pack().unwrap(), pack.open_index().unwrap()),
        (id, pack.open_index().unwrap(), pack.open_index().unwrap()),
        (id, pack.open_pack().unwrap(), pack.open_pack().unwrap()),
        (id, pack.open_pack().unwrap(), File::open("/dev/null").unwrap()),
        (ObjectId::from_hex(&[b'1'; 64]).unwrap(), pack.open_pack().unwrap(), pack.open_index().unwrap()),
    ] {
        let error = new().add_pack(&id, pack, index).unwrap_err();
        assert!(matches!(error, ExportError::WrongPack { .. }), "{error}");
        assert_eq!(error.kind(), Kind::Corrupt);
    }
    let entry = |name: &str, value: &str| (name.parse::<RefName>().unwrap(), value.parse::<RefValue>().unwrap());
    let (one, sha256) = ("1".repeat(40), "1".repeat(64));
    let head = entry("refs/heads/main", &one).1;
    for refs in [
        vec![entry("refs/heads/b", &one), entry("refs/heads/a", &one)],
        vec![entry("refs/heads/a", &one), entry("refs/heads/a", "ref:refs/heads/b")],
        vec![entry("refs/heads/a", &sha256)],
    ] {
        let error = new().finish::<ExportError>(&head, refs.into_iter().map(Ok), None).unwrap_err();
        assert!(matches!(error, ExportError::BadRef { .. }), "{error}");
        assert!(error.to_string().contains("refs/heads/a"), "{error}");
    }
    let head = entry("refs/heads/a", &sha256).1;
    let error = new().finish::<ExportError>(&head, [], None).unwrap_err();
    assert!(error.to_string().contains("HEAD"), "{error}");
    assert!(!place.path("export.git").exists());
}

#[test]
fn files_are_copies() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.repository("work", "");
    git(&path, words("repack -adq"));
    export(&path, &place.path("export.git"), true).unwrap();
    let of = |path: &Path| SourceRepository::open(path).unwrap().packs().unwrap().remove(0).pack;
    let (ours, theirs) = (of(&place.path("export.git")), of(&path));
    assert_ne!(fs::metadata(&ours).unwrap().ino(), fs::metadata(&theirs).unwrap().ino());
    assert_eq!(fs::read(&ours).unwrap(), fs::read(&theirs).unwrap());
    assert_eq!(fs::metadata(&ours).unwrap().mode() & 0o222, 0);
}

/// Any repository of your own: `GITFERRY_TEST_REPOSITORY=path cargo test -- --ignored own_repository`.
#[test]
#[ignore = "needs a repository"]
fn own_repository() {
    let path = std::env::var_os("GITFERRY_TEST_REPOSITORY").expect("GITFERRY_TEST_REPOSITORY names a repository");
    let place = Place::new();
    crate::local_repository::git::assert_same(Path::new(&path));
    git(place.0.path(), ["clone".as_ref(), "-q".as_ref(), "--mirror".as_ref(), path.as_os_str(), "packed".as_ref()]);
    git(&place.path("packed"), words("repack -adq"));
    export(&place.path("packed"), &place.path("export.git"), true).unwrap();
    assert_equal_to_git(&place.path("packed"), &place.path("export.git"));
}
