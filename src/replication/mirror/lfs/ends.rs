//! LFS objects of a repository at one end of a link: behind a server's Batch API, or in a region.

use std::collections::HashSet;
use std::io;

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::mirror::ends::End;
use crate::mirror::error::MirrorError;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::lfs::{LfsSpool, MAX_LFS_BYTES};
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_remote::lfs::{Action, LfsBody, LfsError, LfsServer, Offer, Operation};

/// Bytes that are written to a spool file at a time.
const WRITE_BYTES: usize = 1 << 20;

/// LFS objects of a repository at one end of a link.
pub enum LfsEnd {
    /// Objects behind the Batch API of a Git server.
    Server(Box<LfsServer>),
    /// Objects in the store of a region.
    Region {
        /// Region with the objects.
        region: Region,
        /// Id of the repository.
        id: RepositoryId,
        /// Actor of changes.
        actor: String,
    },
}

/// Place that an object can be read from.
pub enum Download {
    /// Download request that the Batch API has offered.
    Action(Box<Action>),
    /// Object in a region's store.
    Store(LfsObject),
}

/// Place that an object can be written to.
pub enum Upload {
    /// Upload request, and the request that verifies it.
    Actions(Box<Action>, Option<Box<Action>>),
    /// Store of a region.
    Store,
}

/// Objects that are not transferred, with reasons.
pub type Refusals = Vec<(Pointer, String)>;

impl LfsEnd {
    /// LFS objects of an end; `None` where a region does not have the repository.
    pub fn of(end: &End, actor: String) -> Result<Option<LfsEnd>, MirrorError> {
        Ok(match end {
            End::Remote(repository) => Some(LfsEnd::Server(Box::new(repository.lfs()?))),
            End::Region(server) => server.id().map(|id| LfsEnd::Region { region: server.region().clone(), id, actor }),
        })
    }

    /// URL of the LFS server, or name of the region.
    pub fn url(&self) -> &str {
        match self {
            LfsEnd::Server(server) => server.url(),
            LfsEnd::Region { region, .. } => region.name(),
        }
    }

    /// Returns those of some objects that the end lacks and accepts, and those that it refuses.
    pub async fn find_lacking(&self, pointers: &[Pointer]) -> Result<(Vec<(Pointer, Upload)>, Refusals), MirrorError> {
        let mut lacking = Vec::new();
        let mut refused = Vec::new();
        match self {
            LfsEnd::Server(server) => {
                let offers = server.batch(Operation::Upload, pointers).await?;
                for (pointer, offer) in pointers.iter().zip(offers) {
                    match offer {
                        Offer::Done => {}
                        Offer::Transfer { action, verify } => lacking.push((*pointer, Upload::Actions(action, verify))),
                        offer if offer.is_transient() => return Err(later(server, offer).into()),
                        Offer::Missing => refused.push((*pointer, "the server lacks it and offers no upload".into())),
                        Offer::Refused { status, reason } => refused.push((*pointer, format!("{status} {reason}"))),
                    }
                }
            }
            LfsEnd::Region { region, id, .. } => {
                let settled = region.lfs().settle_pointers(*id, pointers).await?;
                refused.extend(
                    settled.wrong.iter().map(|pointer| (*pointer, "the region has it with another size".into())),
                );
                for pointer in settled.missing {
                    if pointer.size > MAX_LFS_BYTES {
                        refused.push((pointer, format!("it has more than {MAX_LFS_BYTES} bytes")))
                    } else {
                        lacking.push((pointer, Upload::Store))
                    }
                }
            }
        }
        Ok((lacking, refused))
    }

    /// Returns the place of each of some objects; `None` for those that are missing.
    pub async fn find_downloads(&self, pointers: &[Pointer]) -> Result<(Vec<Option<Download>>, Refusals), MirrorError> {
        let mut downloads = Vec::with_capacity(pointers.len());
        let mut refused = Vec::new();
        match self {
            LfsEnd::Server(server) => {
                let offers = server.batch(Operation::Download, pointers).await?;
                for (pointer, offer) in pointers.iter().zip(offers) {
                    downloads.push(match offer {
                        Offer::Transfer { action, .. } => Some(Download::Action(action)),
                        offer if offer.is_transient() => return Err(later(server, offer).into()),
                        Offer::Refused { status, reason } => {
                            refused.push((*pointer, format!("{status} {reason}")));
                            None
                        }
                        Offer::Missing | Offer::Done => None,
                    });
                }
            }
            LfsEnd::Region { region, id, .. } => {
                let oids: Vec<_> = pointers.iter().map(|pointer| pointer.oid).collect();
                let objects = region.lfs().objects(*id, &oids).await?;
                downloads.extend(objects.into_iter().map(|object| object.map(Download::Store)));
            }
        }
        Ok((downloads, refused))
    }

    /// Returns those of some objects that a server offers for download. Some servers offer an upload even of objects
    /// that they have.
    pub async fn offers_download(&self, pointers: &[Pointer]) -> Result<HashSet<LfsOid>, MirrorError> {
        if pointers.is_empty() || matches!(self, LfsEnd::Region { .. }) {
            return Ok(HashSet::new());
        }
        let (downloads, _) = self.find_downloads(pointers).await?;
        let given = pointers.iter().zip(downloads).filter(|(_, from)| from.is_some());
        Ok(given.map(|(pointer, _)| pointer.oid).collect())
    }

    /// Reads an object.
    pub async fn read(&self, from: &Download) -> Result<LfsBody, MirrorError> {
        Ok(match (self, from) {
            (LfsEnd::Server(server), Download::Action(action)) => server.download(action).await?,
            (LfsEnd::Region { region, id, .. }, Download::Store(object)) => {
                region.lfs().bytes(*id, object.oid, 0..object.size).boxed()
            }
            _ => return Err(MirrorError::Internal("an LFS object is read from the wrong end".into())),
        })
    }

    /// Writes an object. Nothing is stored if the body fails. Returns the place to write to instead if the server
    /// redirects.
    pub async fn write(&self, to: &Upload, pointer: Pointer, body: LfsBody) -> Result<Option<Upload>, MirrorError> {
        match (self, to) {
            (LfsEnd::Server(server), Upload::Actions(upload, verify)) => {
                if let Some(elsewhere) = server.upload(upload, pointer, body).await.map_err(of_source)? {
                    return Ok(Some(Upload::Actions(Box::new(elsewhere), verify.clone())));
                }
                if let Some(verify) = verify {
                    server.verify(verify, pointer).await?;
                }
                Ok(None)
            }
            (LfsEnd::Region { region, id, .. }, Upload::Store) => {
                store(region, *id, pointer, body).await.map(|()| None)
            }
            _ => Err(MirrorError::Internal("an LFS object is written to the wrong end".into())),
        }
    }

    /// Adds objects that pointers have waited for to the ledger of a region. Servers need nothing.
    pub async fn settle(&self, pointers: &[Pointer]) -> Result<(), MirrorError> {
        let LfsEnd::Region { region, id, actor } = self else { return Ok(()) };
        let oids: Vec<_> = pointers.iter().map(|pointer| pointer.oid).collect();
        let states = region.lfs().states(*id, &oids).await?;
        let late: Vec<LfsObject> = states.iter().filter(|state| state.awaited).filter_map(|state| state.held).collect();
        region.lfs().name(*id, &late, actor).await?;
        Ok(())
    }
}

fn later(server: &LfsServer, offer: Offer) -> LfsError {
    let (status, reason) = match offer {
        Offer::Refused { status, reason } => (status, reason),
        _ => (0, String::new()),
    };
    LfsError::Answer { server: server.url().into(), doing: "asking about an LFS object", status, reason }
}

async fn store(region: &Region, id: RepositoryId, pointer: Pointer, mut body: LfsBody) -> Result<(), MirrorError> {
    let dir = region.spool_dir();
    let mut spool = blocking(move || LfsSpool::new_in(&dir)).await.map_err(RegionError::Io)?;
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    while let Some(piece) = body.try_next().await.map_err(read_failed)? {
        buffer.extend_from_slice(&piece);
        if buffer.len() >= WRITE_BYTES {
            spool = append(spool, buffer.split().freeze()).await?;
        }
    }
    let (file, object) = append(spool, buffer.freeze()).await?.finish();
    if object.oid != pointer.oid || object.size != pointer.size {
        let reason = format!("received {} of {} bytes", object.oid, object.size);
        return Err(LfsError::Damaged { oid: pointer.oid, reason }.into());
    }
    Ok(region.lfs().put(id, object, file).await?)
}

/// Appends bytes to a spool file off the runtime.
async fn append(mut spool: LfsSpool, bytes: Bytes) -> Result<LfsSpool, MirrorError> {
    Ok(blocking(move || spool.write(&bytes).map(|()| spool)).await.map_err(RegionError::Io)?)
}

/// The error of the source, without the upload around it.
fn of_source(error: LfsError) -> MirrorError {
    match error {
        LfsError::Source { error, .. } => read_failed(error),
        error => error.into(),
    }
}

fn read_failed(error: io::Error) -> MirrorError {
    match error.downcast::<LfsError>() {
        Ok(error) => error.into(),
        Err(error) => match error.downcast::<RegionError>() {
            Ok(error) => error.into(),
            Err(error) => RegionError::Io(error).into(),
        },
    }
}
