//! Capabilities of a server: words after the first ref in versions 0 and 1, lines in version 2.

use gix::bstr::{BStr, BString, ByteSlice};
use gix::hash::Kind as Format;

use crate::protocol::ProtocolError;

/// Most capabilities that one server may advertise.
pub const MAX_CAPABILITIES: usize = 1000;
/// Most bytes of all capabilities together.
const MAX_CAPABILITIES_BYTES: usize = 1 << 20;

/// Capabilities that a server advertises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Names and the values after `=`, in the order of the advertisement.
    list: Vec<(BString, Option<BString>)>,
    bytes: usize,
}

impl Capabilities {
    /// Parses the capability list after the first ref of versions 0 and 1.
    pub fn from_words(words: &[u8]) -> Result<Self, ProtocolError> {
        let mut all = Capabilities::default();
        words.fields().try_for_each(|word| all.add(word))?;
        Ok(all)
    }

    /// Adds one word of versions 0 and 1, or one line of version 2.
    pub fn add(&mut self, word: &[u8]) -> Result<(), ProtocolError> {
        self.bytes += word.len();
        if self.list.len() >= MAX_CAPABILITIES || self.bytes > MAX_CAPABILITIES_BYTES {
            return Err(ProtocolError::TooMany { what: "capabilities", limit: MAX_CAPABILITIES });
        }
        self.list.push(match word.split_once_str("=") {
            Some((name, value)) => (name.into(), Some(value.into())),
            None => (word.into(), None),
        });
        Ok(())
    }

    /// Returns true if the server advertises a capability, with or without a value: `side-band-64k`, `no-thin`, …
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(known, _)| known == name)
    }

    /// First value of a capability.
    pub fn value(&self, name: &str) -> Option<&BStr> {
        self.values(name).next()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &BStr> {
        self.list
            .iter()
            .filter(move |(known, _)| known == name)
            .filter_map(|(_, value)| Some(value.as_ref()?.as_bstr()))
    }

    /// Returns true if a version 2 command has a feature.
    pub fn command_has(&self, command: &str, feature: &str) -> bool {
        self.values(command).any(|features| features.fields().any(|known| known == feature.as_bytes()))
    }

    /// Returns true if fetch has a feature in the server's protocol version: `filter`, `shallow`, …
    pub fn fetch_has(&self, feature: &str) -> bool {
        self.has(feature) || self.command_has("fetch", feature)
    }

    /// Object format of the server.
    ///
    /// # Errors
    /// The advertised name of a format other than SHA-1 and SHA-256.
    pub fn format(&self) -> Result<Format, BString> {
        match self.value("object-format") {
            None => Ok(Format::Sha1),
            Some(name) if name == "sha1" => Ok(Format::Sha1),
            Some(name) if name == "sha256" => Ok(Format::Sha256),
            Some(name) => Err(name.into()),
        }
    }

    /// Software and version of the server (`agent`).
    pub fn agent(&self) -> Option<&BStr> {
        self.value("agent")
    }

    /// Target of a symbolic ref (`symref=<name>:<target>`, versions 0 and 1).
    pub(super) fn symbolic_target(&self, name: &str) -> Option<&BStr> {
        let pairs = self.values("symref").filter_map(|pair| pair.split_once_str(":"));
        pairs.filter(|(known, _)| *known == name.as_bytes()).map(|(_, target)| target.as_bstr()).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_have_values_or_none() {
        let words = b" thin-pack symref=HEAD:refs/heads/main symref=refs/x:refs/y object-format=sha256 agent=git/2=3";
        let all = Capabilities::from_words(words).unwrap();
        assert!(all.has("thin-pack") && all.has("agent") && !all.has("thin"));
        assert_eq!(all.symbolic_target("HEAD").unwrap(), "refs/heads/main");
        assert_eq!(all.symbolic_target("refs/heads/main"), None);
        assert_eq!((all.format(), all.agent().unwrap()), (Ok(Format::Sha256), "git/2=3".into()));
        assert_eq!(Capabilities::from_words(b"object-format=sha3").unwrap().format(), Err("sha3".into()));
        assert_eq!(Capabilities::from_words(b"").unwrap().format(), Ok(Format::Sha1));
    }

    #[test]
    fn commands_have_features() {
        let mut all = Capabilities::default();
        for line in ["ls-refs=unborn", "fetch=shallow wait-for-done filter", "server-option"] {
            all.add(line.as_bytes()).unwrap();
        }
        assert!(all.command_has("ls-refs", "unborn") && !all.command_has("ls-refs", "filter"));
        assert!(all.fetch_has("filter") && all.fetch_has("wait-for-done") && !all.fetch_has("ref-in-want"));
    }

    #[test]
    fn there_are_not_too_many() {
        let words = "a ".repeat(MAX_CAPABILITIES + 1);
        assert!(matches!(Capabilities::from_words(words.as_bytes()), Err(ProtocolError::TooMany { .. })));
        let mut all = Capabilities::default();
        let line = vec![b'x'; 60_000];
        assert!((0..100).any(|_| all.add(&line).is_err()));
    }

    proptest! {
        #[test]
        fn arbitrary_words_never_panic(words in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(all) = Capabilities::from_words(&words) {
                let _ = (all.format(), all.agent(), all.symbolic_target("HEAD"), all.fetch_has("filter"));
            }
        }

        #[test]
        fn every_word_is_found(names in proptest::collection::vec("[a-z0-9-]{1,12}", 0..20)) {
            let words: Vec<String> = names.iter().enumerate().map(|(n, name)| if n % 2 == 0 { name.clone() } else { format!("{name}=v{n}") }).collect();
            let all = Capabilities::from_words(words.join(" ").as_bytes()).unwrap();
            prop_assert!(names.iter().all(|name| all.has(name)));
        }
    }
}
