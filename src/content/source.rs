//! [`Source`]: objects by id, from the packs of a view or from memory.

use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;

use gix::ObjectId;
use gix::hash::{Kind as Format, oid};
use gix::objs::Kind;

use gitferry_git::pack::{Content, Finder, Object, PackError, PackSet};
use gitferry_git::view::View;

/// Bytes of an object. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Data {
    /// Bytes that a pack's reader holds.
    Packed(Rc<Content>),
    /// Bytes in memory.
    Memory(Rc<[u8]>),
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Data::Packed(content) => content,
            Data::Memory(bytes) => bytes,
        }
    }
}

/// Objects of a repository by id.
pub trait Source {
    /// Hash function of all ids.
    fn format(&self) -> Format;

    /// Reads an object; `None` if the repository lacks it.
    fn read(&mut self, id: &oid) -> Result<Option<(Kind, Data)>, PackError>;

    /// Returns kind and size of an object without reading it whole; `None` if the repository lacks it.
    fn header(&mut self, id: &oid) -> Result<Option<(Kind, u64)>, PackError>;
}

/// Objects of a [`View`].
#[derive(Debug)]
pub struct ViewSource<'a> {
    packs: &'a PackSet,
    finder: Finder<'a>,
}

impl<'a> ViewSource<'a> {
    /// Opens the packs of a view for one thread.
    pub fn new(view: &'a View) -> Result<Self, PackError> {
        ViewSource::of_packs(&view.packs)
    }

    /// Opens packs for one thread.
    pub fn of_packs(packs: &'a PackSet) -> Result<Self, PackError> {
        let finder = packs.finder().map_err(|fault| PackError { path: "all packs".into(), fault })?;
        Ok(ViewSource { packs, finder })
    }
}

impl Source for ViewSource<'_> {
    fn format(&self) -> Format {
        self.packs.format()
    }

    fn read(&mut self, id: &oid) -> Result<Option<(Kind, Data)>, PackError> {
        let found = self.finder.find(id)?;
        Ok(found.map(|Object { kind, data }| (kind, Data::Packed(data))))
    }

    fn header(&mut self, id: &oid) -> Result<Option<(Kind, u64)>, PackError> {
        let Some(location) = self.packs.locate(id) else { return Ok(None) };
        let kind = self.finder.kind(location)?;
        let size = self.finder.size(location)?;
        Ok(Some((kind, size)))
    }
}

/// Objects in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    format: Format,
    objects: HashMap<ObjectId, (Kind, Rc<[u8]>)>,
}

impl Memory {
    /// Creates an empty source.
    pub fn new(format: Format) -> Self {
        Memory { format, objects: HashMap::new() }
    }

    /// Adds an object under its id; the id is not verified.
    pub fn insert(&mut self, id: ObjectId, kind: Kind, bytes: &[u8]) {
        self.objects.insert(id, (kind, bytes.into()));
    }
}

#[cfg(test)]
impl Memory {
    pub(crate) fn ids(&self) -> Vec<ObjectId> {
        self.objects.keys().copied().collect()
    }

    /// Replaces a byte of an object, or cuts the object off.
    pub(crate) fn damage(&mut self, id: &ObjectId, at: usize, byte: u8) {
        let Some((_, data)) = self.objects.get_mut(id) else { return };
        let mut bytes = data.to_vec();
        match bytes.get_mut(at) {
            Some(old) => *old = byte,
            None => bytes.truncate(usize::from(byte)),
        }
        *data = bytes.into();
    }
}

impl Source for Memory {
    fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self, id: &oid) -> Result<Option<(Kind, Data)>, PackError> {
        Ok(self.objects.get(id).map(|(kind, bytes)| (*kind, Data::Memory(bytes.clone()))))
    }

    fn header(&mut self, id: &oid) -> Result<Option<(Kind, u64)>, PackError> {
        Ok(self.objects.get(id).map(|(kind, bytes)| (*kind, bytes.len() as u64)))
    }
}
