//! A model of all operations of CodeCommit, read once from `codecommit.txt`.

mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The model as text. Its head explains the lines.
const TEXT: &str = include_str!("codecommit.txt");

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    parse::parse(TEXT).unwrap_or_else(|error| unreachable!("the model of this build is read: {error}"))
});

/// The model.
pub fn model() -> &'static Model {
    &MODEL
}

/// Operations and types.
#[derive(Debug, Default)]
pub struct Model {
    operations: BTreeMap<&'static str, Operation>,
    shapes: BTreeMap<&'static str, Shape>,
}

impl Model {
    /// Operation of a name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }

    /// Type of a name.
    pub fn shape(&self, name: &str) -> Option<&Shape> {
        self.shapes.get(name)
    }

    /// Error of a missing member: its own, or that of its type if the operation has it.
    pub fn missing(&self, operation: &Operation, member: &Member) -> Option<&'static str> {
        member.missing.or_else(|| self.code_of_type(operation, member, |shape| shape.missing))
    }

    /// Error of a member that breaks a constraint: its own, or that of its type if the operation has it.
    pub fn invalid(&self, operation: &Operation, member: &Member) -> Option<&'static str> {
        member.invalid.or_else(|| self.code_of_type(operation, member, |shape| shape.invalid))
    }

    fn code_of_type(
        &self,
        operation: &Operation,
        member: &Member,
        code: impl Fn(&Shape) -> Option<&'static str>,
    ) -> Option<&'static str> {
        let Type::Named(name) = member.kind else { return None };
        code(self.shape(name)?).filter(|code| operation.has_error(code))
    }

    /// All operations, by name.
    #[cfg(test)]
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.values()
    }
}

/// Operation of the API.
#[derive(Debug)]
pub struct Operation {
    /// Name, such as `CreateBranch`.
    pub name: &'static str,
    /// True if the operation changes nothing.
    pub reads_only: bool,
    /// True if policies may limit the operation to refs: `codecommit:References`.
    pub on_reference: bool,
    /// True if the operation is on no repository, so that policies allow it on `*` alone.
    pub on_account: bool,
    /// Members of the input.
    pub input: Vec<Member>,
    /// Members of the output.
    pub output: Vec<Member>,
    /// Members of a list in pages.
    pub pages: Option<Pages>,
    errors: BTreeSet<&'static str>,
}

impl Operation {
    /// Returns true if the operation may fail with this error.
    pub fn has_error(&self, code: &str) -> bool {
        self.errors.contains(code)
    }
}

/// Members of a list in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Token of the next page, in input and output.
    pub token: &'static str,
    /// The list in the output.
    pub result: &'static str,
    /// Number of items of a page, in the input.
    pub limit: Option<&'static str>,
}

/// Member of a structure.
#[derive(Debug)]
pub struct Member {
    /// Name.
    pub name: &'static str,
    /// True if a request without the member is refused.
    pub is_required: bool,
    /// Type.
    pub kind: Type,
    /// Error of a missing member.
    pub missing: Option<&'static str>,
    /// Error of a value that breaks a constraint.
    pub invalid: Option<&'static str>,
}

/// Type of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A type with a name.
    Named(&'static str),
    Boolean,
    Integer,
    Long,
    /// Seconds since 1970, with a fraction.
    Timestamp,
    /// Bytes as Base64.
    Blob,
    List(Box<Type>),
    /// Values by texts.
    Map(Box<Type>, Box<Type>),
}

/// Type with a name.
#[derive(Debug)]
pub struct Shape {
    /// Kind and constraints.
    pub kind: ShapeKind,
    /// Error of a missing member of this type, in operations that have it.
    pub missing: Option<&'static str>,
    /// Error of a value that breaks a constraint, in operations that have it.
    pub invalid: Option<&'static str>,
}

/// Kind of a type with a name.
#[derive(Debug)]
pub enum ShapeKind {
    /// A text of `least` to `most` characters.
    Text {
        /// Fewest characters.
        least: usize,
        /// Most characters.
        most: usize,
        /// Characters that the text may have: single ones, ranges, and `\w` for letters, digits and `_`.
        characters: Option<&'static str>,
    },
    /// Bytes as Base64, at most so many.
    Blob(usize),
    /// One of these texts.
    Enum(Vec<&'static str>),
    /// A whole number.
    Number,
    /// A structure.
    Structure(Vec<Member>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: &Type) -> Vec<&'static str> {
        match kind {
            Type::Named(name) => vec![*name],
            Type::List(item) => names(item),
            Type::Map(key, value) => [names(key), names(value)].concat(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_model_is_whole() {
        let model = model();
        assert_eq!(model.operations().count(), 79);
        let of_shapes = model.shapes.values().filter_map(|shape| match &shape.kind {
            ShapeKind::Structure(members) => Some(members),
            _ => None,
        });
        let of_operations = model.operations().flat_map(|operation| [&operation.input, &operation.output]);
        for member in of_shapes.chain(of_operations).flatten() {
            for name in names(&member.kind) {
                assert!(model.shape(name).is_some(), "{}: {name}", member.name);
            }
        }
        for operation in model.operations() {
            let has = |members: &[Member], name: &str| members.iter().any(|member| member.name == name);
            if let Some(pages) = operation.pages {
                assert!(
                    has(&operation.input, pages.token) && has(&operation.output, pages.token),
                    "{}",
                    operation.name
                );
                assert!(has(&operation.output, pages.result), "{}", operation.name);
                assert!(pages.limit.is_none_or(|limit| has(&operation.input, limit)), "{}", operation.name);
            }
            // The model names no exception for the path of ListFileCommitHistory.
            for member in operation.input.iter().filter(|member| member.is_required && member.name != "filePath") {
                assert!(model.missing(operation, member).is_some(), "{}: {} has no error", operation.name, member.name);
            }
        }
    }

    #[test]
    fn members_have_the_errors_of_their_types_where_the_operation_has_them() {
        let model = model();
        let create = model.operation("CreateBranch").unwrap();
        let branch = &create.input[1];
        assert_eq!(
            (model.missing(create, branch), model.invalid(create, branch)),
            (Some("BranchNameRequiredException"), Some("InvalidBranchNameException"))
        );
        assert!(!create.reads_only && create.on_reference && !create.on_account);
        assert!(create.has_error("EncryptionKeyDisabledException") && !create.has_error("TitleRequiredException"));
        let list = model.operation("ListRepositories").unwrap();
        assert!(list.reads_only && list.on_account);
        assert_eq!(list.pages, Some(Pages { token: "nextToken", result: "repositories", limit: None }));
        let untag = model.operation("UntagResource").unwrap();
        assert_eq!(untag.input[1].kind, Type::List(Box::new(Type::Named("TagKey"))));
        assert_eq!(untag.input[1].invalid, Some("InvalidTagKeysListException"));
    }
}
