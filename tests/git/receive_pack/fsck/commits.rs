//! Commits and tags.

use super::*;

#[test]
fn commits() {
    let mut bad = Bad::new();
    let tree = bad.tree;
    let head = format!("tree {tree}\n");
    let ident = |author: &str| format!("{head}author {author}\ncommitter {WHO}\n\nm\n");
    let mut commits = vec![
        format!("{head}author {WHO}\ncommitter {WHO}\n\nfine\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\n"),
        format!("{head}author {WHO}\ncommitter {WHO}"),
        format!("{head}author {WHO}\ncommitter {WHO}\n\nNUL \0 in body\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\nx \0\n\nm\n"),
        String::new(),
        "\n".into(),
        "\n\n".into(),
        "nonsense\n".into(),
        format!("author {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "1".repeat(39)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "1".repeat(41)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "g".repeat(40)),
        format!("tree {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", tree.to_string().to_uppercase()),
        format!("tree {tree} \nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}parent {}\nauthor {WHO}\ncommitter {WHO}\n\nm\n", "2".repeat(39)),
        format!("{head}parent x\nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}committer {WHO}\n\nm\n"),
        format!("{head}author {WHO}\nauthor {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}author {WHO}\n\nm\n"),
        format!("{head}author {WHO}\nx {WHO}\ncommitter {WHO}\n\nm\n"),
        format!("{head}author {WHO}\ncommitter\n\nm\n"),
        format!("{head}author {WHO}\ncommitter broken\n\nm\n"),
        format!("{head}author {WHO}\ncommitter {WHO}\nencoding x\nmergetag y\n\nm\n"),
    ];
    for author in [
        "",
        " ",
        "A",
        "A <",
        "A >",
        "<a> 1 +0000",
        " <a> 1 +0000",
        "A<a> 1 +0000",
        "A <a 1 +0000",
        "A <a<b> 1 +0000",
        "A <a>b> 1 +0000",
        "A> <a> 1 +0000",
        "A <a>1 +0000",
        "A <a>",
        "A <a> ",
        "A <a> x +0000",
        "A <a> 1",
        "A <a> 1 ",
        "A <a> 01 +0000",
        "A <a> 0 +0000",
        "A <a> 00 +0000",
        "A <a> 0",
        "A <a> -1 +0000",
        "A <a> +1 +0000",
        "A <a>  \t1 +0000",
        "A <a> 1  +0000",
        "A <a> 1+0000",
        "A <a> 1x +0000",
        "A <a> 1 0000",
        "A <a> 1 +000",
        "A <a> 1 +00000",
        "A <a> 1 +00a0",
        "A <a> 1 -9999",
        "A <a> 1 +0000 ",
        "A <a> 9223372036854775807 +0000",
        "A <a> 9223372036854775808 +0000",
        "A <a> 18446744073709551615 +0000",
        "A <a> 99999999999999999999999 +0000",
        "A <> 1 +0000",
        "A B C <a b c> 1 +0000",
        "\u{e4} <\u{fc}> 1 +0000",
    ] {
        commits.push(ident(author));
    }
    let mut seen = BTreeSet::new();
    for commit in commits {
        let id = bad.write(Kind::Commit, commit.as_bytes());
        let ours = bad.names(id).first().map(|name| (*name).to_owned());
        assert_eq!(ours, bad.git_refuses(id), "{commit:?}");
        seen.extend(ours);
    }
    assert!(seen.len() >= 17, "{seen:?}");
}

#[test]
fn tags() {
    let mut bad = Bad::new();
    let blob = bad.blob;
    let head = format!("object {blob}\ntype blob\ntag v1\n");
    let tags = [
        format!("{head}tagger {WHO}\n\nfine\n"),
        format!("{head}tagger {WHO}\n"),
        format!("{head}tagger {WHO}"),
        format!("{head}\nno tagger\n"),
        head.clone(),
        format!("{head}tagger {WHO}\ngarbage\n\nm\n"),
        format!("{head}tagger nobody\n\nm\n"),
        format!("{head}tagger A <a> 01 +0000\n\nm\n"),
        format!("{head}tagger {WHO}\n\nNUL \0\n"),
        format!("{head}tagger {WHO}\nx\0\n\n"),
        String::new(),
        "type blob\n".into(),
        "object x\ntype blob\ntag v1\n\n".into(),
        format!("object {blob} \ntype blob\ntag v1\n\n"),
        format!("object {blob}\ntag v1\n\n"),
        format!("object {blob}\ntype thing\ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype \ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blobs\ntag v1\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\n"),
        format!("object {blob}\ntype blob\ntag \ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a..b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a/b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag /b\ntagger {WHO}\n\n"),
        format!("object {blob}\ntype blob\ntag a.lock\ntagger {WHO}\n\n"),
    ];
    let mut seen = BTreeSet::new();
    for tag in tags {
        let id = bad.write(Kind::Tag, tag.as_bytes());
        let ours = bad.names(id).first().map(|name| (*name).to_owned());
        let git = bad.git_refuses(id);
        // What is ignored by default ends the check of `hash-object` all the same.
        if git.as_deref() != Some("extraHeaderEntry") {
            assert_eq!(ours, git, "{tag:?}");
        }
        seen.extend(ours);
    }
    assert!(seen.len() >= 11, "{seen:?}");
}
