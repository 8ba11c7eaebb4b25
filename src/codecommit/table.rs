//! The operations that are served. Each is the type of its input, one line here, and a row in `docs/codecommit.md`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use futures::future::BoxFuture;
use gitferry_api::Result;
use serde_json::Value;

use crate::operation::{Ask, perform};
use crate::{
    branches, differences, edits, files, history, merge_options, merges, objects, repositories, tags, updates,
};

/// An operation that is served.
pub struct Served {
    /// Name, such as `CreateBranch`.
    pub name: &'static str,
    /// Answers a request.
    pub perform: for<'a> fn(&'a Ask<'a>) -> BoxFuture<'a, Result<Value>>,
}

macro_rules! table {
    ($($module:ident::$name:ident,)*) => {
        const TABLE: &[Served] = &[
            $(Served { name: stringify!($name), perform: |ask| Box::pin(perform::<$module::$name>(ask)) },)*
        ];
    };
}

table! {
    branches::CreateBranch,
    branches::DeleteBranch,
    branches::GetBranch,
    branches::ListBranches,
    branches::UpdateDefaultBranch,
    differences::GetDifferences,
    edits::CreateCommit,
    edits::DeleteFile,
    edits::PutFile,
    files::GetFile,
    files::GetFolder,
    history::ListFileCommitHistory,
    merge_options::GetMergeOptions,
    merges::MergeBranchesByFastForward,
    merges::MergeBranchesBySquash,
    merges::MergeBranchesByThreeWay,
    objects::BatchGetCommits,
    objects::GetBlob,
    objects::GetCommit,
    repositories::BatchGetRepositories,
    repositories::CreateRepository,
    repositories::DeleteRepository,
    repositories::GetRepository,
    repositories::ListRepositories,
    tags::ListTagsForResource,
    tags::TagResource,
    tags::UntagResource,
    updates::UpdateRepositoryDescription,
    updates::UpdateRepositoryEncryptionKey,
    updates::UpdateRepositoryName,
}

/// Served operations by name.
static BY_NAME: LazyLock<BTreeMap<&str, &Served>> =
    LazyLock::new(|| TABLE.iter().map(|served| (served.name, served)).collect());

/// Served operation of a name.
pub fn find(name: &str) -> Option<&'static Served> {
    BY_NAME.get(name).copied()
}

/// Names of the operations that are served, in their order.
pub fn served_operations() -> impl Iterator<Item = &'static str> {
    BY_NAME.keys().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::model;

    #[test]
    fn each_operation_is_once_in_the_table_and_in_the_model() {
        assert_eq!(served_operations().count(), TABLE.len());
        assert!(served_operations().all(|name| model().operation(name).is_some()));
    }

    /// The table of docs/codecommit.md names all operations of the model, and says of each whether it is served.
    #[test]
    fn the_documentation_lists_the_operations() {
        let text = include_str!("../../docs/codecommit.md");
        let section = text.split("## Operations").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let cells = |row: &str| {
            let cells: Vec<String> = row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            (cells[0].trim_matches('`').to_owned(), cells[1] == "yes")
        };
        let listed: BTreeMap<String, bool> = rows.map(cells).collect();
        let modelled: BTreeMap<String, bool> =
            model().operations().map(|operation| (operation.name.to_owned(), find(operation.name).is_some())).collect();
        assert_eq!(listed, modelled);
    }
}
