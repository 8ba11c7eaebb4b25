//! Object checks of `git fsck`: malformed objects, and names that are dangerous to check out. Errors refuse a push.
//!
//! Message names, default severities and rules are those of Git (fsck-msgids in git-fsck(1), `fsck.c`). As with
//! `receive.fsckObjects`, Git's warnings count as errors and its infos as warnings.

mod attributes;
mod commit;
mod config;
mod modules;
mod names;
mod tree;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use gix::objs::Kind;

use gitferry_base::printable::Printable;

/// Most findings kept per push; errors past this limit are only counted.
pub const MAX_FINDINGS: usize = 100;
/// Most bytes of an offending name or value kept in a finding.
pub const MAX_CULPRIT_BYTES: usize = 200;
/// Size limit of a `.gitmodules` or `.gitattributes` in bytes: Git's `ATTR_MAX_FILE_SIZE`.
pub const MAX_SPECIAL_BYTES: u64 = 100 * 1024 * 1024;

/// Consequence of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not reported.
    Ignore,
    /// Reported, without effect on the push.
    Warn,
    /// Refuses the push.
    Error,
}

impl FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "ignore" => Ok(Severity::Ignore),
            "warn" => Ok(Severity::Warn),
            "error" => Ok(Severity::Error),
            _ => Err(format!("`{text}` is not a severity: ignore, warn or error")),
        }
    }
}

macro_rules! messages {
    ($($name:ident $text:literal $severity:ident $fatal:literal $doc:literal,)*) => {
        /// Defects of an object, named as in Git.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Message {
            $(#[doc = $doc] $name,)*
        }

        impl Message {
            /// Every message, in order of declaration.
            pub const ALL: &'static [Message] = &[$(Message::$name,)*];

            /// Returns the name that Git uses, as in `receive.fsck.<name>`.
            pub fn name(self) -> &'static str {
                match self { $(Message::$name => $text,)* }
            }

            /// Returns the severity that applies unless [`Rules`] override it.
            pub fn default_severity(self) -> Severity {
                match self { $(Message::$name => Severity::$severity,)* }
            }

            /// Returns true if [`Rules`] cannot lower the severity.
            pub fn is_fatal(self) -> bool {
                match self { $(Message::$name => $fatal,)* }
            }

            /// Returns a description in the words of Git.
            pub fn text(self) -> &'static str {
                match self { $(Message::$name => $doc,)* }
            }
        }
    };
}

messages! {
    NulInHeader "nulInHeader" Error true "unterminated header: it has a NUL byte",
    UnterminatedHeader "unterminatedHeader" Error true "unterminated header",
    BadDate "badDate" Error false "invalid author/committer line - bad date",
    BadDateOverflow "badDateOverflow" Error false "invalid author/committer line - date causes integer overflow",
    BadEmail "badEmail" Error false "invalid author/committer line - bad email",
    BadGpgsig "badGpgsig" Error false "invalid format - unexpected end after a signature line",
    BadHeaderContinuation "badHeaderContinuation" Error false "invalid format - unexpected end in a continuation line",
    BadName "badName" Error false "invalid author/committer line - bad name",
    BadObjectSha1 "badObjectSha1" Error false "invalid 'object' line format - bad id",
    BadParentSha1 "badParentSha1" Error false "invalid 'parent' line format - bad id",
    BadTimezone "badTimezone" Error false "invalid author/committer line - bad time zone",
    BadTree "badTree" Error false "cannot be parsed as a tree",
    BadTreeSha1 "badTreeSha1" Error false "invalid 'tree' line format - bad id",
    BadType "badType" Error false "invalid 'type' value",
    DuplicateEntries "duplicateEntries" Error false "contains duplicate file entries",
    GitattributesBlob "gitattributesBlob" Error false "non-blob found at .gitattributes",
    GitattributesLarge "gitattributesLarge" Error false ".gitattributes too large to parse",
    GitattributesLineLength "gitattributesLineLength" Error false ".gitattributes has too long lines to parse",
    GitmodulesBlob "gitmodulesBlob" Error false "non-blob found at .gitmodules",
    GitmodulesLarge "gitmodulesLarge" Error false ".gitmodules too large to parse",
    GitattributesMissing "gitattributesMissing" Error false "unable to read .gitattributes blob",
    GitmodulesMissing "gitmodulesMissing" Error false "unable to read .gitmodules blob",
    GitmodulesName "gitmodulesName" Error false "disallowed submodule name",
    GitmodulesPath "gitmodulesPath" Error false "disallowed submodule path",
    GitmodulesSymlink "gitmodulesSymlink" Error false ".gitmodules is a symbolic link",
    GitmodulesUpdate "gitmodulesUpdate" Error false "disallowed submodule update setting",
    GitmodulesUrl "gitmodulesUrl" Error false "disallowed submodule url",
    MissingAuthor "missingAuthor" Error false "invalid format - expected 'author' line",
    MissingCommitter "missingCommitter" Error false "invalid format - expected 'committer' line",
    MissingEmail "missingEmail" Error false "invalid author/committer line - missing email",
    MissingNameBeforeEmail "missingNameBeforeEmail" Error false "invalid author/committer line - missing name before email",
    MissingObject "missingObject" Error false "invalid format - expected 'object' line",
    MissingSpaceBeforeDate "missingSpaceBeforeDate" Error false "invalid author/committer line - missing space before date",
    MissingSpaceBeforeEmail "missingSpaceBeforeEmail" Error false "invalid author/committer line - missing space before email",
    MissingTag "missingTag" Error false "invalid format - unexpected end after 'tag' line",
    MissingTagEntry "missingTagEntry" Error false "invalid format - expected 'tag' line",
    MissingTree "missingTree" Error false "invalid format - expected 'tree' line",
    MissingType "missingType" Error false "invalid format - unexpected end after 'type' line",
    MissingTypeEntry "missingTypeEntry" Error false "invalid format - expected 'type' line",
    MultipleAuthors "multipleAuthors" Error false "invalid format - multiple 'author' lines",
    TreeNotSorted "treeNotSorted" Error false "not properly sorted",
    ZeroPaddedDate "zeroPaddedDate" Error false "invalid author/committer line - zero-padded date",
    EmptyName "emptyName" Error false "contains empty pathname",
    FullPathname "fullPathname" Error false "contains full pathnames",
    HasDot "hasDot" Error false "contains '.'",
    HasDotdot "hasDotdot" Error false "contains '..'",
    HasDotgit "hasDotgit" Error false "contains '.git'",
    LargePathname "largePathname" Error false "contains excessively large pathname",
    NullSha1 "nullSha1" Error false "contains entries pointing to null sha1",
    NulInCommit "nulInCommit" Error false "NUL byte in the commit object body",
    ZeroPaddedFilemode "zeroPaddedFilemode" Error false "contains zero-padded file modes",
    BadFilemode "badFilemode" Warn false "contains bad file modes",
    BadTagName "badTagName" Warn false "invalid 'tag' name",
    GitattributesSymlink "gitattributesSymlink" Warn false ".gitattributes is a symlink",
    GitignoreSymlink "gitignoreSymlink" Warn false ".gitignore is a symlink",
    GitmodulesParse "gitmodulesParse" Warn false "could not parse gitmodules blob",
    MailmapSymlink "mailmapSymlink" Warn false ".mailmap is a symlink",
    MissingTaggerEntry "missingTaggerEntry" Warn false "invalid format - expected 'tagger' line",
    ExtraHeaderEntry "extraHeaderEntry" Ignore false "invalid format - extra header(s) after 'tagger'",
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Message {
    type Err = String;

    /// Ignores case, as Git's configuration does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Message::ALL.iter().find(|message| message.name().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| format!("`{text}` is not a message of git fsck"))
    }
}

/// Severity overrides and skipped objects of a repository (`receive.fsck.*`).
#[derive(Clone, Debug, Default)]
pub struct Rules {
    severities: BTreeMap<Message, Severity>,
    skip: HashSet<ObjectId>,
}

impl Rules {
    /// Overrides the severity of a message.
    ///
    /// # Errors
    /// Fatal messages stay errors (Git: "Cannot demote").
    pub fn set(&mut self, message: Message, severity: Severity) -> Result<(), String> {
        if message.is_fatal() && severity != Severity::Error {
            return Err(format!("{message} cannot be let through"));
        }
        self.severities.insert(message, severity);
        Ok(())
    }

    /// Exempts an object from all checks (`fsck.skipList`).
    pub fn skip(&mut self, id: ObjectId) {
        self.skip.insert(id);
    }

    /// Returns the severity of a message.
    pub fn severity(&self, message: Message) -> Severity {
        self.severities.get(&message).copied().unwrap_or_else(|| message.default_severity())
    }

    /// Returns true if an object is exempt from all checks.
    pub fn skips(&self, id: &ObjectId) -> bool {
        self.skip.contains(id)
    }
}

/// Defect found in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Id of the defective object.
    pub id: ObjectId,
    /// Kind of the defective object.
    pub kind: Kind,
    /// Kind of defect.
    pub message: Message,
    /// Severity by the rules of the repository.
    pub severity: Severity,
    /// Offending name or value, truncated to [`MAX_CULPRIT_BYTES`]; `None` if the defect has none.
    pub culprit: Option<BString>,
}

/// Uses the wording of `git fsck`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}: {}: {}", self.id, self.message, self.message.text())?;
        match &self.culprit {
            Some(culprit) => write!(f, ": {}", Printable(culprit)),
            None => Ok(()),
        }
    }
}

/// Checks objects; collects findings, and the blobs that trees name `.gitmodules` or `.gitattributes`. Use one checker
/// per thread, combine them with [`Checker::merge`], then call [`Checker::finish`].
#[derive(Debug)]
pub struct Checker<'a> {
    rules: &'a Rules,
    format: gix::hash::Kind,
    modules: HashSet<ObjectId>,
    attributes: HashSet<ObjectId>,
    findings: Vec<Finding>,
    errors: u64,
}

impl<'a> Checker<'a> {
    /// Creates a checker that applies the rules of a repository.
    pub fn new(rules: &'a Rules, format: gix::hash::Kind) -> Self {
        Checker { rules, format, modules: HashSet::new(), attributes: HashSet::new(), findings: Vec::new(), errors: 0 }
    }

    /// Checks an object. Blobs are left to [`Checker::finish`], which knows the names they have in trees.
    pub fn object(&mut self, id: ObjectId, kind: Kind, data: &[u8]) {
        if self.rules.skips(&id) {
            return;
        }
        let Checker { rules, format, modules, attributes, findings, errors } = self;
        let mut report = |message| {
            record(findings, errors, Finding { id, kind, message, severity: rules.severity(message), culprit: None })
        };
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
        self.errors += other.errors;
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.iter().take(room).cloned());
    }

    /// Number of errors found so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Returns the findings so far, without checking any blobs.
    pub fn into_report(self) -> Report {
        Report { findings: self.findings, errors: self.errors }
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
        let mut modules: Vec<ObjectId> = self.modules.drain().collect();
        let mut attributes: Vec<ObjectId> = self.attributes.drain().collect();
        modules.sort_unstable();
        attributes.sort_unstable();
        for (ids, missing, blob, large, check) in [
            (
                modules,
                Message::GitmodulesMissing,
                Message::GitmodulesBlob,
                Message::GitmodulesLarge,
                modules::check as fn(&[u8], &mut dyn FnMut(Message, Option<&BStr>)),
            ),
            (
                attributes,
                Message::GitattributesMissing,
                Message::GitattributesBlob,
                Message::GitattributesLarge,
                attributes::check,
            ),
        ] {
            for id in ids.into_iter().filter(|id| !self.rules.skips(id)) {
                match read(&id)? {
                    None => self.report(id, Kind::Blob, missing, None),
                    Some((Kind::Blob, None)) => self.report(id, Kind::Blob, large, None),
                    Some((Kind::Blob, Some(data))) => {
                        check(&data, &mut |message, culprit| self.report(id, Kind::Blob, message, culprit));
                    }
                    Some((kind, _)) => self.report(id, kind, blob, None),
                }
            }
        }
        Ok(Report { findings: self.findings, errors: self.errors })
    }

    fn report(&mut self, id: ObjectId, kind: Kind, message: Message, culprit: Option<&BStr>) {
        let severity = self.rules.severity(message);
        let culprit = culprit.map(|culprit| culprit[..culprit.len().min(MAX_CULPRIT_BYTES)].into());
        record(&mut self.findings, &mut self.errors, Finding { id, kind, message, severity, culprit });
    }
}

/// Records a finding. Returns true unless it is an error.
fn record(findings: &mut Vec<Finding>, errors: &mut u64, finding: Finding) -> bool {
    let error = finding.severity == Severity::Error;
    *errors += u64::from(error);
    if finding.severity != Severity::Ignore && findings.len() < MAX_FINDINGS {
        findings.push(finding);
    }
    !error
}

/// Findings in all objects of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// First findings, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of errors among all findings.
    pub errors: u64,
}
