//! Check of a repository's format and features, before anything else is read (gitrepository-layout(5), git-config(1)
//! `extensions.*`, Git's `setup.c`).

use std::path::Path;

use gix::bstr::{BString, ByteSlice};
use gix::config::file::{Metadata, init::Options};

use super::error::{Feature, SourceError, word};
use super::location::read_small_with;
use super::reader::Reader;

/// Most bytes of a repository's `config`; repositories with thousands of remotes stay far below.
const MAX_CONFIG_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of `info/grafts` and of `shallow`.
const MAX_GRAFT_BYTES: u64 = 64 * 1024 * 1024;
/// Extensions that require format version 1 (`handle_extension` in `setup.c`).
const VERSION_1_EXTENSIONS: [&str; 5] =
    ["compatobjectformat", "noop-v1", "objectformat", "refstorage", "relativeworktrees"];

/// Returns the object format of a repository, or an error if it uses an unsupported feature.
pub(super) fn check(reader: &Reader, common_dir: &Path) -> Result<gix::hash::Kind, SourceError> {
    let format = check_config(reader, common_dir)?;
    let has_content = |name: &str, is_content: fn(&[u8]) -> bool| -> Result<bool, SourceError> {
        Ok(read_small_with(reader, &common_dir.join(name), MAX_GRAFT_BYTES)?
            .is_some_and(|text| text.lines().any(is_content)))
    };
    if has_content("shallow", |line| !line.is_empty())? {
        return Err(SourceError::unsupported(common_dir, Feature::Shallow));
    }
    if has_content("info/grafts", |line| !line.is_empty() && !line.starts_with(b"#"))? {
        return Err(SourceError::unsupported(common_dir, Feature::Grafts));
    }
    Ok(format)
}

fn check_config(reader: &Reader, common_dir: &Path) -> Result<gix::hash::Kind, SourceError> {
    let path = common_dir.join("config");
    // Git accepts a repository without a config file.
    let Some(bytes) = read_small_with(reader, &path, MAX_CONFIG_BYTES)? else { return Ok(gix::hash::Kind::Sha1) };
    let config =
        gix::config::File::from_bytes_no_includes(&bytes, Metadata::api(), Options::default()).map_err(|_| {
            SourceError::damaged(&path, "it is no valid Git configuration; `git config --list` names the line")
        })?;
    let version = format_version(&config, common_dir)?;
    let mut format = gix::hash::Kind::Sha1;
    for section in config.sections() {
        let header = section.header();
        let subsection = header.subsection_name();
        for name in section.value_names() {
            let name = name.to_ascii_lowercase();
            let value = section.value_implicit(&name).flatten();
            if header.name().eq_ignore_ascii_case(b"extensions") {
                let name = match subsection {
                    Some(subsection) => format!("{subsection}.{name}"),
                    None => name,
                };
                check_extension(&name, value, version, &mut format)
            } else if header.name().eq_ignore_ascii_case(b"remote") {
                check_remote(subsection.unwrap_or_default().as_bstr(), &name, value)
            } else {
                Ok(())
            }
            .map_err(|feature| SourceError::unsupported(common_dir, feature))?;
        }
    }
    Ok(format)
}

/// Returns `core.repositoryFormatVersion`: 0 (also when absent) or 1.
fn format_version(config: &gix::config::File, common_dir: &Path) -> Result<u8, SourceError> {
    let value = config.value::<BString>("core.repositoryFormatVersion").ok();
    match value.as_ref().map(|v| v.as_slice()) {
        None | Some(b"0") => Ok(0),
        Some(b"1") => Ok(1),
        Some(other) => Err(SourceError::unsupported(common_dir, Feature::FormatVersion(other.as_bstr().to_string()))),
    }
}

/// Checks one `extensions.<name>`, in lower case.
fn check_extension(
    name: &str,
    value: Option<BString>,
    version: u8,
    format: &mut gix::hash::Kind,
) -> Result<(), Feature> {
    if version == 0 && VERSION_1_EXTENSIONS.contains(&name) {
        return Err(Feature::ExtensionNeedsVersion1(name.into()));
    }
    let value = value.unwrap_or_default();
    match name {
        "noop" | "noop-v1" | "preciousobjects" | "worktreeconfig" | "relativeworktrees" => {}
        "objectformat" => match value.as_slice() {
            b"sha1" => *format = gix::hash::Kind::Sha1,
            b"sha256" => *format = gix::hash::Kind::Sha256,
            _ => return Err(Feature::ObjectFormat(value.to_string())),
        },
        "refstorage" if value == "files" => {}
        "refstorage" => return Err(Feature::RefStorage(value.to_string())),
        "compatobjectformat" => return Err(Feature::CompatObjectFormat),
        "partialclone" => return Err(Feature::PartialClone("extensions.partialClone".into())),
        // In version 0 Git ignores unknown extensions.
        _ if version == 0 => {}
        _ => return Err(Feature::Extension(name.into())),
    }
    Ok(())
}

/// Checks one `remote.<remote>.<name>`: Git treats a remote with either of the two keys as a promisor.
fn check_remote(remote: &gix::bstr::BStr, name: &str, value: Option<BString>) -> Result<(), Feature> {
    let promises = match name {
        "partialclonefilter" => true,
        // A key without a value is true; an invalid boolean counts as true.
        "promisor" => value.is_none_or(|v| gix::config::Boolean::try_from(v).map_or(true, bool::from)),
        _ => false,
    };
    if promises {
        Err(Feature::PartialClone(format!("remote.{}.{}", word(&remote.to_string()), word(name))))
    } else {
        Ok(())
    }
}
