//! Tags of repositories.

use std::collections::BTreeMap;

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Result, shown};
use gitferry_engine::ledger::metadata::{MAX_TAGS, Metadata, MetadataEdit};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::operation::{Ask, Found, Operation, only};

/// Prefix of the keys of tags that AWS gives.
const SYSTEM_PREFIX: &str = "aws:";
/// Characters of keys and values beside letters, digits and white space.
const SIGNS: &str = "+-=._:/@";

/// Edit that sets tags.
///
/// # Errors
/// `InvalidSystemTagUsageException`, `InvalidTagsMapException`, `TooManyTagsException`.
pub fn set_tags(tags: &BTreeMap<String, String>) -> Result<MetadataEdit> {
    tags.keys().try_for_each(|key| check_key(key))?;
    let texts = tags.iter().flat_map(|(key, value)| [key, value]);
    let is_allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || SIGNS.contains(c);
    if let Some(text) = texts.filter(|text| !text.chars().all(is_allowed)).min() {
        let text = format!("{} has a character other than letters, digits, white space and {SIGNS}.", shown(text));
        return Err(ApiError::new("InvalidTagsMapException", 400, text));
    }
    let tags: BTreeMap<_, _> = tags.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    edit(tags, &Metadata::default())
}

/// Edit of the tags of a repository with these metadata.
fn edit(tags: BTreeMap<String, Option<String>>, before: &Metadata) -> Result<MetadataEdit> {
    let edit = MetadataEdit { description: None, tags };
    let removed = edit.tags.iter().filter(|(key, value)| value.is_none() && before.tags.contains_key(*key)).count();
    let added = edit.tags.iter().filter(|(key, value)| value.is_some() && !before.tags.contains_key(*key)).count();
    if before.tags.len() - removed + added > MAX_TAGS {
        let text = format!("A repository has at most {MAX_TAGS} tags.");
        return Err(ApiError::new("TooManyTagsException", 400, text));
    }
    Ok(edit)
}

fn check_key(key: &str) -> Result<()> {
    // As on AWS, in any case of its letters.
    if key.get(..SYSTEM_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(SYSTEM_PREFIX)) {
        let text = format!("The key {} begins with {SYSTEM_PREFIX}.", shown(key));
        return Err(ApiError::new("InvalidSystemTagUsageException", 400, text));
    }
    Ok(())
}

/// Name of the repository of an ARN.
///
/// # Errors
/// `InvalidResourceArnException` for another text, another region and another account.
fn repository_of(ask: &Ask<'_>, arn: &str) -> Result<String> {
    let prefix = ask.workshop.arn(ask.caller, "");
    let name = arn.strip_prefix(&prefix).filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| {
        let text = format!("{} is not the ARN of a repository here: those begin with {prefix}.", shown(arn));
        ApiError::new("InvalidResourceArnException", 400, text)
    })
}

/// `ListTagsForResource`. The tags of a repository fit into one answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTagsForResource {
    resource_arn: String,
}

#[async_trait]
impl Operation for ListTagsForResource {
    fn about(&self, ask: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![repository_of(ask, &self.resource_arn)?])
    }

    async fn answer(&self, _: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        Ok(json!({ "tags": only(found)?.head.metadata.tags }))
    }
}

/// `TagResource`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagResource {
    resource_arn: String,
    tags: BTreeMap<String, String>,
}

#[async_trait]
impl Operation for TagResource {
    fn about(&self, ask: &Ask<'_>) -> Result<Vec<String>> {
        if self.tags.is_empty() {
            return Err(ApiError::new("TagsMapRequiredException", 400, "tags is empty."));
        }
        // Policies decide on tags that can be set.
        set_tags(&self.tags)?;
        Ok(vec![repository_of(ask, &self.resource_arn)?])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.with_tags(&self.tags.clone().into_iter().collect::<Vec<_>>())
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let set = set_tags(&self.tags)?;
        let edit = edit(set.tags, &item.head.metadata)?;
        ask.workshop.edit_metadata(&item, &edit, &ask.actor).await?;
        Ok(Value::Null)
    }
}

/// `UntagResource`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UntagResource {
    resource_arn: String,
    tag_keys: Vec<String>,
}

#[async_trait]
impl Operation for UntagResource {
    fn about(&self, ask: &Ask<'_>) -> Result<Vec<String>> {
        if self.tag_keys.is_empty() {
            return Err(ApiError::new("TagKeysListRequiredException", 400, "tagKeys is empty."));
        }
        if self.tag_keys.len() > MAX_TAGS {
            let text = format!("tagKeys has more than {MAX_TAGS} keys.");
            return Err(ApiError::new("TooManyTagsException", 400, text));
        }
        self.tag_keys.iter().try_for_each(|key| check_key(key))?;
        Ok(vec![repository_of(ask, &self.resource_arn)?])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.with_tag_keys(&self.tag_keys)
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let edit = edit(self.tag_keys.iter().map(|key| (key.clone(), None)).collect(), &item.head.metadata)?;
        ask.workshop.edit_metadata(&item, &edit, &ask.actor).await?;
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(tags: &[(&str, &str)]) -> std::result::Result<MetadataEdit, &'static str> {
        let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        set_tags(&tags.collect()).map_err(|error| error.code())
    }

    #[test]
    fn tags_have_the_characters_of_aws_and_no_key_of_its_own() {
        tags(&[("cost center", "7"), ("Größe", "a+b-c=d._:/@ e")]).unwrap();
        for (key, value, expected) in [
            ("aws:x", "", "InvalidSystemTagUsageException"),
            ("AWS:x", "", "InvalidSystemTagUsageException"),
            ("a!", "", "InvalidTagsMapException"),
            ("a", "<b>", "InvalidTagsMapException"),
        ] {
            assert_eq!(tags(&[(key, value)]), Err(expected), "{key} {value}");
        }
    }

    #[test]
    fn a_repository_has_50_tags() {
        let many = |from: usize, to: usize| (from..to).map(|number| (number.to_string(), Some(String::new())));
        let before =
            Metadata { tags: many(0, MAX_TAGS).map(|(key, _)| (key, String::new())).collect(), ..Metadata::default() };
        edit(many(0, MAX_TAGS).collect(), &before).unwrap();
        edit([("0".to_owned(), None), ("new".to_owned(), Some(String::new()))].into(), &before).unwrap();
        assert_eq!(edit(many(MAX_TAGS, MAX_TAGS + 1).collect(), &before).unwrap_err().code(), "TooManyTagsException");
    }
}
