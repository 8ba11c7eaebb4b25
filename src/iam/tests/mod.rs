//! Tests of whole accounts: documents, edits, and the ways to prove a principal.

mod attacks;
mod authentication;
mod aws;
mod calls;
pub(crate) mod clients;
mod damage;
mod data_keys;
mod delegation;
mod documents;
mod edits;
mod scale;
mod ssh;
mod sts;
mod web_identity;
pub(crate) mod world;
