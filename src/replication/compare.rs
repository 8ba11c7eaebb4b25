//! What differs between the two sides of a link.

use super::pass::Pair;
use super::plan::{Standing, standing};

/// In words, what is different between source and target; nothing where they are identical. Frontiers are
/// hashes over all of history: equal ones mean equal refs and packs.
pub fn differences(pair: &Pair) -> Vec<String> {
    let (name, source) = (&pair.source.head.name, &pair.source.head);
    let Some(target) = &pair.target else {
        return vec![format!("{name} is not in the target yet: replicate brings it")];
    };
    match standing(source, Some(&target.head)) {
        Standing::Equal if source.refs_digest != target.head.refs_digest => {
            vec![format!("{name} has the same ledger but other refs in the target: its head is damaged")]
        }
        Standing::Equal => Vec::new(),
        Standing::Diverged(reason) => vec![format!("{name}: fork: {reason}")],
        Standing::Behind(from) => {
            let (ours, theirs) = (from.seq, source.frontier.seq);
            vec![format!("{name}: the target is at change {ours}, the source at {theirs}: replicate brings the rest")]
        }
    }
}
