//! Levels of directories below the trees of a pack, bounded by the links that the check of the pack finds anyway: no
//! tree is read again.

use super::entries::Families;

/// Tree and one of its subtrees, as entries of one pack. Eight bytes per link that a tree does not share with its delta
/// base, about one per tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nested {
    pub(crate) subtree: u32,
    pub(crate) tree: u32,
}

/// Returns an upper bound of the levels of directories below any tree of a pack, 0 if no tree has subtrees. `None` if
/// the links give no bound: some deltas name their bases by id, links and deltas together form a cycle, or a tree has
/// more than 65,534 new subtrees.
///
/// `nested` holds the links that a tree does not share with its delta base, in one list per thread. The base bounds the
/// shared ones: a tree has at most as many levels as its base, or one more than its deepest new subtree.
///
/// Memory: four bytes per object, and four per tree that waits for no other.
pub(crate) fn levels(
    families: &Families,
    objects: u32,
    mut nested: Vec<Vec<Nested>>,
    is_tree: impl Fn(u32) -> bool,
) -> Option<u16> {
    if !families.by_id().is_empty() {
        return None;
    }
    let mut search =
        Search { levels: vec![0; objects as usize], awaited: vec![0; objects as usize], known: Vec::new() };
    for list in &mut nested {
        // A link to an object that is no tree, which the check reports, has no levels below it.
        list.retain(|link| is_tree(link.subtree));
        list.sort_unstable();
        list.iter().try_for_each(|link| search.await_one(link.tree))?;
    }
    let mut trees = 0;
    for tree in (0..objects).filter(|entry| is_tree(*entry)) {
        trees += 1;
        for position in families.children(tree) {
            search.await_one(families.child(position))?;
        }
    }
    search.known.extend((0..objects).filter(|entry| is_tree(*entry) && search.awaited[*entry as usize] == 0));
    let mut done = 0;
    let mut deepest = 0;
    while let Some(tree) = search.known.pop() {
        done += 1;
        let levels = search.levels[tree as usize];
        deepest = deepest.max(levels);
        for position in families.children(tree) {
            search.raise(families.child(position), levels);
        }
        for list in &nested {
            let first = list.partition_point(|link| link.subtree < tree);
            for link in list[first..].iter().take_while(|link| link.subtree == tree) {
                search.raise(link.tree, levels.saturating_add(1));
            }
        }
    }
    // Trees of a cycle wait for each other.
    (done == trees).then_some(deepest)
}

struct Search {
    /// Bound of each tree so far.
    levels: Vec<u16>,
    /// Number of trees that each tree waits for: its delta base, and its new subtrees.
    awaited: Vec<u16>,
    /// Trees whose bound is final.
    known: Vec<u32>,
}

impl Search {
    /// Lets a tree wait for one more; `None` if the tree has too many new subtrees to count.
    fn await_one(&mut self, tree: u32) -> Option<()> {
        let awaited = &mut self.awaited[tree as usize];
        *awaited = awaited.checked_add(1)?;
        Some(())
    }

    /// Raises the bound of a tree to that of one that it waited for.
    fn raise(&mut self, tree: u32, levels: u16) {
        let at = tree as usize;
        self.levels[at] = self.levels[at].max(levels);
        self.awaited[at] -= 1;
        if self.awaited[at] == 0 {
            self.known.push(tree);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Links from trees to subtrees, in two lists.
    fn nested(links: &[(u32, u32)]) -> Vec<Vec<Nested>> {
        let list = |links: &[(u32, u32)]| -> Vec<Nested> {
            links.iter().map(|(tree, subtree)| Nested { tree: *tree, subtree: *subtree }).collect()
        };
        let (one, other) = links.split_at(links.len() / 2);
        vec![list(one), list(other)]
    }

    #[test]
    fn levels_come_from_subtrees_and_delta_bases() {
        let none = Families::of_bases(&[None; 4]);
        assert_eq!(levels(&none, 4, Vec::new(), |_| true), Some(0));
        assert_eq!(levels(&none, 4, nested(&[(0, 1), (1, 2), (0, 3), (0, 3)]), |_| true), Some(2));
        // Entry 3 is a delta on entry 0 and shares its subtree; entry 2 has entry 3 as a subtree.
        let delta = Families::of_bases(&[None, None, None, Some(0)]);
        assert_eq!(levels(&delta, 4, nested(&[(0, 1), (2, 3)]), |_| true), Some(2));
    }

    #[test]
    fn cycles_give_no_bound_and_other_objects_do_not_count() {
        let none = Families::of_bases(&[None; 3]);
        assert_eq!(levels(&none, 3, nested(&[(0, 1), (1, 0)]), |_| true), None);
        let delta = Families::of_bases(&[None, Some(0), None]);
        assert_eq!(levels(&delta, 3, nested(&[(0, 1)]), |_| true), None);
        // Entry 1 is no tree.
        assert_eq!(levels(&none, 3, nested(&[(0, 1), (2, 0)]), |entry| entry != 1), Some(1));
    }

    #[test]
    fn memory_per_object_and_link() {
        let search = Search { levels: vec![0; 1000], awaited: vec![0; 1000], known: Vec::new() };
        let bytes = std::mem::size_of_val(&search.levels[..]) + std::mem::size_of_val(&search.awaited[..]);
        assert_eq!((bytes / 1000, std::mem::size_of::<Nested>()), (4, 8));
    }

    proptest! {
        /// Without deltas, the bound is the longest path.
        #[test]
        fn the_bound_is_never_too_low(links in prop::collection::vec((0u32..40, 0u32..40), 0..120)) {
            let links: Vec<(u32, u32)> = links.into_iter().filter(|(tree, subtree)| tree < subtree).collect();
            let mut longest = [0u16; 40];
            for tree in (0..40u32).rev() {
                let below = links.iter().filter(|link| link.0 == tree).map(|link| longest[link.1 as usize] + 1);
                longest[tree as usize] = below.max().unwrap_or(0);
            }
            let none = Families::of_bases(&[None; 40]);
            prop_assert_eq!(levels(&none, 40, nested(&links), |_| true), longest.iter().copied().max());
        }
    }
}
