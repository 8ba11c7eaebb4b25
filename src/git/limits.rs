//! Limits on what objects may be like, the same where objects come in and where they are served: whatever is accepted
//! can be fetched.

/// Deepest directory, the root being 0: Git's `core.maxTreeDepth`, beyond which its clients refuse a history.
pub const MAX_TREE_DEPTH: u32 = 2048;
/// Largest commit, tree or tag that a push may bring, in bytes: every walk of a history reads those whole. A tree of
/// a million files has some 40 MB.
pub const MAX_WALKED_BYTES: u64 = 128 << 20;
/// Stack of threads that serve fetches: walks go down into directories by recursion, [`MAX_TREE_DEPTH`] deep.
pub const WALK_STACK_BYTES: usize = 32 << 20;
/// Most tags of tags that a tag is followed through. Git has no limit.
pub const MAX_TAG_DEPTH: usize = 1000;
