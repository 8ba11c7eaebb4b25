//! What becomes of an event that a link is told: a due mark, nothing, or a rejection.

use super::codecommit::{Rejection, StateChange, Subject};
use super::due::{Due, DueMarks};
use super::remote;
use gitferry_base::Kind;
use gitferry_engine::ledger::advance::read_head;
use gitferry_engine::ledger::head::{Frontier, HeadItem, RepositoryId};
use gitferry_replication::deliver::Link;
use gitferry_replication::error::InRegion as _;
use gitferry_replication::{AnyLink, ReplicationError};

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The repository is marked as due.
    Due(Due),
    /// The target has that state already: one read was all, or two.
    Current,
    /// The link does not carry the repository.
    NotCarried,
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It cannot be acted on, now or later.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A region failed.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
}

impl IntakeError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            IntakeError::Rejected(rejection) => rejection.kind(),
            IntakeError::Replication(error) => error.kind(),
        }
    }
}

/// Marks the repository of an event as due, unless the target has reached that state.
pub async fn take(link: &AnyLink, change: &StateChange) -> Result<Taken, IntakeError> {
    let found = match link {
        AnyLink::Regions(link) => look_up(link, change).await?,
        AnyLink::Remote(link) => remote::look_up(link, change).await?,
    };
    if let Taken::Due(due) = &found {
        DueMarks::of(link).mark(due).await.map_err(|error| link.table_failed(error))?;
    }
    Ok(found)
}

async fn look_up(link: &Link, change: &StateChange) -> Result<Taken, IntakeError> {
    match &change.subject {
        Subject::Gitferry { id, frontier: Some(frontier) } => by_frontier(link, change, *id, *frontier).await,
        Subject::Gitferry { id, frontier: None } => by_name(link, change, &id.to_string()).await,
        Subject::CodeCommit => by_name(link, change, &change.repository).await,
    }
}

/// The event says which state there is: the source is asked only about what the target has never heard of.
async fn by_frontier(
    link: &Link,
    change: &StateChange,
    id: RepositoryId,
    frontier: Frontier,
) -> Result<Taken, IntakeError> {
    let target = read_head(&*link.target.table, id).await.in_region(&link.target)?;
    if target.as_ref().is_some_and(|item| has_reached(item.head.frontier, frontier)) {
        return Ok(Taken::Current);
    }
    let fed = target.as_ref().is_some_and(|item| item.head.fed_by.as_ref() == Some(&link.name));
    if !fed && !link.repositories.is_match(&change.repository) {
        return Ok(Taken::NotCarried);
    }
    if target.is_none() && read_head(&*link.source.table, id).await.in_region(&link.source)?.is_none() {
        return Err(unknown(link, &id.to_string()).into());
    }
    Ok(Taken::Due(Due::Change { id, seq: frontier.seq }))
}

async fn by_name(link: &Link, change: &StateChange, name: &str) -> Result<Taken, IntakeError> {
    let Some(source) = link.source.find(name).await.in_region(&link.source)? else {
        return match link.repositories.is_match(&change.repository) {
            true => Err(unknown(link, name).into()),
            false => Ok(Taken::NotCarried),
        };
    };
    let target: Option<HeadItem> = read_head(&*link.target.table, source.id).await.in_region(&link.target)?;
    if !link.carries(&source.head, target.as_ref()) {
        return Ok(Taken::NotCarried);
    }
    match target {
        Some(target) if target.head.frontier == source.head.frontier => Ok(Taken::Current),
        _ => Ok(Taken::Due(Due::Change { id: source.id, seq: source.head.frontier.seq })),
    }
}

/// Whether a state includes another. Equal numbers with other hashes are a fork, which a delivery reports.
fn has_reached(now: Frontier, announced: Frontier) -> bool {
    now == announced || (now.epoch >= announced.epoch && now.seq > announced.seq)
}

fn unknown(link: &Link, repository: &str) -> Rejection {
    let (region, link) = (link.source.name.clone(), link.name.clone());
    Rejection::UnknownRepository { repository: repository.into(), region, link }
}
