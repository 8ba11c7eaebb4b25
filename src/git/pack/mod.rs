//! Packs: checking, indexing, building.
