//! Operations on small repositories in memory. `tests/git/content` compares them with git.

mod edits;
mod hostile;
mod merges;
mod reads;
