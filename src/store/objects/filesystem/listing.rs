//! Walking the tree in the order of the keys, page by page, in bounded memory.

use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::Path;

use super::{error, stored};
use crate::objects::{ObjectMeta, key};

/// One step of the walk: an object, or a folder, by full key. A folder's ends with `/`, which sorts it
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

/// A folder whose entries are read in batches, so that a huge one does not fill the memory.
#[derive(Debug)]
struct Folder {
    /// Its key, empty or with `/` at its end.
    key: String,
    /// The next steps, the first one last.
    batch: Vec<Step>,
    /// Entries up to this one are done.
    done: String,
    /// There may be entries behind the batch.
    more: bool,
}

/// The first `limit` objects behind `after` whose keys start with `prefix`.
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
                // It may have gone since its folder was read.
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

    /// Reads the next batch: the smallest entries that are not done.
    fn read(&self, folder: &mut Folder) -> io::Result<()> {
        folder.more = false;
        let Some(entries) = absent_as_none(fs::read_dir(self.root.join(&folder.key)))? else { return Ok(()) };
        let mut smallest: BinaryHeap<Step> = BinaryHeap::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            // What is no key is not ours: the staging folder, strangers.
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

    /// Whether an object, or any object in a folder, belongs to the page.
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
