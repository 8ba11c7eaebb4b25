//! [`SlotSet`]: sets of objects as bitmaps over the slots of a pack set.

/// Fixed-size bitmap of slots.
#[derive(Clone, Debug)]
pub(crate) struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// Creates an empty set for slots below `slots`.
    pub(crate) fn new(slots: u64) -> Self {
        SlotSet { words: vec![0; usize::try_from(slots.div_ceil(64)).unwrap_or(usize::MAX)] }
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u64) -> bool {
        self.words.get((slot / 64) as usize).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    /// Adds a slot. Returns true if the slot was absent; false, without effect, if it is out of range.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u64) -> bool {
        let Some(word) = self.words.get_mut((slot / 64) as usize) else { return false };
        let bit = 1 << (slot % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Removes a slot. Returns true if the slot was present.
    pub(crate) fn remove(&mut self, slot: u64) -> bool {
        let Some(word) = self.words.get_mut((slot / 64) as usize) else { return false };
        let bit = 1 << (slot % 64);
        let was = *word & bit != 0;
        *word &= !bit;
        was
    }

    /// Number of slots in the set.
    pub(crate) fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Iterates over the slots in ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                rest &= rest.checked_sub(1)?;
                Some(at as u64 * 64 + u64::from(bit))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(slots in proptest::collection::vec((0..300u64, any::<bool>()), 0..200)) {
            let (mut ours, mut theirs) = (SlotSet::new(300), BTreeSet::new());
            for (slot, insert) in slots {
                if insert {
                    prop_assert_eq!(ours.insert(slot), theirs.insert(slot));
                } else {
                    prop_assert_eq!(ours.remove(slot), theirs.remove(&slot));
                }
                prop_assert_eq!(ours.contains(slot), theirs.contains(&slot));
            }
            prop_assert_eq!(ours.len(), theirs.len() as u64);
            prop_assert!(ours.iter().eq(theirs));
            prop_assert!(!ours.contains(1 << 40) && !ours.insert(1 << 40));
        }
    }
}
