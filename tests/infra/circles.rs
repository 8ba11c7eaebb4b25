//! Files of a room do not import each other in circles of more than two: each can be read after those that it imports.

mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use self::imports::{Imports, imports};
use crate::modules::{Crate, roots, source};

/// Files that import each other in a circle.
type Circle = BTreeSet<PathBuf>;

/// Circles of more than two files: sets of files that all lead to each other.
fn circles(imports: &Imports) -> Vec<Circle> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reached_from(imports, file))).collect();
    let circle = |file: &PathBuf| -> Circle {
        let mutual = reached[file].iter().filter(|other| reached[*other].contains(file));
        mutual.map(|other| (*other).clone()).collect()
    };
    let all: BTreeSet<Circle> = imports.keys().map(circle).filter(|circle| circle.len() > 2).collect();
    all.into_iter().collect()
}

/// Files to which the imports of a file lead; the file itself only through a circle.
fn reached_from<'a>(imports: &'a Imports, file: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&PathBuf> = imports[file].keys().collect();
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            left.extend(imports[next].keys());
        }
    }
    reached
}

/// Lists the imports within a circle, each with one of the imported names.
fn explain(circle: &Circle, imports: &Imports) -> String {
    let mut text = format!("{} files import each other in a circle:\n", circle.len());
    for file in circle {
        for (other, name) in imports[file].iter().filter(|(other, _)| circle.contains(*other)) {
            writeln!(text, "  {} imports {name} of {}", file.display(), other.display()).unwrap();
        }
    }
    text
}

#[test]
fn files_of_a_room_import_each_other_in_no_circle() {
    let mut found = String::new();
    for root in roots() {
        let imports = imports(&Crate::of_source(&root));
        found.extend(circles(&imports).iter().map(|circle| explain(circle, &imports)));
    }
    assert!(found.is_empty(), "{found}What the files share belongs in a file below them.");
}

/// A file that no module declares is in no crate, and a parser that misses files finds no circles.
#[test]
fn every_file_is_read() {
    let crates: Vec<Crate> = roots().iter().map(|root| Crate::of_source(root)).collect();
    let read: BTreeSet<PathBuf> = crates.iter().flat_map(Crate::files).collect();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(source().join(&folder)).unwrap().map(|entry| entry.unwrap()) {
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != Path::new("build.rs") {
                let folder = |file: &Path| {
                    if file.ends_with("mod.rs") { file.with_file_name("") } else { file.with_extension("") }
                };
                let test = |file: &PathBuf| path == *file || path.starts_with(folder(file));
                let tests = crates.iter().any(|all| all.tests.iter().any(test));
                assert!(tests || read.contains(&path), "{}", path.display());
            }
        }
    }
    assert!(read.len() > 300, "{} files", read.len());
}

/// Imports of a planted crate.
fn planted(files: &[(&str, &str)]) -> Imports {
    let text = |file: &Path| files.iter().find(|(name, _)| Path::new(name) == file).map(|(_, text)| (*text).to_owned());
    imports(&Crate::read(Path::new("lib.rs"), &text))
}

fn of<'a>(imports: &'a Imports, file: &str) -> Vec<&'a str> {
    imports[Path::new(file)].keys().map(|file| file.to_str().unwrap()).collect()
}

#[test]
fn a_planted_circle_is_found() {
    let mut files = [
        ("lib.rs", "mod a; mod b; mod pair;"),
        ("a.rs", "use crate::b::c::C; pub struct A(C);"),
        ("b/mod.rs", "pub mod c; pub fn f(_: crate::a::A) {}"),
        ("b/c.rs", "pub struct C; fn g() { super::f(todo!()); super::super::pair::p(); }"),
        ("pair.rs", "mod inner; pub fn p() { inner::q() }"),
        ("pair/inner.rs", "pub fn q() { super::p() }"),
    ];
    let imports = planted(&files);
    let found = circles(&imports);
    assert_eq!(found, [Circle::from(["a.rs", "b/c.rs", "b/mod.rs"].map(PathBuf::from))]);
    assert_eq!(
        explain(&found[0], &imports),
        "3 files import each other in a circle:\n  a.rs imports C of b/c.rs\n  b/c.rs imports f of b/mod.rs\n  \
         b/mod.rs imports A of a.rs\n"
    );
    files[3].1 = "pub struct C;";
    assert!(circles(&planted(&files)).is_empty(), "a circle of two files may be");
}

/// A name counts for the file that defines it, whatever the path: `mod.rs` imports nothing by re-exporting.
#[test]
fn reexports_lead_to_the_defining_file() {
    let imports = planted(&[
        ("lib.rs", "mod room; pub use room::*; pub use room::{A as Renamed, b::{self as bee, B}};"),
        ("room/mod.rs", "mod a; pub mod b; mod c; pub use self::a::{A, a}; pub(crate) use c::C; pub use c::*;"),
        ("room/a.rs", "use super::{C, D}; pub struct A(C, D); pub fn a() {}"),
        ("room/b.rs", "use crate::{Renamed, A}; pub struct B(Renamed, A);"),
        ("room/c.rs", "pub struct C; pub struct D; pub fn f(_: crate::bee::B) { crate::a(); super::a::a(); }"),
    ]);
    assert_eq!(of(&imports, "lib.rs"), [""; 0]);
    assert_eq!(of(&imports, "room/mod.rs"), [""; 0]);
    assert_eq!(of(&imports, "room/a.rs"), ["room/c.rs"]);
    assert_eq!(of(&imports, "room/b.rs"), ["room/a.rs"]);
    assert_eq!(of(&imports, "room/c.rs"), ["room/a.rs", "room/b.rs"]);
}

#[test]
fn every_way_to_write_an_import_counts() {
    for (text, expected) in [
        ("use crate::room::a::A;", "room/a.rs"),
        ("use super::a::A;", "room/a.rs"),
        ("use super::super::room::a::A as B;", "room/a.rs"),
        ("use super::{a::{self, A as B}, more::{}}; use std::fmt::{self, Debug};", "room/a.rs"),
        ("use super::*; fn f(_: a::A) {}", "room/a.rs"),
        ("use super::a::*; fn f(_: Vec<A>) {}", "room/a.rs"),
        ("use super::a; fn f() -> a::A { todo!() }", "room/a.rs"),
        ("use super::a as x; static S: x::A = x::A::NEW;", "room/a.rs"),
        ("fn f() { use super::a::A; }", "room/a.rs"),
        ("fn f() { let _ = super::a::A::new(); }", "room/a.rs"),
        ("fn f() { println!(\"{}\", super::a::A::NEW); }", "room/a.rs"),
        ("macro_rules! m { ($x:ident) => { $crate::room::a::A } }", "room/a.rs"),
        ("use super::Private;", "room/a.rs"),
        ("mod inner { use super::super::a::A; }", "room/a.rs"),
        ("use super::own;", "room/mod.rs"),
        ("use super::Made; fn f() -> Made { Made::new() }", "room/mod.rs"),
        // Methods: of `self`, of a parameter and of a field.
        (
            "use super::more::M; struct S { m: M } impl S { fn f(&self) { self.m.distant(); } }",
            "room/a.rs room/more.rs",
        ),
        ("fn f(m: &super::more::M) { m.distant(); }", "room/a.rs room/more.rs"),
        ("fn f(m: &super::more::M) { super::more::M::distant(m); }", "room/a.rs room/more.rs"),
        ("impl super::more::M { fn f(&self) { assert!(self.distant()); } }", "room/a.rs room/more.rs"),
        ("impl super::more::M { fn f(&self) { Self::distant(self); } }", "room/a.rs room/more.rs"),
        // These import nothing.
        ("use super::Outside; fn f(_: &dyn Outside) {}", ""),
        ("use super::a;", ""),
        ("use super::{self, a as x};", ""),
        ("pub use super::a::A;", ""),
        ("pub(crate) use super::a::A;", ""),
        ("#[cfg(test)] use super::a::A;", ""),
        ("#[cfg(test)] mod tests { use super::super::a::A; }", ""),
        ("struct S; impl S { #[cfg(test)] fn f(_: super::a::A) {} }", ""),
        ("// use super::a::A;", ""),
        ("const S: &str = \"super::a::A\";", ""),
        ("use a::A; use ::a::A as B; mod a { fn f(_: ::a::A) {} }", ""),
    ] {
        let imports = planted(&[
            ("lib.rs", "mod room;"),
            (
                "room/mod.rs",
                "mod a; mod more; mod tested; use a::A as Private; pub use std::fmt::Debug as Outside; pub fn own() {} make! { Made }",
            ),
            ("room/a.rs", "pub struct A; impl super::more::M { pub fn distant(&self) -> bool { true } }"),
            ("room/more.rs", "pub struct M;"),
            ("room/tested.rs", text),
        ]);
        assert_eq!(of(&imports, "room/tested.rs").join(" "), expected, "{text}");
    }
}
