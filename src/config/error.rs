//! Errors of configurations.

use std::path::PathBuf;

use gitferry_base::Kind;

/// A configuration cannot be used, or lacks a requested entry.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist.
    #[error("there is no configuration file {file}")]
    Missing {
        /// Path of the file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {file}: {error}")]
    Unreadable {
        /// Path of the file.
        file: PathBuf,
        /// Error of the operating system.
        error: std::io::Error,
    },
    /// The file is not valid TOML, or a setting is invalid.
    #[error("in {file}: {reason}")]
    Invalid {
        /// Path of the file.
        file: PathBuf,
        /// Setting and violation.
        reason: String,
    },
    /// The file has no such region.
    #[error("there is no region {name} in {file}; it has {known}")]
    UnknownRegion {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured regions.
        known: String,
    },
    /// The file has no such remote.
    #[error("there is no remote {name} in {file}; it has {known}")]
    UnknownRemote {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured remotes.
        known: String,
    },
    /// The file has no such link.
    #[error("there is no link {name} in {file}; it has {known}")]
    UnknownLink {
        /// Requested name.
        name: String,
        /// Path of the configuration file.
        file: PathBuf,
        /// Names of the configured links.
        known: String,
    },
}

impl ConfigError {
    /// Classifies the error by what the caller can do.
    pub fn kind(&self) -> Kind {
        match self {
            ConfigError::Unreadable { .. } => Kind::Environment,
            _ => Kind::Usage,
        }
    }
}
