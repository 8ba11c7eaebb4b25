//! Limits on objects, shared by receive-pack and upload-pack: every accepted object can be fetched.

/// Deepest directory; the root has depth 0. Git's default of `core.maxTreeDepth`, past which its clients reject trees.
pub const MAX_TREE_DEPTH: u32 = 2048;
/// Size limit of a pushed commit, tree or tag in bytes. History walks read these objects whole. A tree of a million
/// files has about 40 MB.
pub const MAX_WALKED_BYTES: u64 = 128 << 20;
/// Stack size of threads that serve fetches, in bytes. Tree walks recurse up to [`MAX_TREE_DEPTH`] levels.
pub const WALK_STACK_BYTES: usize = 32 << 20;
/// Longest chain of nested tags that is peeled. Git has no such limit.
pub const MAX_TAG_DEPTH: usize = 1000;
