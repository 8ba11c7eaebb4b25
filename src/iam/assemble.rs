//! Entities from the documents of their folders.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::arn::AccountId;
use crate::documents::{Document, Part, Place};
use crate::model::{Group, InlinePolicy, Policy, PolicyVersion, Role, User};

/// Documents of one folder, sorted by what they are.
#[derive(Default)]
struct Parts<'a> {
    itself: Option<&'a Document>,
    inline: BTreeMap<String, Arc<InlinePolicy>>,
    versions: BTreeMap<u32, Arc<PolicyVersion>>,
    credentials: Vec<(&'a str, &'a Document)>,
    unreadable: Option<String>,
}

impl<'a> Parts<'a> {
    fn sort(documents: impl Iterator<Item = (&'a str, &'a Document)>) -> Self {
        let mut parts = Parts::default();
        for (path, document) in documents {
            let Place::Entity(_, _, part) = Place::of(path) else { continue };
            match (part, document) {
                (Part::Itself, _) => parts.itself = Some(document),
                (Part::Inline(name), Document::Inline(policy)) => {
                    parts.inline.insert(name.into_owned(), policy.clone());
                }
                (Part::Version(number), Document::Version(version)) => {
                    parts.versions.insert(number, version.clone());
                }
                (Part::AccessKey(id) | Part::SshKey(id) | Part::GitCredential(id), _) => {
                    parts.credentials.push((id, document));
                }
                (Part::Version(_), _) => {}
                // An inline policy that cannot be read, or a document of a kind that this build does not know, may deny.
                (Part::Inline(_) | Part::Unknown, _) => parts.unreadable = parts.unreadable.or(Some(path.to_owned())),
            }
        }
        parts
    }
}

pub(crate) fn user<'a>(
    account: &AccountId,
    name: &str,
    documents: impl Iterator<Item = (&'a str, &'a Document)>,
) -> Option<User> {
    let parts = Parts::sort(documents);
    let Document::User(record) = parts.itself? else { return None };
    let mut user = User {
        name: name.to_owned(),
        arn: account.iam_arn("user", &record.path, name),
        record: record.clone(),
        access_keys: BTreeMap::new(),
        ssh_keys: BTreeMap::new(),
        git_credentials: BTreeMap::new(),
        inline: parts.inline,
        unreadable: parts.unreadable,
    };
    for (id, document) in parts.credentials {
        match document {
            Document::AccessKey(key) => {
                user.access_keys.insert(id.to_owned(), key.clone());
            }
            Document::SshKey(key) => {
                user.ssh_keys.insert(id.to_owned(), key.clone());
            }
            Document::GitCredential(credential) => {
                user.git_credentials.insert(id.to_owned(), credential.clone());
            }
            // A damaged credential is accepted from no client.
            _ => {}
        }
    }
    Some(user)
}

pub(crate) fn group<'a>(
    account: &AccountId,
    name: &str,
    documents: impl Iterator<Item = (&'a str, &'a Document)>,
) -> Option<Group> {
    let parts = Parts::sort(documents);
    let Document::Group(record) = parts.itself? else { return None };
    let arn = account.iam_arn("group", &record.path, name);
    let record = record.clone();
    Some(Group { name: name.to_owned(), arn, record, inline: parts.inline, unreadable: parts.unreadable })
}

pub(crate) fn role<'a>(
    account: &AccountId,
    name: &str,
    documents: impl Iterator<Item = (&'a str, &'a Document)>,
) -> Option<Role> {
    let parts = Parts::sort(documents);
    let Document::Role(record, trust) = parts.itself? else { return None };
    Some(Role {
        name: name.to_owned(),
        arn: account.iam_arn("role", &record.path, name),
        record: record.clone(),
        trust: trust.clone(),
        inline: parts.inline,
        unreadable: parts.unreadable,
    })
}

pub(crate) fn policy<'a>(
    account: &AccountId,
    name: &str,
    documents: impl Iterator<Item = (&'a str, &'a Document)>,
) -> Option<Policy> {
    let parts = Parts::sort(documents);
    let Document::Policy(record) = parts.itself? else { return None };
    let arn = account.iam_arn("policy", &record.path, name);
    Some(Policy { name: name.to_owned(), arn, record: record.clone(), versions: parts.versions })
}
