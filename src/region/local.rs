//! Packs as local files: where they lie, or copies for stores that are not local.

use std::path::{Path, PathBuf};

use super::manifest::LivePack;
use super::{Region, Result, blocking};
use crate::ledger::keys;
use crate::objects::PART_BYTES;

/// A pack and its index as local files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPack {
    /// The pack.
    pub pack: PathBuf,
    /// Its index.
    pub index: PathBuf,
    /// What the manifest says of it.
    pub live: LivePack,
}

/// The live packs of a repository as local files. Copies vanish when this is dropped.
#[derive(Debug)]
pub struct LocalPacks {
    /// In the order of the manifest.
    pub packs: Vec<LocalPack>,
    _copies: Option<tempfile::TempDir>,
}

impl Region {
    /// Makes packs readable as files; fetches them where the object store is not on this machine.
    pub async fn local_packs(&self, packs: &[LivePack]) -> Result<LocalPacks> {
        let (mut local, mut copies) = (Vec::new(), None);
        for live in packs {
            let index_key = keys::index_of(&live.key);
            let here = self.objects.local_path(&live.key).zip(self.objects.local_path(&index_key));
            let (pack, index) = match here {
                Some(paths) => paths,
                None => {
                    let dir = match &mut copies {
                        Some(dir) => dir,
                        none => none.insert(tempfile::TempDir::new_in(self.spool_dir())?),
                    };
                    let (pack, index) =
                        (dir.path().join(format!("{}.pack", live.id)), dir.path().join(format!("{}.idx", live.id)));
                    self.fetch(&live.key, live.bytes, &pack).await?;
                    self.fetch(&index_key, live.index_bytes, &index).await?;
                    (pack, index)
                }
            };
            local.push(LocalPack { pack, index, live: live.clone() });
        }
        Ok(LocalPacks { packs: local, _copies: copies })
    }

    async fn fetch(&self, key: &str, size: u64, to: &Path) -> Result<()> {
        let mut file = std::fs::File::create_new(to)?;
        let mut offset = 0;
        while offset < size {
            let bytes = self.objects.get(key, offset..(offset + PART_BYTES).min(size)).await?;
            if bytes.is_empty() {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            offset += bytes.len() as u64;
            let written = blocking(move || {
                std::io::Write::write_all(&mut file, &bytes)?;
                Ok::<_, std::io::Error>(file)
            });
            file = written.await?;
        }
        Ok(())
    }
}
