//! The account's repository of a region: users, groups, roles, policies, keys and settings as documents, one file each,
//! and one commit for each change.
//!
//! This crate knows nothing of what the documents say: a document is a path and bytes. The repository is an ordinary
//! one under the reserved name [`ACCOUNT`](gitferry_engine::region::reserved::ACCOUNT), so links, `verify`, `export` and
//! `log` work on it, and only gitferry itself writes it.
//!
//! - [`AccountRepository`] finds or creates the repository, reads its [`Documents`] and commits an [`Edit`] of them.
//! - [`Follower`] keeps the newest documents in memory and follows the repository's head.
//!
//! Values: [`folder`], [`documents`], [`edit`] and [`author`] are pure; [`states`] and [`read`] read the region;
//! [`commit`] writes it.

mod author;
mod commit;
mod documents;
mod edit;
mod error;
mod folder;
mod follower;
mod limits;
mod read;
mod repository;
mod states;

pub use author::Author;
pub use commit::MAX_COMMIT_ATTEMPTS;
pub use documents::{Changed, Documents};
pub use edit::{Edit, EditError};
pub use error::{AccountError, CommitError, Diverged};
pub use folder::Document;
pub use follower::{FOLLOW_INTERVAL, Followed, Follower, Known, MAX_STALENESS, Staleness};
pub use limits::{
    MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_DOCUMENTS_BYTES, MAX_FOLDER_DEPTH, MAX_MESSAGE_BYTES, MAX_PATH_BYTES,
};
pub use repository::AccountRepository;
