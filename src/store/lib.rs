//! Storage of a region: an object store and a table, each as a trait with an embedded and an AWS implementation.
//!
//! Code outside this crate depends only on the traits, never on an implementation.

pub mod aws;
pub mod objects;
pub mod table;
