//! The event that CodeCommit and gitferry send to EventBridge: `CodeCommit Repository State Change`.
//!
//! Fields as documented in the CodeCommit User Guide, "Monitoring CodeCommit events in Amazon EventBridge".
//! Fields that decide about work are checked strictly. Unknown fields are ignored, since AWS adds some from time to
//! time.

use serde_json::{Map, Value};

use gitferry_base::Kind;
use gitferry_engine::ledger::head::{Frontier, RepositoryId};

/// The `detail-type` of all these events.
pub const DETAIL_TYPE: &str = "CodeCommit Repository State Change";
/// The `source` of events of gitferry: `PutEvents` refuses sources that start with `aws.`.
pub const GITFERRY: &str = "gitferry";
/// The `source` of events of CodeCommit.
pub const CODECOMMIT: &str = "aws.codecommit";
/// Name of gitferry's own field of `detail`: the exact state that was reached.
pub const FRONTIER_FIELD: &str = "gitferry";
/// Event of a change that edits no ref: a name, a state, HEAD, LFS objects. Only gitferry sends it.
pub const REPOSITORY_UPDATED: &str = "repositoryUpdated";

/// Longest event, in bytes: the limit of an SQS message.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Most envelopes around an event: a Lambda record of SQS of SNS of EventBridge.
const MAX_ENVELOPES: usize = 4;
/// Most entries of `detail.event`.
const MAX_EVENTS: usize = 16;
/// Longest name of a repository or a ref, in bytes.
const MAX_NAME_BYTES: usize = 4 * 1024;

/// Events of the same `detail-type` that change nothing that replication carries.
const IRRELEVANT: [&str; 1] = ["unreferencedMergeCommitCreated"];

/// Change of a ref, or of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReferenceEvent {
    /// The ref is new.
    Created,
    /// The ref has another value.
    Updated,
    /// The ref is gone.
    Deleted,
    /// No ref changed, but the name, the state or HEAD.
    Repository,
}

impl ReferenceEvent {
    /// Spelling in `detail.event`.
    pub fn as_str(self) -> &'static str {
        match self {
            ReferenceEvent::Created => "referenceCreated",
            ReferenceEvent::Updated => "referenceUpdated",
            ReferenceEvent::Deleted => "referenceDeleted",
            ReferenceEvent::Repository => REPOSITORY_UPDATED,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        use ReferenceEvent::{Created, Deleted, Repository, Updated};
        [Created, Updated, Deleted, Repository].into_iter().find(|event| event.as_str() == text)
    }
}

/// The repository of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A repository of gitferry.
    Gitferry {
        /// Id of the repository.
        id: RepositoryId,
        /// State that the repository has reached, where the event has it.
        frontier: Option<Frontier>,
    },
    /// A repository of CodeCommit: only its name counts, as its id means nothing here.
    CodeCommit,
}

/// A repository that reached another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The repository, as its server identifies it.
    pub subject: Subject,
    /// Name of the repository at the time of the event.
    pub repository: String,
    /// Changes; never empty.
    pub events: Vec<ReferenceEvent>,
    /// Full name of the ref.
    pub reference: Option<String>,
    /// New value of the ref.
    pub commit: Option<String>,
    /// Old value of the ref.
    pub old_commit: Option<String>,
}

/// A valid event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// A repository changed.
    Change(StateChange),
    /// Nothing changed that replication carries.
    Nothing {
        /// Value of `detail.event`.
        event: String,
    },
}

/// Reason why a text is not an event that can be acted on. Sending it again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The event is longer than [`MAX_EVENT_BYTES`].
    #[error("the event has {bytes} bytes; at most {MAX_EVENT_BYTES} are possible")]
    TooLong {
        /// Length of the event.
        bytes: usize,
    },
    /// The text is not JSON.
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    /// The JSON is neither an EventBridge event nor an envelope around one.
    #[error("this is not an EventBridge event: {0}")]
    NotAnEvent(String),
    /// The event is about something else.
    #[error("the event has the {field} {value:?}, which gitferry does not act on")]
    Unknown {
        /// Field that says so.
        field: &'static str,
        /// Value of the field.
        value: String,
    },
    /// A required field is missing or not valid.
    #[error("the field {field} of the event is not valid: {reason}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// Fault of its value.
        reason: String,
    },
    /// The source has no such repository.
    #[error("there is no repository {repository} in {region}, where link {link} reads")]
    UnknownRepository {
        /// Name or id, as the event has it.
        repository: String,
        /// The source region.
        region: String,
        /// The link.
        link: String,
    },
}

impl Rejection {
    /// The kind of the error, which says what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            Rejection::UnknownRepository { .. } => Kind::NotFound,
            _ => Kind::Usage,
        }
    }
}

/// Parses one event: as EventBridge sends it, or in the envelope of SNS (`Message`) or SQS (`body`).
pub fn parse(text: &[u8]) -> Result<Announcement, Rejection> {
    parse_value(read_json(text)?)
}

/// Parses JSON of at most [`MAX_EVENT_BYTES`].
pub fn read_json(text: &[u8]) -> Result<Value, Rejection> {
    if text.len() > MAX_EVENT_BYTES {
        return Err(Rejection::TooLong { bytes: text.len() });
    }
    serde_json::from_slice(text).map_err(|error| Rejection::NotJson(error.to_string()))
}

/// [`parse`] for an event that is JSON already.
pub fn parse_value(value: Value) -> Result<Announcement, Rejection> {
    let mut value = value;
    for _ in 0..=MAX_ENVELOPES {
        let Value::Object(object) = value else {
            return Err(Rejection::NotAnEvent("it is not a JSON object".into()));
        };
        match inner(&object) {
            None => return parse_event(&object),
            Some(text) => value = read_json(text.as_bytes())?,
        }
    }
    Err(Rejection::NotAnEvent(format!("it lies in more than {MAX_ENVELOPES} envelopes")))
}

/// The text within an envelope; `None` for an event itself.
fn inner(object: &Map<String, Value>) -> Option<&str> {
    if object.contains_key("detail-type") {
        return None;
    }
    ["Message", "body", "Body"].iter().find_map(|field| object.get(*field)?.as_str())
}

fn parse_event(event: &Map<String, Value>) -> Result<Announcement, Rejection> {
    if !event.contains_key("detail-type") {
        return Err(Rejection::NotAnEvent("it has no detail-type".into()));
    }
    let detail_type = text(event, "detail-type", "detail-type")?;
    if detail_type != DETAIL_TYPE {
        return Err(Rejection::Unknown { field: "detail-type", value: shortened(detail_type) });
    }
    let source = text(event, "source", "source")?;
    if source != GITFERRY && source != CODECOMMIT {
        return Err(Rejection::Unknown { field: "source", value: shortened(source) });
    }
    let detail = event.get("detail").and_then(Value::as_object);
    let detail = detail.ok_or_else(|| invalid("detail", "it is not an object"))?;
    let names = event_names(detail)?;
    let mut events = Vec::new();
    for name in &names {
        match ReferenceEvent::parse(name) {
            Some(ReferenceEvent::Repository) if source == CODECOMMIT => return Err(unknown_event(name)),
            Some(event) => events.push(event),
            None if IRRELEVANT.contains(name) => {}
            None => return Err(unknown_event(name)),
        }
    }
    let repository = name(detail, "repositoryName", "detail.repositoryName")?.to_owned();
    if events.is_empty() {
        return Ok(Announcement::Nothing { event: names.join(", ") });
    }
    let subject = if source == GITFERRY { gitferry_subject(detail)? } else { Subject::CodeCommit };
    let optional = |field, path| optional_name(detail, field, path).map(|found| found.map(str::to_owned));
    Ok(Announcement::Change(StateChange {
        subject,
        repository,
        events,
        reference: optional("referenceFullName", "detail.referenceFullName")?,
        commit: optional("commitId", "detail.commitId")?,
        old_commit: optional("oldCommitId", "detail.oldCommitId")?,
    }))
}

/// The words of `detail.event`, which is a word or a list of words.
fn event_names(detail: &Map<String, Value>) -> Result<Vec<&str>, Rejection> {
    let field = "detail.event";
    match detail.get("event") {
        Some(Value::String(name)) => Ok(vec![name]),
        Some(Value::Array(names)) if (1..=MAX_EVENTS).contains(&names.len()) => {
            let names = names.iter().map(|name| name.as_str().ok_or_else(|| invalid(field, "a list of other things")));
            names.collect()
        }
        Some(Value::Array(names)) => Err(invalid(field, format!("a list of {}; 1 to {MAX_EVENTS}", names.len()))),
        Some(_) => Err(invalid(field, "neither a string nor a list")),
        None => Err(invalid(field, "it is missing")),
    }
}

fn gitferry_subject(detail: &Map<String, Value>) -> Result<Subject, Rejection> {
    let id = text(detail, "repositoryId", "detail.repositoryId")?;
    let id = id.parse().map_err(|_| invalid("detail.repositoryId", "not the id of a repository"))?;
    let frontier = match detail.get(FRONTIER_FIELD) {
        None | Some(Value::Null) => None,
        Some(Value::Object(state)) => {
            let number = |field| state.get(field).and_then(Value::as_u64);
            let hash = state.get("hash").and_then(Value::as_str).and_then(|hash| hash.parse().ok());
            let frontier = (|| Some(Frontier { epoch: number("epoch")?, seq: number("seq")?, hash: hash? }))();
            Some(frontier.ok_or_else(|| invalid("detail.gitferry", "it has no epoch, seq and hash"))?)
        }
        Some(_) => return Err(invalid("detail.gitferry", "it is not an object")),
    };
    Ok(Subject::Gitferry { id, frontier })
}

fn text<'a>(object: &'a Map<String, Value>, field: &str, path: &'static str) -> Result<&'a str, Rejection> {
    match object.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(invalid(path, "it is not a string")),
        None => Err(invalid(path, "it is missing")),
    }
}

fn name<'a>(object: &'a Map<String, Value>, field: &str, path: &'static str) -> Result<&'a str, Rejection> {
    let name = text(object, field, path)?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(invalid(path, format!("it has {} bytes; 1 to {MAX_NAME_BYTES} are possible", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(invalid(path, "it has control characters"));
    }
    Ok(name)
}

fn optional_name<'a>(
    object: &'a Map<String, Value>,
    field: &str,
    path: &'static str,
) -> Result<Option<&'a str>, Rejection> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(_) => name(object, field, path).map(Some),
    }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> Rejection {
    Rejection::Field { field, reason: reason.into() }
}

fn unknown_event(name: &str) -> Rejection {
    Rejection::Unknown { field: "detail.event", value: shortened(name) }
}

/// Untrusted text, cut to 100 characters for a message.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}
