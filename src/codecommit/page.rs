//! Pages of lists. The token of the next page is bound to the request that began the list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gitferry_api::{ApiError, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::input::Input;
use crate::model::Operation;

/// Bytes of the digest in a token.
const DIGEST_BYTES: usize = 16;

/// Place in the list that an operation answers with.
#[derive(Debug)]
pub struct Page {
    after: Option<String>,
    limit: usize,
    token: &'static str,
    result: &'static str,
    digest: [u8; DIGEST_BYTES],
}

impl Page {
    /// Page that the input of an operation asks for, in the name of a principal; of `most` items, or fewer if the input
    /// says so.
    ///
    /// # Errors
    /// `InvalidContinuationTokenException`: the token is of another request. `InvalidMaxResultsException`.
    pub fn of(operation: &Operation, input: &Input, principal: &str, most: usize) -> Result<Page> {
        let pages = operation.pages.ok_or_else(|| {
            tracing::error!(operation = operation.name, "the operation has no pages");
            ApiError::unavailable()
        })?;
        let digest = digest(operation.name, input, principal, pages.token, pages.limit);
        let given = input.get(pages.token).and_then(Value::as_str);
        let after = given.map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok();
            let key = bytes.as_deref().and_then(|bytes| bytes.strip_prefix(&digest[..]));
            key.and_then(|key| String::from_utf8(key.to_vec()).ok()).ok_or_else(foreign)
        });
        let asked = pages.limit.and_then(|limit| input.get(limit)).and_then(Value::as_i64);
        let limit = match asked.map(usize::try_from) {
            None => most,
            Some(Ok(asked)) if asked > 0 => asked.min(most),
            Some(_) => return Err(ApiError::new("InvalidMaxResultsException", 400, "A page has one item at least.")),
        };
        Ok(Page { after: after.transpose()?, limit, token: pages.token, result: pages.result, digest })
    }

    /// Key of the last item of the page before; `None` on the first page.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// Most items of the page.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The page of `items`, which begin behind [`Page::after`] and have keys that name their places.
    pub fn show<T>(
        &self,
        items: impl Iterator<Item = T>,
        key: impl Fn(&T) -> String,
        show: impl Fn(T) -> Value,
    ) -> Value {
        let mut items = items.peekable();
        let mut shown = Vec::new();
        let mut last = None;
        while shown.len() < self.limit
            && let Some(item) = items.next()
        {
            last = Some(key(&item));
            shown.push(show(item));
        }
        self.answer(shown, last.filter(|_| items.peek().is_some()))
    }

    /// The page with these items, and the key of the next one.
    pub fn answer(&self, shown: Vec<Value>, next: Option<String>) -> Value {
        let mut answer = Map::from_iter([(self.result.to_owned(), Value::Array(shown))]);
        if let Some(next) = next {
            let token = URL_SAFE_NO_PAD.encode([&self.digest[..], next.as_bytes()].concat());
            answer.insert(self.token.to_owned(), token.into());
        }
        Value::Object(answer)
    }
}

/// Digest of everything that a token is bound to: operation, principal and parameters.
fn digest(operation: &str, input: &Input, principal: &str, token: &str, limit: Option<&str>) -> [u8; DIGEST_BYTES] {
    let mut hasher = Sha256::new();
    let is_place = |name: &str| name == token || Some(name) == limit;
    let parameters =
        input.iter().filter(|(name, _)| !is_place(name)).map(|(name, value)| (name.clone(), value.clone()));
    // JSON separates its values, whatever is in them.
    let bound = Value::from(vec![Value::from(operation), Value::from(principal), Value::Object(parameters.collect())]);
    hasher.update(bound.to_string());
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(&hasher.finalize()[..DIGEST_BYTES]);
    digest
}

/// The token is not one of the list. Clients can make tokens up: what their keys name has to be visible to the client.
pub fn foreign() -> ApiError {
    let text = "The token is not one of this list: begin again without one.";
    ApiError::new("InvalidContinuationTokenException", 400, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::model;

    fn page(operation: &str, input: &Value, principal: &str) -> Result<Page> {
        Page::of(model().operation(operation).unwrap(), input.as_object().unwrap(), principal, 2)
    }

    fn names(page: &Page, names: &[&str]) -> Value {
        let behind = names.iter().filter(|name| page.after().is_none_or(|after| **name > after));
        page.show(behind, |name| (**name).to_owned(), |name| (*name).into())
    }

    #[test]
    fn pages_are_the_list() {
        let all = ["a", "b", "c", "d", "e"];
        let mut input = json!({"repositoryName": "r"});
        let mut found = Vec::new();
        loop {
            let answer = names(&page("ListBranches", &input, "p").unwrap(), &all);
            found.extend(answer["branches"].as_array().unwrap().clone());
            match answer.get("nextToken") {
                Some(token) => input["nextToken"] = token.clone(),
                None => break,
            }
        }
        assert_eq!(found, all);
        let whole = names(&page("ListBranches", &json!({"repositoryName": "r"}), "p").unwrap(), &all[..2]);
        assert_eq!(whole, json!({"branches": ["a", "b"]}));
    }

    #[test]
    fn a_token_is_bound_to_its_request() {
        let first = names(&page("ListBranches", &json!({"repositoryName": "r"}), "p").unwrap(), &["a", "b", "c"]);
        let token = first["nextToken"].clone();
        page("ListBranches", &json!({"repositoryName": "r", "nextToken": token}), "p").unwrap();
        for (operation, input, principal) in [
            ("ListBranches", json!({"repositoryName": "other", "nextToken": token}), "p"),
            ("ListBranches", json!({"repositoryName": "r", "nextToken": token}), "q"),
            ("ListPullRequests", json!({"repositoryName": "r", "nextToken": token}), "p"),
            ("ListBranches", json!({"repositoryName": "r", "nextToken": "AAAA"}), "p"),
            ("ListBranches", json!({"repositoryName": "r", "nextToken": ""}), "p"),
            ("ListBranches", json!({"repositoryName": "r", "nextToken": "*"}), "p"),
        ] {
            let code = page(operation, &input, principal).unwrap_err().code();
            assert_eq!(code, "InvalidContinuationTokenException", "{operation} {input} {principal}");
        }
    }

    #[test]
    fn a_page_has_the_items_that_were_asked_for() {
        let limited = |most: Value| page("ListPullRequests", &json!({"repositoryName": "r", "maxResults": most}), "p");
        for bad in [0, -1] {
            assert_eq!(limited(bad.into()).unwrap_err().code(), "InvalidMaxResultsException");
        }
        assert_eq!((limited(1.into()).unwrap().limit, limited(9.into()).unwrap().limit), (1, 2));
    }
}
