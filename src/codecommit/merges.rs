//! Merges of branches: by fast-forward, as one commit, or with both parents.
//!
//! The branch that changes is the target of the request, or else its destination. It has to be at the destination's commit:
//! otherwise another change came first.

use async_trait::async_trait;
use gitferry_api::{ApiError, Demand, Result, shown};
use gitferry_content::ancestry::is_ancestor;
use gitferry_content::merge::resolve::{Resolutions, ResolveError, resolve};
use gitferry_content::merge::{Merge, MergeOption, Renaming, is_fast_forward, merge};
use gitferry_content::{ContentError, Reader};
use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::push::PushState;
use gitferry_git::refs::RefName;
use gix::ObjectId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::branches::{ref_of, tip};
use crate::commits::{CommitError, Made, Signature, advance, publish};
use crate::describe::BRANCHES;
use crate::edit_source::{of_content, with_reader};
use crate::failure::no_branch;
use crate::opened::{Opened, open};
use crate::operation::{Ask, Found, Operation, only};
use crate::resolutions::{Choice, ConflictResolution};

/// The ends of a merge, as a request names them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ends {
    repository_name: String,
    source_commit_specifier: String,
    destination_commit_specifier: String,
    target_branch: Option<String>,
}

/// The ends of a merge in a state of the repository.
struct Located {
    item: HeadItem,
    state: PushState,
    branch: RefName,
    source: ObjectId,
    destination: ObjectId,
}

impl Ends {
    /// Branch that changes.
    fn branch(&self) -> &str {
        let destination = &self.destination_commit_specifier;
        self.target_branch.as_deref().unwrap_or_else(|| destination.strip_prefix(BRANCHES).unwrap_or(destination))
    }

    async fn locate(&self, ask: &Ask<'_>, item: HeadItem) -> Result<Located> {
        ask.workshop.check_writable(&item)?;
        let branch = ref_of(self.branch())?;
        let specifiers = [&self.source_commit_specifier, &self.destination_commit_specifier].map(Clone::clone);
        let named = move |opened: &mut Opened<'_>| {
            let [source, destination] = &specifiers;
            Ok([opened.commit(Some(source))?.id, opened.commit(Some(destination))?.id])
        };
        let [source, destination] = open(ask, &item, named).await?;
        // Not older than what was opened, so that it has both commits.
        let state = ask.workshop.state(&item).await?;
        let tip = tip(&state.view.refs, &branch).ok_or_else(|| no_branch(self.branch()))?;
        if tip == destination { Ok(Located { item, state, branch, source, destination }) } else { Err(self.moved()) }
    }

    fn moved(&self) -> ApiError {
        let text = format!("{} is not at the destination's commit any more: merge again.", shown(self.branch()));
        ApiError::new("ConcurrentReferenceUpdateException", 400, text)
    }

    fn message(&self) -> String {
        format!("Merge {} into {}", self.source_commit_specifier, self.branch())
    }
}

fn manual(reason: &str) -> ApiError {
    ApiError::new("ManualMergeRequiredException", 400, format!("Nothing was merged: {reason}."))
}

fn answer(commit: ObjectId, tree: ObjectId) -> Value {
    json!({ "commitId": commit.to_string(), "treeId": tree.to_string() })
}

/// `MergeBranchesByFastForward`.
#[derive(Debug, Deserialize)]
pub struct MergeBranchesByFastForward {
    #[serde(flatten)]
    ends: Ends,
}

#[async_trait]
impl Operation for MergeBranchesByFastForward {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.ends.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.ends.branch()))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let Located { item, state, branch, source, destination } = self.ends.locate(ask, only(found)?).await?;
        let forward = with_reader(ask, state, move |reader| {
            let is_forward = is_fast_forward(reader, destination, source)?;
            Ok::<_, ContentError>((is_forward, reader.commit(&source)?.tree))
        });
        let (is_forward, tree) = forward.await?.map_err(|error| of_content(ask, &item.head.name, error))?;
        if !is_forward {
            return Err(manual("the destination has commits that the source has not"));
        }
        let is_there = source == destination;
        if is_there || advance(ask, &item, &branch, [Some(destination), Some(source)], None).await? {
            return Ok(answer(source, tree));
        }
        Err(self.ends.moved())
    }
}

/// Members of a merge that makes a commit.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Joined {
    #[serde(flatten)]
    ends: Ends,
    #[serde(flatten)]
    choice: Choice,
    author_name: Option<String>,
    email: Option<String>,
    commit_message: Option<String>,
    #[serde(default)]
    keep_empty_folders: bool,
    #[serde(default)]
    conflict_resolution: ConflictResolution,
}

/// Outcome of a merge.
enum Outcome {
    /// The destination has the source's commits.
    Already(ObjectId),
    Made(Made),
}

/// Failure of a merge.
enum Failure {
    Resolve(ResolveError),
    Commit(CommitError),
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Failure::Commit(error.into())
    }
}

impl Joined {
    async fn merge(&self, ask: &Ask<'_>, found: Vec<Found>, option: MergeOption) -> Result<Value> {
        let resolutions = self.conflict_resolution.read(self.keep_empty_folders)?;
        let Located { item, state, branch, source, destination } = self.ends.locate(ask, only(found)?).await?;
        let [name, email, message] = [&self.author_name, &self.email, &self.commit_message].map(Option::as_deref);
        let work = Work {
            ends: [destination, source],
            option,
            choice: self.choice,
            resolutions,
            signature: Signature::new(ask, name, email, message),
            default_message: self.ends.message(),
        };
        let merged = with_reader(ask, state, move |reader| work.run(reader)).await?;
        let made = match merged {
            Ok(Outcome::Already(tree)) => return Ok(answer(destination, tree)),
            Ok(Outcome::Made(made)) => made,
            Err(Failure::Commit(error)) => return Err(error.answer(ask, &item.head.name)),
            Err(Failure::Resolve(error)) => return Err(unresolved(ask, &item.head.name, error)),
        };
        let answer = answer(made.id, made.tree);
        if publish(ask, &item, &branch, Some(destination), made).await? { Ok(answer) } else { Err(self.ends.moved()) }
    }
}

/// A merge on the thread that computes it.
struct Work {
    /// Destination and source.
    ends: [ObjectId; 2],
    option: MergeOption,
    choice: Choice,
    resolutions: Resolutions,
    signature: Signature,
    default_message: String,
}

impl Work {
    fn run(self, reader: &mut Reader<'_>) -> std::result::Result<Outcome, Failure> {
        let [destination, source] = self.ends;
        if is_ancestor(reader, source, destination)? {
            return Ok(Outcome::Already(reader.commit(&destination)?.tree));
        }
        let merge: Merge = merge(reader, destination, source, self.choice.level(), Renaming::Follow)?;
        let tree = resolve(reader, &merge, self.choice.strategy(), &self.resolutions).map_err(Failure::Resolve)?;
        let parents = merge.parents(self.option).unwrap_or_default();
        let made = self.signature.commit(reader, tree, parents, || self.default_message);
        made.map(Outcome::Made).map_err(Failure::Commit)
    }
}

/// Conflicts, or resolutions that cannot be used, as the API has them.
fn unresolved(ask: &Ask<'_>, name: &str, error: ResolveError) -> ApiError {
    let code = match error {
        ResolveError::Content(error) => return of_content(ask, name, error),
        ResolveError::Unresolved { .. } => return manual(&error.to_string()),
        ResolveError::TooMany => "MaximumConflictResolutionEntriesExceededException",
        ResolveError::Twice(_) => "MultipleConflictResolutionEntriesException",
        ResolveError::NoConflict(_) => "InvalidConflictResolutionException",
        ResolveError::TooLarge(_) => "FileContentSizeLimitExceededException",
        ResolveError::Mode(_) => "InvalidFileModeException",
    };
    ApiError::new(code, 400, format!("Nothing was merged: {error}."))
}

/// `MergeBranchesBySquash`.
#[derive(Debug, Deserialize)]
pub struct MergeBranchesBySquash {
    #[serde(flatten)]
    joined: Joined,
}

#[async_trait]
impl Operation for MergeBranchesBySquash {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.joined.ends.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.joined.ends.branch()))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        self.joined.merge(ask, found, MergeOption::Squash).await
    }
}

/// `MergeBranchesByThreeWay`.
#[derive(Debug, Deserialize)]
pub struct MergeBranchesByThreeWay {
    #[serde(flatten)]
    joined: Joined,
}

#[async_trait]
impl Operation for MergeBranchesByThreeWay {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.joined.ends.repository_name.clone()])
    }

    fn demand(&self, demand: Demand) -> Demand {
        demand.on_reference(format!("{BRANCHES}{}", self.joined.ends.branch()))
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        self.joined.merge(ask, found, MergeOption::ThreeWay).await
    }
}
