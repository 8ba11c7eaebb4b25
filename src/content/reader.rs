//! [`Reader`]: the objects of one request, with its budget and its new objects.

use std::collections::{HashMap, HashSet};
use std::fmt;

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use gitferry_git::limits::MAX_WALKED_BYTES;

use crate::commit::Commit;
use crate::entries::{self, Cursor, Entries, Entry};
use crate::error::ContentError;
use crate::limits::{Bound, MAX_READ_OBJECTS};
use crate::source::{Data, Source};

/// Object that an operation made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// Id of the object.
    pub id: ObjectId,
    /// Kind of the object.
    pub kind: Kind,
    /// Bytes of the object.
    pub data: Vec<u8>,
}

/// Reader of the objects of one request. Counts what it reads, asks between reads whether the request was canceled, and
/// keeps the objects that the request makes.
pub struct Reader<'a> {
    source: &'a mut dyn Source,
    is_canceled: &'a dyn Fn() -> bool,
    reads_left: u64,
    made: HashMap<ObjectId, (Kind, Data)>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("reads_left", &self.reads_left).field("made", &self.made.len()).finish()
    }
}

impl<'a> Reader<'a> {
    /// Starts a request that ends early once `is_canceled` returns true.
    pub fn new(source: &'a mut dyn Source, is_canceled: &'a dyn Fn() -> bool) -> Self {
        Reader { source, is_canceled, reads_left: MAX_READ_OBJECTS, made: HashMap::new() }
    }

    /// Hash function of all ids.
    pub fn format(&self) -> Format {
        self.source.format()
    }

    /// Counts a piece of work; an error if the budget is spent or the request was canceled.
    pub(crate) fn step(&mut self) -> Result<(), ContentError> {
        self.reads_left = self.reads_left.checked_sub(1).ok_or(ContentError::Limit(Bound::Objects))?;
        if (self.is_canceled)() { Err(ContentError::Canceled) } else { Ok(()) }
    }

    fn read(&mut self, id: &oid, expected: Kind) -> Result<Data, ContentError> {
        self.step()?;
        let found = match self.made.get(id) {
            Some((kind, data)) => Some((*kind, data.clone())),
            None => self.source.read(id)?,
        };
        match found {
            Some((kind, data)) if kind == expected => Ok(data),
            Some((found, _)) => Err(ContentError::WrongKind { id: id.to_owned(), found, expected }),
            None => Err(ContentError::Missing { id: id.to_owned(), expected }),
        }
    }

    fn read_walked(&mut self, id: &oid, expected: Kind) -> Result<Data, ContentError> {
        let data = self.read(id, expected)?;
        if data.len() as u64 > MAX_WALKED_BYTES { Err(ContentError::Limit(Bound::WalkedBytes)) } else { Ok(data) }
    }

    /// Reads a commit.
    pub fn commit(&mut self, id: &oid) -> Result<Commit, ContentError> {
        let data = self.read_walked(id, Kind::Commit)?;
        Commit::parse(id.to_owned(), &data)
    }

    /// Reads a blob whole.
    pub fn blob(&mut self, id: &oid) -> Result<Data, ContentError> {
        self.read(id, Kind::Blob)
    }

    /// Returns the size of a blob in bytes without reading it.
    pub fn blob_size(&mut self, id: &oid) -> Result<u64, ContentError> {
        self.step()?;
        let found = match self.made.get(id) {
            Some((kind, data)) => Some((*kind, data.len() as u64)),
            None => self.source.header(id)?,
        };
        match found {
            Some((Kind::Blob, size)) => Ok(size),
            Some((found, _)) => Err(ContentError::WrongKind { id: id.to_owned(), found, expected: Kind::Blob }),
            None => Err(ContentError::Missing { id: id.to_owned(), expected: Kind::Blob }),
        }
    }

    fn tree(&mut self, id: &oid) -> Result<Data, ContentError> {
        // Git does not store the empty tree, but knows it.
        let empty = ObjectId::empty_tree(self.format());
        if *id == *empty {
            self.step()?;
            return Ok(Data::Memory(Vec::new().into()));
        }
        self.read_walked(id, Kind::Tree)
    }

    pub(crate) fn cursor(&mut self, id: &oid) -> Result<Cursor, ContentError> {
        let data = self.tree(id)?;
        Cursor::new(id.to_owned(), data)
    }

    pub(crate) fn entries(&mut self, id: &oid) -> Result<Entries, ContentError> {
        let data = self.tree(id)?;
        entries::parse(id.to_owned(), data)
    }

    pub(crate) fn entry(&mut self, id: &oid, name: &[u8]) -> Result<Option<Entry>, ContentError> {
        let data = self.tree(id)?;
        entries::find(id.to_owned(), data, name)
    }

    /// Adds an object to those that the request makes, and returns its id.
    pub fn make(&mut self, kind: Kind, data: Vec<u8>) -> Result<ObjectId, ContentError> {
        let id = self.id_of(kind, &data)?;
        self.made.entry(id).or_insert_with(|| (kind, Data::Memory(data.into())));
        Ok(id)
    }

    pub(crate) fn id_of(&self, kind: Kind, data: &[u8]) -> Result<ObjectId, ContentError> {
        gix::objs::compute_hash(self.format(), kind, data).map_err(|_| ContentError::Collision(kind))
    }

    /// Returns the objects that the request made and that `tip`, a commit or tree, reaches: those between the merge bases
    /// of a merge are left out. Submodules, and objects that the repository held before, are not walked.
    pub fn made_below(&self, tip: ObjectId) -> Vec<NewObject> {
        let mut found: Vec<NewObject> = Vec::new();
        let mut rest = vec![tip];
        let mut seen = HashSet::new();
        while let Some(id) = rest.pop() {
            let Some((kind, data)) = self.made.get(&id) else { continue };
            if !seen.insert(id) {
                continue;
            }
            let links =
                gitferry_git::links::for_each_link(*kind, data, self.format(), |id, _| rest.push(id.to_owned()));
            debug_assert!(links.is_ok(), "objects that the request made are well formed");
            found.push(NewObject { id, kind: *kind, data: data.to_vec() });
        }
        found
    }
}
