//! Pages of lists: `Marker`, `MaxItems` and `IsTruncated`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::error::{ApiError, Result};

/// Items of a page if the request names no number.
const DEFAULT_ITEMS: usize = 100;
/// Largest number of items of a page.
const MAX_ITEMS: u32 = 1_000;
/// Size of a page, in bytes of JSON, behind which no further item is added. IAM may answer fewer items than asked for,
/// too.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// Place in a list: the items behind a key, as many as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    after: Option<String>,
    limit: usize,
}

impl Page {
    /// Page of a request's parameters `Marker` and `MaxItems`.
    ///
    /// # Errors
    /// `ValidationError`.
    pub fn parse(marker: Option<&str>, max_items: Option<u32>) -> Result<Page> {
        let limit = max_items.unwrap_or(DEFAULT_ITEMS as u32);
        if !(1..=MAX_ITEMS).contains(&limit) {
            let text = format!("Value at 'maxItems' failed to satisfy constraint: 1 to {MAX_ITEMS}");
            return Err(ApiError::validation(text));
        }
        let after = marker.map(|marker| {
            let key = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|key| String::from_utf8(key).ok());
            key.ok_or_else(|| ApiError::validation("Invalid Marker."))
        });
        Ok(Page { after: after.transpose()?, limit: limit as usize })
    }

    /// The page of one list. `items` have keys in ascending order; `show` makes the ones of this page.
    pub fn of<T>(
        &self,
        list: &'static str,
        items: impl Iterator<Item = (String, T)>,
        show: impl Fn(T) -> Value,
    ) -> Value {
        self.of_lists(&[list], items.map(|(key, item)| (key, list, item)), show)
    }

    /// The page of several lists, each item of which names its own. `items` have keys in ascending order.
    pub fn of_lists<T>(
        &self,
        lists: &[&'static str],
        items: impl Iterator<Item = (String, &'static str, T)>,
        show: impl Fn(T) -> Value,
    ) -> Value {
        let mut shown: Map<String, Value> =
            lists.iter().map(|list| ((*list).to_owned(), Value::Array(vec![]))).collect();
        let rest = items.skip_while(|(key, ..)| self.after.as_ref().is_some_and(|after| key <= after));
        let mut rest = rest.peekable();
        let mut last = None;
        let mut left = self.limit;
        let mut bytes = 0;
        while left > 0
            && bytes <= MAX_PAGE_BYTES
            && let Some((key, list, item)) = rest.next()
        {
            debug_assert!(last.as_ref().is_none_or(|last| *last < key), "items are in the order of their keys");
            let item = show(item);
            bytes += item.to_string().len();
            if let Some(Value::Array(shown)) = shown.get_mut(list) {
                shown.push(item);
            }
            left -= 1;
            last = Some(key);
        }
        let is_truncated = rest.peek().is_some();
        shown.insert("IsTruncated".to_owned(), is_truncated.into());
        if let Some(last) = last.filter(|_| is_truncated) {
            shown.insert("Marker".to_owned(), URL_SAFE_NO_PAD.encode(last).into());
        }
        Value::Object(shown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pages(names: &std::collections::BTreeSet<String>, max_items: u32) -> Vec<Vec<String>> {
        let mut marker = None;
        let mut pages = Vec::new();
        loop {
            let page = Page::parse(marker.as_deref(), Some(max_items)).unwrap();
            let page = page.of("Names", names.iter().map(|name| (name.clone(), name)), |name| name.as_str().into());
            let names = page["Names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
            pages.push(names.collect());
            assert_eq!(page["IsTruncated"].as_bool().unwrap(), page.get("Marker").is_some());
            match page.get("Marker") {
                Some(next) => marker = Some(next.as_str().unwrap().to_owned()),
                None => return pages,
            }
        }
    }

    #[test]
    fn numbers_and_markers_are_checked() {
        for max_items in [0, MAX_ITEMS + 1] {
            Page::parse(None, Some(max_items)).unwrap_err();
        }
        for marker in ["*", "a b", "_w"] {
            Page::parse(Some(marker), None).unwrap_err();
        }
        let hundred: std::collections::BTreeSet<String> = (0..100).map(|number| format!("{number:03}")).collect();
        let page = Page::parse(None, None).unwrap();
        let page = page.of("Names", hundred.iter().map(|name| (name.clone(), name)), |name| name.as_str().into());
        assert_eq!(page["IsTruncated"], false);
    }

    #[test]
    fn a_page_of_large_items_ends_early() {
        let large = "x".repeat(MAX_PAGE_BYTES / 4);
        let page = Page::parse(None, Some(100)).unwrap();
        let items = (0..10).map(|number| (number.to_string(), &large));
        let page = page.of("Names", items, |item| item.as_str().into());
        assert_eq!((page["Names"].as_array().unwrap().len(), &page["IsTruncated"]), (4, &true.into()));
        assert!(page.get("Marker").is_some());
    }

    proptest! {
        #[test]
        fn pages_are_the_list(names: std::collections::BTreeSet<String>, max_items in 1_u32..20) {
            let pages = pages(&names, max_items);
            prop_assert!(pages.iter().all(|page| page.len() <= max_items as usize));
            prop_assert_eq!(pages.concat(), names.into_iter().collect::<Vec<_>>());
        }
    }
}
