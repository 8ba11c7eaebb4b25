//! Account ids and ARNs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Id of an account: twelve digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId([u8; 12]);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Account of twelve random digits.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn fresh(random: &dyn crate::random::Random) -> Result<Self, crate::random::NoRandomness> {
        let bytes = crate::random::bytes::<8>(random)?;
        let number = 100_000_000_000 + u64::from_le_bytes(bytes) % 900_000_000_000;
        let mut digits = [b'0'; 12];
        digits.copy_from_slice(number.to_string().as_bytes());
        Ok(AccountId(digits))
    }

    /// ARN of the account, which stands for all its principals in policies: `arn:aws:iam::ACCOUNT:root`.
    pub fn root_arn(&self) -> String {
        format!("arn:aws:iam::{self}:root")
    }

    /// ARN of an IAM entity: `kind` is `user`, `group`, `role` or `policy`, `path` has its slashes.
    pub fn iam_arn(&self, kind: &str, path: &str, name: &str) -> String {
        format!("arn:aws:iam::{self}:{kind}{path}{name}")
    }
}

impl FromStr for AccountId {
    type Err = NotAnAccount;

    fn from_str(text: &str) -> Result<Self, NotAnAccount> {
        let digits: [u8; 12] = text.as_bytes().try_into().map_err(|_| NotAnAccount)?;
        if digits.iter().all(u8::is_ascii_digit) { Ok(AccountId(digits)) } else { Err(NotAnAccount) }
    }
}

/// The text is not the id of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of an account has twelve digits")]
pub struct NotAnAccount;

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AccountId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for AccountId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// ARN of an IAM entity in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IamArn<'a> {
    /// Account, or `aws` for the managed policies of AWS.
    pub account: &'a str,
    /// `user`, `group`, `role`, `policy`, …
    pub kind: &'a str,
    /// Path, with its slashes.
    pub path: &'a str,
    /// Name of the entity.
    pub name: &'a str,
}

impl<'a> IamArn<'a> {
    /// Parts of an ARN; `None` if the text is not the ARN of an IAM entity.
    pub fn parse(arn: &'a str) -> Option<Self> {
        let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
        let (kind, rest) = resource.split_at(resource.find('/')?);
        let (path, name) = rest.split_at(rest.rfind('/')? + 1);
        (!name.is_empty()).then_some(IamArn { account, kind, path, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_come_apart_and_together() {
        let account: AccountId = "111122223333".parse().unwrap();
        let arn = account.iam_arn("user", "/team/a/", "jane");
        assert_eq!(arn, "arn:aws:iam::111122223333:user/team/a/jane");
        let parts = IamArn { account: "111122223333", kind: "user", path: "/team/a/", name: "jane" };
        assert_eq!(IamArn::parse(&arn), Some(parts));
        for text in ["", "arn:aws:iam::1:root", "arn:aws:s3:::b/x", "arn:aws:iam::1:user/", "arn:aws:iam::1:user"] {
            assert_eq!(IamArn::parse(text), None, "{text}");
        }
        for text in ["", "11112222333", "1111222233334", "11112222333a"] {
            assert_eq!(text.parse::<AccountId>(), Err(NotAnAccount));
        }
    }
}
