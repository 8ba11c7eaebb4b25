//! [`Author`] of a change, and the commit object that names it.

use gix::ObjectId;
use jiff::Timestamp;
use uuid::Uuid;

use gitferry_engine::ledger::change::Actor;

/// Principal in whose name a change is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    name: String,
    arn: String,
    source: Option<String>,
}

impl Author {
    /// Creates an author from the short name and the ARN of a principal. The commit shows both as `NAME <ARN>`, and the
    /// ledger's change has the ARN as its actor.
    pub fn new(name: impl Into<String>, arn: impl Into<String>) -> Self {
        Author { name: name.into(), arn: arn.into(), source: None }
    }

    /// Adds the address that the request came from, or the machine on which a command ran. The ledger's change records it
    /// behind the ARN.
    #[must_use]
    pub fn from_address(self, source: impl Into<String>) -> Self {
        Author { source: Some(source.into()), ..self }
    }

    /// Returns the actor of the ledger's change: `ARN`, or `ARN from ADDRESS`.
    pub fn actor(&self) -> String {
        Actor::new(&self.arn, self.source.as_deref()).to_string()
    }

    /// Returns the identity in a commit, at a time in seconds.
    fn identity(&self, time: Timestamp) -> String {
        let name = clean(&self.name);
        let arn = clean(&self.arn);
        format!("{name} <{arn}> {} +0000", time.as_second())
    }
}

/// Replaces the characters that would end an identity in a commit by spaces.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() || "<>".contains(c) { ' ' } else { c }).collect();
    // Git strips these from both ends of a name.
    let text = text.trim_matches(|c: char| c.is_whitespace() || ".,:;\"\\'".contains(c));
    if text.is_empty() { "unknown".into() } else { text.into() }
}

/// Author, time and id of a change.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    /// Principal in whose name the change is made.
    pub author: Author,
    /// Time of the change.
    pub time: Timestamp,
    /// Fresh id: two writers that make the same change of the same documents in the same second make two commits, of
    /// which one loses. Equal commits would both be taken for made, and one change of a counter would be lost.
    pub id: Uuid,
}

/// Returns the bytes of a commit. `message` is not empty and has no NUL.
pub(crate) fn commit_bytes(tree: ObjectId, parent: Option<ObjectId>, signature: &Signature, message: &str) -> Vec<u8> {
    let Signature { author, time, id } = signature;
    let identity = author.identity(*time);
    let parent = parent.map_or(String::new(), |parent| format!("parent {parent}\n"));
    let message = message.trim_end();
    let header = format!("tree {tree}\n{parent}author {identity}\ncommitter {identity}\nchange-id {}\n", id.simple());
    format!("{header}\n{message}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_cannot_forge_lines_of_a_commit() {
        let author = Author::new("ann\ncommitter eve <x> 0 +0000", "arn:aws:iam::1:user/<ann>\n");
        let tree = ObjectId::empty_tree(gix::hash::Kind::Sha1);
        let signature = Signature { author, time: Timestamp::UNIX_EPOCH, id: Uuid::nil() };
        let commit = commit_bytes(tree, None, &signature, "hello\n\n");
        let commit = String::from_utf8(commit).unwrap();
        let lines: Vec<&str> = commit.lines().collect();
        let identity = "ann committer eve  x  0 +0000 <arn:aws:iam::1:user/ ann> 0 +0000";
        let author = format!("author {identity}");
        let committer = format!("committer {identity}");
        let id = "change-id 00000000000000000000000000000000";
        assert_eq!(lines[1..], [author.as_str(), committer.as_str(), id, "", "hello"]);
        assert_eq!(Author::new(" .\n", "").identity(Timestamp::UNIX_EPOCH), "unknown <unknown> 0 +0000");
    }

    #[test]
    fn the_actor_is_the_arn_with_the_address() {
        let ann = Author::new("ann", "arn:aws:iam::1:user/ann");
        assert_eq!(ann.actor(), "arn:aws:iam::1:user/ann");
        assert_eq!(ann.from_address("192.0.2.1").actor(), "arn:aws:iam::1:user/ann from 192.0.2.1");
    }
}
