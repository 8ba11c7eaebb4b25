//! Files and folders of a commit.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gitferry_api::{ApiError, Result};
use gitferry_content::folder::{Folder, FolderError, Listed, file, folder};
use gix::bstr::ByteSlice as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::commits::mode_name;
use crate::failure::not_allowed;
use crate::opened::{Failure, open, path_of, path_or_root};
use crate::operation::{Ask, Found, Operation, only};

/// Most bytes of paths in the answer about a folder, which is held in memory.
const MAX_LISTED_BYTES: usize = 32 << 20;

/// The failure to find a file or folder as the API has it; `code` is that of a path which names none.
fn failed(code: &'static str, error: FolderError) -> Failure {
    match error {
        FolderError::Content(error) => error.into(),
        error => ApiError::new(code, 400, format!("{error}.")).into(),
    }
}

/// `GetFile`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetFile {
    repository_name: String,
    commit_specifier: Option<String>,
    file_path: String,
}

#[async_trait]
impl Operation for GetFile {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let path = path_of(&self.file_path)?;
        let specifier = self.commit_specifier.clone();
        let most = ask.workshop.settings.limits.file_bytes;
        open(ask, &item, move |opened| {
            let commit = opened.commit(specifier.as_deref())?;
            let found = file(&mut opened.reader, commit.tree, &path);
            let found = found.map_err(|error| failed("FileDoesNotExistException", error))?;
            if found.size > most {
                let text = format!("{path} has {} bytes, more than {most}: fetch it with Git.", found.size);
                return Err(ApiError::new("FileTooLargeException", 400, text).into());
            }
            let content = opened.reader.blob(&found.id)?;
            Ok(json!({
                "commitId": commit.id.to_string(),
                "blobId": found.id.to_string(),
                "filePath": path.as_bstr().to_str_lossy(),
                "fileMode": mode_name(found.mode),
                "fileSize": found.size,
                "fileContent": STANDARD.encode(&*content),
            }))
        })
        .await
    }
}

/// `GetFolder`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetFolder {
    repository_name: String,
    commit_specifier: Option<String>,
    folder_path: String,
}

#[async_trait]
impl Operation for GetFolder {
    fn about(&self, _: &Ask<'_>) -> Result<Vec<String>> {
        Ok(vec![self.repository_name.clone()])
    }

    async fn answer(&self, ask: &Ask<'_>, found: Vec<Found>) -> Result<Value> {
        let item = only(found)?;
        let path = path_or_root(&self.folder_path)?;
        let specifier = self.commit_specifier.clone();
        open(ask, &item, move |opened| {
            let commit = opened.commit(specifier.as_deref())?;
            let found = folder(&mut opened.reader, commit.tree, path.as_ref());
            let found = found.map_err(|error| failed("FolderDoesNotExistException", error))?;
            let mut answer = lists(&found)?;
            answer["commitId"] = commit.id.to_string().into();
            answer["folderPath"] =
                path.map(|path| path.as_bstr().to_str_lossy().into_owned()).unwrap_or_default().into();
            Ok(answer)
        })
        .await
    }
}

/// The tree of a folder and its lists. Names that are not UTF-8 have replacement characters.
fn lists(folder: &Folder) -> Result<Value> {
    let Folder { tree, folders, files, links, submodules } = folder;
    let all = [folders, files, links, submodules].into_iter().flatten();
    let bytes: usize = all.map(|entry| entry.absolute.len() + entry.relative.len()).sum();
    if bytes > MAX_LISTED_BYTES {
        let text = format!("The paths in the folder have more than {MAX_LISTED_BYTES} bytes: list it with Git.");
        return Err(not_allowed(text));
    }
    let show = |entry: &Listed, id: &str| {
        let Listed { absolute, relative, .. } = entry;
        let mut shown = json!({ "absolutePath": absolute.to_str_lossy(), "relativePath": relative.to_str_lossy() });
        shown[id] = entry.id.to_string().into();
        shown
    };
    let blobs = |list: &[Listed]| -> Vec<Value> {
        let show = |entry: &Listed| {
            let mut shown = show(entry, "blobId");
            shown["fileMode"] = mode_name(entry.mode).into();
            shown
        };
        list.iter().map(show).collect()
    };
    Ok(json!({
        "treeId": tree.to_string(),
        "subFolders": folders.iter().map(|entry| show(entry, "treeId")).collect::<Vec<_>>(),
        "files": blobs(files),
        "symbolicLinks": blobs(links),
        "subModules": submodules.iter().map(|entry| show(entry, "commitId")).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gitferry_content::Mode;

    #[test]
    fn a_folder_whose_paths_fill_the_memory_is_not_listed() {
        let id = gix::ObjectId::null(gix::hash::Kind::Sha1);
        let listed =
            |bytes: usize| Listed { id, mode: Mode::File, absolute: vec![b'a'; bytes].into(), relative: "a".into() };
        let folder = |files: Vec<Listed>| Folder {
            tree: id,
            folders: Vec::new(),
            files,
            links: Vec::new(),
            submodules: Vec::new(),
        };
        assert_eq!(lists(&folder(vec![listed(3)])).unwrap()["files"][0]["absolutePath"], "aaa");
        let refused = lists(&folder(vec![listed(MAX_LISTED_BYTES)])).unwrap_err();
        assert_eq!(refused.code(), "OperationNotAllowedException");
    }
}
