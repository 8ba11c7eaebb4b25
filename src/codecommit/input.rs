//! From the body of a request to the input of its operation, as the model has it.
//!
//! Types come first, for the whole body, then members that are missing and values that break a constraint, in the order of
//! the model. Members that the operation does not have are ignored, as AWS does: SDKs that are newer than the model send
//! some.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_api::{ApiError, Result, shown};
use serde_json::{Map, Value};

use crate::model::{Member, Model, Operation, ShapeKind, Type};

/// Checked members of an input, by name.
pub type Input = Map<String, Value>;

/// Reads the body of a request.
///
/// # Errors
/// `SerializationException` for a wrong type; the exceptions of the model for missing members and constraints.
pub fn read(model: &Model, operation: &Operation, body: &[u8]) -> Result<Input> {
    let checker = Checker { model, operation };
    // A request without parameters may have no body.
    let body: &[u8] = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let Ok(Value::Object(given)) = serde_json::from_slice(body) else {
        return Err(wrong_type("", "an object in JSON"));
    };
    let input = checker.typed_members(&operation.input, &given, "")?;
    checker.check_members(&operation.input, &input, "", None)?;
    Ok(input)
}

/// The input as it stands in the audit trail: without the contents of files.
pub fn audited(model: &Model, operation: &Operation, input: &Input) -> Value {
    let is_content = |name: &String| {
        let member = operation.input.iter().find(|member| member.name == name);
        member.is_some_and(|member| Checker { model, operation }.is_bytes(&member.kind))
    };
    let kept = input.iter().filter(|(name, _)| !is_content(name));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Returns true if an operation takes contents of files.
pub fn has_content(model: &Model, operation: &Operation) -> bool {
    operation.input.iter().any(|member| Checker { model, operation }.is_bytes(&member.kind))
}

/// Returns true if a result has members of the operation's output alone; null stands for a result without any.
pub fn is_result(operation: &Operation, result: &Value) -> bool {
    match result {
        Value::Null => operation.output.is_empty(),
        Value::Object(members) => members.keys().all(|name| operation.output.iter().any(|member| member.name == name)),
        _ => false,
    }
}

struct Checker<'a> {
    model: &'a Model,
    operation: &'a Operation,
}

impl Checker<'_> {
    /// The members of a structure that it has and that are not null.
    fn typed_members(&self, members: &[Member], given: &Map<String, Value>, at: &str) -> Result<Input> {
        let mut typed = Input::new();
        for member in members {
            let Some(value) = given.get(member.name).filter(|value| !value.is_null()) else { continue };
            typed.insert(member.name.to_owned(), self.typed(&member.kind, value, &below(at, member.name))?);
        }
        Ok(typed)
    }

    /// A value of this type.
    fn typed(&self, kind: &Type, value: &Value, at: &str) -> Result<Value> {
        match (kind, value) {
            (Type::Named(name), _) => self.typed_shape(name, value, at),
            (Type::Boolean, Value::Bool(_)) => Ok(value.clone()),
            (Type::Integer, _) if value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
                Ok(value.clone())
            }
            (Type::Long, _) if value.as_i64().is_some() => Ok(value.clone()),
            (Type::Timestamp, Value::Number(_)) => Ok(value.clone()),
            (Type::Blob, Value::String(text)) if bytes_of(text).is_some() => Ok(value.clone()),
            (Type::List(item), Value::Array(items)) => {
                let items = items.iter().map(|value| self.typed(item, value, at));
                Ok(Value::Array(items.collect::<Result<_>>()?))
            }
            (Type::Map(_, item), Value::Object(entries)) => {
                let typed = |(key, value): (&String, &Value)| -> Result<(String, Value)> {
                    Ok((key.clone(), self.typed(item, value, at)?))
                };
                Ok(Value::Object(entries.iter().map(typed).collect::<Result<_>>()?))
            }
            _ => Err(wrong_type(at, described(kind))),
        }
    }

    fn typed_shape(&self, name: &str, value: &Value, at: &str) -> Result<Value> {
        let kind = &self.model.shape(name).ok_or_else(|| unknown_type(name))?.kind;
        match (kind, value) {
            (ShapeKind::Text { .. } | ShapeKind::Enum(_), Value::String(_)) => Ok(value.clone()),
            (ShapeKind::Blob(_), _) => self.typed(&Type::Blob, value, at),
            (ShapeKind::Number, _) => self.typed(&Type::Integer, value, at),
            (ShapeKind::Structure(members), Value::Object(given)) => {
                Ok(Value::Object(self.typed_members(members, given, at)?))
            }
            (ShapeKind::Structure(_), _) => Err(wrong_type(at, "an object")),
            (ShapeKind::Text { .. } | ShapeKind::Enum(_), _) => Err(wrong_type(at, "a text")),
        }
    }

    /// Checks the members of a structure whose types are right. `outer` is the error of the value around it.
    fn check_members(&self, members: &[Member], input: &Input, at: &str, outer: Option<&'static str>) -> Result<()> {
        for member in members {
            let at = below(at, member.name);
            match input.get(member.name) {
                None if member.is_required => {
                    return Err(broken(self.model.missing(self.operation, member).or(outer), &at, "is required"));
                }
                None => {}
                Some(value) => {
                    let code = self.model.invalid(self.operation, member).or(outer);
                    self.check(&member.kind, value, &at, code)?;
                }
            }
        }
        Ok(())
    }

    fn check(&self, kind: &Type, value: &Value, at: &str, code: Option<&'static str>) -> Result<()> {
        match (kind, value) {
            (Type::Named(name), _) => self.check_shape(name, value, at, code),
            (Type::List(item), Value::Array(items)) => {
                items.iter().try_for_each(|value| self.check(item, value, at, code))
            }
            (Type::Map(key, item), Value::Object(entries)) => entries.iter().try_for_each(|(name, value)| {
                self.check(key, &Value::from(name.as_str()), at, code)?;
                self.check(item, value, at, code)
            }),
            _ => Ok(()),
        }
    }

    fn check_shape(&self, name: &str, value: &Value, at: &str, code: Option<&'static str>) -> Result<()> {
        let shape = self.model.shape(name).ok_or_else(|| unknown_type(name))?;
        match (&shape.kind, value) {
            (ShapeKind::Text { least, most, characters }, Value::String(text)) => {
                let length = text.chars().count();
                if !(*least..=*most).contains(&length) {
                    return Err(broken(code, at, &format!("has {length} characters, not {}", range(*least, *most))));
                }
                let is_allowed = |set: &str| text.chars().all(|character| is_of(set, character));
                match characters {
                    Some(set) if !is_allowed(set) => Err(broken(code, at, &format!("has characters other than {set}"))),
                    _ => Ok(()),
                }
            }
            (ShapeKind::Enum(values), Value::String(text)) if !values.contains(&text.as_str()) => {
                Err(broken(code, at, &format!("is {}, not one of {}", shown(text), values.join(", "))))
            }
            (ShapeKind::Blob(most), Value::String(text)) if bytes_of(text).is_some_and(|bytes| bytes.len() > *most) => {
                Err(broken(code, at, &format!("has more than {most} bytes")))
            }
            (ShapeKind::Structure(members), Value::Object(input)) => self.check_members(members, input, at, code),
            _ => Ok(()),
        }
    }

    fn is_bytes(&self, kind: &Type) -> bool {
        match kind {
            Type::Blob => true,
            Type::Named(name) => match self.model.shape(name).map(|shape| &shape.kind) {
                Some(ShapeKind::Blob(_)) => true,
                Some(ShapeKind::Structure(members)) => members.iter().any(|member| self.is_bytes(&member.kind)),
                _ => false,
            },
            Type::List(item) | Type::Map(_, item) => self.is_bytes(item),
            Type::Boolean | Type::Integer | Type::Long | Type::Timestamp => false,
        }
    }
}

/// Bytes of a Base64 text.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

fn below(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn range(least: usize, most: usize) -> String {
    if most == usize::MAX { format!("{least} or more") } else { format!("{least} to {most}") }
}

/// Returns true if a set of the model, such as `\w./-`, has a character.
fn is_of(set: &str, character: char) -> bool {
    let (classes, plain) = match set.strip_prefix("\\w") {
        Some(rest) => (true, rest),
        None => (false, set),
    };
    if classes && (character.is_ascii_alphanumeric() || character == '_') {
        return true;
    }
    let mut rest = plain.chars().peekable();
    while let Some(first) = rest.next() {
        let mut ahead = rest.clone();
        let range = (ahead.next() == Some('-')).then(|| ahead.next()).flatten();
        if let Some(last) = range {
            rest = ahead;
            if (first..=last).contains(&character) {
                return true;
            }
        } else if first == character {
            return true;
        }
    }
    false
}

fn described(kind: &Type) -> &'static str {
    match kind {
        Type::Named(_) => "a value of another type",
        Type::Boolean => "true or false",
        Type::Integer | Type::Long => "a whole number",
        Type::Timestamp => "a number of seconds",
        Type::Blob => "bytes in Base64",
        Type::List(_) => "a list",
        Type::Map(..) => "an object with values by keys",
    }
}

fn wrong_type(at: &str, expected: &str) -> ApiError {
    let what = if at.is_empty() { "The body" } else { at };
    ApiError::new("SerializationException", 400, format!("{what} has to be {expected}."))
}

fn broken(code: Option<&'static str>, at: &str, reason: &str) -> ApiError {
    ApiError::new(code.unwrap_or("ValidationException"), 400, format!("{at} {reason}."))
}

/// The model names a type that it lacks, which a test of the model rules out.
fn unknown_type(name: &str) -> ApiError {
    tracing::error!(name, "the model of CodeCommit lacks a type");
    ApiError::unavailable()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::model;

    fn input(operation: &str, body: &Value) -> std::result::Result<Input, (&'static str, String)> {
        let operation = model().operation(operation).unwrap();
        let read = read(model(), operation, body.to_string().as_bytes());
        read.map_err(|error| (error.code(), error.message().to_owned()))
    }

    fn code(operation: &str, body: &Value) -> &'static str {
        input(operation, body).unwrap_err().0
    }

    #[test]
    fn a_missing_member_has_the_exception_of_the_model() {
        for (operation, body, expected) in [
            ("CreateBranch", json!({}), "RepositoryNameRequiredException"),
            ("CreateBranch", json!({"repositoryName": null}), "RepositoryNameRequiredException"),
            ("CreateBranch", json!({"repositoryName": "a"}), "BranchNameRequiredException"),
            ("CreateBranch", json!({"repositoryName": "a", "branchName": "b"}), "CommitIdRequiredException"),
            ("GetBranch", json!({}), "RepositoryNameRequiredException"),
            ("TagResource", json!({"resourceArn": "a"}), "TagsMapRequiredException"),
            ("UpdateRepositoryEncryptionKey", json!({"repositoryName": "a"}), "EncryptionKeyRequiredException"),
            (
                "CreatePullRequest",
                json!({"title": "t", "targets": [{"sourceReference": "s"}]}),
                "RepositoryNameRequiredException",
            ),
        ] {
            assert_eq!(code(operation, &body), expected, "{operation} {body}");
        }
    }

    #[test]
    fn constraints_are_kept_to_the_letter() {
        let long = |length: usize| "x".repeat(length);
        for (operation, body, expected) in [
            ("GetRepository", json!({"repositoryName": ""}), "InvalidRepositoryNameException"),
            ("GetRepository", json!({"repositoryName": "a b"}), "InvalidRepositoryNameException"),
            ("GetRepository", json!({"repositoryName": "ä"}), "InvalidRepositoryNameException"),
            ("GetRepository", json!({"repositoryName": long(101)}), "InvalidRepositoryNameException"),
            ("BatchGetRepositories", json!({"repositoryNames": ["a", "b!"]}), "InvalidRepositoryNameException"),
            ("ListRepositories", json!({"sortBy": "size"}), "InvalidSortByException"),
            ("ListRepositories", json!({"order": "Ascending"}), "InvalidOrderException"),
            ("TagResource", json!({"resourceArn": "a", "tags": {"": "x"}}), "InvalidTagsMapException"),
            ("TagResource", json!({"resourceArn": "a", "tags": {"k": long(257)}}), "InvalidTagsMapException"),
            ("UntagResource", json!({"resourceArn": "a", "tagKeys": [long(129)]}), "InvalidTagKeysListException"),
            (
                "UpdateRepositoryDescription",
                json!({"repositoryName": "a", "repositoryDescription": "ä".repeat(1_001)}),
                "InvalidRepositoryDescriptionException",
            ),
            ("CreateRepository", json!({"repositoryName": "a", "kmsKeyId": "k!"}), "EncryptionKeyInvalidIdException"),
        ] {
            assert_eq!(code(operation, &body), expected, "{operation} {body}");
        }
        input("GetRepository", &json!({"repositoryName": "team/a_b.c-9"})).unwrap();
        let description = json!({"repositoryName": "a", "repositoryDescription": "ä".repeat(1_000)});
        input("UpdateRepositoryDescription", &description).unwrap();
    }

    #[test]
    fn wrong_types_come_first_and_unknown_members_are_ignored() {
        for (operation, body) in [
            ("CreateBranch", json!({"commitId": 7})),
            ("GetRepository", json!([])),
            ("BatchGetRepositories", json!({"repositoryNames": "a"})),
            ("BatchGetRepositories", json!({"repositoryNames": [null]})),
            ("TagResource", json!({"tags": ["a"]})),
            ("TagResource", json!({"tags": {"a": 1}})),
            ("ListPullRequests", json!({"maxResults": "1"})),
            ("ListPullRequests", json!({"maxResults": 1.5})),
            ("ListPullRequests", json!({"maxResults": 1_u64 << 40})),
            ("PutFile", json!({"fileContent": "not Base64!"})),
            ("CreatePullRequest", json!({"targets": [7]})),
        ] {
            assert_eq!(code(operation, &body), "SerializationException", "{operation} {body}");
        }
        let found = input("GetRepository", &json!({"repositoryName": "a", "newer": 1})).unwrap();
        assert_eq!(Value::Object(found), json!({"repositoryName": "a"}));
        for body in ["", " \n", "{}"] {
            let operation = model().operation("ListRepositories").unwrap();
            assert!(read(model(), operation, body.as_bytes()).unwrap().is_empty(), "{body:?}");
        }
    }

    #[test]
    fn contents_are_in_no_audit_trail() {
        let body = json!({
            "repositoryName": "a", "branchName": "b", "filePath": "p", "fileContent": STANDARD.encode("secret")
        });
        let put = model().operation("PutFile").unwrap();
        let kept = audited(model(), put, &input("PutFile", &body).unwrap());
        assert_eq!(kept, json!({"repositoryName": "a", "branchName": "b", "filePath": "p"}));
    }
}
