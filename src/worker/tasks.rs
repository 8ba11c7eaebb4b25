//! Which repositories are being delivered, which wait, and what has been heard of them meanwhile. No I/O.

use std::collections::{BTreeSet, HashMap, HashSet};

use tokio::time::Instant;

use crate::Kind;
use crate::events::due::Due;
use crate::ledger::head::RepositoryId;
use crate::retry::Pace;

/// One repository on one link, by the place of the link.
pub(super) type Task = (usize, RepositoryId);

/// Who told that a repository changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// An event, or a row of the outbox.
    Event,
    /// A due mark, which a delivery answers.
    Due(Due),
    /// Nobody: its frontiers differ.
    Sweep,
}

/// A delivery that is to start now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub task: Task,
    /// The marks that it answers.
    pub marks: Vec<Due>,
}

/// All that is known of tasks that are not at rest.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    states: HashMap<Task, State>,
    /// When failed ones are tried again, soonest first.
    waits: BTreeSet<(Instant, Task)>,
}

#[derive(Debug, Default)]
struct State {
    /// When it is tried again; `None` while it runs.
    waits_until: Option<Instant>,
    pace: Option<Pace>,
    /// Marks that the running delivery answers, or the next one when it waits.
    marks: HashSet<Due>,
    /// Marks that came since the running delivery began.
    later: HashSet<Due>,
    /// Something came since the running delivery began.
    again: bool,
    /// Somebody else than a sweep told of it.
    announced: bool,
}

impl Tasks {
    /// Somebody told of a repository. Several that tell of one while it is being delivered come to one more look;
    /// one that failed keeps its pace.
    pub fn hear(&mut self, task: Task, cause: Cause) -> Option<Start> {
        let known = self.states.contains_key(&task);
        let state = self.states.entry(task).or_default();
        state.announced |= cause != Cause::Sweep;
        match cause {
            // A sweep of the marks comes by again and again while a long transfer runs.
            Cause::Due(due) if state.marks.contains(&due) || state.later.contains(&due) => {}
            Cause::Due(due) if known && state.waits_until.is_none() => {
                state.later.insert(due);
                state.again = true;
            }
            Cause::Due(due) => _ = state.marks.insert(due),
            Cause::Event => state.again |= known && state.waits_until.is_none(),
            // It is being looked at.
            Cause::Sweep => {}
        }
        (!known).then(|| Start { task, marks: state.marks.iter().cloned().collect() })
    }

    /// A delivery has ended, well or with a failure of some kind. `true` beside the next start: only a sweep had
    /// told of it.
    pub fn ended(&mut self, task: Task, failed: Option<Kind>, now: Instant) -> (Option<Start>, bool) {
        let Some(mut state) = self.states.remove(&task) else { return (None, false) };
        let unannounced = !state.announced;
        if let Some(kind) = failed {
            let wait = state.pace.get_or_insert_with(|| Pace::new(kind)).next_wait();
            let until = now + wait;
            state.waits_until = Some(until);
            state.marks.extend(std::mem::take(&mut state.later));
            state.again = false;
            self.states.insert(task, state);
            self.waits.insert((until, task));
            return (None, false);
        }
        if !state.again {
            return (None, unannounced);
        }
        let marks = state.later;
        let start = Start { task, marks: marks.iter().cloned().collect() };
        self.states.insert(task, State { marks, announced: state.announced, ..State::default() });
        (Some(start), unannounced)
    }

    /// When the next one is to be tried again.
    pub fn next_wait(&self) -> Option<Instant> {
        self.waits.first().map(|(until, _)| *until)
    }

    /// One whose wait is over.
    pub fn ripe(&mut self, now: Instant) -> Option<Start> {
        let (until, task) = *self.waits.first()?;
        if until > now {
            return None;
        }
        self.waits.pop_first();
        let state = self.states.get_mut(&task)?;
        state.waits_until = None;
        Some(Start { task, marks: state.marks.iter().cloned().collect() })
    }

    /// How many are not at rest, those that wait included.
    pub fn len(&self) -> usize {
        self.states.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task(number: u128) -> Task {
        (0, RepositoryId(uuid::Uuid::from_u128(number)))
    }

    fn due(task: Task, seq: u64) -> Due {
        Due { id: task.1, seq }
    }

    #[test]
    fn any_number_of_events_come_to_one_more_look() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        assert_eq!(tasks.hear(one, Cause::Event), Some(Start { task: one, marks: vec![] }));
        for seq in 1..=3 {
            assert_eq!(tasks.hear(one, Cause::Event), None);
            assert_eq!(tasks.hear(one, Cause::Due(due(one, 7))), None, "{seq}");
        }
        let again = Start { task: one, marks: vec![due(one, 7)] };
        assert_eq!(tasks.ended(one, None, now), (Some(again), false));
        assert_eq!(tasks.ended(one, None, now), (None, false));
        assert_eq!(tasks.len(), 0);
    }

    #[test]
    fn a_mark_that_is_being_answered_starts_nothing() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        assert_eq!(tasks.hear(one, Cause::Due(due(one, 1))).unwrap().marks, [due(one, 1)]);
        assert_eq!(tasks.hear(one, Cause::Due(due(one, 1))), None);
        assert_eq!(tasks.ended(one, None, now), (None, false));
    }

    #[test]
    fn what_failed_keeps_its_marks_and_its_pace_and_holds_up_nobody() {
        let (mut tasks, now, bad, good) = (Tasks::default(), Instant::now(), task(1), task(2));
        tasks.hear(bad, Cause::Due(due(bad, 1)));
        assert_eq!(tasks.ended(bad, Some(Kind::Transient), now), (None, false));
        assert!(tasks.hear(good, Cause::Event).is_some());
        assert_eq!(tasks.hear(bad, Cause::Event), None);
        assert_eq!(tasks.hear(bad, Cause::Due(due(bad, 2))), None);
        assert_eq!(tasks.ripe(now), None);
        let mut start = tasks.ripe(now + Duration::from_secs(10)).unwrap();
        start.marks.sort_by_key(|due| due.seq);
        assert_eq!(start.marks, [due(bad, 1), due(bad, 2)]);
        let first = tasks.next_wait();
        assert_eq!(first, None);
        tasks.ended(bad, Some(Kind::Transient), now);
        assert!(tasks.next_wait().unwrap() > now);
        assert!(tasks.ripe(now + 2 * Pace::LONGEST).is_some());
        assert_eq!(tasks.ended(bad, None, now), (None, false));
        assert_eq!(tasks.ended(good, None, now), (None, false));
        assert_eq!(tasks.len(), 0);
    }

    #[test]
    fn what_only_a_sweep_found_is_told_apart() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        tasks.hear(one, Cause::Sweep);
        assert_eq!(tasks.hear(one, Cause::Sweep), None);
        assert_eq!(tasks.ended(one, None, now), (None, true));
        tasks.hear(one, Cause::Sweep);
        tasks.hear(one, Cause::Event);
        assert!(matches!(tasks.ended(one, None, now), (Some(_), false)));
    }
}
