//! `gitferry replicate` between servers that run as they do elsewhere, each in processes of its own: `git http-backend`,
//! OpenSSH, gitferry's host, and dulwich, a Git server in Python that shares no code with Git. Judged by real Git.

use gitferry_test_support::git;

mod damage;
mod faults;
mod in_pairs;
mod server;
mod slices;
