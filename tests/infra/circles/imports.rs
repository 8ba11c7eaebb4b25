//! Imports between the files of a crate.
//!
//! A name counts for the file that defines it: a re-export is neither a shortcut nor an import. A method counts for the file
//! of its `impl` block, where the type of the receiver is written down: `self`, a parameter, or a field of these.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, FnArg, Token, Visibility};

use crate::modules::{Crate, ItemId, Target, is_test, leaves, names};

/// Files that each file imports names from, with one of these names.
pub(super) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, String>>;

/// Imports of all files of a crate.
pub(super) fn imports(all: &Crate) -> Imports {
    let mut imports = Imports::new();
    for (path, module) in &all.modules {
        let mut visitor = References { all, module: path, this: None, locals: HashMap::new(), found: BTreeMap::new() };
        module.items.iter().for_each(|item| visitor.visit_item(item));
        visitor.found.remove(&module.file);
        imports.entry(module.file.clone()).or_default().extend(visitor.found);
    }
    imports
}

/// Collects the files to which the names in a module lead.
struct References<'a> {
    all: &'a Crate,
    module: &'a [String],
    /// Type of `self`.
    this: Option<ItemId>,
    /// Types of parameters.
    locals: HashMap<String, ItemId>,
    found: BTreeMap<PathBuf, String>,
}

impl References<'_> {
    fn refer(&mut self, path: &[String]) {
        if let (Some(this), [first, method, ..]) = (&self.this, path)
            && first == "Self"
        {
            return self.call(&this.clone(), method);
        }
        if let Some(Target::Item(id, member)) = self.all.resolve(self.module, path, 0) {
            if let Some(member) = member {
                self.call(&id, &member);
            }
            self.found.entry(self.all.modules[&id.0].file.clone()).or_insert(id.1);
        }
    }

    fn call(&mut self, id: &ItemId, method: &str) {
        if let Some(file) = self.all.methods.get(id).and_then(|methods| methods.get(method)) {
            self.found.entry(file.clone()).or_insert_with(|| format!("{}::{method}", id.1));
        }
    }

    /// Type of a receiver, where it is written down.
    fn receiver(&self, expr: &Expr) -> Option<ItemId> {
        match expr {
            Expr::Path(path) if path.path.is_ident("self") => self.this.clone(),
            Expr::Path(path) => self.locals.get(&path.path.get_ident()?.to_string()).cloned(),
            Expr::Field(field) => {
                let base = self.receiver(&field.base)?;
                let syn::Member::Named(name) = &field.member else { return None };
                self.all.fields.get(&base)?.get(&name.to_string()).cloned()
            }
            Expr::Reference(reference) => self.receiver(&reference.expr),
            Expr::Paren(inner) => self.receiver(&inner.expr),
            _ => None,
        }
    }

    /// Visits a function with its parameters in scope.
    fn function(&mut self, signature: &syn::Signature, visit: impl FnOnce(&mut Self)) {
        let typed = signature.inputs.iter().filter_map(|input| {
            let FnArg::Typed(typed) = input else { return None };
            let syn::Pat::Ident(name) = &*typed.pat else { return None };
            Some((name.ident.to_string(), self.all.type_of(self.module, &typed.ty)?))
        });
        let outer = std::mem::replace(&mut self.locals, typed.collect());
        visit(self);
        self.locals = outer;
    }

    /// Refers to all paths in the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut joined = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if joined == 2 || path.is_empty() => {
                    path.push(name.to_string());
                    joined = 0;
                    continue;
                }
                TokenTree::Punct(colon) if colon.as_char() == ':' && !path.is_empty() && joined < 2 => {
                    joined += 1;
                    continue;
                }
                _ => {}
            }
            self.refer(&std::mem::take(&mut path));
            joined = 0;
            match token {
                TokenTree::Ident(name) => path.push(name.to_string()),
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => {}
            }
        }
        self.refer(&path);
    }
}

impl<'ast> Visit<'ast> for References<'_> {
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut all = Vec::new();
        if matches!(item.vis, Visibility::Inherited) && item.leading_colon.is_none() {
            leaves(&item.tree, Vec::new(), &mut all);
        }
        all.iter().filter(|leaf| leaf.name.is_some()).for_each(|leaf| self.refer(&leaf.path));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let outer = std::mem::replace(&mut self.this, self.all.type_of(self.module, &item.self_ty));
        visit::visit_item_impl(self, item);
        self.this = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, |visitor| visit::visit_item_fn(visitor, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, |visitor| visit::visit_impl_item_fn(visitor, item));
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if let Some(id) = self.receiver(&call.receiver) {
            self.call(&id, &call.method.to_string());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.refer(&names(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        match call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) {
            Ok(arguments) => arguments.iter().for_each(|argument| References::visit_expr(self, argument)),
            Err(_) => self.tokens(call.tokens.clone()),
        }
    }
}
