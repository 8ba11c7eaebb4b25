//! Trees, and the files in them that Git itself reads.

use super::*;

/// Names that some file system takes for one that Git itself reads, and names that look so and are not.
fn special_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let cases = [
        (".git", "git~", "GIT~"),
        (".gitmodules", "gitmod~", "GI7EBA~"),
        (".gitattributes", "gitatt~", "GI7D29~"),
        (".gitignore", "gitign~", "GI250A~"),
        (".mailmap", "mailma~", "MABA30~"),
    ];
    for (dot, short, hashed) in cases {
        let upper = dot.to_uppercase();
        let joined = format!(".{}\u{200c}{}", &dot[1..3], &dot[3..]);
        for name in [
            dot,
            &upper,
            &joined,
            &dot[1..],
            &format!("{dot}x"),
            &format!("x{dot}"),
            &format!("{dot} "),
            &format!("{dot}."),
            &format!("{dot} . ."),
            &format!("{dot}:"),
            &format!("{dot}::$INDEX_ALLOCATION"),
            &format!("{dot} :x"),
            &format!("{dot}.x"),
            &format!("{dot}\u{feff}"),
            &format!("\u{206a}{dot}"),
            &format!("\u{202e}{upper}"),
            &format!("{dot}\u{2030}"),
            &format!("a\\{dot}"),
            &format!("{dot}\\a"),
            &format!("\\{dot}"),
            &format!("a/{dot}"),
            &format!("{dot}/a"),
            &format!("{dot}\t"),
            &format!("{dot}~1"),
        ] {
            names.push(name.as_bytes().to_owned());
        }
        for number in ["0", "1", "2", "4", "5", "9", "10", "01", "1 ", "1.", "1:x", "1x", "", "a"] {
            names.push(format!("{short}{number}").into_bytes());
            names.push(format!("{}{number}", short.to_uppercase()).into_bytes());
            names.push(format!("{hashed}{number}").into_bytes());
            names.push(format!("a\\{short}{number}").into_bytes());
        }
        names.push([dot.as_bytes(), b"\xff"].concat());
        names.push([&dot.as_bytes()[..3], b"\xe2\x80", &dot.as_bytes()[3..]].concat());
        for cut in 1..hashed.len() - 1 {
            names.push(format!("{}~{}", &hashed[..cut], "1".repeat(7 - cut)).into_bytes());
            names.push(
                format!("{}~{}", &hashed[..cut].to_lowercase(), "123456789".get(..7 - cut).unwrap()).into_bytes(),
            );
        }
    }
    for name in [
        "",
        ".",
        "..",
        "...",
        "a",
        "a/b",
        "/",
        "\\",
        "a\\",
        "~1000000",
        "~0000000",
        "~1",
        "ordinary.name",
        "GIT",
        "x~1",
    ] {
        names.push(name.as_bytes().to_owned());
    }
    names.push(vec![b'n'; 4096]);
    names.push(vec![b'n'; 4097]);
    names.sort();
    names.dedup();
    names
}

#[test]
fn names_in_trees() {
    let mut bad = Bad::new();
    for name in special_names() {
        for mode in ["100644", "120000", "40000"] {
            bad.tree_of(mode, &name);
        }
    }
    bad.agree();
}

#[test]
fn modes_order_and_damage_of_trees() {
    let mut bad = Bad::new();
    for mode in [
        "100644",
        "100755",
        "100664",
        "100600",
        "0100644",
        "040000",
        "40000",
        "160000",
        "120000",
        "20000",
        "755",
        "40755",
        // Modes wrap at 16 bits.
        "10064440000",
        "1000000100644",
        "7777777777777777777777",
        "200040000",
    ] {
        bad.tree_of(mode, b"name");
    }
    let null = ObjectId::null(gix::hash::Kind::Sha1);
    let (blob, tree) = (bad.blob, bad.tree);
    let lists: Vec<Vec<(&str, &str)>> = vec![
        vec![("100644", "a"), ("100644", "b")],
        vec![("100644", "b"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a")],
        vec![("100644", "a"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a.b"), ("100644", "a")],
        vec![("100644", "a"), ("100644", "a-b"), ("100644", "a.b"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("100644", "a.c"), ("100644", "a0"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a.b"), ("40000", "a.b"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a-"), ("100644", "a--"), ("40000", "a-"), ("40000", "a")],
        vec![("100644", "a"), ("100644", "a b"), ("100644", "ab"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a0")],
        vec![("40000", "a0"), ("40000", "a")],
        vec![("100644", "a.b"), ("40000", "a")],
        vec![("40000", "a"), ("100644", "a.b")],
        vec![("100644", "ab"), ("40000", "a"), ("100644", "a")],
    ];
    for list in lists {
        let entry = |(mode, name): &(&str, &str)| {
            bad.entry(mode, name.as_bytes(), if *mode == "40000" { &tree } else { &blob })
        };
        let data: Vec<u8> = list.iter().flat_map(entry).collect();
        bad.write(Kind::Tree, &data);
    }
    let zero = bad.entry("160000", b"a", &null);
    bad.write(Kind::Tree, &zero);
    bad.agree();
    // Git cannot read these at all, so its fsck says other things; it refuses to make them.
    let good = bad.entry("100644", b"a", &blob);
    for data in [
        &good[..good.len() - 1],
        b"100644",
        b"100644 a",
        b" a\0aaaaaaaaaaaaaaaaaaaa",
        b"10x644 a\0aaaaaaaaaaaaaaaaaaaa",
    ] {
        let id = bad.write(Kind::Tree, data);
        assert!(bad.names(id).contains(&"badTree"), "{}", data.escape_ascii());
        let args = ["hash-object", "-t", "tree", "--stdin"];
        let mut child = command(&bad.repo.path)
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), data).unwrap();
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn gitmodules_and_gitattributes() {
    let mut bad = Bad::new();
    let module = |name: &str, rest: &str| format!("[submodule \"{name}\"]\n\t{rest}\n");
    let mut files: Vec<String> = vec![
        module("fine", "path = a\n\turl = https://example.com/a.git"),
        "[submodule]\n\tpath = -x\n".into(),
        "[submodule.name]\n\turl = -x\n".into(),
        "[other \"../x\"]\n\turl = -x\n".into(),
        "[broken\n".into(),
        "= x\n".into(),
        "[submodule \"a\"]\n\turl\n".into(),
        "[include]\n\tpath = /etc/passwd\n".into(),
        String::new(),
        "[SUBMODULE \"a\"]\n\tURL = -x\n".into(),
        module("a", "update = !rm"),
        module("a", "update = checkout"),
        module("a", "update"),
        module("a", "path = -x"),
        module("a", "path = x-y"),
        module("a", "url = a\n\turl = -x"),
    ];
    for name in ["", "..", ".", "a/..", "../a", "a/../b", "a\\\\..\\\\b", "..a", "a..", "a/..b", "...", "a b"] {
        files.push(module(name, "path = x"));
    }
    for url in [
        "-x",
        "--upload-pack=x",
        "./-x",
        "../-x",
        "https://example.com",
        "http://example.com/a%0ab",
        "https://%0aexample.com",
        "https://example.com/%0a",
        "https://example.com/%0A",
        "git://example.com/%0a",
        "ssh://example.com/%0a",
        "/a/b",
        "a/b",
        "user@host:path",
        "./a%0ab",
        "../a",
        "../..",
        "../:x",
        "../../:x",
        ".././:/x",
        "../a:b",
        "./:x",
        "..//x",
        ".//x",
        "..\\\\:x",
        "http:///example",
        "https://",
        "http:example.com",
        "http::https://example.com",
        "https::-x",
        "http::/x",
        "http::http://a%0a",
        "ftp://x",
        "ftps::https://:80/x",
        "https://:80/",
        "https://user@:80/",
        "https://user@host",
        "https://user:p@host/",
        "https:///",
        "file:///x",
        "ext::sh -c x",
        "https://example.com:99999/",
        "https://[::1]/x",
        "https://a b/",
        "https://exam%70le.com/",
        "a%0ab",
        "https://example.com/a b",
        "https://ex\\\\nample.com/",
        "../x\\\\ny",
        "HTTP://example.com/%0a",
        "http://?x",
        "http://#x",
        "https://example.com?%0a",
        "git://../:x",
        "git::../:x",
        "./../:x",
        "https://example.com:0/",
        "https://example.com:00443/",
        "https://example.com:65536/",
        "https://example.com:/x",
        "https://h:1x/",
        "https://example.com/../x",
        "https://example.com/a/../../x",
        "https://example.com/a//../../x",
        "https://example.com/%2e%2e/x",
        "https://example.com/./..",
        "https://example.com/a/..",
        "https://example.com/%zz",
        "https://example.com/%",
        "https://u%zz@h/",
        "https://example.com/?..%2",
        "https://h#%",
        "https://h_h/",
        "https://h!/",
        "https://u:p@h:1@x/",
        "https+x://h/",
        "http://h\\\\x/",
    ] {
        files.push(module("u", &format!("url = \"{url}\"")));
    }
    for file in &files {
        let id = bad.write(Kind::Blob, file.as_bytes());
        let tree = bad.entry("100644", b".gitmodules", &id);
        bad.write(Kind::Tree, &tree);
    }
    let long = |bytes: usize| format!("a b\n{} c\n", "x".repeat(bytes - 2));
    for (text, name) in [(long(2047), "2047"), (long(2048), "2048"), (long(2049), "2049"), ("x".repeat(2048), "no end")]
    {
        let id = bad.write(Kind::Blob, text.as_bytes());
        let mut tree = bad.entry("100644", b".gitattributes", &id);
        tree.extend(bad.entry("100644", name.as_bytes(), &id));
        bad.write(Kind::Tree, &tree);
    }
    // What is no blob.
    let (empty, missing) = (bad.tree, ObjectId::from_hex(&[b'7'; 40]).unwrap());
    for name in [&b".gitmodules"[..], b".gitattributes"] {
        let tree = bad.entry("40000", name, &empty);
        bad.write(Kind::Tree, &tree);
        let tree = bad.entry("160000", name, &missing);
        bad.write(Kind::Tree, &tree);
    }
    bad.agree();
}
