//! Modules of a crate, and the resolution of the names in them by the rules of Rust.
//!
//! A path is followed through `mod`, `use` and `pub use` to the item. Test code is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, GenericArgument, Item, PathArguments, Type, UseTree};

/// Longest chain of re-exports that is followed.
const MAX_REEXPORTS: usize = 20;

/// Names of the modules from the root of the crate down.
pub(super) type ModulePath = Vec<String>;

/// Type, constant, function or other item: the module that defines it, and its name.
pub(super) type ItemId = (ModulePath, String);

/// Modules of a crate without its tests.
pub(super) struct Crate {
    pub(super) modules: BTreeMap<ModulePath, Module>,
    /// Files of test modules, whose own modules are not read.
    pub(super) tests: Vec<PathBuf>,
    /// Files of the inherent methods of each type.
    pub(super) methods: HashMap<ItemId, HashMap<String, PathBuf>>,
    /// Types of the fields of each struct, as far as the crate defines these types.
    pub(super) fields: HashMap<ItemId, HashMap<String, ItemId>>,
}

pub(super) struct Module {
    pub(super) file: PathBuf,
    /// Names in scope. Rust has three namespaces, so a module and a function may share a name.
    names: HashMap<String, Vec<Name>>,
    /// Paths before `::*` in imports.
    globs: Vec<Vec<String>>,
    pub(super) items: Vec<Item>,
}

enum Name {
    Module(ModulePath),
    Item,
    /// Path of a `use` or `pub use`.
    Imported(Vec<String>),
}

/// Outcome of a resolution.
pub(super) enum Target {
    Module(ModulePath),
    /// Item, and the segment after its name, such as an associated function.
    Item(ItemId, Option<String>),
}

/// Leaf of a use tree.
pub(super) struct Leaf {
    pub(super) path: Vec<String>,
    /// Name that it brings into scope; `None` for `*`.
    pub(super) name: Option<String>,
}

/// Folder of the rooms.
pub(super) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Root modules of the program and of the crates below `src/`.
pub(super) fn roots() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(source()).unwrap().map(|entry| entry.unwrap().file_name());
    let crates = folders.map(|folder| Path::new(&folder).join("lib.rs")).filter(|root| source().join(root).exists());
    crates.chain([PathBuf::from("main.rs")]).collect()
}

impl Crate {
    /// Reads one of [`roots`].
    pub(super) fn of_source(root: &Path) -> Crate {
        Crate::read(root, &|file| std::fs::read_to_string(source().join(file)).ok())
    }

    /// Reads the crate with the root module in the file `root`. `read` returns the content of a file, if it exists.
    pub(super) fn read(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Crate {
        let mut all =
            Crate { modules: BTreeMap::new(), tests: Vec::new(), methods: HashMap::new(), fields: HashMap::new() };
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        all.add(Vec::new(), root, &folder, parse(root, &read(root).unwrap()), read);
        all.add_members();
        all
    }

    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        self.modules.values().map(|module| module.file.clone()).collect()
    }

    /// Adds a module; `folder` holds the files of its child modules.
    fn add(
        &mut self,
        path: ModulePath,
        file: &Path,
        folder: &Path,
        items: Vec<Item>,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut module = Module { file: file.to_owned(), names: HashMap::new(), globs: Vec::new(), items: Vec::new() };
        for item in items {
            let Item::Mod(child) = item else {
                if !is_test(attributes(&item)) {
                    module.add_names(&item);
                    module.items.push(item);
                }
                continue;
            };
            let name = child.ident.to_string();
            let child_path = [&path[..], std::slice::from_ref(&name)].concat();
            let child_folder = folder.join(&name);
            let test = is_test(&child.attrs);
            match child.content {
                Some(_) if test => continue,
                Some((_, items)) => self.add(child_path.clone(), file, &child_folder, items, read),
                None => {
                    let candidates = [folder.join(format!("{name}.rs")), child_folder.join("mod.rs")];
                    let found = candidates.into_iter().find_map(|file| read(&file).map(|text| (file, text)));
                    let (file, text) = found.unwrap_or_else(|| panic!("no file of {}", child_path.join("::")));
                    if test {
                        self.tests.push(file);
                        continue;
                    }
                    self.add(child_path.clone(), &file, &child_folder, parse(&file, &text), read);
                }
            }
            module.names.entry(name).or_default().push(Name::Module(child_path));
        }
        self.modules.insert(path, module);
    }

    /// Lists the fields of structs and the inherent methods of all types.
    fn add_members(&mut self) {
        let mut methods: HashMap<ItemId, HashMap<String, PathBuf>> = HashMap::new();
        let mut fields: HashMap<ItemId, HashMap<String, ItemId>> = HashMap::new();
        for (path, module) in &self.modules {
            for item in &module.items {
                match item {
                    Item::Struct(item) => {
                        let typed = item.fields.iter().filter_map(|field| {
                            Some((field.ident.as_ref()?.to_string(), self.type_of(path, &field.ty)?))
                        });
                        fields.insert((path.clone(), item.ident.to_string()), typed.collect());
                    }
                    Item::Impl(item) if item.trait_.is_none() => {
                        let Some(id) = self.type_of(path, &item.self_ty) else { continue };
                        let functions = item.items.iter().filter_map(|item| match item {
                            syn::ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
                            _ => None,
                        });
                        methods.entry(id).or_default().extend(functions.map(|name| (name, module.file.clone())));
                    }
                    _ => {}
                }
            }
        }
        self.methods = methods;
        self.fields = fields;
    }

    /// Resolves a path that is written in the module `from`; `None` if the path leads out of the crate.
    pub(super) fn resolve(&self, from: &[String], path: &[String], depth: usize) -> Option<Target> {
        match path.first().map(String::as_str) {
            Some("crate") => self.member(&[], &path[1..], depth),
            Some("self") => self.member(from, &path[1..], depth),
            _ => self.within(from, path, depth),
        }
    }

    /// Resolves a path below a module that has been named. A name that is not in the scope of a module with macros is of
    /// an item that one of the macros defines.
    fn member(&self, module: &[String], path: &[String], depth: usize) -> Option<Target> {
        self.within(module, path, depth).or_else(|| {
            let (name, rest) = path.split_first()?;
            let scope = self.modules.get(module)?;
            let has_macros = scope.items.iter().any(|item| matches!(item, Item::Macro(call) if call.ident.is_none()));
            let made = has_macros && !scope.names.contains_key(name);
            made.then(|| Target::Item((module.to_vec(), name.clone()), rest.first().cloned()))
        })
    }

    /// Resolves a path whose first name is in the scope of a module; `None` if the scope lacks the name.
    fn within(&self, module: &[String], path: &[String], depth: usize) -> Option<Target> {
        let Some((name, rest)) = path.split_first() else { return Some(Target::Module(module.to_vec())) };
        if name == "super" {
            return self.member(&module[..module.len().checked_sub(1)?], rest, depth);
        }
        if depth > MAX_REEXPORTS {
            return None;
        }
        let scope = self.modules.get(module)?;
        let mut child = None;
        for known in scope.names.get(name).into_iter().flatten() {
            let target = match known {
                Name::Module(path) => self.member(path, rest, depth),
                Name::Item => Some(Target::Item((module.to_vec(), name.clone()), rest.first().cloned())),
                Name::Imported(path) => self.resolve(module, &[path, rest].concat(), depth + 1),
            };
            match target {
                Some(Target::Item(..)) => return target,
                Some(Target::Module(_)) => child = target,
                None => {}
            }
        }
        let globs = scope.globs.iter().filter_map(|glob| match self.resolve(module, glob, depth + 1)? {
            Target::Module(other) if other != module => self.within(&other, path, depth + 1),
            _ => None,
        });
        child.or_else(|| globs.into_iter().next())
    }

    /// Type of the crate behind references and smart pointers.
    pub(super) fn type_of(&self, module: &[String], ty: &Type) -> Option<ItemId> {
        match ty {
            Type::Reference(reference) => self.type_of(module, &reference.elem),
            Type::Paren(inner) => self.type_of(module, &inner.elem),
            Type::Path(path) => {
                let last = path.path.segments.last()?;
                if let PathArguments::AngleBracketed(arguments) = &last.arguments
                    && (last.ident == "Arc" || last.ident == "Rc" || last.ident == "Box")
                {
                    return arguments.args.iter().find_map(|argument| match argument {
                        GenericArgument::Type(ty) => self.type_of(module, ty),
                        _ => None,
                    });
                }
                match self.resolve(module, &names(&path.path), 0)? {
                    Target::Item(id, None) => Some(id),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl Module {
    /// Adds the names that an item brings into scope. Imports inside functions count as those of the module.
    fn add_names(&mut self, item: &Item) {
        if let Some(name) = defined(item) {
            self.names.entry(name).or_default().push(Name::Item);
        }
        let mut uses = Uses::default();
        uses.visit_item(item);
        for Leaf { path, name } in uses.0 {
            match name {
                Some(name) => self.names.entry(name).or_default().push(Name::Imported(path)),
                None => self.globs.push(path),
            }
        }
    }
}

/// Leaves of all imports in an item.
#[derive(Default)]
struct Uses(Vec<Leaf>);

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            leaves(&item.tree, Vec::new(), &mut self.0);
        }
    }
}

pub(super) fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

fn parse(file: &Path, text: &str) -> Vec<Item> {
    syn::parse_file(text).unwrap_or_else(|e| panic!("{}: {e}", file.display())).items
}

/// Expands a use tree.
pub(super) fn leaves(tree: &UseTree, mut prefix: Vec<String>, all: &mut Vec<Leaf>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            leaves(&path.tree, prefix, all);
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, prefix.clone(), all)),
        UseTree::Glob(_) => all.push(Leaf { path: prefix, name: None }),
        UseTree::Name(name) if name.ident == "self" => {
            let name = prefix.last().cloned();
            all.extend(name.map(|name| Leaf { path: prefix, name: Some(name) }));
        }
        UseTree::Name(name) => {
            prefix.push(name.ident.to_string());
            all.push(Leaf { path: prefix, name: Some(name.ident.to_string()) });
        }
        UseTree::Rename(rename) => {
            if rename.ident != "self" {
                prefix.push(rename.ident.to_string());
            }
            all.push(Leaf { path: prefix, name: Some(rename.rename.to_string()) });
        }
    }
}

/// Returns true for `#[cfg(test)]`.
pub(super) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|ident| ident == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Name of the item that an item defines.
fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}
