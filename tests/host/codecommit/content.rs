//! Files, folders, differences and histories through boto3, compared with those of Git in the repository that was imported.

use std::fmt::Write as _;

use gitferry_test_support::git::GitRepo;
use gitferry_test_support::pair::{Pair, REGIONS, US};

/// Hidden refs of the host, which has CodeCommit's own quotas.
const HIDDEN: &str = "hidden = [\"refs/internal/\"]\n";
/// Largest file that is answered.
const FILE_BYTES: usize = 6 << 20;

/// A stream for `git fast-import`.
#[derive(Default)]
struct Stream {
    text: String,
    commits: usize,
}

impl Stream {
    /// Adds a commit to a ref, on top of other commits; its mark.
    fn commit(&mut self, name: &str, parents: &[usize], changes: &[String]) -> usize {
        self.commits += 1;
        let mark = self.commits;
        let subject = format!("commit {mark}\n\nbody \u{fc}\n");
        let time = 1_700_000_000 + 60 * mark;
        let who = format!("A \u{dc} <a@example.com> {time} +0100");
        let _ = write!(self.text, "commit {name}\nmark :{mark}\nauthor {who}\ncommitter {who}\n{}", data(&subject));
        for (at, parent) in parents.iter().enumerate() {
            let _ = writeln!(self.text, "{} :{parent}", if at == 0 { "from" } else { "merge" });
        }
        self.text.extend(changes.iter().map(String::as_str));
        self.text.push('\n');
        mark
    }
}

fn data(content: &str) -> String {
    format!("data {}\n{content}\n", content.len())
}

/// A file as a change of a stream.
fn file(mode: &str, path: &str, content: &str) -> String {
    format!("M {mode} inline {path}\n{}", data(content))
}

fn lines(changed: usize) -> String {
    (0..40)
        .map(|line| if line < changed { format!("new {changed} {line}\n") } else { format!("old {line}\n") })
        .collect()
}

/// Renames of a file with and without edits, all types of entries, a merge, tags, files at the limit, a hidden ref.
fn stream() -> String {
    let mut stream = Stream::default();
    let main = "refs/heads/main";
    let first = [
        file("100644", "a.txt", &lines(0)),
        file("100755", "dir/exec.sh", "#!/bin/sh\n"),
        file("120000", "dir/link", "../a.txt"),
        file("100644", "dir/sub/deep.txt", "deep\n"),
        file("100644", "dir.txt", "beside the folder\n"),
        file("100644", "b \u{fc}", "text\n"),
        format!("M 160000 {} dir/module\n", "1".repeat(40)),
    ];
    let first = stream.commit(main, &[], &first);
    let second = stream.commit(main, &[first], &[file("100644", "a.txt", &lines(1))]);
    let third = stream.commit(main, &[second], &[file("100755", "dir/sub/deep.txt", "deep\n")]);
    let moved = ["R a.txt dir/moved.txt\n".to_owned(), file("100644", "dir/moved.txt", &lines(2))];
    let fourth = stream.commit(main, &[third], &moved);
    let fifth = ["D dir/exec.sh\n".to_owned(), file("120000", "b \u{fc}", "text\n")];
    let fifth = stream.commit(main, &[fourth], &fifth);
    let sixth = stream.commit(main, &[fifth], &[file("100644", "dir/moved.txt", &lines(3))]);
    let seventh = stream.commit(main, &[sixth], &["R dir/moved.txt z.txt\n".to_owned()]);
    stream.commit("refs/internal/secret", &[seventh], &[file("100644", "z.txt", "secret\n")]);
    let many: Vec<String> = (0..7).map(|n| file("100644", &format!("many/{}/{n}", n % 3), &n.to_string())).collect();
    let topic = stream.commit("refs/heads/team/topic", &[third], &many);
    let topic = stream.commit("refs/heads/team/topic", &[topic], &[file("100644", "a.txt", &lines(4))]);
    let merge: Vec<String> = many.into_iter().chain([file("100644", "z.txt", &lines(5))]).collect();
    stream.commit(main, &[seventh, topic], &merge);
    let large = [file("100644", "full", &"x".repeat(FILE_BYTES)), file("100644", "large", &"x".repeat(FILE_BYTES + 1))];
    stream.commit("refs/heads/large", &[first], &large);
    let _ = write!(stream.text, "reset refs/tags/linear\nfrom :{seventh}\n\n");
    let _ = write!(stream.text, "tag v1\nfrom :{fourth}\ntagger A <a@example.com> 1700000000 +0000\n{}", data("v1\n"));
    stream.text
}

#[test]
fn content_is_that_of_git() {
    let pair = Pair::with_iam_hosts_and([HIDDEN, HIDDEN], "");
    let source = GitRepo::init(pair.path("source"), &[]);
    source.feed(&["fast-import", "--quiet"], stream().as_bytes());
    source.git(&["update-ref", "refs/tags/blob", "refs/tags/linear:z.txt"]);
    pair.ok(&["import", source.path.to_str().unwrap(), "app", "--region", REGIONS[US]]);
    pair.ok(&["repo", "create", "empty", "--region", REGIONS[US]]);
    let ids =
        ["refs/heads/main", "refs/internal/secret", "refs/tags/blob"].map(|name| source.git(&["rev-parse", name]));
    assert!(super::script(&pair, &ids, "content.py").contains("content is that of Git"));
    let log = pair.log();
    assert!(!log.contains("panicked"), "{log}");
}
