//! Commits: the links and the time that walks need, and the bytes of new commits.

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::Kind;

use gitferry_git::links::for_each_link;

use crate::error::ContentError;
use crate::limits::{MAX_MESSAGE_BYTES, MAX_PERSON_BYTES};

/// Tree, parents and time of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Id of the tree.
    pub tree: ObjectId,
    /// Ids of the parents, in order.
    pub parents: Vec<ObjectId>,
    /// Time of the committer in seconds since 1970; 0 if malformed. Affects the order of walks only.
    pub time: i64,
}

impl Commit {
    /// Parses the bytes of a commit.
    pub(crate) fn parse(id: ObjectId, data: &[u8]) -> Result<Commit, ContentError> {
        let mut tree = None;
        let mut parents = Vec::new();
        let parsed = for_each_link(Kind::Commit, data, id.kind(), |link, kind| match kind {
            Kind::Tree => tree = Some(link.to_owned()),
            _ => parents.push(link.to_owned()),
        });
        let malformed = |reason| ContentError::Malformed { id, kind: Kind::Commit, reason };
        parsed.map_err(|error| malformed(error.reason))?;
        let tree = tree.ok_or_else(|| malformed("it names no tree"))?;
        Ok(Commit { tree, parents, time: committed_at(data) })
    }
}

fn committed_at(data: &[u8]) -> i64 {
    let header = data.find(b"\n\n").map_or(data, |end| &data[..end]);
    let line = header.lines().find_map(|line| line.strip_prefix(b"committer "));
    let date = line.and_then(|line| line.rsplit_str(" ").nth(1)).and_then(|date| date.to_str().ok());
    date.and_then(|date| date.parse().ok()).unwrap_or(0)
}

/// Name and email address of an author or committer, and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Name.
    pub name: String,
    /// Email address.
    pub email: String,
    /// Seconds since 1970.
    pub seconds: i64,
    /// Offset from UTC in minutes.
    pub offset_minutes: i32,
}

/// A commit that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCommit {
    /// A name exceeds [`MAX_PERSON_BYTES`].
    #[error("the name of the author has more than {MAX_PERSON_BYTES} bytes")]
    NameLength,
    /// An email address exceeds [`MAX_PERSON_BYTES`], or has a character that ends it.
    #[error("the email address has more than {MAX_PERSON_BYTES} bytes, a control character, `<` or `>`")]
    Email,
    /// The message exceeds [`MAX_MESSAGE_BYTES`].
    #[error("the message has more than {MAX_MESSAGE_BYTES} bytes")]
    MessageLength,
    /// The message has a NUL, which Git cannot store.
    #[error("the message has a NUL character")]
    MessageNul,
}

/// Commit to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommit {
    /// Id of the tree.
    pub tree: ObjectId,
    /// Ids of the parents, in order.
    pub parents: Vec<ObjectId>,
    /// Author.
    pub author: Person,
    /// Committer.
    pub committer: Person,
    /// Message; a line end is added if there is none.
    pub message: String,
}

impl NewCommit {
    /// Returns the bytes of the commit object.
    pub fn bytes(&self) -> Result<Vec<u8>, InvalidCommit> {
        if self.message.len() > MAX_MESSAGE_BYTES {
            return Err(InvalidCommit::MessageLength);
        }
        if self.message.contains('\0') {
            return Err(InvalidCommit::MessageNul);
        }
        let author = identity(&self.author)?;
        let committer = identity(&self.committer)?;
        let parents: String = self.parents.iter().map(|parent| format!("parent {parent}\n")).collect();
        let end = if self.message.is_empty() || self.message.ends_with('\n') { "" } else { "\n" };
        let Self { tree, message, .. } = self;
        Ok(format!("tree {tree}\n{parents}author {author}\ncommitter {committer}\n\n{message}{end}").into_bytes())
    }
}

fn identity(person: &Person) -> Result<String, InvalidCommit> {
    let Person { name, email, seconds, offset_minutes } = person;
    if name.len() > MAX_PERSON_BYTES {
        return Err(InvalidCommit::NameLength);
    }
    if email.len() > MAX_PERSON_BYTES || email.chars().any(|c| c.is_control() || "<>".contains(c)) {
        return Err(InvalidCommit::Email);
    }
    // Git removes these from names, too.
    let name: String = name.chars().map(|c| if c.is_control() || "<>".contains(c) { ' ' } else { c }).collect();
    let sign = if *offset_minutes < 0 { '-' } else { '+' };
    let minutes = offset_minutes.unsigned_abs();
    Ok(format!("{} <{}> {seconds} {sign}{:02}{:02}", name.trim(), email.trim(), minutes / 60, minutes % 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, email: &str) -> Person {
        Person { name: name.into(), email: email.into(), seconds: 1_700_000_000, offset_minutes: -90 }
    }

    fn commit(message: &str) -> NewCommit {
        let tree = ObjectId::empty_tree(gix::hash::Kind::Sha1);
        let author = person("Ann", "ann@example.com");
        let committer = person("eve\ncommitter <x>", "");
        NewCommit {
            tree,
            parents: vec![ObjectId::null(gix::hash::Kind::Sha1)],
            author,
            committer,
            message: message.into(),
        }
    }

    #[test]
    fn the_bytes_are_those_of_git_and_no_name_forges_a_line() {
        let bytes = commit("hello").bytes().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "author Ann <ann@example.com> 1700000000 -0130");
        assert_eq!(lines[3], "committer eve committer  x <> 1700000000 -0130");
        assert!(text.ends_with("\n\nhello\n") && !text.ends_with("\n\n"));
        let id = ObjectId::null(gix::hash::Kind::Sha1);
        let parsed = Commit::parse(id, &bytes).unwrap();
        assert_eq!((parsed.time, parsed.parents.len()), (1_700_000_000, 1));
        assert!(commit("a\n").bytes().unwrap().ends_with(b"\n\na\n"));
    }

    #[test]
    fn what_git_cannot_store_is_refused() {
        assert_eq!(commit("a\0b").bytes(), Err(InvalidCommit::MessageNul));
        assert_eq!(commit(&"a".repeat(MAX_MESSAGE_BYTES + 1)).bytes(), Err(InvalidCommit::MessageLength));
        for (name, email, error) in [
            ("a".repeat(MAX_PERSON_BYTES + 1), String::new(), InvalidCommit::NameLength),
            (String::new(), "a>b".to_owned(), InvalidCommit::Email),
            (String::new(), "a\nb".to_owned(), InvalidCommit::Email),
        ] {
            let commit = NewCommit { author: person(&name, &email), ..commit("x") };
            assert_eq!(commit.bytes(), Err(error));
        }
        for data in ["", "tree 12\n", "parent x\n"] {
            let parsed = Commit::parse(ObjectId::null(gix::hash::Kind::Sha1), data.as_bytes());
            assert!(matches!(parsed, Err(ContentError::Malformed { .. })));
        }
    }
}
