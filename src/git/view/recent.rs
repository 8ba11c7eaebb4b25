//! [`RecentTips`]: previous values of refs. Successive views share all chunks but the last.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use gix::ObjectId;
use gix::hash::oid;
use jiff::Timestamp;

/// Number of values in a full chunk.
const CHUNK_TIPS: usize = 256;

/// Queue of replaced ref values with the time of their replacement, oldest first. The cost of a clone is proportional
/// to the number of chunks.
#[derive(Clone, Debug, Default)]
pub struct RecentTips {
    /// Chunks, full except for the last.
    chunks: VecDeque<Arc<Chunk>>,
    /// Number of values removed from the front of the first chunk.
    forgotten: usize,
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Chunk {
    tips: Vec<(Timestamp, ObjectId)>,
    /// Sorted ids of a full chunk, computed on first use.
    sorted: OnceLock<Vec<ObjectId>>,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.tips.len() >= CHUNK_TIPS
    }

    /// Returns true if an id is among the values, starting at a row.
    fn contains(&self, id: &oid, from: usize) -> bool {
        if from > 0 || !self.is_full() {
            return self.tips.iter().skip(from).any(|(_, tip)| tip.as_ref() as &oid == id);
        }
        let sorted = self.sorted.get_or_init(|| {
            let mut ids: Vec<ObjectId> = self.tips.iter().map(|(_, id)| *id).collect();
            ids.sort_unstable();
            ids
        });
        sorted.binary_search_by(|tip| (tip.as_ref() as &oid).cmp(id)).is_ok()
    }
}

impl RecentTips {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a value and the time of its replacement.
    pub fn push(&mut self, time: Timestamp, id: ObjectId) {
        self.len += 1;
        match self.chunks.back_mut().filter(|chunk| !chunk.is_full()) {
            Some(chunk) => Arc::make_mut(chunk).tips.push((time, id)),
            None => self.chunks.push_back(Arc::new(Chunk { tips: vec![(time, id)], sorted: OnceLock::new() })),
        }
    }

    /// Returns the time at which the oldest value was replaced.
    pub fn first_time(&self) -> Option<Timestamp> {
        let (time, _) = self.chunks.front()?.tips.get(self.forgotten)?;
        Some(*time)
    }

    /// Removes the oldest value.
    pub fn forget_first(&mut self) {
        let Some(first) = self.chunks.front() else { return };
        self.len -= 1;
        self.forgotten += 1;
        if self.forgotten >= first.tips.len() {
            self.chunks.pop_front();
            self.forgotten = 0;
        }
    }

    /// Iterates over the values, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.tips.iter().map(|(_, id)| *id)).skip(self.forgotten)
    }

    /// Returns true if an id is among the values.
    pub fn contains(&self, id: &oid) -> bool {
        let mut from = self.forgotten;
        self.chunks.iter().any(|chunk| chunk.contains(id, std::mem::take(&mut from)))
    }
}

impl FromIterator<(Timestamp, ObjectId)> for RecentTips {
    fn from_iter<I: IntoIterator<Item = (Timestamp, ObjectId)>>(values: I) -> Self {
        let mut tips = RecentTips::default();
        values.into_iter().for_each(|(time, id)| tips.push(time, id));
        tips
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gix::hash::Kind::Sha1;

    fn id(number: u32) -> ObjectId {
        gix::objs::compute_hash(Sha1, gix::objs::Kind::Blob, &number.to_be_bytes()).unwrap()
    }

    fn at(number: u32) -> Timestamp {
        Timestamp::from_second(number.into()).unwrap()
    }

    #[test]
    fn it_is_a_queue_whose_copies_stay_as_they_are() {
        let mut tips = RecentTips::default();
        let mut model: VecDeque<u32> = VecDeque::new();
        let mut copies = Vec::new();
        let check = |tips: &RecentTips, model: &VecDeque<u32>| {
            assert_eq!((tips.len(), tips.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(tips.iter().collect::<Vec<_>>(), model.iter().map(|n| id(*n)).collect::<Vec<_>>());
            assert_eq!(tips.first_time(), model.front().map(|n| at(*n)));
            for number in 0..1_400 {
                assert_eq!(tips.contains(&id(number)), model.contains(&number), "{number}");
            }
        };
        for number in 0..1_300 {
            tips.push(at(number), id(number));
            model.push_back(number);
            // It shrinks in the second half.
            for _ in 0..if number % 2 == 0 || number > 700 { 1 + number / 700 } else { 0 } {
                tips.forget_first();
                model.pop_front();
            }
            if number % 97 == 0 {
                check(&tips, &model);
                copies.push((tips.clone(), model.clone()));
            }
        }
        tips.forget_first();
        check(&tips, &model.into_iter().skip(1).collect());
        copies.iter().for_each(|(tips, model)| check(tips, model));
    }

    #[test]
    fn the_next_state_shares_all_but_the_last_chunk() {
        let tips: RecentTips = (0..1_000).map(|number| (at(number), id(number))).collect();
        let mut next = tips.clone();
        next.push(at(1_000), id(1_000));
        next.forget_first();
        let shared = tips.chunks.iter().zip(&next.chunks).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!((shared.count(), tips.chunks.len()), (3, 4));
    }
}
