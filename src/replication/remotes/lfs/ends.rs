//! The LFS objects of a repository at one end of a link: behind a server's Batch API, or in a region.

use std::collections::HashSet;
use std::io;

use bytes::BytesMut;
use futures::{StreamExt as _, TryStreamExt as _};

use crate::remotes::ends::End;
use crate::remotes::error::RemotesError;
use gitferry_engine::ledger::change::LfsObject;
use gitferry_engine::ledger::head::RepositoryId;
use gitferry_engine::region::lfs::{LfsSpool, MAX_LFS_BYTES};
use gitferry_engine::region::{Region, RegionError, blocking};
use gitferry_git::lfs::{LfsOid, Pointer};
use gitferry_remote::lfs::{Action, LfsBody, LfsError, LfsServer, Offer, Operation};

/// Bytes that are written to a spool at a time.
const WRITE_BYTES: usize = 1 << 20;

/// The LFS objects of a repository at one end of a link.
pub enum LfsEnd {
    /// At a Git server.
    Server(Box<LfsServer>),
    /// In a region.
    Region {
        /// Which.
        region: Region,
        /// The repository there.
        id: RepositoryId,
        /// In whose name changes are made.
        actor: String,
    },
}

/// Where an object can be had.
pub enum From {
    /// By this request.
    Action(Box<Action>),
    /// From a region's store.
    Store(LfsObject),
}

/// How an object is to be stored.
pub enum To {
    /// By this upload, and then this to tell of it.
    Actions(Box<Action>, Option<Box<Action>>),
    /// In a region's store.
    Store,
}

/// What there is to say of objects that do not move.
pub type Refusals = Vec<(Pointer, String)>;

impl LfsEnd {
    /// Of a repository; `None` where a region does not have it.
    pub fn of(end: &End, actor: String) -> Result<Option<LfsEnd>, RemotesError> {
        Ok(match end {
            End::Remote(repository) => Some(LfsEnd::Server(Box::new(repository.lfs()?))),
            End::Region(server) => server.id().map(|id| LfsEnd::Region { region: server.region().clone(), id, actor }),
        })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        match self {
            LfsEnd::Server(server) => server.url(),
            LfsEnd::Region { region, .. } => &region.name,
        }
    }

    /// Those of some objects that it does not have, and how to bring them; those that it does not take.
    pub async fn lacks(&self, pointers: &[Pointer]) -> Result<(Vec<(Pointer, To)>, Refusals), RemotesError> {
        let (mut lacks, mut refused) = (Vec::new(), Vec::new());
        match self {
            LfsEnd::Server(server) => {
                let offers = server.batch(Operation::Upload, pointers).await?;
                for (pointer, offer) in pointers.iter().zip(offers) {
                    match offer {
                        Offer::Done => {}
                        Offer::Transfer { action, verify } => lacks.push((*pointer, To::Actions(action, verify))),
                        offer if offer.is_transient() => return Err(later(server, offer).into()),
                        Offer::Missing => refused.push((*pointer, "it is not there, and no upload is offered".into())),
                        Offer::Refused { status, reason } => refused.push((*pointer, format!("{status} {reason}"))),
                    }
                }
            }
            LfsEnd::Region { region, id, .. } => {
                let settled = region.settle_pointers(*id, pointers).await?;
                refused.extend(settled.wrong.iter().map(|pointer| (*pointer, "it has another size there".into())));
                for pointer in settled.missing {
                    match pointer.size > MAX_LFS_BYTES {
                        true => refused.push((pointer, format!("it has more than {MAX_LFS_BYTES} bytes"))),
                        false => lacks.push((pointer, To::Store)),
                    }
                }
            }
        }
        Ok((lacks, refused))
    }

    /// Where each of some objects can be had; `None` for what is not there.
    pub async fn gives(&self, pointers: &[Pointer]) -> Result<(Vec<Option<From>>, Refusals), RemotesError> {
        let (mut gives, mut refused) = (Vec::with_capacity(pointers.len()), Vec::new());
        match self {
            LfsEnd::Server(server) => {
                let offers = server.batch(Operation::Download, pointers).await?;
                for (pointer, offer) in pointers.iter().zip(offers) {
                    gives.push(match offer {
                        Offer::Transfer { action, .. } => Some(From::Action(action)),
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
                let objects = region.lfs_objects(*id, &oids).await?;
                gives.extend(objects.into_iter().map(|object| object.map(From::Store)));
            }
        }
        Ok((gives, refused))
    }

    /// Those of some objects that a server gives out, although it offers to take them: some offer that always.
    pub async fn gives_out(&self, pointers: &[Pointer]) -> Result<HashSet<LfsOid>, RemotesError> {
        if pointers.is_empty() || matches!(self, LfsEnd::Region { .. }) {
            return Ok(HashSet::new());
        }
        let (gives, _) = self.gives(pointers).await?;
        let given = pointers.iter().zip(gives).filter(|(_, from)| from.is_some());
        Ok(given.map(|(pointer, _)| pointer.oid).collect())
    }

    /// The bytes of an object.
    pub async fn read(&self, from: &From) -> Result<LfsBody, RemotesError> {
        Ok(match (self, from) {
            (LfsEnd::Server(server), From::Action(action)) => server.download(action).await?,
            (LfsEnd::Region { region, id, .. }, From::Store(object)) => {
                region.lfs_bytes(*id, object.oid, 0..object.size).boxed()
            }
            _ => return Err(RemotesError::Internal("an LFS object was offered by the other end".into())),
        })
    }

    /// Stores an object. Where its bytes fail, nothing is stored. Where they are to go instead, if the server says so.
    pub async fn write(&self, to: &To, pointer: Pointer, body: LfsBody) -> Result<Option<To>, RemotesError> {
        match (self, to) {
            (LfsEnd::Server(server), To::Actions(upload, verify)) => {
                if let Some(elsewhere) = server.upload(upload, pointer, body).await.map_err(of_source)? {
                    return Ok(Some(To::Actions(Box::new(elsewhere), verify.clone())));
                }
                if let Some(verify) = verify {
                    server.verify(verify, pointer).await?;
                }
                Ok(None)
            }
            (LfsEnd::Region { region, id, .. }, To::Store) => store(region, *id, pointer, body).await.map(|()| None),
            _ => Err(RemotesError::Internal("an LFS object was wanted by the other end".into())),
        }
    }

    /// Names in a change what some pointers have waited for, where that is a region's way.
    pub async fn settle(&self, pointers: &[Pointer]) -> Result<(), RemotesError> {
        let LfsEnd::Region { region, id, actor } = self else { return Ok(()) };
        let oids: Vec<_> = pointers.iter().map(|pointer| pointer.oid).collect();
        let states = region.lfs_states(*id, &oids).await?;
        let late: Vec<LfsObject> = states.iter().filter(|state| state.awaited).filter_map(|state| state.held).collect();
        region.name_lfs_objects(*id, &late, actor).await?;
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

async fn store(region: &Region, id: RepositoryId, pointer: Pointer, mut body: LfsBody) -> Result<(), RemotesError> {
    let dir = region.spool_dir();
    let mut spool = blocking(move || LfsSpool::new_in(&dir)).await.map_err(RegionError::Io)?;
    let mut buffer = BytesMut::with_capacity(WRITE_BYTES);
    loop {
        let piece = body.try_next().await.map_err(read_failed)?;
        let ended = piece.is_none();
        buffer.extend_from_slice(&piece.unwrap_or_default());
        if ended || buffer.len() >= WRITE_BYTES {
            let bytes = buffer.split().freeze();
            let write = move || spool.write(&bytes).map(|()| spool);
            spool = blocking(write).await.map_err(RegionError::Io)?;
        }
        if ended {
            break;
        }
    }
    let (file, object) = spool.finish();
    if object.oid != pointer.oid || object.size != pointer.size {
        let reason = format!("what came is {} of {} bytes", object.oid, object.size);
        return Err(LfsError::Damaged { oid: pointer.oid, reason }.into());
    }
    Ok(region.put_lfs_object(id, object, file).await?)
}

/// The source's own error, as it would have come without an upload around it.
fn of_source(error: LfsError) -> RemotesError {
    match error {
        LfsError::Source { error, .. } => read_failed(error),
        error => error.into(),
    }
}

fn read_failed(error: io::Error) -> RemotesError {
    match error.downcast::<LfsError>() {
        Ok(error) => error.into(),
        Err(error) => match error.downcast::<RegionError>() {
            Ok(error) => error.into(),
            Err(error) => RegionError::Io(error).into(),
        },
    }
}
