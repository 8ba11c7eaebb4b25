//! Files and functions of the product fit a screen and a head.

use std::path::{Path, PathBuf};

use proc_macro2::Span;
use syn::visit::{self, Visit};

use crate::modules::{Crate, is_test, roots, source};

/// Most lines of a function, from `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 60;
/// Most lines of a file, unit tests in it included.
const MAX_FILE_LINES: usize = 450;

/// Collects the functions above [`MAX_FUNCTION_LINES`], without those of tests.
#[derive(Default)]
struct Long(Vec<String>);

impl Long {
    fn count(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = |span: Span| span.start().line;
        let lines = line(block.brace_token.span.close()) - line(signature.fn_token.span) + 1;
        if lines > MAX_FUNCTION_LINES {
            self.0.push(format!("{} has {lines} lines", signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for Long {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            self.count(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            self.count(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.count(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// Functions of a crate that are too long, each with its file.
fn long_functions(all: &Crate) -> Vec<String> {
    let mut found = Vec::new();
    for module in all.modules.values() {
        let mut long = Long::default();
        module.items.iter().for_each(|item| long.visit_item(item));
        found.extend(long.0.iter().map(|function| format!("{}: {function}", module.file.display())));
    }
    found
}

fn long_files(all: &Crate) -> Vec<String> {
    let lines = |file: &PathBuf| std::fs::read_to_string(source().join(file)).unwrap().lines().count();
    let counted = all.files().into_iter().map(|file| (lines(&file), file));
    let long = counted.filter(|(lines, _)| *lines > MAX_FILE_LINES);
    long.map(|(lines, file)| format!("{} has {lines} lines", file.display())).collect()
}

#[test]
fn functions_and_files_of_the_product_are_short() {
    let mut found = Vec::new();
    for root in roots().iter().filter(|root| !root.starts_with("test_support")) {
        let all = Crate::of_source(root);
        found.extend(long_functions(&all));
        found.extend(long_files(&all));
    }
    assert!(
        found.is_empty(),
        "{}\nFunctions have at most {MAX_FUNCTION_LINES} lines, files {MAX_FILE_LINES}: split them.",
        found.join("\n")
    );
}

#[test]
fn planted_long_functions_are_found() {
    let of = |name: &str, lines: usize| format!("fn {name}() {{\n{}}}\n", "    f();\n".repeat(lines - 2));
    let text = [
        of("fits", MAX_FUNCTION_LINES),
        of("free", MAX_FUNCTION_LINES + 1),
        format!("impl S {{ pub async {} }}", of("method", 70)),
        format!("trait T {{ {} fn declared(); }}", of("provided", 71)),
        format!("fn outer() {{ {} }}", of("inner", 90)),
        format!("#[cfg(test)] {}", of("helper", 100)),
        format!("#[cfg(test)] mod tests {{ {} }}", of("tested", 100)),
        format!("mod inline {{ {} }}", of("nested", 72)),
    ];
    let text = text.concat();
    let all = Crate::read(Path::new("lib.rs"), &|file| (file == Path::new("lib.rs")).then(|| text.clone()));
    let mut found = long_functions(&all);
    found.sort_unstable();
    let expected = [("free", 61), ("inner", 90), ("method", 70), ("nested", 72), ("outer", 91), ("provided", 71)];
    assert_eq!(found, expected.map(|(name, lines)| format!("lib.rs: {name} has {lines} lines")));
}
