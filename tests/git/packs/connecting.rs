//! Whether everything that refs need is there.

use gitferry_git::connectivity::{MissingObject, Problem, closure, missing_from};
use gitferry_git::links::Link;
use gitferry_git::pack::{CheckOptions, CheckedPack, PackSet};
use gix::ObjectId;
use gix::hash::Kind as Format;
use gix::objs::Kind;

use crate::packs::support::{FORMATS, Repo, check, pack_set};

/// A pack of everything in a repository but some objects.
fn pack_without(repo: &Repo, left_out: &[ObjectId]) -> (CheckedPack, PackSet) {
    let all = repo.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    let left_out: Vec<_> = left_out.iter().map(ToString::to_string).collect();
    let kept: Vec<_> = all.lines().filter(|id| !left_out.iter().any(|out| out == id)).collect();
    let pack = repo.pack("part.pack", &["--delta-base-offset"], &(kept.join("\n") + "\n"));
    let checked = check(&pack, None, &CheckOptions::new(repo.format)).unwrap();
    let set = pack_set(&[(&pack, &checked)], repo.format);
    (checked, set)
}

fn walk(repo: &Repo, set: &PackSet, proven: &[ObjectId]) -> Vec<MissingObject> {
    let tips = repo.git(&["for-each-ref", "--format=%(objectname) %(refname)"]);
    let tips = tips.lines().map(|line| {
        let (id, name) = line.split_once(' ').unwrap();
        (name.to_owned(), ObjectId::from_hex(id.as_bytes()).unwrap())
    });
    missing_from(tips, set, &|id| proven.iter().any(|known| *known == id)).unwrap()
}

#[test]
fn nothing_is_missing_from_a_whole_repository() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let (checked, set) = pack_without(&repo, &[]);
        assert_eq!(closure([&checked], &|id| set.contains(id)), []);
        assert_eq!(walk(&repo, &set, &[]), []);
    }
}

#[test]
fn a_reachable_object_that_is_missing_is_named_with_what_needs_it() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        for (name, kind, by) in [
            ("main:dir0/sub/file0", Kind::Blob, Some("main:dir0/sub")),
            ("main:dir1", Kind::Tree, Some("main^{tree}")),
            ("main~20", Kind::Commit, Some("main~19")),
            ("main", Kind::Commit, None),
        ] {
            let id = repo.rev_parse(name);
            let (checked, set) = pack_without(&repo, &[id]);
            assert_eq!(closure([&checked], &|id| set.contains(id)), [Link { id, kind }]);
            let missing = walk(&repo, &set, &[]);
            let [missing] = &missing[..] else { panic!("{missing:?}") };
            assert_eq!((missing.id, missing.problem), (id, Problem::Missing));
            assert_eq!(missing.reached_from, "refs/heads/main");
            assert_eq!(missing.kind, by.map(|_| kind));
            match by {
                // Several trees and commits may name it; the walk says which one it came from.
                Some(_) => {
                    let by = missing.referred_to_by.unwrap().to_string();
                    let text = repo.raw(&["cat-file", repo.git(&["cat-file", "-t", &by]).as_str(), &by], b"");
                    let raw = text.windows(id.as_slice().len()).any(|part| part == id.as_slice());
                    assert!(raw || String::from_utf8_lossy(&text).contains(&id.to_string()));
                }
                None => assert_eq!(missing.referred_to_by, None),
            }
            assert!(missing.to_string().contains(&format!("{id} is missing")));
            assert_eq!(walk(&repo, &set, &[id]), [], "what is proven need not be there");
        }
    }
}

#[test]
fn unreachable_objects_may_lack_what_they_name() {
    let repo = Repo::with_history(Format::Sha1);
    let gone = repo.write_object("blob", b"gone");
    let tree = repo.write_object("tree", &[b"100644 x\0", gone.as_slice()].concat());
    let (checked, set) = pack_without(&repo, &[gone]);
    assert!(set.contains(&tree));
    assert_eq!(closure([&checked], &|id| set.contains(id)), [Link { id: gone, kind: Kind::Blob }]);
    assert_eq!(walk(&repo, &set, &[]), []);
}

#[test]
fn objects_of_a_wrong_kind_or_without_readable_links_are_reported() {
    let repo = Repo::new(Format::Sha1);
    let file = repo.write_object("blob", b"file");
    let commit = repo.write_object("commit", format!("tree {file}\n\n").as_bytes());
    let broken = repo.write_object("commit", b"not a commit");
    std::fs::create_dir_all(repo.path().join("refs/heads")).unwrap();
    let (checked, set) = pack_without(&repo, &[]);
    assert_eq!(checked.unparsable, [broken]);
    let tips = [("a".to_owned(), commit), ("b".to_owned(), broken), ("c".to_owned(), file)];
    let missing = missing_from(tips, &set, &|_| false).unwrap();
    let problems: Vec<_> = missing.iter().map(|m| (m.id, m.problem, m.reached_from.as_str())).collect();
    assert_eq!(problems, [(file, Problem::IsA(Kind::Blob), "a"), (broken, Problem::Unparsable, "b")]);
}
