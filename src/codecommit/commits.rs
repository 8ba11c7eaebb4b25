//! Commits that the API makes: their bytes, the pack of their new objects, and the push of it to one branch.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_api::{ApiError, Result};
use gitferry_content::commit::{InvalidCommit, NewCommit, Person};
use gitferry_content::{ContentError, Mode, NewObject, Reader, RepoPath};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::push::Rejection;
use gitferry_git::pack::{PackError, pack_in_memory};
use gitferry_git::receive_pack::Command;
use gitferry_git::refs::RefName;
use gix::ObjectId;
use gix::objs::Kind;
use serde::{Deserialize, Deserializer};

use crate::branches::{push, refusal};
use crate::edit_source::of_content;
use crate::opened::invalid_path;
use crate::operation::Ask;

/// Author and message of a commit, as a request has them.
#[derive(Clone, Debug)]
pub struct Signature {
    person: Person,
    message: Option<String>,
}

impl Signature {
    /// The signature of a request. The caller's own name stands for one that is missing, and no address for one that is.
    pub fn new(ask: &Ask<'_>, name: Option<&str>, email: Option<&str>, message: Option<&str>) -> Self {
        let own = ask.caller.principal.arn();
        // The last part is the name of a user or session; the account's ARN ends with `:root`.
        let own = own.rsplit(['/', ':']).next().unwrap_or_default();
        let person = Person {
            name: name.filter(|name| !name.trim().is_empty()).unwrap_or(own).to_owned(),
            email: email.unwrap_or_default().to_owned(),
            seconds: ask.workshop.region.clock().now().as_second(),
            offset_minutes: 0,
        };
        Signature { person, message: message.filter(|message| !message.is_empty()).map(str::to_owned) }
    }

    /// Makes a commit of a tree that a reader has, with the pack of all objects that the commit brings.
    ///
    /// # Errors
    /// The signature cannot be stored, or the objects cannot be written.
    pub fn commit(
        self,
        reader: &mut Reader<'_>,
        tree: ObjectId,
        parents: Vec<ObjectId>,
        default_message: impl FnOnce() -> String,
    ) -> std::result::Result<Made, CommitError> {
        let Signature { person, message } = self;
        let message = message.unwrap_or_else(default_message);
        let commit = NewCommit { tree, parents, author: person.clone(), committer: person, message };
        let id = reader.make(Kind::Commit, commit.bytes()?)?;
        let made = reader.made_below(id);
        let objects: Vec<(Kind, &[u8])> = made.iter().map(|NewObject { kind, data, .. }| (*kind, &data[..])).collect();
        let pack = pack_in_memory(reader.format(), &objects)?;
        Ok(Made { id, tree, pack })
    }
}

/// Commit that no ref names yet.
#[derive(Debug)]
pub struct Made {
    /// Id of the commit.
    pub id: ObjectId,
    /// Id of its tree.
    pub tree: ObjectId,
    pack: Vec<u8>,
}

/// Failure to make a commit. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Author or message cannot be stored.
    #[error(transparent)]
    Invalid(#[from] InvalidCommit),
    /// Objects cannot be read or made.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The pack cannot be written.
    #[error(transparent)]
    Pack(#[from] PackError),
}

impl CommitError {
    /// The error as the API has it, about a repository of this name.
    pub fn answer(self, ask: &Ask<'_>, name: &str) -> ApiError {
        let error = match self {
            CommitError::Content(error) => return of_content(ask, name, error),
            CommitError::Pack(error) => return of_content(ask, name, ContentError::Storage(error)),
            CommitError::Invalid(error) => error,
        };
        let code = match error {
            InvalidCommit::NameLength => "NameLengthExceededException",
            InvalidCommit::Email => "InvalidEmailException",
            InvalidCommit::MessageLength => "CommitMessageLengthExceededException",
            InvalidCommit::MessageNul => "ValidationException",
        };
        ApiError::new(code, 400, format!("The commit cannot be made: {error}."))
    }
}

/// Moves a branch from the commit that it had, or creates it, in one push. False if the branch has another commit by now.
///
/// # Errors
/// The push failed, or a rule for pushes refuses it.
pub async fn advance(
    ask: &Ask<'_>,
    item: &HeadItem,
    branch: &RefName,
    [old, new]: [Option<ObjectId>; 2],
    pack: Option<Vec<u8>>,
) -> Result<bool> {
    let command = Command { name: branch.as_bstr().to_owned(), old, new };
    let pushed = push(ask, item, command, pack).await?;
    match pushed.rejection {
        None => Ok(true),
        Some(Rejection::Stale) => Ok(false),
        Some(rejection) => Err(refusal(&pushed, rejection)),
    }
}

/// [`advance`] to a commit that was made.
///
/// # Errors
/// As of [`advance`].
pub async fn publish(
    ask: &Ask<'_>,
    item: &HeadItem,
    branch: &RefName,
    old: Option<ObjectId>,
    made: Made,
) -> Result<bool> {
    advance(ask, item, branch, [old, Some(made.id)], Some(made.pack)).await
}

/// Path of a request that is to be written.
///
/// # Errors
/// `InvalidPathException`.
pub fn path_to_write(path: &str) -> Result<RepoPath> {
    RepoPath::to_write(path).map_err(invalid_path)
}

/// Mode of a file in requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FileMode {
    /// File that is not executable.
    Normal,
    /// Executable file.
    Executable,
    /// Symbolic link.
    Symlink,
}

impl From<FileMode> for Mode {
    fn from(mode: FileMode) -> Self {
        match mode {
            FileMode::Normal => Mode::File,
            FileMode::Executable => Mode::Executable,
            FileMode::Symlink => Mode::Symlink,
        }
    }
}

/// Name of the mode of a file.
pub fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Executable => "EXECUTABLE",
        Mode::Symlink => "SYMLINK",
        Mode::File | Mode::Submodule | Mode::Folder => "NORMAL",
    }
}

/// Bytes of a request, which come in Base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes).map_err(serde::de::Error::custom)
    }
}
