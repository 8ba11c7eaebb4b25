//! Metadata of a repository beside its refs: a description, and tags for policies and bills. A change edits them, and the
//! head has the result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 1_000;
/// Most tags of a repository.
pub const MAX_TAGS: usize = 50;
/// Longest key of a tag, in characters.
pub const MAX_TAG_KEY_CHARS: usize = 128;
/// Longest value of a tag, in characters.
pub const MAX_TAG_VALUE_CHARS: usize = 256;
/// Most tags that one change edits: it may replace all of them.
pub const MAX_TAG_EDITS: usize = 2 * MAX_TAGS;

/// Metadata of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Description; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Values by keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Metadata {
    /// Returns true if there is neither a description nor a tag.
    pub fn is_empty(&self) -> bool {
        self.description.is_empty() && self.tags.is_empty()
    }

    /// Applies an edit.
    ///
    /// # Errors
    /// The limit that the result exceeds. The metadata are as they were.
    pub fn apply(&mut self, edit: &MetadataEdit) -> Result<(), String> {
        edit.check()?;
        let mut after = self.clone();
        if let Some(description) = &edit.description {
            after.description = description.clone();
        }
        for (key, value) in &edit.tags {
            match value {
                Some(value) => after.tags.insert(key.clone(), value.clone()),
                None => after.tags.remove(key),
            };
        }
        if after.tags.len() > MAX_TAGS {
            return Err(format!("a repository has at most {MAX_TAGS} tags, and this would be {}", after.tags.len()));
        }
        *self = after;
        Ok(())
    }
}

/// Edit of the metadata of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataEdit {
    /// New description, if it changes; empty removes it.
    pub description: Option<String>,
    /// New values of tags by keys; `None` removes a tag.
    pub tags: BTreeMap<String, Option<String>>,
}

impl MetadataEdit {
    /// Returns true if nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.description.is_none() && self.tags.is_empty()
    }

    /// Returns the part of the edit that changes `before`.
    #[must_use]
    pub fn on(&self, before: &Metadata) -> MetadataEdit {
        let description = self.description.clone().filter(|new| *new != before.description);
        let tags = self.tags.iter().filter(|(key, value)| before.tags.get(*key) != value.as_ref());
        MetadataEdit { description, tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect() }
    }

    /// Checks the limits on single values.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub fn check(&self) -> Result<(), String> {
        if self.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
            return Err(format!("a description has at most {MAX_DESCRIPTION_CHARS} characters"));
        }
        if self.tags.len() > MAX_TAG_EDITS {
            return Err(format!("a change edits at most {MAX_TAG_EDITS} tags"));
        }
        let is_key = |key: &str| (1..=MAX_TAG_KEY_CHARS).contains(&key.chars().count());
        if !self.tags.keys().all(|key| is_key(key)) {
            return Err(format!("the key of a tag has 1 to {MAX_TAG_KEY_CHARS} characters"));
        }
        if self.tags.values().flatten().any(|value| value.chars().count() > MAX_TAG_VALUE_CHARS) {
            return Err(format!("the value of a tag has at most {MAX_TAG_VALUE_CHARS} characters"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[(&str, Option<&str>)]) -> MetadataEdit {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
        MetadataEdit { description: None, tags: tags.collect() }
    }

    #[test]
    fn an_edit_changes_what_it_names_and_an_idle_one_nothing() {
        let mut metadata = Metadata::default();
        let edit = MetadataEdit { description: Some("d".into()), ..tags(&[("a", Some("1")), ("b", Some(""))]) };
        metadata.apply(&edit).unwrap();
        assert!(edit.on(&metadata).is_empty());
        let next = tags(&[("a", None), ("b", Some("")), ("c", Some("3")), ("d", None)]);
        assert_eq!(next.on(&metadata), tags(&[("a", None), ("c", Some("3"))]));
        metadata.apply(&next).unwrap();
        assert_eq!(metadata.description, "d");
        assert_eq!(metadata.tags, BTreeMap::from([("b".to_owned(), String::new()), ("c".to_owned(), "3".to_owned())]));
    }

    #[test]
    fn limits_leave_the_metadata_as_they_were() {
        let mut metadata = Metadata::default();
        let numbers = |from: usize, to: usize| MetadataEdit {
            description: None,
            tags: (from..to).map(|number| (number.to_string(), Some(String::new()))).collect(),
        };
        metadata.apply(&numbers(0, MAX_TAGS)).unwrap();
        let before = metadata.clone();
        let long = "x".repeat(MAX_DESCRIPTION_CHARS + 1);
        for edit in [
            numbers(MAX_TAGS, MAX_TAGS + 1),
            numbers(0, MAX_TAG_EDITS + 1),
            MetadataEdit { description: Some(long.clone()), ..MetadataEdit::default() },
            tags(&[("", Some("x"))]),
            tags(&[(&long[..MAX_TAG_KEY_CHARS + 1], None)]),
            tags(&[("1", Some(&long[..MAX_TAG_VALUE_CHARS + 1]))]),
        ] {
            metadata.apply(&edit).unwrap_err();
            assert_eq!(metadata, before);
        }
        metadata.apply(&tags(&[("0", None), ("new", Some("x"))])).unwrap();
    }
}
