//! Unique ids as AWS makes them: a prefix that tells the kind, then random letters of base32. An id is never given
//! again, so a role that is deleted and made anew has another one.
//!
//! Source: "IAM identifiers", section "Unique identifiers", in the IAM user guide.

use crate::random::{NoRandomness, Random, bytes};

/// Shortest and longest id of an SSH key in `GetSSHPublicKey` of the IAM API, in characters.
const MIN_SSH_KEY_ID: usize = 20;
const MAX_SSH_KEY_ID: usize = 128;

const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Kind of a unique id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// `AIDA…`, 21 characters.
    User,
    /// `AGPA…`, 21 characters.
    Group,
    /// `AROA…`, 21 characters.
    Role,
    /// `ANPA…`, 21 characters: a customer managed policy.
    Policy,
    /// `AKIA…`, 20 characters: a long-term access key.
    AccessKey,
    /// `ASIA…`, 20 characters: the access key of a session.
    TemporaryKey,
    /// `APKA…`, 21 characters: an SSH public key.
    SshKey,
    /// `ACCA…`, 21 characters: a service-specific credential.
    ServiceCredential,
}

impl IdKind {
    /// First four letters of every id of this kind.
    pub fn prefix(self) -> &'static str {
        match self {
            IdKind::User => "AIDA",
            IdKind::Group => "AGPA",
            IdKind::Role => "AROA",
            IdKind::Policy => "ANPA",
            IdKind::AccessKey => "AKIA",
            IdKind::TemporaryKey => "ASIA",
            IdKind::SshKey => "APKA",
            IdKind::ServiceCredential => "ACCA",
        }
    }

    fn length(self) -> usize {
        match self {
            IdKind::AccessKey | IdKind::TemporaryKey => 20,
            _ => 21,
        }
    }

    /// Fresh id, with 80 random bits or more.
    pub(crate) fn fresh(self, random: &dyn Random) -> Result<String, NoRandomness> {
        let mut id = self.prefix().to_owned();
        let letters = bytes::<17>(random)?;
        id.extend(letters[..self.length() - 4].iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])));
        Ok(id)
    }

    /// Returns true if `id` is an id of this kind. Ids of SSH keys may also be those of AWS, which have 20 characters and
    /// promise no more than letters, digits and `_`, up to [`MAX_SSH_KEY_ID`].
    pub fn is_kind_of(self, id: &str) -> bool {
        if self == IdKind::SshKey {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            return (MIN_SSH_KEY_ID..=MAX_SSH_KEY_ID).contains(&id.len()) && id.bytes().all(is_letter);
        }
        let letters = id.strip_prefix(self.prefix());
        id.len() == self.length() && letters.is_some_and(|rest| rest.bytes().all(|byte| LETTERS.contains(&byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_ssh_keys_are_those_that_aws_may_give() {
        // Of the IAM user guide, and as this module makes them.
        for id in ["APKAEIBAERJR2EXAMPLE", "APKAJJJJJJJJJJJJJJJJJ", "APKA0189_abcdefghijk"] {
            assert!(IdKind::SshKey.is_kind_of(id), "{id}");
        }
        let long = "A".repeat(MAX_SSH_KEY_ID + 1);
        for id in [
            "APKA",
            "APKAEIBAERJR2EXAMPL",
            "APKAEIBAERJR2EXAMPL/",
            "../../../../../../../x",
            "APKA JJJJJJJJJJJJJJJJ",
            &long,
        ] {
            assert!(!IdKind::SshKey.is_kind_of(id), "{id}");
        }
        assert!(!IdKind::User.is_kind_of("AIDAEIBAERJR2EXAMPL"));
    }
}
