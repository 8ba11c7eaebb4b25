//! How a merge treats conflicts: a level, a strategy, and resolutions by path.

use gitferry_api::{ApiError, Result, shown};
use gitferry_content::merge::Level;
use gitferry_content::merge::resolve::{Replacement, Resolutions, Strategy};
use gitferry_content::{Mode, RepoPath, lines};
use serde::Deserialize;

use crate::commits::{Bytes, FileMode};
use crate::edits::{DeleteFileEntry, SetFileModeEntry};
use crate::opened::path_of;

/// Level and strategy of a request.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    conflict_detail_level: Option<DetailLevel>,
    conflict_resolution_strategy: Option<ResolutionStrategy>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DetailLevel {
    FileLevel,
    LineLevel,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ResolutionStrategy {
    None,
    AcceptSource,
    AcceptDestination,
    Automerge,
}

impl Choice {
    /// Unit of conflicts: files, unless the request wants lines.
    pub fn level(self) -> Level {
        match self.conflict_detail_level {
            None | Some(DetailLevel::FileLevel) => Level::File,
            Some(DetailLevel::LineLevel) => Level::Line,
        }
    }

    /// Treatment of conflicts that no resolution names.
    pub fn strategy(self) -> Strategy {
        match self.conflict_resolution_strategy {
            None | Some(ResolutionStrategy::None | ResolutionStrategy::Automerge) => Strategy::Manual,
            Some(ResolutionStrategy::AcceptSource) => Strategy::AcceptSource,
            Some(ResolutionStrategy::AcceptDestination) => Strategy::AcceptDestination,
        }
    }
}

/// The structure `ConflictResolution`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConflictResolution {
    replace_contents: Vec<ReplaceContentEntry>,
    delete_files: Vec<DeleteFileEntry>,
    set_file_modes: Vec<SetFileModeEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReplaceContentEntry {
    file_path: String,
    replacement_type: ReplacementType,
    content: Option<Bytes>,
    file_mode: Option<FileMode>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ReplacementType {
    KeepBase,
    KeepSource,
    KeepDestination,
    UseNewContent,
}

impl ConflictResolution {
    /// The resolutions as a merge takes them.
    ///
    /// # Errors
    /// A path is invalid, or a replacement has content that its type does not take, or lacks content.
    pub fn read(&self, keep_empty_folders: bool) -> Result<Resolutions> {
        let modes = self.set_file_modes.iter().map(|set| Ok((path_of(&set.file_path)?, set.file_mode.into())));
        Ok(Resolutions {
            replace: self.replace_contents.iter().map(ReplaceContentEntry::read).collect::<Result<_>>()?,
            delete: self.delete_files.iter().map(|file| path_of(&file.file_path)).collect::<Result<_>>()?,
            modes: modes.collect::<Result<_>>()?,
            keep_empty_folders,
        })
    }
}

impl ReplaceContentEntry {
    fn read(&self) -> Result<(RepoPath, Replacement, Option<Mode>)> {
        let fail = |code, reason| Err(ApiError::new(code, 400, format!("{} {reason}.", shown(&self.file_path))));
        let replacement = match (self.replacement_type, &self.content) {
            (ReplacementType::UseNewContent, Some(content)) => Replacement::New(content.0.clone()),
            (ReplacementType::UseNewContent, None) => {
                return fail("ReplacementContentRequiredException", "is to have new content, and has none");
            }
            (_, Some(_)) => {
                return fail("InvalidReplacementContentException", "has content, and is to keep a version that exists");
            }
            (ReplacementType::KeepBase, None) => Replacement::Keep(lines::Version::Base),
            (ReplacementType::KeepSource, None) => Replacement::Keep(lines::Version::Source),
            (ReplacementType::KeepDestination, None) => Replacement::Keep(lines::Version::Destination),
        };
        Ok((path_of(&self.file_path)?, replacement, self.file_mode.map(Into::into)))
    }
}
