//! Lists keys in bytewise order, page by page and in bounded memory.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::Path;

use super::error;
use super::inner::stored;
use crate::objects::{ObjectMeta, key};

/// Step of the walk: the full key of an object or folder. The key of a folder ends with `/`, which sorts the folder
/// where its objects belong (`a-b` < `a/b` < `a0`).
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    key: String,
}

impl Step {
    fn is_folder(&self) -> bool {
        self.key.ends_with('/')
    }
}

/// A folder whose entries are read in batches, which bounds the memory for huge folders.
#[derive(Debug)]
struct Folder {
    /// Key of the folder, empty or with a trailing `/`.
    key: String,
    /// Next steps in reverse order.
    batch: Vec<Step>,
    /// Last entry that was visited.
    done: String,
    /// True if the folder may have entries after the batch.
    more: bool,
}

/// Returns the first `limit` objects after `after` whose keys start with `prefix`.
pub(super) fn list(root: &Path, prefix: &str, after: &str, limit: usize) -> io::Result<Vec<ObjectMeta>> {
    let (folders, _) = key::split_prefix(prefix);
    let walk = Walk { root, prefix, after, batch: limit };
    let mut objects = Vec::new();
    let mut stack = vec![Folder { key: folders.to_owned(), batch: Vec::new(), done: String::new(), more: true }];
    while let Some(folder) = stack.last_mut() {
        match walk.next(folder)? {
            None => _ = stack.pop(),
            Some(step) if step.is_folder() => {
                stack.push(Folder { key: step.key, batch: Vec::new(), done: String::new(), more: true });
            }
            Some(step) => {
                // The object may have been deleted since its folder was read.
                let Some(file) = absent_as_none(fs::symlink_metadata(root.join(&step.key)))? else { continue };
                objects.push(stored(&step.key, &file));
                if objects.len() >= limit {
                    break;
                }
            }
        }
    }
    Ok(objects)
}

struct Walk<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    batch: usize,
}

impl Walk<'_> {
    fn next(&self, folder: &mut Folder) -> io::Result<Option<Step>> {
        if folder.batch.is_empty() && folder.more {
            self.read(folder)?;
        }
        let step = folder.batch.pop();
        if let Some(step) = &step {
            folder.done.clone_from(&step.key);
        }
        Ok(step)
    }

    /// Reads the next batch: the smallest entries that were not visited.
    fn read(&self, folder: &mut Folder) -> io::Result<()> {
        folder.more = false;
        let Some(entries) = absent_as_none(fs::read_dir(self.root.join(&folder.key)))? else { return Ok(()) };
        let mut smallest: BinaryHeap<Step> = BinaryHeap::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // Skips names that are no keys, such as the staging folder and foreign files.
            let Some(name) = name.to_str().filter(|name| key::is_segment(name)) else { continue };
            let kind = entry.file_type()?;
            if !kind.is_dir() && !kind.is_file() {
                continue;
            }
            let key = format!("{}{name}{}", folder.key, if kind.is_dir() { "/" } else { "" });
            if key <= folder.done || !self.wants(&key) {
                continue;
            }
            smallest.push(Step { key });
            if smallest.len() > self.batch {
                smallest.pop();
                folder.more = true;
            }
        }
        folder.batch = smallest.into_sorted_vec();
        folder.batch.reverse();
        Ok(())
    }

    /// Returns true if an object, or any object in a folder, may belong to the page.
    fn wants(&self, key: &str) -> bool {
        if key.ends_with('/') {
            let inside = key.starts_with(self.prefix) || self.prefix.starts_with(key);
            inside && (key > self.after || self.after.starts_with(key))
        } else {
            key.starts_with(self.prefix) && key > self.after
        }
    }
}

fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if error::is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}
