//! A repository opened for one request that reads many objects: on a thread where reads may block, with a permit to
//! compute, until the client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gitferry_api::{ApiError, shown};
use gitferry_content::{ContentError, InvalidPath, Reader, RepoPath, ViewSource};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::blocking;
use gitferry_engine::region::push::PushState;
use gitferry_git::pack::PackError;
use gitferry_git::refs::RefName;
use gix::ObjectId;
use gix::bstr::BStr;
use gix::objs::Kind;

use crate::describe::BRANCHES;
use crate::failure::not_allowed;
use crate::objects::{are_readable, object_id};
use crate::operation::Ask;

/// Largest key of a next page, in bytes: clients send it back in a body.
pub const MAX_KEY_BYTES: usize = 256 << 10;

/// Failure of work on a repository.
#[derive(Debug)]
pub enum Failure {
    /// The request has an error of the model.
    Answer(ApiError),
    /// An object cannot be read, or the work needs too much.
    Content(ContentError),
    /// The thread ended early.
    Thread(std::io::Error),
}

/// Result of work on a repository.
pub type Outcome<T> = std::result::Result<T, Failure>;

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Answer(error)
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Failure::Content(error)
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        Failure::Content(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Thread(error)
    }
}

impl Failure {
    /// The failure as the API has it.
    fn answer(self, repository: &str) -> ApiError {
        match self {
            Failure::Answer(error) => error,
            Failure::Content(error @ ContentError::Limit(_)) => not_allowed(format!("{error}: use Git for it.")),
            Failure::Content(ContentError::Canceled) => ApiError::unavailable(),
            Failure::Content(error) => {
                tracing::error!(repository, %error, "the content of a repository cannot be read");
                ApiError::unavailable()
            }
            Failure::Thread(error) => {
                tracing::error!(repository, %error, "the content of a repository was not read");
                ApiError::unavailable()
            }
        }
    }
}

/// Commit that a request names.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// Id of the commit.
    pub id: ObjectId,
    /// Root tree.
    pub tree: ObjectId,
}

/// A repository, opened.
#[derive(Debug)]
pub struct Opened<'a> {
    pub state: &'a PushState,
    pub reader: Reader<'a>,
}

/// Does `work` on a repository.
///
/// # Errors
/// Those of `work`, or the repository cannot be read.
pub async fn open<T, W>(ask: &Ask<'_>, item: &HeadItem, work: W) -> gitferry_api::Result<T>
where
    T: Send + 'static,
    W: FnOnce(&mut Opened<'_>) -> Outcome<T> + Send + 'static,
{
    let state = ask.workshop.state(item).await?;
    let permit = ask.workshop.repositories.begin_compute().await.ok_or_else(ApiError::unavailable)?;
    let leaving = Leaving::default();
    let is_canceled = leaving.watch();
    let working = move || {
        let _permit = permit;
        let mut source = ViewSource::new(&state.view)?;
        let reader = Reader::new(&mut source, &is_canceled);
        work(&mut Opened { state: &state, reader })
    };
    blocking(working).await.map_err(|failure: Failure| failure.answer(&item.head.name))
}

/// Set when the request is dropped.
#[derive(Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// Returns true from the drop of the request on.
    pub fn watch(&self) -> impl Fn() -> bool + Send + 'static {
        let has_left = self.0.clone();
        move || has_left.load(Ordering::Relaxed)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Opened<'_> {
    /// Commit of a specifier that clients see: a full id, `HEAD`, a full ref, a branch or a tag; without one, of `HEAD`.
    ///
    /// # Errors
    /// `CommitDoesNotExistException` if there is none. `InvalidCommitException` if the specifier is no name of a ref, or
    /// names another object.
    pub fn commit(&mut self, specifier: Option<&str>) -> Outcome<Commit> {
        let specifier = specifier.unwrap_or("HEAD");
        let missing = || {
            let text = format!("There is no commit, branch or ref {}.", shown(specifier));
            ApiError::new("CommitDoesNotExistException", 400, text)
        };
        if let Some(id) = object_id(specifier, self.state.view.format) {
            if !are_readable(self.state, &[id], Kind::Commit)? {
                return Err(missing().into());
            }
            return Ok(Commit { id, tree: self.reader.commit(&id)?.tree });
        }
        let (id, peeled) = self.named(specifier)?.ok_or_else(missing)?;
        let id = peeled.unwrap_or(id);
        match self.reader.commit(&id) {
            Ok(commit) => Ok(Commit { id, tree: commit.tree }),
            Err(ContentError::WrongKind { found, .. }) => {
                let text = format!("{} names a {found}, not a commit.", shown(specifier));
                Err(ApiError::new("InvalidCommitException", 400, text).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Object of a ref that clients see, and the target of that object if it is a tag.
    fn named(&self, name: &str) -> Outcome<Option<(ObjectId, Option<ObjectId>)>> {
        let view = &self.state.view;
        if name == "HEAD" {
            return Ok(view.head_object().map(|id| (id, None)));
        }
        let full = if name.starts_with("refs/") { name.to_owned() } else { format!("{BRANCHES}{name}") };
        RefName::new(full.as_str()).map_err(|error| {
            let text = format!("{} is no name of a ref: {error}.", shown(name));
            ApiError::new("InvalidCommitException", 400, text)
        })?;
        let refs = &view.refs;
        let find = |name: &str| refs.find(BStr::new(name));
        let Some(entry) = find(&full).or_else(|| find(&format!("refs/tags/{name}"))) else { return Ok(None) };
        let Some(id) = refs.object(&entry) else { return Ok(None) };
        let is_commit = are_readable(self.state, &[id], Kind::Commit)?;
        Ok(Some((id, if is_commit { None } else { view.peeled_tags()?.get(entry.row) })))
    }
}

/// Path in a request.
///
/// # Errors
/// `InvalidPathException`: no repository can have the path.
pub fn path_of(path: &str) -> gitferry_api::Result<RepoPath> {
    RepoPath::to_read(path).map_err(invalid_path)
}

/// The error of a path that no repository can have.
pub fn invalid_path(error: InvalidPath) -> ApiError {
    ApiError::new("InvalidPathException", 400, format!("{error}."))
}

/// Path in a request for which the root has no name; `None` for the root.
///
/// # Errors
/// As of [`path_of`].
pub fn path_or_root(path: &str) -> gitferry_api::Result<Option<RepoPath>> {
    match RepoPath::to_read(path) {
        Err(InvalidPath::Empty) => Ok(None),
        _ => path_of(path).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_content::limits::Bound;

    #[test]
    fn the_root_has_no_name() {
        for root in ["", "/"] {
            assert_eq!(path_or_root(root).unwrap(), None);
            assert_eq!(path_of(root).unwrap_err().code(), "InvalidPathException");
        }
        assert_eq!(path_or_root("/a/b/").unwrap(), Some(path_of("a/b").unwrap()));
        assert_eq!(path_or_root("a/../b").unwrap_err().code(), "InvalidPathException");
    }

    #[test]
    fn damage_is_no_news_for_clients_and_limits_are() {
        let id = ObjectId::null(gix::hash::Kind::Sha1);
        let damage = Failure::from(ContentError::Missing { id, expected: Kind::Tree }).answer("app");
        assert_eq!((damage.code(), damage.message().contains("000")), ("ServiceUnavailable", false));
        let limit = Failure::from(ContentError::Limit(Bound::FolderEntries)).answer("app");
        assert_eq!(limit.code(), "OperationNotAllowedException");
        assert!(limit.message().contains("100000 entries"), "{}", limit.message());
    }
}
