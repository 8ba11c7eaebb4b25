//! Reading and writing repositories on the local disk, judged by real Git.

// Helpers of tests, which fail by panicking, are not themselves `#[test]`.
mod exporting;
mod foreign;
mod git;
mod gix_refs;
mod hostile;
mod objects;
mod opening;
mod refs;
