//! Reading and writing Git repositories that lie on a local disk.
