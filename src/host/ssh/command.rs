//! The command of an `exec` request. Pure; no shell takes part.

use gitferry_git::refname::{NameError, check_repository_name};

use crate::auth::Access;
use crate::lfs::LfsOperation;

/// Longest command, in bytes.
const MAX_COMMAND_BYTES: usize = 4096;
/// Prefix of the paths of repositories, as in AWS CodeCommit.
const PREFIX: &str = "v1/repos/";

/// A command that the host serves, with the name of its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `git-upload-pack PATH`: a fetch or clone.
    UploadPack(String),
    /// `git-receive-pack PATH`: a push.
    ReceivePack(String),
    /// `git-lfs-authenticate PATH download|upload`.
    LfsAuthenticate(String, LfsOperation),
    /// `git-lfs-transfer PATH download|upload`.
    LfsTransfer(String, LfsOperation),
}

/// Reason why a command is not served. The texts are for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The text is no list of words.
    #[error("the command cannot be read: {0}")]
    Malformed(&'static str),
    /// The command is none of Git's.
    #[error("only commands of Git and Git LFS are served here, such as git-upload-pack and git-receive-pack")]
    Unknown,
    /// `git archive --remote`.
    #[error("git archive --remote is not served here; clone the repository with --depth 1")]
    Archive,
    /// The command has too many or too few words, or a wrong one.
    #[error("{0}")]
    Usage(&'static str),
    /// The path holds a name that no repository can have.
    #[error("{0}")]
    Name(NameError),
}

impl Command {
    /// Parses the command of an `exec` request.
    ///
    /// # Errors
    /// The command is not served; the reason is for the client.
    pub fn parse(command: &[u8]) -> Result<Command, CommandError> {
        if command.len() > MAX_COMMAND_BYTES {
            return Err(CommandError::Malformed("it is longer than 4096 bytes"));
        }
        let text = std::str::from_utf8(command).map_err(|_| CommandError::Malformed("it is not UTF-8"))?;
        let words = words(text).map_err(CommandError::Malformed)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            // As of clients that are told `git` as the path of the program.
            ["git", command, rest @ ..] => parse_words(&format!("git-{command}"), rest),
            [command, rest @ ..] => parse_words(command, rest),
            [] => Err(CommandError::Unknown),
        }
    }

    /// Name of the repository.
    pub fn repository(&self) -> &str {
        match self {
            Command::UploadPack(name)
            | Command::ReceivePack(name)
            | Command::LfsAuthenticate(name, _)
            | Command::LfsTransfer(name, _) => name,
        }
    }

    /// Access that the command needs.
    pub fn access(&self) -> Access {
        match self {
            Command::UploadPack(_) => Access::Read,
            Command::ReceivePack(_) => Access::Write,
            Command::LfsAuthenticate(_, operation) | Command::LfsTransfer(_, operation) => operation.access(),
        }
    }
}

fn parse_words(command: &str, arguments: &[&str]) -> Result<Command, CommandError> {
    match (command, arguments) {
        ("git-upload-pack", [path]) => Ok(Command::UploadPack(repository(path)?)),
        ("git-receive-pack", [path]) => Ok(Command::ReceivePack(repository(path)?)),
        ("git-lfs-authenticate", [path, operation]) => {
            Ok(Command::LfsAuthenticate(repository(path)?, lfs_operation(operation)?))
        }
        ("git-lfs-transfer", [path, operation]) => {
            Ok(Command::LfsTransfer(repository(path)?, lfs_operation(operation)?))
        }
        ("git-upload-pack" | "git-receive-pack", _) => {
            Err(CommandError::Usage("the command takes one argument, the path of the repository"))
        }
        ("git-lfs-authenticate" | "git-lfs-transfer", _) => {
            Err(CommandError::Usage("the command takes the path of the repository and an operation"))
        }
        ("git-upload-archive", _) => Err(CommandError::Archive),
        _ => Err(CommandError::Unknown),
    }
}

fn lfs_operation(operation: &str) -> Result<LfsOperation, CommandError> {
    match operation {
        "download" => Ok(LfsOperation::Download),
        "upload" => Ok(LfsOperation::Upload),
        _ => Err(CommandError::Usage("the operation of Git LFS is `download` or `upload`")),
    }
}

/// The name of the repository with this path: `NAME`, `/NAME` or `/v1/repos/NAME`, with or without `.git`.
fn repository(path: &str) -> Result<String, CommandError> {
    let name = path.strip_prefix('/').unwrap_or(path);
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let name = name.strip_suffix(".git").unwrap_or(name);
    check_repository_name(name).map_err(CommandError::Name)?;
    Ok(name.to_owned())
}

/// Splits a command into words as far as Git and JGit quote them: single quotes, and a backslash before one character
/// outside of them.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            ' ' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some('\'') => break,
                        Some(quoted) => word.push(quoted),
                        None => return Err("a quote is not closed"),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(rest.next().ok_or("it ends in a backslash")?),
            plain if plain.is_ascii_alphanumeric() || "._/-~@:+=,".contains(plain) => {
                word.get_or_insert_default().push(plain);
            }
            _ => return Err("it has characters that only a shell would read"),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(command: &str) -> Result<Command, CommandError> {
        Command::parse(command.as_bytes())
    }

    #[test]
    fn every_spelling_of_real_clients_leads_to_the_repository() {
        let fetch = Command::UploadPack("team/app".into());
        for command in [
            "git-upload-pack '/team/app'",
            "git-upload-pack 'team/app'",
            "git-upload-pack '/team/app.git'",
            "git-upload-pack '/v1/repos/team/app'",
            "git-upload-pack 'v1/repos/team/app.git'",
            "git-upload-pack /v1/repos/team/app",
            "git upload-pack '/team/app'",
            "git-upload-pack  team/app",
            "git-upload-pack '/team'\\/'app'",
            "'git-upload-pack' 'team/app'",
        ] {
            assert_eq!(parse(command), Ok(fetch.clone()), "{command}");
        }
        assert_eq!(parse("git-receive-pack '/app'"), Ok(Command::ReceivePack("app".into())));
        assert_eq!(parse("git receive-pack 'app'"), Ok(Command::ReceivePack("app".into())));
        let lfs = |operation| Ok(Command::LfsAuthenticate("team/app".into(), operation));
        assert_eq!(parse("git-lfs-authenticate /team/app.git download"), lfs(LfsOperation::Download));
        assert_eq!(parse("git-lfs-authenticate 'team/app' 'upload'"), lfs(LfsOperation::Upload));
        let transfer = Command::LfsTransfer("team/app".into(), LfsOperation::Upload);
        assert_eq!(parse("git-lfs-transfer /team/app upload"), Ok(transfer));
    }

    #[test]
    fn everything_else_is_refused() {
        let malformed = |command: &str| matches!(parse(command), Err(CommandError::Malformed(_)));
        for command in [
            "git-upload-pack '/app",
            "git-upload-pack app\\",
            "git-upload-pack app; id",
            "git-upload-pack `id`",
            "git-upload-pack $(id)",
            "git-upload-pack app | id",
            "git-upload-pack app\nid",
            "git-upload-pack \"app\"",
            "git-upload-pack app\tx",
            "git-upload-pack app > x",
            "git-upload-pack ä",
        ] {
            assert!(malformed(command), "{command:?}: {:?}", parse(command));
        }
        assert!(malformed(&format!("git-upload-pack {}", "a".repeat(5000))));
        assert!(matches!(Command::parse(b"git-upload-pack \xff"), Err(CommandError::Malformed(_))));
        for command in ["", "ls", "sh -c id", "git", "git status", "scp -f x", "git-shell", "GIT-UPLOAD-PACK 'a'"] {
            assert_eq!(parse(command), Err(CommandError::Unknown), "{command}");
        }
        for command in [
            "git-upload-pack",
            "git-upload-pack a b",
            "git-upload-pack --strict a",
            "git-receive-pack 'a' 'b'",
            "git-lfs-authenticate a",
            "git-lfs-authenticate a b",
            "git-lfs-authenticate a upload c",
        ] {
            assert!(matches!(parse(command), Err(CommandError::Usage(_))), "{command}");
        }
        for command in [
            "git-upload-pack ''",
            "git-upload-pack '/'",
            "git-upload-pack '../app'",
            "git-upload-pack '//app'",
            "git-upload-pack '/v1/repos/'",
            "git-upload-pack --upload-pack",
            "git-upload-pack '/a'\\''b'",
            "git-upload-pack '~/app'",
            "git-upload-pack 'a b'",
            "git-upload-pack '$(id)'",
        ] {
            assert!(matches!(parse(command), Err(CommandError::Name(_))), "{command}: {:?}", parse(command));
        }
        assert_eq!(parse("git-upload-archive 'app'"), Err(CommandError::Archive));
        assert_eq!(parse("git upload-archive 'app'"), Err(CommandError::Archive));
        assert!(matches!(parse("git-lfs-transfer app lock"), Err(CommandError::Usage(_))));
    }

    proptest::proptest! {
        /// Names that Git quotes come back as they were, and no input panics.
        #[test]
        fn quoting_as_git_does_is_undone(word in "\\PC{0,40}", any in proptest::collection::vec(0u8.., 0..60)) {
            let quoted = word.replace('\'', "'\\''").replace('!', "'\\!'");
            assert_eq!(words(&format!("'{quoted}' x")), Ok(vec![word, "x".to_owned()]));
            let _ = Command::parse(&any);
        }
    }
}
