//! What clients learn about refs.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitferry_git::protocol::{LsRefs, PacketReader};
use gitferry_git::refs::{RefName, RefValue};
use gitferry_git::view::{RefEntry, RefTable};
use gix::hash::Kind as Format;

use crate::upload_pack::repo::{FORMATS, Repo, git};
use gitferry_test_support::serving::Server;

#[test]
fn listings_are_those_of_git() {
    for format in FORMATS {
        let repo = Repo::with_history(format);
        let server = Server::start(repo.view());
        let ways: &[&[&str]] =
            &[&[], &["--symref"], &["--refs"], &["--heads"], &["--tags", "--symref"], &["HEAD"], &["main", "v*"]];
        for (options, patterns) in
            ways.iter().map(|way| way.split_at(way.iter().filter(|a| a.starts_with("--")).count()))
        {
            for version in ["0", "1", "2"] {
                let version = format!("protocol.version={version}");
                let list =
                    |url: &str| git(repo.path(), &[&["-c", &version, "ls-remote"], options, &[url], patterns].concat());
                let theirs = list(&repo.url());
                assert!(!theirs.is_empty());
                for url in [server.git_url(), server.http_url()] {
                    assert_eq!(list(&url), theirs, "{options:?} {patterns:?} {version}");
                }
            }
        }
        assert_eq!(server.errors(), [""; 0]);
    }
}

#[test]
fn prefixes_that_overlap_list_every_ref_once() {
    let repo = Repo::with_history(Format::Sha1);
    let view = repo.view();
    let mut request = Vec::new();
    let mut lines = gitferry_git::protocol::PacketWriter::new(&mut request);
    for prefix in ["refs/tags/v", "refs/tags/", "refs/heads/main", "HEAD", "refs/heads/ma", "nowhere"] {
        lines.line(format!("ref-prefix {prefix}").as_bytes()).unwrap();
    }
    lines.flush_packet().unwrap();
    let request = LsRefs::read(&mut PacketReader::new(&request[..])).unwrap();
    let mut answer = Vec::new();
    request.answer(&view, None, &mut answer).unwrap();
    let mut reader = PacketReader::new(&answer[..]);
    let mut names = Vec::new();
    while let Some(line) = reader.read().unwrap().and_then(|packet| packet.line()) {
        names.push(String::from_utf8(line.splitn(2, |byte| *byte == b' ').nth(1).unwrap().to_owned()).unwrap());
    }
    let tags = repo.git(&["for-each-ref", "--format=%(refname)", "refs/tags/"]);
    let expected: Vec<&str> = ["HEAD", "refs/heads/main"].into_iter().chain(tags.lines()).collect();
    assert_eq!(names, expected);
}

#[test]
fn what_is_known_of_tags_is_taken_over() {
    let repo = Repo::with_history(Format::Sha1);
    let old = repo.view();
    let all = old.peeled_tags().unwrap().clone();
    repo.git(&["tag", "-d", "v1"]);
    repo.git(&["tag", "-f", "-a", "-m", "moved", "v2", "main~9"]);
    repo.git(&["tag", "-a", "-m", "new", "a-new-one", "main~11"]);
    repo.pack();
    let fresh = repo.view();
    let value = |refs: &RefTable, entry: &RefEntry<'_>| match refs.symbolic_target(entry.row) {
        Some(target) => RefValue::Symbolic(RefName::new(target).unwrap()),
        None => entry.id.unwrap().to_owned().into(),
    };
    let mut edits: BTreeMap<RefName, Option<RefValue>> = BTreeMap::new();
    for entry in old.refs.iter() {
        edits.insert(RefName::new(entry.name).unwrap(), None);
    }
    for entry in fresh.refs.iter() {
        edits.insert(RefName::new(entry.name).unwrap(), Some(value(&fresh.refs, &entry)));
    }
    edits.retain(|name, new| {
        let before = old.refs.find(name.as_bstr()).map(|entry| value(&old.refs, &entry));
        before != *new
    });
    let table = old.refs.with_edits(edits).unwrap();
    let adopted = gitferry_git::view::View { refs: Arc::new(table), ..fresh.clone() };
    assert_eq!(adopted.peeled_tags().unwrap(), fresh.peeled_tags().unwrap());
    assert_ne!(adopted.peeled_tags().unwrap(), &all);
}
