//! Files, differences, histories, merges and edits, beside `git diff`, `git log --follow`, `git merge-tree` and `git fast-import`.

mod benchmark;
mod differing;
mod editing;
mod merging;
mod random;
mod repo;
mod versions;
