//! Differences between two commits.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitferry_api::{ApiError, Result};
use gitferry_content::RepoPath;
use gitferry_content::differences::{Blob, Difference, DifferencesError, Side, differences};
use gix::bstr::{BStr, BString, ByteSlice as _};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::failure::not_allowed;
use crate::opened::{Failure, MAX_KEY_BYTES, Opened, Outcome, open, path_or_root};
use crate::operation::{Ask, Found, Operation, only};
use crate::page::{Page, foreign};

/// Most bytes of paths in a page. A page ends with the path that reaches this number.
const MAX_PAGE_BYTES: usize = 8 << 20;

/// `GetDifferences`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetDifferences {
    repository_name: String,
    before_commit_specifier: Option<String>,
    after_commit_specifier: String,
    before_path: Option<String>,
    after_path: Option<String>,
}

#[async_trait]
impl Operation for GetDifferences {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let most = ask.workshop.settings.limits.page_items;
        let page = Page::of(ask.operation, &ask.input, &ask.caller.principal.arn(), most)?;
        let path = |path: &Option<String>| path.as_deref().map_or(Ok(None), path_or_root);
        let comparison = Comparison {
            before: self.before_commit_specifier.clone(),
            after: self.after_commit_specifier.clone(),
            paths: [path(&self.before_path)?, path(&self.after_path)?],
            resume: None,
        };
        let comparison = match page.after() {
            None => comparison,
            Some(key) => comparison.after_page(key).ok_or_else(foreign)?,
        };
        let limit = page.limit();
        let (shown, next) = open(ask, &item, move |opened| comparison.page(opened, limit)).await?;
        Ok(page.answer(shown, next))
    }
}

/// Comparison of commits, from the first place on or from the one after `resume`.
#[derive(Debug)]
struct Comparison {
    before: Option<String>,
    after: String,
    paths: [Option<RepoPath>; 2],
    resume: Option<BString>,
}

impl Comparison {
    /// The comparison behind a page, of the same commits: branches may have moved.
    fn after_page(self, key: &str) -> Option<Comparison> {
        let [before, after, place] = key.split(' ').collect::<Vec<_>>()[..] else { return None };
        let resume = URL_SAFE_NO_PAD.decode(place).ok()?;
        let before = (!before.is_empty()).then(|| before.to_owned());
        Some(Comparison { before, after: after.to_owned(), resume: Some(resume.into()), ..self })
    }

    /// The next differences, at most `limit`, and the key of what follows.
    fn page(self, opened: &mut Opened<'_>, limit: usize) -> Outcome<(Vec<Value>, Option<String>)> {
        let before = self.before.as_deref().map(|specifier| opened.commit(Some(specifier))).transpose()?;
        let after = opened.commit(Some(&self.after))?;
        let [before_path, after_path] = self.paths.each_ref().map(Option::as_ref);
        let one = before.map(|commit| Side { tree: commit.tree, path: before_path });
        let two = Side { tree: after.tree, path: after_path.or(before_path) };
        let resume = self.resume.as_ref().map(|place| BStr::new(place.as_slice()));
        let compared = differences(&mut opened.reader, one, two, resume).map_err(failed)?;
        let mut shown = Vec::new();
        let mut bytes = 0;
        let mut last = BString::default();
        for difference in compared {
            let difference = difference?;
            if shown.len() == limit || bytes >= MAX_PAGE_BYTES {
                let before = before.map(|commit| commit.id.to_string()).unwrap_or_default();
                return Ok((shown, Some(key(&before, &after.id.to_string(), &last)?)));
            }
            let sides = [&difference.before, &difference.after];
            bytes += sides.into_iter().flatten().map(|blob| blob.path.len()).sum::<usize>();
            shown.push(show(&difference));
            last = difference.place;
        }
        Ok((shown, None))
    }
}

/// Key of the page that begins behind a place.
fn key(before: &str, after: &str, place: &BString) -> Result<String> {
    let key = format!("{before} {after} {}", URL_SAFE_NO_PAD.encode(place));
    if key.len() > MAX_KEY_BYTES {
        return Err(not_allowed("A path is too long for a token: compare the commits with Git."));
    }
    Ok(key)
}

fn failed(error: DifferencesError) -> Failure {
    match error {
        DifferencesError::NoPath(_) => ApiError::new("PathDoesNotExistException", 400, format!("{error}.")).into(),
        DifferencesError::Content(error) => error.into(),
    }
}

/// The structure `Difference`. Paths that are not UTF-8 have replacement characters.
fn show(difference: &Difference) -> Value {
    let mut shown = Map::new();
    shown.insert("changeType".to_owned(), difference.change().letter().into());
    for (name, blob) in [("beforeBlob", &difference.before), ("afterBlob", &difference.after)] {
        let Some(Blob { path, id, mode }) = blob else { continue };
        let blob = json!({ "blobId": id.to_string(), "path": path.to_str_lossy(), "mode": mode.octal() });
        shown.insert(name.to_owned(), blob);
    }
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_commits_and_place() {
        let comparison = || Comparison {
            before: Some("main".to_owned()),
            after: "topic".to_owned(),
            paths: [None, None],
            resume: None,
        };
        let next = comparison().after_page(&key("", "12", &"a b\n".into()).unwrap()).unwrap();
        assert_eq!((next.before, next.after.as_str(), next.resume), (None, "12", Some("a b\n".into())));
        for key in ["", "1 2", "1 2 !", "1 2 YQ 3"] {
            assert!(comparison().after_page(key).is_none(), "{key}");
        }
        let long = key("", "12", &vec![b'a'; MAX_KEY_BYTES].into()).unwrap_err();
        assert_eq!(long.code(), "OperationNotAllowedException");
    }
}
