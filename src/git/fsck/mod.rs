//! Object checks of `git fsck`: malformed objects, and names that are dangerous to check out. Errors refuse a push.
//!
//! Message names, default severities and rules are those of Git (fsck-msgids in git-fsck(1), `fsck.c`). As with
//! `receive.fsckObjects`, Git's warnings count as errors and its infos as warnings.
//!
//! [`Checker`] picks the check of each object ([`commit`], [`tree`], [`modules`], [`attributes`]), weighs what the check
//! finds by the [`rules`] and collects it in a [`report`].

mod attributes;
mod commit;
mod config;
mod message;
mod modules;
mod names;
mod report;
mod rules;
mod tree;

use std::collections::HashSet;

use gix::ObjectId;
use gix::bstr::BStr;
use gix::objs::Kind;

pub use message::{Message, Severity};
pub use names::is_dot_git;
pub use report::{Finding, MAX_CULPRIT_BYTES, MAX_FINDINGS, Report};
pub use rules::Rules;

/// Size limit of a `.gitmodules` or `.gitattributes` in bytes: Git's `ATTR_MAX_FILE_SIZE`.
pub const MAX_SPECIAL_BYTES: u64 = 100 * 1024 * 1024;

/// Checks objects; collects findings, and the blobs that trees name `.gitmodules` or `.gitattributes`. Use one checker
/// per thread, combine them with [`Checker::merge`], then call [`Checker::finish`].
#[derive(Debug)]
pub struct Checker<'a> {
    rules: &'a Rules,
    format: gix::hash::Kind,
    modules: HashSet<ObjectId>,
    attributes: HashSet<ObjectId>,
    report: Report,
}

/// Checks the content of a blob. Reports each defect with the offending name or value, if there is one.
type CheckContent = fn(&[u8], &mut dyn FnMut(Message, Option<&BStr>));

/// Checks of the blobs that trees name `.gitmodules` or `.gitattributes`.
struct SpecialFile {
    missing: Message,
    other_kind: Message,
    too_large: Message,
    check: CheckContent,
}

const MODULES: SpecialFile = SpecialFile {
    missing: Message::GitmodulesMissing,
    other_kind: Message::GitmodulesBlob,
    too_large: Message::GitmodulesLarge,
    check: modules::check,
};

const ATTRIBUTES: SpecialFile = SpecialFile {
    missing: Message::GitattributesMissing,
    other_kind: Message::GitattributesBlob,
    too_large: Message::GitattributesLarge,
    check: attributes::check,
};

impl<'a> Checker<'a> {
    /// Creates a checker that applies the rules of a repository.
    pub fn new(rules: &'a Rules, format: gix::hash::Kind) -> Self {
        Checker { rules, format, modules: HashSet::new(), attributes: HashSet::new(), report: Report::default() }
    }

    /// Checks an object. Blobs are left to [`Checker::finish`], which knows the names they have in trees.
    pub fn object(&mut self, id: ObjectId, kind: Kind, data: &[u8]) {
        if self.rules.skips(&id) {
            return;
        }
        let Checker { rules, format, modules, attributes, report } = self;
        let mut report =
            |message| report.add(Finding { id, kind, message, severity: rules.severity(message), culprit: None });
        match kind {
            Kind::Commit => commit::check_commit(data, *format, &mut report),
            Kind::Tag => commit::check_tag(data, *format, &mut report),
            Kind::Tree => tree::check(data, *format, &mut |message| _ = report(message), |name, id| match name {
                tree::Special::Modules => drop(modules.insert(id)),
                tree::Special::Attributes => drop(attributes.insert(id)),
            }),
            Kind::Blob => {}
        }
    }

    /// Adds the findings and blobs of another checker.
    pub fn merge(&mut self, other: &Checker<'_>) {
        self.modules.extend(&other.modules);
        self.attributes.extend(&other.attributes);
        self.report.merge(&other.report);
    }

    /// Number of errors found so far.
    pub fn errors(&self) -> u64 {
        self.report.errors
    }

    /// Returns the findings so far, without checking any blobs.
    pub fn into_report(self) -> Report {
        self.report
    }

    /// Checks the blobs that trees name `.gitmodules` or `.gitattributes`.
    ///
    /// `read` returns the kind of an object and, for blobs of up to [`MAX_SPECIAL_BYTES`], its data; `None` if the
    /// object is missing. Held objects must be found, too: a new tree may give one of them such a name for the first
    /// time.
    pub fn finish<E>(
        mut self,
        mut read: impl FnMut(&ObjectId) -> Result<Option<(Kind, Option<Vec<u8>>)>, E>,
    ) -> Result<Report, E> {
        let modules = std::mem::take(&mut self.modules);
        let attributes = std::mem::take(&mut self.attributes);
        self.check_blobs(&MODULES, modules, &mut read)?;
        self.check_blobs(&ATTRIBUTES, attributes, &mut read)?;
        Ok(self.report)
    }

    /// Checks blobs of one name, in the order of their ids.
    fn check_blobs<E>(
        &mut self,
        file: &SpecialFile,
        ids: HashSet<ObjectId>,
        read: &mut impl FnMut(&ObjectId) -> Result<Option<(Kind, Option<Vec<u8>>)>, E>,
    ) -> Result<(), E> {
        let mut ids: Vec<ObjectId> = ids.into_iter().filter(|id| !self.rules.skips(id)).collect();
        ids.sort_unstable();
        for id in ids {
            match read(&id)? {
                None => self.add(id, Kind::Blob, file.missing, None),
                Some((Kind::Blob, None)) => self.add(id, Kind::Blob, file.too_large, None),
                Some((Kind::Blob, Some(data))) => {
                    (file.check)(&data, &mut |message, culprit| self.add(id, Kind::Blob, message, culprit));
                }
                Some((kind, _)) => self.add(id, kind, file.other_kind, None),
            }
        }
        Ok(())
    }

    fn add(&mut self, id: ObjectId, kind: Kind, message: Message, culprit: Option<&BStr>) {
        let severity = self.rules.severity(message);
        let culprit = culprit.map(|culprit| culprit[..culprit.len().min(MAX_CULPRIT_BYTES)].into());
        self.report.add(Finding { id, kind, message, severity, culprit });
    }
}
