//! Walks from refs to every object they need.
