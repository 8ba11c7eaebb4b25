//! Places where commands look for the configuration, besides `--config` and the file of the working directory.

/// Environment variable with the text of the configuration, for containers and functions without a file.
pub const CONFIG_TEXT_VARIABLE: &str = "GITFERRY_CONFIG_TOML";

/// Folder that `gitferry up` creates if no other configuration is found.
pub const USUAL_DIR: &str = "gitferry-data";
