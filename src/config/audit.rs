//! `[hosts.REGION.audit]`: places that the audit trail of a host goes to.

use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::events::EventsConfig;
use super::limits::some_size;

/// Size of the audit file at which it is rotated.
const DEFAULT_ROTATE_AT: ByteSize = ByteSize::mib(64);
/// Smallest such size: a few records.
const MIN_ROTATE_AT: ByteSize = ByteSize::kib(64);
/// Rotated files that are kept.
const DEFAULT_KEEP: usize = 16;
/// Most rotated files.
const MAX_KEEP: usize = 10_000;

/// Places that the audit trail of a host goes to: a file, an event bus, or both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// File of the records, relative to the configuration.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Size of the file at which it is rotated. Defaults to 64 MiB.
    #[serde(default, deserialize_with = "some_size")]
    pub rotate_at: Option<ByteSize>,
    /// Number of rotated files that are kept beside it; older ones are deleted. Defaults to 16.
    #[serde(default)]
    pub keep: Option<usize>,
    /// Event bus of the records, `"eventbridge:BUS"`, with the AWS settings of the region.
    #[serde(default)]
    pub events: Option<EventsConfig>,
}

impl AuditConfig {
    /// Size of the file at which it is rotated, in bytes.
    pub fn rotate_at(&self) -> u64 {
        self.rotate_at.unwrap_or(DEFAULT_ROTATE_AT).as_u64()
    }

    /// Number of rotated files that are kept.
    pub fn keep(&self) -> usize {
        self.keep.unwrap_or(DEFAULT_KEEP)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.file.is_none() && self.events.is_none() {
            return Err("audit needs `file`, `events` or both".into());
        }
        if self.file.is_none() && (self.rotate_at.is_some() || self.keep.is_some()) {
            return Err("audit.rotate_at and audit.keep are about `file`, which is missing".into());
        }
        if self.rotate_at() < MIN_ROTATE_AT.as_u64() {
            return Err(format!("audit.rotate_at is at least {MIN_ROTATE_AT}"));
        }
        if self.keep() > MAX_KEEP {
            return Err(format!("audit.keep is at most {MAX_KEEP}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_trail_has_a_place() {
        let of = |text: &str| toml::from_str::<AuditConfig>(text).map_err(|error| error.to_string());
        let both =
            of("file = \"audit.jsonl\"\nrotate_at = \"1 MiB\"\nkeep = 3\nevents = \"eventbridge:audit\"").unwrap();
        assert_eq!((both.rotate_at(), both.keep(), both.check()), (1 << 20, 3, Ok(())));
        let file = of("file = \"a\"").unwrap();
        assert_eq!((file.rotate_at(), file.keep(), file.check()), (64 << 20, 16, Ok(())));
        for bad in ["", "keep = 3", "events = \"eventbridge:a\"\nkeep = 1", "file = \"a\"\nrotate_at = 10"] {
            assert!(of(bad).unwrap().check().is_err(), "{bad}");
        }
        assert!(of("file = \"a\"\nevents = \"sns:a\"").is_err());
    }
}
