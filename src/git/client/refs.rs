//! Refs of a server: advertisements of versions 0 and 1, answers to `ls-refs` of version 2.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use super::answer::{Answer, Line};
use super::capabilities::Capabilities;
use super::error::{At, ClientError};
use crate::protocol::{LsRefs, ProtocolError, parse_id};
use crate::refname::MAX_REF_NAME_BYTES;
use crate::refs::{RefName, RefValue};
use crate::view::{OutOfOrder, RefTable};

/// Most refs that one server may list.
pub const MAX_REFS: usize = 1 << 22;
/// Most bytes of all ref names together.
const MAX_NAMES_BYTES: usize = 512 << 20;
/// Most invalid ref names that are kept for reports.
pub const MAX_UNUSABLE: usize = 1000;
/// Most symbolic refs with a recorded target.
const MAX_SYMBOLIC: usize = 1 << 16;
/// Most lines of one advertisement that describe no ref (peeled tags, `.have`).
const MAX_OTHER_LINES: usize = 1 << 22;
/// Most `.have` objects that are kept, and most `shallow` commits that are accepted.
const MAX_EXTRA: usize = 1 << 16;

/// Refs and `HEAD` of a server.
#[derive(Debug)]
pub struct RemoteRefs {
    /// Object format of the server.
    pub format: Format,
    /// Refs with valid names and their objects, symbolic refs included (see `symbolic`).
    pub refs: RefTable,
    /// Targets of symbolic refs, `HEAD` excepted. Only version 2 reports them.
    pub symbolic: BTreeMap<RefName, RefName>,
    /// `HEAD`: its target if the server reports one (in version 2 even an unborn one), otherwise its object. `None` if
    /// the server lists no `HEAD`.
    pub head: Option<RefValue>,
    /// Invalid ref names, which are skipped; at most [`MAX_UNUSABLE`].
    pub unusable: Vec<BString>,
}

impl RemoteRefs {
    /// Returns an empty listing.
    pub fn none(format: Format) -> Self {
        let refs = RefTable::empty(format);
        RemoteRefs { format, refs, symbolic: BTreeMap::new(), head: None, unusable: Vec::new() }
    }

    /// Object of a ref.
    pub fn object(&self, name: &BStr) -> Option<ObjectId> {
        self.refs.find(name).and_then(|entry| self.refs.object(&entry))
    }

    /// Keeps only the refs that match a request.
    pub(super) fn only(self, request: &LsRefs) -> Result<RemoteRefs, ProtocolError> {
        if request.prefixes.is_empty() {
            return Ok(self);
        }
        let mut kept = RefsBuilder::new(self.format);
        for entry in self.refs.iter().filter(|entry| request.includes(entry.name)) {
            if let Some(id) = self.refs.object(&entry) {
                kept.add(entry.name, Some(id), None)?;
            }
        }
        Ok(RemoteRefs { head: self.head, unusable: self.unusable, ..kept.finish()? })
    }
}

/// Collects refs in any order.
struct RefsBuilder {
    refs: RemoteRefs,
    /// Refs that arrived out of name order.
    late: BTreeMap<RefName, Option<RefValue>>,
    count: usize,
    names_bytes: usize,
}

impl RefsBuilder {
    fn new(format: Format) -> Self {
        RefsBuilder { refs: RemoteRefs::none(format), late: BTreeMap::new(), count: 0, names_bytes: 0 }
    }

    /// Adds a ref or `HEAD` with its object (`None` if unborn) and its target (`None` if not symbolic).
    fn add(&mut self, name: &[u8], id: Option<ObjectId>, target: Option<&[u8]>) -> Result<(), ProtocolError> {
        self.count += 1;
        bounded(self.count, MAX_REFS, "refs")?;
        self.names_bytes += name.len();
        bounded(self.names_bytes, MAX_NAMES_BYTES, "bytes of ref names")?;
        if id.is_some_and(|id| id.is_null()) {
            return Err(ProtocolError::unexpected("the object of a ref", name));
        }
        let target = target.and_then(|target| self.usable(target));
        if name == b"HEAD" {
            self.refs.head = target.map(RefValue::Symbolic).or(id.map(RefValue::Object));
            return Ok(());
        }
        let Some(name) = self.usable(name) else { return Ok(()) };
        if let Some(target) = target
            && self.refs.symbolic.len() < MAX_SYMBOLIC
        {
            self.refs.symbolic.insert(name.clone(), target);
        }
        let Some(id) = id else { return Ok(()) };
        if let Err(OutOfOrder { name }) = self.refs.refs.push(name, id.into()) {
            let known = self.refs.refs.find(name.as_bstr()).is_some();
            if id.kind() != self.refs.format || known || self.late.insert(name.clone(), Some(id.into())).is_some() {
                return Err(ProtocolError::unexpected("each ref once", &name));
            }
        }
        Ok(())
    }

    fn usable(&mut self, name: &[u8]) -> Option<RefName> {
        match RefName::new(name) {
            Ok(name) => Some(name),
            Err(_) => {
                if self.refs.unusable.len() < MAX_UNUSABLE {
                    self.refs.unusable.push(name[..name.len().min(MAX_REF_NAME_BYTES)].into());
                }
                None
            }
        }
    }

    fn finish(mut self) -> Result<RemoteRefs, ProtocolError> {
        if !self.late.is_empty() {
            let sorted = self.refs.refs.with_edits(self.late);
            self.refs.refs = sorted.map_err(|error| ProtocolError::unexpected("each ref once", &error.name))?;
        }
        Ok(self.refs)
    }
}

fn bounded(count: usize, limit: usize, what: &'static str) -> Result<(), ProtocolError> {
    if count > limit { Err(ProtocolError::TooMany { what, limit }) } else { Ok(()) }
}

/// Advertisement of version 0 or 1.
pub(super) struct Advertisement {
    pub capabilities: Capabilities,
    pub refs: RemoteRefs,
    /// `.have` objects: held by the server but not named by its refs.
    pub extra_haves: Vec<ObjectId>,
    /// Shallow commits of the server: their parents are missing.
    pub shallow: Vec<ObjectId>,
}

impl Advertisement {
    /// Reads an advertisement up to its flush packet. `first` is its first line; `None` if the flush packet came
    /// first.
    pub fn read(first: Option<&[u8]>, answer: &mut Answer<'_>, at: At<'_>) -> Result<Self, ClientError> {
        let protocol = |error| at.protocol(error);
        let (line, capabilities) =
            first.and_then(|line| line.split_once_str("\0")).unwrap_or((first.unwrap_or_default(), b""));
        let capabilities = Capabilities::from_words(capabilities).map_err(protocol)?;
        let format = capabilities.format().map_err(|name| at.unknown_format(name.as_ref()))?;
        let mut lines = AdvertisementLines::new(format);
        if first.is_some() {
            lines.add(line, &capabilities).map_err(protocol)?;
            loop {
                match answer.line("the end of the refs")? {
                    Line::Text(line) => lines.add(line, &capabilities).map_err(protocol)?,
                    Line::Flush => break,
                    Line::Delimiter => return Err(protocol(ProtocolError::unexpected("a ref", b"delimiter"))),
                }
            }
        }
        let AdvertisementLines { refs, extra_haves, shallow, .. } = lines;
        Ok(Advertisement { capabilities, refs: refs.finish().map_err(protocol)?, extra_haves, shallow })
    }
}

struct AdvertisementLines {
    refs: RefsBuilder,
    extra_haves: Vec<ObjectId>,
    shallow: Vec<ObjectId>,
    /// Number of lines that describe no ref.
    others: usize,
}

impl AdvertisementLines {
    fn new(format: Format) -> Self {
        AdvertisementLines { refs: RefsBuilder::new(format), extra_haves: Vec::new(), shallow: Vec::new(), others: 0 }
    }

    fn add(&mut self, line: &[u8], capabilities: &Capabilities) -> Result<(), ProtocolError> {
        let format = self.refs.refs.format;
        if let Some(id) = line.strip_prefix(b"shallow ") {
            let id = parse_id(id, format)?;
            bounded(self.shallow.len() + 1, MAX_EXTRA, "shallow commits")?;
            self.shallow.push(id);
            return Ok(());
        }
        let (id, name) = line.split_once_str(" ").ok_or_else(|| ProtocolError::unexpected("<id> <ref>", line))?;
        let id = parse_id(id, format)?;
        if name != b".have" && !name.ends_with(b"^{}") {
            let target = capabilities.symbolic_target("HEAD").filter(|_| name == b"HEAD");
            return self.refs.add(name, Some(id), target.map(|target| target.as_bytes()));
        }
        self.others += 1;
        bounded(self.others, MAX_OTHER_LINES, "lines without a ref")?;
        // `.have` lines only save transfer: a subset is enough.
        if name == b".have" && self.extra_haves.len() < MAX_EXTRA {
            self.extra_haves.push(id);
        }
        Ok(())
    }
}

/// Reads the answer to `ls-refs` and keeps the refs that match `request`.
pub(super) fn read_ls_refs(
    answer: &mut Answer<'_>,
    format: Format,
    request: &LsRefs,
    at: At<'_>,
) -> Result<RemoteRefs, ClientError> {
    let mut refs = RefsBuilder::new(format);
    loop {
        match answer.line("the end of the refs")? {
            Line::Text(line) => add_ls_refs(line, request, &mut refs).map_err(|error| at.protocol(error))?,
            Line::Flush => return refs.finish().map_err(|error| at.protocol(error)),
            Line::Delimiter => return Err(at.protocol(ProtocolError::unexpected("a ref", b"delimiter"))),
        }
    }
}

/// Parses `(<id> | unborn) <name> [symref-target:<target>] [peeled:<id>]…`.
fn add_ls_refs(line: &[u8], request: &LsRefs, refs: &mut RefsBuilder) -> Result<(), ProtocolError> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(id), Some(name)) = (words.next(), words.next()) else {
        return Err(ProtocolError::unexpected("<id> <ref>", line));
    };
    let id = if id == b"unborn" { None } else { Some(parse_id(id, refs.refs.format)?) };
    let target = words.find_map(|word| word.strip_prefix(b"symref-target:"));
    // A server may list refs beyond the requested prefixes.
    if request.includes(name.into()) { refs.add(name, id, target) } else { Ok(()) }
}
