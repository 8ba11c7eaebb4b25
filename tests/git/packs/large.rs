//! Slow: packs of several gigabytes. `cargo test --release --test packs -- --ignored`

use std::io::Write;

use gitferry_git::pack::CheckOptions;
use gix::hash::Kind as Format;

use crate::packs::support::{Repo, check, noise};

#[test]
#[ignore = "writes 5 GiB"]
fn offsets_beyond_two_gibibytes_are_those_of_git() {
    let repo = Repo::with_history(Format::Sha1);
    let mut ids = repo.git(&["rev-list", "--objects", "--all"]);
    let piece = noise(1 << 20);
    for number in 0..3u64 {
        let file = repo.path().join("file");
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
        for part in 0..900u64 {
            out.write_all(&(number << 32 | part).to_be_bytes()).unwrap();
            out.write_all(&piece).unwrap();
        }
        out.flush().unwrap();
        let id = repo.git(&["-c", "core.compression=0", "hash-object", "-w", "file"]);
        ids = if number < 2 { format!("{id}\n{ids}") } else { format!("{ids}\n{id}") };
    }
    let ids: String = ids.lines().map(|line| format!("{}\n", line.split(' ').next().unwrap())).collect();
    repo.git_with(&["pack-objects", "-q", "--delta-base-offset", "--compression=0", "large"], ids.as_bytes());
    let pack = std::fs::read_dir(repo.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "pack"))
        .unwrap();
    assert!(std::fs::metadata(&pack).unwrap().len() > 5 << 29);
    let expected = repo.index_pack(&pack, &[]).unwrap();
    for hint in [None, Some(expected.as_path())] {
        let checked = check(&pack, hint, &CheckOptions::new(Format::Sha1)).unwrap();
        assert!(std::fs::read(&checked.index).unwrap() == std::fs::read(&expected).unwrap());
        assert!(checked.is_closed());
    }
}
