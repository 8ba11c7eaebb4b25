//! The JSON API of CodeCommit on the repositories of a region.
//!
//! `gitferry_api` is the path of a request: signature, rates, log, audit trail. What comes then is here:
//!
//! 1. `model`: all operations of the API with their types, constraints and errors, read from one text;
//! 2. `input`: the body becomes the input of an operation, or the error that the model has for it;
//! 3. `table` finds the operation, if it is served; `operation` finds the repositories that the request is about, and
//!    demands the right on each;
//! 4. the operation reads the host's state of a repository, or changes it (`workshop`, `ports`): `repositories`,
//!    `updates`, `branches`, `tags`, `objects`, and what is in it (`opened`): `files`, `differences`, `history`,
//!    `merge_options`; `edits` and `merges` (with `resolutions`) make `commits` on `edit_source`; with `page` and
//!    `describe` for answers;
//! 5. `failure`: what errors of the engine are in this API.
//!
//! A change goes through the same functions as those of commands and pushes, in the ledger like any other.

mod branches;
mod commits;
mod describe;
mod differences;
mod edit_source;
mod edits;
mod failure;
mod files;
mod history;
mod input;
mod merge_options;
mod merges;
mod model;
mod objects;
mod opened;
mod operation;
mod page;
mod ports;
mod repositories;
mod resolutions;
mod service;
mod settings;
mod table;
mod tags;
mod updates;
mod workshop;

pub use ports::{ComputePermit, NoCreation, Repositories};
pub use service::CodeCommit;
pub use settings::{CloneUrls, Limits, Settings};
pub use table::served_operations;
