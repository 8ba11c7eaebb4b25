//! Which repositories are being delivered, which wait, and what has been heard of them meanwhile. No I/O.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use tokio::time::Instant;

use crate::events::due::{Asked, Due};
use gitferry_base::Kind;
use gitferry_base::retry::Pace;
use gitferry_replication::Which;

/// One repository on one link, by the place of the link.
pub(super) type Task = (usize, Which);

/// Who told that a repository changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// An event, or a row of the outbox.
    Event,
    /// A due mark, which a delivery answers.
    Due(Due),
    /// Nobody: its frontiers differ, or it lies where only a look tells whether they do.
    Sweep,
}

/// A delivery that begins now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The place of the link.
    pub link: usize,
    /// What is asked for.
    pub asked: Asked,
}

impl Start {
    pub fn task(&self) -> Task {
        (self.link, self.asked.which.clone())
    }
}

/// All that is known of tasks that are not at rest.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    states: HashMap<Task, State>,
    /// Those that may begin, first come first; an entry whose task has begun meanwhile counts for nothing.
    ready: VecDeque<Task>,
    /// Of these, those of which only a sweep told. They take turns with the others: a sweep may tell of all.
    swept: VecDeque<Task>,
    /// Whose turn it is.
    turn_of_swept: bool,
    /// When failed ones are tried again, soonest first.
    waits: BTreeSet<(Instant, Task)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It has not begun to look.
    #[default]
    Ready,
    Running,
    /// It failed and is tried again later.
    Waiting,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    pace: Option<Pace>,
    /// Marks that the running delivery answers, or the next one.
    marks: HashSet<Due>,
    /// Marks that came since the running delivery began.
    later: HashSet<Due>,
    /// Something came since the running delivery began.
    again: bool,
    /// Somebody else than a sweep told of it.
    announced: bool,
    /// A sweep told of it.
    swept: bool,
}

impl Tasks {
    /// Somebody told of a repository. However many tell of one that has not begun, it is one look; those that tell
    /// of one while it is being delivered come to one more; one that failed keeps its pace.
    pub fn hear(&mut self, task: Task, cause: Cause) {
        let is_new = !self.states.contains_key(&task);
        let state = self.states.entry(task.clone()).or_default();
        match cause {
            Cause::Sweep if is_new => self.swept.push_back(task),
            Cause::Due(_) | Cause::Event if state.phase == Phase::Ready && !state.announced => {
                self.ready.push_back(task);
            }
            _ => {}
        }
        state.announced |= cause != Cause::Sweep;
        state.swept |= cause == Cause::Sweep;
        let running = state.phase == Phase::Running;
        match cause {
            // A sweep of the marks comes by again and again while a long transfer runs.
            Cause::Due(due) if state.marks.contains(&due) || state.later.contains(&due) => {}
            Cause::Due(due) if running => {
                state.later.insert(due);
                state.again = true;
            }
            Cause::Due(due) => _ = state.marks.insert(due),
            Cause::Event => state.again |= running,
            // It is being looked at, or will be.
            Cause::Sweep => {}
        }
    }

    /// The next one begins.
    pub fn begin(&mut self) -> Option<Start> {
        loop {
            let task = self.next_ready()?;
            let Some(state) = self.states.get_mut(&task).filter(|state| state.phase == Phase::Ready) else { continue };
            state.phase = Phase::Running;
            let (link, which) = task;
            let marks = state.marks.iter().cloned().collect();
            return Some(Start { link, asked: Asked { which, marks, look: state.swept } });
        }
    }

    fn next_ready(&mut self) -> Option<Task> {
        self.turn_of_swept = !self.turn_of_swept;
        let (first, second) = match self.turn_of_swept {
            false => (&mut self.swept, &mut self.ready),
            true => (&mut self.ready, &mut self.swept),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// A delivery has ended, well or with a failure of some kind. `true`: only a sweep had told of it.
    pub fn ended(&mut self, task: &Task, failed: Option<Kind>, now: Instant) -> bool {
        let Some(mut state) = self.states.remove(task) else { return false };
        let unannounced = !state.announced;
        if let Some(kind) = failed {
            let wait = state.pace.get_or_insert_with(|| Pace::new(kind)).next_wait();
            state.phase = Phase::Waiting;
            state.marks.extend(std::mem::take(&mut state.later));
            state.again = false;
            self.states.insert(task.clone(), state);
            self.waits.insert((now + wait, task.clone()));
            return false;
        }
        if state.again {
            let again = State { marks: state.later, announced: state.announced, ..State::default() };
            self.states.insert(task.clone(), again);
            self.ready.push_back(task.clone());
        }
        unannounced
    }

    /// When the next one is to be tried again.
    pub fn next_wait(&self) -> Option<Instant> {
        self.waits.first().map(|(until, _)| *until)
    }

    /// Those whose wait is over may begin.
    pub fn ripen(&mut self, now: Instant) {
        while self.next_wait().is_some_and(|until| until <= now)
            && let Some((_, task)) = self.waits.pop_first()
            && let Some(state) = self.states.get_mut(&task)
        {
            state.phase = Phase::Ready;
            self.ready.push_back(task);
        }
    }

    /// Whether there is more to do for a repository.
    pub fn knows(&self, task: &Task) -> bool {
        self.states.contains_key(task)
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
    use gitferry_engine::ledger::head::RepositoryId;

    fn task(number: u128) -> Task {
        (0, Which::Id(RepositoryId(uuid::Uuid::from_u128(number))))
    }

    fn due(task: &Task, seq: u64) -> Due {
        let Which::Id(id) = task.1 else { panic!("it has no id") };
        Due::Change { id, seq }
    }

    /// The marks of the next one, which must be this one.
    fn begun(tasks: &mut Tasks, task: &Task) -> Vec<Due> {
        let mut start = tasks.begin().unwrap();
        assert_eq!(start.task(), *task);
        start.asked.marks.sort_by_key(|due| match due {
            Due::Change { seq, .. } => *seq,
            Due::News { .. } => 0,
        });
        start.asked.marks
    }

    #[test]
    fn any_number_of_events_come_to_one_more_look() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        tasks.hear(one.clone(), Cause::Event);
        assert_eq!(begun(&mut tasks, &one), []);
        for _ in 0..3 {
            tasks.hear(one.clone(), Cause::Event);
            tasks.hear(one.clone(), Cause::Due(due(&one, 7)));
            assert_eq!(tasks.begin(), None);
        }
        assert!(!tasks.ended(&one, None, now));
        assert_eq!(begun(&mut tasks, &one), [due(&one, 7)]);
        assert!(!tasks.ended(&one, None, now));
        assert_eq!((tasks.begin(), tasks.len()), (None, 0));
    }

    #[test]
    fn what_comes_before_it_has_begun_comes_to_one_look() {
        let (mut tasks, now, one, two) = (Tasks::default(), Instant::now(), task(1), task(2));
        tasks.hear(one.clone(), Cause::Sweep);
        tasks.hear(two.clone(), Cause::Sweep);
        for seq in [3, 4, 3] {
            tasks.hear(one.clone(), Cause::Due(due(&one, seq)));
            tasks.hear(one.clone(), Cause::Event);
        }
        assert_eq!(begun(&mut tasks, &one), [due(&one, 3), due(&one, 4)]);
        assert!(!tasks.ended(&one, None, now), "it was announced");
        assert_eq!(begun(&mut tasks, &two), []);
        assert_eq!(tasks.begin(), None);
    }

    #[test]
    fn a_mark_that_is_being_answered_starts_nothing() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        tasks.hear(one.clone(), Cause::Due(due(&one, 1)));
        assert_eq!(begun(&mut tasks, &one), [due(&one, 1)]);
        tasks.hear(one.clone(), Cause::Due(due(&one, 1)));
        assert!(!tasks.ended(&one, None, now));
        assert_eq!((tasks.begin(), tasks.len()), (None, 0));
    }

    #[test]
    fn what_failed_keeps_its_marks_and_its_pace_and_holds_up_nobody() {
        let (mut tasks, now, bad, good) = (Tasks::default(), Instant::now(), task(1), task(2));
        tasks.hear(bad.clone(), Cause::Due(due(&bad, 1)));
        assert_eq!(begun(&mut tasks, &bad), [due(&bad, 1)]);
        assert!(!tasks.ended(&bad, Some(Kind::Transient), now));
        tasks.hear(good.clone(), Cause::Event);
        tasks.hear(bad.clone(), Cause::Event);
        tasks.hear(bad.clone(), Cause::Due(due(&bad, 2)));
        tasks.ripen(now);
        assert_eq!(begun(&mut tasks, &good), []);
        assert_eq!(tasks.begin(), None);
        tasks.ripen(now + Duration::from_secs(10));
        assert_eq!(begun(&mut tasks, &bad), [due(&bad, 1), due(&bad, 2)]);
        assert_eq!(tasks.next_wait(), None);
        tasks.ended(&bad, Some(Kind::Transient), now);
        assert!(tasks.next_wait().unwrap() > now);
        tasks.ripen(now + 2 * Pace::LONGEST);
        assert_eq!(begun(&mut tasks, &bad), [due(&bad, 1), due(&bad, 2)]);
        tasks.ended(&bad, None, now);
        tasks.ended(&good, None, now);
        assert_eq!(tasks.len(), 0);
    }

    #[test]
    fn what_only_a_sweep_found_is_told_apart() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        tasks.hear(one.clone(), Cause::Sweep);
        begun(&mut tasks, &one);
        tasks.hear(one.clone(), Cause::Sweep);
        assert!(tasks.ended(&one, None, now));
        tasks.hear(one.clone(), Cause::Sweep);
        begun(&mut tasks, &one);
        tasks.hear(one.clone(), Cause::Event);
        assert!(!tasks.ended(&one, None, now));
        assert!(tasks.begin().is_some());
    }

    #[test]
    fn a_sweep_of_many_holds_up_none_that_is_announced() {
        let mut tasks = Tasks::default();
        for number in 0..100 {
            tasks.hear(task(number), Cause::Sweep);
        }
        tasks.hear(task(200), Cause::Event);
        // One that a sweep told of first is no later for that.
        tasks.hear(task(90), Cause::Event);
        let order: Vec<Task> = std::iter::from_fn(|| tasks.begin()).map(|start| start.task()).collect();
        assert_eq!(order[..4], [task(200), task(0), task(90), task(1)]);
        assert_eq!((order.len(), tasks.len()), (101, 101), "each once");
    }

    #[test]
    fn only_a_sweep_asks_for_a_look() {
        let (mut tasks, now, one) = (Tasks::default(), Instant::now(), task(1));
        tasks.hear(one.clone(), Cause::Due(due(&one, 1)));
        assert!(!tasks.begin().unwrap().asked.look);
        tasks.ended(&one, None, now);
        tasks.hear(one.clone(), Cause::Due(due(&one, 2)));
        tasks.hear(one.clone(), Cause::Sweep);
        assert!(tasks.begin().unwrap().asked.look);
        // It has not looked when it failed.
        tasks.ended(&one, Some(Kind::Transient), now);
        tasks.ripen(now + 2 * Pace::LONGEST);
        assert!(tasks.begin().unwrap().asked.look);
    }
}
