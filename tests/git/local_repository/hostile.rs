//! Any bytes in any file: an answer or an error, never a panic, a hang or an endless read.

use std::fs;

use gitferry_git::local::{RefPatterns, SourceRepository};
use gix::bstr::ByteSlice;
use proptest::prelude::*;

use crate::local_repository::git::{Place, git, words};

/// Bytes that look like something, spliced with bytes that do not.
fn content(id: String) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        Just(id.into_bytes()),
        prop::sample::select(vec![
            " ",
            "\n",
            "\r\n",
            "^",
            "#",
            "\"",
            "\\",
            "ref:",
            "ref: ",
            "refs/heads/a",
            "refs/",
            "..",
            "/",
            "gitdir: ",
            "# pack-refs with: sorted \n",
            "# pack-refs with: ",
            "[core]\n",
            "[extensions]\n",
            "[remote \"",
            "\"]\n",
            "repositoryformatversion",
            " = ",
            "1",
            "objectFormat",
            "sha256",
            "promisor",
            "true",
            "../objects",
            "\0",
        ])
        .prop_map(|s: &str| s.as_bytes().to_vec()),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

#[test]
fn any_bytes_in_any_file() {
    let place = Place::new();
    let path = place.repository("work", "");
    let git_dir = path.join(".git");
    let id = git(&path, words("rev-parse HEAD")).to_str().unwrap().to_owned();
    let loose = format!("objects/{}/{}", &id[..2], &id[2..]);
    let files = [
        "config",
        "HEAD",
        "packed-refs",
        "refs/heads/main",
        "objects/info/alternates",
        "shallow",
        "info/grafts",
        "commondir",
        &loose,
    ];
    fs::create_dir_all(git_dir.join("objects/info")).unwrap();
    let file = prop::sample::select(files.map(str::to_owned).to_vec());
    proptest!(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() }, |(file in file, content in content(id))| {
        let file = git_dir.join(file);
        let before = fs::read(&file).ok();
        let _ = fs::remove_file(&file);
        fs::write(&file, &content).unwrap();
        if let Ok(source) = SourceRepository::open(&path) {
            let _ = source.head().map_err(|error| error.to_string());
            if let Ok(refs) = source.refs(&RefPatterns::all()) {
                let names: Vec<_> = refs.map_while(Result::ok).map(|(name, _)| name).collect();
                prop_assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "unordered: {names:?}");
            }
            for entry in source.loose_objects().flatten() {
                if let Ok((kind, data)) = entry.read(1 << 20) {
                    prop_assert_eq!(gix::objs::compute_hash(source.object_format(), kind, &data).unwrap(), entry.id);
                }
            }
            let _ = source.packs().map_err(|error| error.to_string());
        }
        fs::remove_file(&file).unwrap();
        if let Some(before) = before {
            fs::write(&file, before).unwrap();
        }
    });
}
