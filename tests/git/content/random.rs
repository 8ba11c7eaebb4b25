//! Random trees and histories, the same for the same seed, as a script for `git fast-import`.

use std::collections::BTreeMap;
use std::io::Write;

/// Files by path: mode and bytes.
pub type Tree = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Random numbers.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

const NAMES: [&str; 14] =
    ["a", "b", "c.txt", "d", "x/a", "x/b", "x/y/c", "x-z", "x/y/z/d", "y/a", "y/b.txt", "y/q/e", "z", "z/w"];

/// A path. Where there are renames, none is that of a folder: git has one path for a whole history.
fn name(random: &mut Random, flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Plain => random.pick(&NAMES),
        Flavor::Renames => random.pick(&NAMES[..12]),
    }
}

/// A text of few different lines, so that merges and moved hunks are ambiguous.
fn text(random: &mut Random) -> Vec<u8> {
    let lines = random.below(14);
    let end = if random.below(6) == 0 { "\r\n" } else { "\n" };
    let mut text: String = (0..lines).map(|_| format!("{}{end}", random.pick(&LINES))).collect();
    if random.below(8) == 0 {
        text.push_str("no end");
    }
    text.into_bytes()
}

const LINES: [&str; 12] = ["one", "two", "three", "{", "}", "", "  return;", "four", "five", "six", "seven", "eight"];

/// Text whose lines occur in no other file: renames are unambiguous.
fn unique(random: &mut Random) -> Vec<u8> {
    let tag = random.below(1 << 30);
    (0..8 + random.below(6)).flat_map(|line| format!("{tag:x} line {line}\n").into_bytes()).collect()
}

/// Kinds of changes that a history has.
#[derive(Clone, Copy, PartialEq)]
pub enum Flavor {
    Plain,
    Renames,
}

pub fn tree(random: &mut Random, flavor: Flavor) -> Tree {
    let mut tree = Tree::new();
    for _ in 0..4 + random.below(5) {
        let path = name(random, flavor);
        let bytes = if flavor == Flavor::Renames { unique(random) } else { text(random) };
        put(&mut tree, path, ("100644", bytes));
    }
    tree
}

/// Puts a file; what is in its way goes.
fn put(tree: &mut Tree, path: &str, file: (&'static str, Vec<u8>)) {
    tree.retain(|other, _| !other.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{other}/")));
    tree.insert(path.to_owned(), file);
}

/// Changes some files.
pub fn change(random: &mut Random, tree: &mut Tree, flavor: Flavor) {
    for _ in 0..1 + random.below(4) {
        let paths: Vec<String> = tree.keys().cloned().collect();
        let fresh = name(random, flavor);
        if paths.is_empty() {
            put(tree, fresh, ("100644", text(random)));
            continue;
        }
        let path = random.pick(&paths);
        match random.below(20) {
            0..11 => edit(random, tree.get_mut(&path).unwrap()),
            11 => {
                tree.remove(&path);
            }
            12 | 13 => {
                put(tree, fresh, ("100644", if flavor == Flavor::Renames { unique(random) } else { text(random) }))
            }
            14 => {
                let file = tree.get_mut(&path).unwrap();
                if file.0 != "120000" {
                    file.0 = if file.0 == "100644" { "100755" } else { "100644" };
                }
            }
            15 if flavor == Flavor::Plain => put(tree, fresh, ("100644", [&b"\0bin"[..], &text(random)].concat())),
            16 if flavor == Flavor::Plain => {
                put(tree, fresh, ("120000", random.pick(&LINES).bytes().chain(*b"x").collect()))
            }
            _ if flavor == Flavor::Renames => {
                let mut file = tree.remove(&path).unwrap();
                if random.below(2) == 0 {
                    edit(random, &mut file);
                }
                let to = format!("new{}/{fresh}", random.below(1 << 20));
                put(tree, &to, file);
            }
            _ => {}
        }
    }
}

fn edit(random: &mut Random, (mode, bytes): &mut (&'static str, Vec<u8>)) {
    if *mode == "120000" {
        bytes.push(b'y');
        return;
    }
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len() + 1);
    let line = [random.pick(&LINES).as_bytes(), b"\n"].concat();
    match random.below(4) {
        0 if at < lines.len() => {
            lines.remove(at);
        }
        1 | 2 if at < lines.len() => lines[at] = line,
        _ => lines.insert(at, line),
    }
    *bytes = lines.concat();
}

/// Script for `git fast-import`: each commit gets a mark and a date of its own.
#[derive(Default)]
pub struct Script {
    pub bytes: Vec<u8>,
    commits: u64,
}

impl Script {
    /// Writes a commit and moves a branch to it; returns its mark.
    pub fn commit(&mut self, branch: &str, tree: &Tree, parents: &[u64]) -> u64 {
        self.commits += 1;
        let out = &mut self.bytes;
        let date = 1_600_000_000 + self.commits * 60;
        // An unborn branch has no parent.
        writeln!(out, "reset refs/heads/{branch}\n").unwrap();
        writeln!(out, "commit refs/heads/{branch}\nmark :{}\ncommitter C <c@example.com> {date} +0000", self.commits)
            .unwrap();
        writeln!(out, "data 1\nx").unwrap();
        for (number, parent) in parents.iter().enumerate() {
            writeln!(out, "{} :{parent}", if number == 0 { "from" } else { "merge" }).unwrap();
        }
        writeln!(out, "deleteall").unwrap();
        for (path, (mode, bytes)) in tree {
            writeln!(out, "M {mode} inline {path}\ndata {}", bytes.len()).unwrap();
            out.extend_from_slice(bytes);
            out.push(b'\n');
        }
        out.push(b'\n');
        self.commits
    }
}
