//! Reading and writing repositories on the local disk, judged by real Git.

mod exporting;
mod git;
mod hostile;
mod objects;
mod opening;
mod refs;
