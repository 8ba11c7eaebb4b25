//! The two stores that a region stands on, an object store and a table, and AWS, which has one of each.
//!
//! Both are traits; nothing outside this crate depends on which store is behind them.

pub mod aws;
pub mod objects;
pub mod table;
