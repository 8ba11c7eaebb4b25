//! The checks that `git fsck` makes on single objects: what is well formed, and what is dangerous to check
//! out. A push is refused for what they find.
//!
//! Message names, default severities and rules are those of Git (fsck-msgids in git-fsck(1), `fsck.c`); as
//! for `receive.fsckObjects`, warnings count as errors and infos are let through.

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

/// Most findings that are kept of one push.
pub const MAX_FINDINGS: usize = 100;
/// Longest part of a name or value that is shown.
pub const MAX_CULPRIT_BYTES: usize = 200;
/// Largest `.gitmodules` or `.gitattributes` that is looked into (Git's `ATTR_MAX_FILE_SIZE`).
pub const MAX_SPECIAL_BYTES: u64 = 100 * 1024 * 1024;

/// What becomes of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Not reported.
    Ignore,
    /// Reported, the push goes on.
    Warn,
    /// The push is refused.
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
        /// Everything that can be wrong with an object.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Message {
            $(#[doc = $doc] $name,)*
        }

        impl Message {
            /// All of them.
            pub const ALL: &'static [Message] = &[$(Message::$name,)*];

            /// Git's name for it, as in `receive.fsck.<name>`.
            pub fn name(self) -> &'static str {
                match self { $(Message::$name => $text,)* }
            }

            /// What becomes of it unless a repository says otherwise.
            pub fn default_severity(self) -> Severity {
                match self { $(Message::$name => Severity::$severity,)* }
            }

            /// Whether no repository may let it through.
            pub fn is_fatal(self) -> bool {
                match self { $(Message::$name => $fatal,)* }
            }

            /// What it means.
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

    /// Case does not matter, as in Git's configuration.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Message::ALL.iter().find(|message| message.name().eq_ignore_ascii_case(text));
        found.copied().ok_or_else(|| format!("`{text}` is not a message of git fsck"))
    }
}

/// Which findings a repository lets through.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    severities: BTreeMap<Message, Severity>,
    skip: HashSet<ObjectId>,
}

impl Rules {
    /// Changes what becomes of a finding.
    ///
    /// # Errors
    /// The fatal ones stay errors (as in Git: "Cannot demote").
    pub fn set(&mut self, message: Message, severity: Severity) -> Result<(), String> {
        if message.is_fatal() && severity != Severity::Error {
            return Err(format!("{message} cannot be let through"));
        }
        self.severities.insert(message, severity);
        Ok(())
    }

    /// Does not check an object (`fsck.skipList`).
    pub fn skip(&mut self, id: ObjectId) {
        self.skip.insert(id);
    }

    /// What becomes of a finding.
    pub fn severity(&self, message: Message) -> Severity {
        self.severities.get(&message).copied().unwrap_or_else(|| message.default_severity())
    }

    /// Whether an object is not checked.
    pub fn skips(&self, id: &ObjectId) -> bool {
        self.skip.contains(id)
    }
}

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub kind: Kind,
    /// What is wrong.
    pub message: Message,
    /// What becomes of it.
    pub severity: Severity,
    /// The name or value in it that is to blame, where one is; at most [`MAX_CULPRIT_BYTES`].
    pub culprit: Option<BString>,
}

/// Worded as Git's `fsck` does.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}: {}: {}", self.id, self.message, self.message.text())?;
        match &self.culprit {
            Some(culprit) => write!(f, ": {}", Printable(culprit)),
            None => Ok(()),
        }
    }
}

/// What trees say about blobs that Git itself reads, and what has been found so far. One for each thread;
/// [`Checker::merge`] brings them together before [`Checker::finish`].
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
    /// A checker by a repository's rules.
    pub fn new(rules: &'a Rules, format: gix::hash::Kind) -> Self {
        Checker { rules, format, modules: HashSet::new(), attributes: HashSet::new(), findings: Vec::new(), errors: 0 }
    }

    /// Checks an object. Blobs are checked by [`Checker::finish`], when it is known which of them matter.
    pub fn object(&mut self, id: ObjectId, kind: Kind, data: &[u8]) {
        if self.rules.skips(&id) {
            return;
        }
        let Checker { rules, format, modules, attributes, findings, errors } = self;
        let mut report = |message| {
            take(findings, errors, Finding { id, kind, message, severity: rules.severity(message), culprit: None })
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

    /// Takes over what another checker found.
    pub fn merge(&mut self, other: &Checker<'_>) {
        self.modules.extend(&other.modules);
        self.attributes.extend(&other.attributes);
        self.errors += other.errors;
        let room = MAX_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(other.findings.iter().take(room).cloned());
    }

    /// How many errors have been found so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What has been found so far, without a look into blobs.
    pub fn into_report(self) -> Report {
        Report { findings: self.findings, errors: self.errors }
    }

    /// Checks the blobs that trees name `.gitmodules` and `.gitattributes`, as far as `read` has them: its
    /// answer is the kind of an object and, for blobs up to [`MAX_SPECIAL_BYTES`], the data. It has to know the
    /// objects that were there before, too: they may have had another name.
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
        take(&mut self.findings, &mut self.errors, Finding { id, kind, message, severity, culprit });
    }
}

/// Keeps a finding; says whether it is no error.
fn take(findings: &mut Vec<Finding>, errors: &mut u64, finding: Finding) -> bool {
    let error = finding.severity == Severity::Error;
    *errors += u64::from(error);
    if finding.severity != Severity::Ignore && findings.len() < MAX_FINDINGS {
        findings.push(finding);
    }
    !error
}

/// What was found in all objects of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The first findings, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many of all findings are errors.
    pub errors: u64,
}
