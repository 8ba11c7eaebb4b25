//! Messages of `git fsck`, with their names, default severities and texts (fsck-msgids in git-fsck(1), `fsck.c`).

use std::fmt;
use std::str::FromStr;

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

            /// Returns the severity that applies unless [`Rules`](super::Rules) override it.
            pub fn default_severity(self) -> Severity {
                match self { $(Message::$name => Severity::$severity,)* }
            }

            /// Returns true if [`Rules`](super::Rules) cannot lower the severity.
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
