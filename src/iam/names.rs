//! Names, paths, tags and descriptions as IAM accepts them, and names as names of files.
//!
//! Source: "IAM and AWS STS quotas", section "IAM name requirements", and the patterns in the IAM API reference.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::{IamError, Result};

/// Longest name of a user, in characters.
pub const MAX_USER_NAME: usize = 64;
/// Longest name of a role, in characters.
pub const MAX_ROLE_NAME: usize = 64;
/// Longest name of a group, a policy or an instance profile, in characters.
pub const MAX_NAME: usize = 128;
/// Longest path, in characters.
pub const MAX_PATH: usize = 512;
/// Longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1_000;
/// Largest number of tags of an entity or a session.
pub const MAX_TAGS: usize = 50;
/// Longest key of a tag, in characters.
pub const MAX_TAG_KEY: usize = 128;
/// Longest value of a tag, in characters.
pub const MAX_TAG_VALUE: usize = 256;

/// Tags by key. Keys differ by more than case.
pub type Tags = BTreeMap<String, String>;

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_+=,.@-".contains(character)
}

fn invalid(field: &str, value: &str, rule: &str) -> IamError {
    let value = gitferry_base::printable::Printable(value.chars().take(MAX_NAME).collect::<String>());
    IamError::validation(format!("The value '{value}' at '{field}' is not valid: {rule}."))
}

/// Checks a name of 1 to `max` letters, digits and `_+=,.@-`.
pub(crate) fn check_name(field: &str, name: &str, max: usize) -> Result<()> {
    if (1..=max).contains(&name.len()) && name.chars().all(is_name_character) {
        return Ok(());
    }
    Err(invalid(field, name, &format!("a name has 1 to {max} letters, digits and the characters _+=,.@-")))
}

/// Checks a name of 2 to 64 letters, digits and `_+=,.@-`: a session, a source identity.
pub(crate) fn check_session_name(field: &str, name: &str) -> Result<()> {
    if name.len() < 2 {
        return Err(invalid(field, name, "a name of a session has 2 to 64 characters"));
    }
    check_name(field, name, MAX_ROLE_NAME)
}

/// Checks a path: `/`, or text between slashes.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let printable = path.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if path.len() <= MAX_PATH && path.starts_with('/') && path.ends_with('/') && printable {
        return Ok(());
    }
    Err(invalid(
        "path",
        path,
        &format!("a path begins and ends with / and has at most {MAX_PATH} printable characters"),
    ))
}

/// Checks a description.
pub(crate) fn check_description(text: &str) -> Result<()> {
    let allowed = |character: char| !character.is_control() || matches!(character, '\t' | '\n' | '\r');
    if text.chars().count() <= MAX_DESCRIPTION && text.chars().all(allowed) {
        return Ok(());
    }
    Err(invalid("description", text, &format!("a description has at most {MAX_DESCRIPTION} characters")))
}

fn is_tag_character(character: char) -> bool {
    character.is_alphanumeric() || character == ' ' || "_.:/=+-@".contains(character)
}

/// Checks tags as a request carries them, in any order.
pub(crate) fn check_tags(tags: impl IntoIterator<Item = (String, String)>) -> Result<Tags> {
    let mut checked = Tags::new();
    let mut folded = std::collections::BTreeSet::new();
    for (key, value) in tags {
        let length = key.chars().count();
        if !(1..=MAX_TAG_KEY).contains(&length) || !key.chars().all(is_tag_character) || is_reserved(&key) {
            return Err(invalid(
                "tags.key",
                &key,
                "a key has 1 to 128 letters, digits and _.:/=+-@ and is not of aws:",
            ));
        }
        if value.chars().count() > MAX_TAG_VALUE || !value.chars().all(is_tag_character) {
            return Err(invalid("tags.value", &value, "a value has at most 256 letters, digits and _.:/=+-@"));
        }
        if !folded.insert(key.to_lowercase()) {
            return Err(IamError::invalid_input(
                "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
            ));
        }
        checked.insert(key, value);
    }
    if checked.len() > MAX_TAGS {
        return Err(IamError::limit_exceeded(format!("An entity has at most {MAX_TAGS} tags.")));
    }
    Ok(checked)
}

fn is_reserved(key: &str) -> bool {
    key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
}

/// Name of the folder or file of an entity. Names that begin with a dot (`.`, `..`, `.git`) cannot be entries of a Git
/// tree: their dot is written as `%2E`, which no name contains.
pub(crate) fn to_file_name(name: &str) -> Cow<'_, str> {
    match name.strip_prefix('.') {
        Some(rest) => Cow::Owned(format!("%2E{rest}")),
        None => Cow::Borrowed(name),
    }
}

/// Name of the entity of a folder or file, the inverse of [`to_file_name`]; `None` for other names of files.
pub(crate) fn of_file_name(file: &str) -> Option<Cow<'_, str>> {
    let name = match file.strip_prefix("%2E") {
        Some(rest) => Cow::Owned(format!(".{rest}")),
        None if file.starts_with('.') => return None,
        None => Cow::Borrowed(file),
    };
    ((1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_name_character)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_aws() {
        for name in ["a", "Jane.Doe@example.com", "..", ".git", "_+=,.@-", &"x".repeat(64)] {
            check_name("userName", name, MAX_USER_NAME).unwrap();
        }
        for name in ["", "a b", "a/b", "ä", "a:b", "a%2Eb", "a\n", &"x".repeat(65)] {
            check_name("userName", name, MAX_USER_NAME).unwrap_err();
        }
        for path in ["/", "/a/", "/a/b-c/", "//"] {
            check_path(path).unwrap();
        }
        for path in ["", "a/", "/a", "/a b/", "/ä/", &format!("/{}/", "x".repeat(512))] {
            check_path(path).unwrap_err();
        }
    }

    #[test]
    fn tags_differ_by_more_than_case_and_are_not_reserved() {
        let tag = |key: &str| (key.to_owned(), "v".to_owned());
        assert_eq!(check_tags([tag("Team"), tag("team2")]).unwrap().len(), 2);
        check_tags([tag("Team"), tag("team")]).unwrap_err();
        check_tags([tag("AWS:x")]).unwrap_err();
        check_tags([tag("")]).unwrap_err();
        check_tags((0..=MAX_TAGS).map(|n| tag(&n.to_string()))).unwrap_err();
    }

    proptest! {
        #[test]
        fn a_name_is_one_entry_of_a_tree_and_comes_back(name in "[A-Za-z0-9_+=,.@-]{1,64}") {
            let file = to_file_name(&name).into_owned();
            prop_assert!(!file.starts_with('.') && !file.contains('/'));
            prop_assert_eq!(of_file_name(&file).unwrap().into_owned(), name);
        }
    }
}
