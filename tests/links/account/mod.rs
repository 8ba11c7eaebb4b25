//! The account's repository: changes from many writers, failures anywhere, histories that differ, real Git as the judge.

mod changes;
mod data_keys;
mod failing;
mod figures;
mod following;
mod git;
mod links;

use std::path::Path;

use bytes::Bytes;
use gitferry_account::{AccountRepository, Author, Documents, Edit};
use gitferry_engine::region::Region;

const ARN: &str = "arn:aws:iam::123456789012:user/ann";

fn ann() -> Author {
    Author::new("ann", ARN).from_address("192.0.2.1")
}

/// An edit that writes documents, or deletes those without text.
fn edit(message: &str, documents: &[(&str, Option<&str>)]) -> Edit {
    let documents = documents.iter().map(|(path, text)| {
        let bytes = text.map(|text| Bytes::copy_from_slice(text.as_bytes()));
        ((*path).to_owned(), bytes)
    });
    Edit { documents: documents.collect(), message: message.into() }
}

/// Two users and a setting.
fn first() -> Edit {
    let documents = [("settings.json", Some("{}")), ("users/ann.json", Some("1")), ("users/bob.json", Some("1"))];
    edit("Create the account", &documents)
}

async fn create(region: &Region) -> AccountRepository {
    AccountRepository::create(region, &ann(), first()).await.unwrap()
}

async fn set(account: &AccountRepository, path: &str, text: Option<&str>) -> Documents {
    let edit = edit(&format!("Set {path}"), &[(path, text)]);
    account.commit(&ann(), |_| Ok::<_, std::convert::Infallible>(edit.clone())).await.unwrap()
}

fn text(documents: &Documents, path: &str) -> Option<String> {
    documents.get(path).map(|document| String::from_utf8(document.bytes().to_vec()).unwrap())
}

/// Everything that an account says, for comparisons.
fn all(documents: &Documents) -> Vec<(String, String)> {
    let text = |(path, document): (String, &gitferry_account::Document)| {
        (path, String::from_utf8(document.bytes().to_vec()).unwrap())
    };
    documents.iter().map(text).collect()
}

fn open(name: &str, folder: &Path) -> Region {
    Region::open_embedded(name, &folder.join("objects"), &folder.join("table.db")).unwrap()
}
