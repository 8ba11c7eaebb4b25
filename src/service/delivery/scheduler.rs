//! Scheduler of the deliveries of a link: which repositories wait, are being delivered or back off, and what was
//! requested meanwhile. No I/O.
//!
//! Any number of requests for a repository that has not begun come to one delivery; requests during a delivery come
//! to one more. A repository that failed backs off and holds up no other.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use tokio::time::Instant;

use super::job::{PendingJob, RepositoryKey};
use super::request::DeliveryRequest;
use gitferry_base::Kind;
use gitferry_base::retry::Backoff;

/// One repository on one link, by the position of the link in its worker.
pub(crate) type Task = (usize, RepositoryKey);

/// Origin of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An event within the process, or a row of the outbox.
    Event,
    /// A pending job, which the delivery answers.
    Job(PendingJob),
    /// A sweep that found different frontiers, or a repository that only a comparison of its refs can settle.
    Sweep,
}

/// A delivery that starts now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Position of the link.
    pub link: usize,
    /// The request that the delivery has to answer.
    pub request: DeliveryRequest,
}

impl Start {
    pub fn task(&self) -> Task {
        (self.link, self.request.repository.clone())
    }
}

/// State of all tasks that are waiting, running or backing off.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    states: HashMap<Task, State>,
    /// Tasks that may start, in the order of their requests. An entry whose task has started meanwhile is skipped.
    ready: VecDeque<Task>,
    /// Tasks that only a sweep has requested. They alternate with the others, as a sweep may request every repository.
    swept: VecDeque<Task>,
    /// True if a task of `ready` goes first.
    ready_first: bool,
    /// Ends of the backoff of failed tasks, soonest first.
    backoffs: BTreeSet<(Instant, Task)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Has not started.
    #[default]
    Ready,
    Running,
    /// Failed, and starts again when its backoff ends.
    BackingOff,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    backoff: Option<Backoff>,
    /// Jobs that the running delivery answers, or the next one.
    jobs: HashSet<PendingJob>,
    /// Jobs requested since the running delivery started.
    later: HashSet<PendingJob>,
    /// True if there was a request since the running delivery started.
    again: bool,
    /// True if anything but a sweep has requested the task.
    announced: bool,
    /// True if a sweep has requested the task.
    swept: bool,
}

impl Scheduler {
    /// Requests a delivery.
    pub fn request(&mut self, task: Task, cause: Cause) {
        let is_new = !self.states.contains_key(&task);
        let state = self.states.entry(task.clone()).or_default();
        match cause {
            Cause::Sweep if is_new => self.swept.push_back(task),
            Cause::Job(_) | Cause::Event if state.phase == Phase::Ready && !state.announced => {
                self.ready.push_back(task);
            }
            _ => {}
        }
        state.announced |= cause != Cause::Sweep;
        state.swept |= cause == Cause::Sweep;
        let running = state.phase == Phase::Running;
        match cause {
            // Pending jobs are read again and again while a long transfer runs.
            Cause::Job(job) if state.jobs.contains(&job) || state.later.contains(&job) => {}
            Cause::Job(job) if running => {
                state.later.insert(job);
                state.again = true;
            }
            Cause::Job(job) => _ = state.jobs.insert(job),
            Cause::Event => state.again |= running,
            // The task is running, or will start.
            Cause::Sweep => {}
        }
    }

    /// Starts the next task.
    pub fn start_next(&mut self) -> Option<Start> {
        loop {
            let task = self.next_ready()?;
            let Some(state) = self.states.get_mut(&task).filter(|state| state.phase == Phase::Ready) else { continue };
            state.phase = Phase::Running;
            let (link, repository) = task;
            let jobs = state.jobs.iter().cloned().collect();
            return Some(Start { link, request: DeliveryRequest { repository, jobs, compare: state.swept } });
        }
    }

    fn next_ready(&mut self) -> Option<Task> {
        self.ready_first = !self.ready_first;
        let (first, second) =
            if self.ready_first { (&mut self.ready, &mut self.swept) } else { (&mut self.swept, &mut self.ready) };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Ends a delivery, with the kind of its failure if it failed. Returns true if it succeeded and only a sweep had
    /// requested it.
    pub fn end(&mut self, task: &Task, failed: Option<Kind>, now: Instant) -> bool {
        let Some(mut state) = self.states.remove(task) else { return false };
        debug_assert_eq!(state.phase, Phase::Running, "only a running task ends");
        let unannounced = !state.announced;
        if let Some(kind) = failed {
            let wait = state.backoff.get_or_insert_with(|| Backoff::new(kind)).next_wait();
            state.phase = Phase::BackingOff;
            state.jobs.extend(std::mem::take(&mut state.later));
            state.again = false;
            self.states.insert(task.clone(), state);
            self.backoffs.insert((now + wait, task.clone()));
            return false;
        }
        if state.again {
            let again = State { jobs: state.later, announced: state.announced, ..State::default() };
            self.states.insert(task.clone(), again);
            self.ready.push_back(task.clone());
        }
        unannounced
    }

    /// The next end of a backoff.
    pub fn next_backoff_end(&self) -> Option<Instant> {
        self.backoffs.first().map(|(until, _)| *until)
    }

    /// Makes the tasks ready whose backoff has ended.
    pub fn end_backoffs(&mut self, now: Instant) {
        while self.next_backoff_end().is_some_and(|until| until <= now)
            && let Some((_, task)) = self.backoffs.pop_first()
            && let Some(state) = self.states.get_mut(&task)
        {
            state.phase = Phase::Ready;
            self.ready.push_back(task);
        }
    }

    /// Returns true if the task is waiting, running or backing off.
    pub fn contains(&self, task: &Task) -> bool {
        self.states.contains_key(task)
    }

    /// Number of tasks that are waiting, running or backing off.
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
        (0, RepositoryKey::Id(RepositoryId(uuid::Uuid::from_u128(number))))
    }

    fn job(task: &Task, seq: u64) -> PendingJob {
        let RepositoryKey::Id(id) = task.1 else { panic!("it has no id") };
        PendingJob::Change { id, seq }
    }

    /// The jobs of the next one, which must be this one.
    fn begun(scheduler: &mut Scheduler, task: &Task) -> Vec<PendingJob> {
        let mut start = scheduler.start_next().unwrap();
        assert_eq!(start.task(), *task);
        start.request.jobs.sort_by_key(|job| match job {
            PendingJob::Change { seq, .. } => *seq,
            PendingJob::Event { .. } => 0,
        });
        start.request.jobs
    }

    #[test]
    fn any_number_of_events_come_to_one_more_delivery() {
        let (mut scheduler, now, one) = (Scheduler::default(), Instant::now(), task(1));
        scheduler.request(one.clone(), Cause::Event);
        assert_eq!(begun(&mut scheduler, &one), []);
        for _ in 0..3 {
            scheduler.request(one.clone(), Cause::Event);
            scheduler.request(one.clone(), Cause::Job(job(&one, 7)));
            assert_eq!(scheduler.start_next(), None);
        }
        assert!(!scheduler.end(&one, None, now));
        assert_eq!(begun(&mut scheduler, &one), [job(&one, 7)]);
        assert!(!scheduler.end(&one, None, now));
        assert_eq!((scheduler.start_next(), scheduler.len()), (None, 0));
    }

    #[test]
    fn what_comes_before_it_has_begun_comes_to_one_delivery() {
        let (mut scheduler, now, one, two) = (Scheduler::default(), Instant::now(), task(1), task(2));
        scheduler.request(one.clone(), Cause::Sweep);
        scheduler.request(two.clone(), Cause::Sweep);
        for seq in [3, 4, 3] {
            scheduler.request(one.clone(), Cause::Job(job(&one, seq)));
            scheduler.request(one.clone(), Cause::Event);
        }
        assert_eq!(begun(&mut scheduler, &one), [job(&one, 3), job(&one, 4)]);
        assert!(!scheduler.end(&one, None, now), "it was announced");
        assert_eq!(begun(&mut scheduler, &two), []);
        assert_eq!(scheduler.start_next(), None);
    }

    #[test]
    fn a_job_that_is_being_answered_starts_nothing() {
        let (mut scheduler, now, one) = (Scheduler::default(), Instant::now(), task(1));
        scheduler.request(one.clone(), Cause::Job(job(&one, 1)));
        assert_eq!(begun(&mut scheduler, &one), [job(&one, 1)]);
        scheduler.request(one.clone(), Cause::Job(job(&one, 1)));
        assert!(!scheduler.end(&one, None, now));
        assert_eq!((scheduler.start_next(), scheduler.len()), (None, 0));
    }

    #[test]
    fn what_failed_keeps_its_jobs_and_its_backoff_and_holds_up_no_other() {
        let (mut scheduler, now, bad, good) = (Scheduler::default(), Instant::now(), task(1), task(2));
        scheduler.request(bad.clone(), Cause::Job(job(&bad, 1)));
        assert_eq!(begun(&mut scheduler, &bad), [job(&bad, 1)]);
        assert!(!scheduler.end(&bad, Some(Kind::Transient), now));
        scheduler.request(good.clone(), Cause::Event);
        scheduler.request(bad.clone(), Cause::Event);
        scheduler.request(bad.clone(), Cause::Job(job(&bad, 2)));
        scheduler.end_backoffs(now);
        assert_eq!(begun(&mut scheduler, &good), []);
        assert_eq!(scheduler.start_next(), None);
        scheduler.end_backoffs(now + Duration::from_secs(10));
        assert_eq!(begun(&mut scheduler, &bad), [job(&bad, 1), job(&bad, 2)]);
        assert_eq!(scheduler.next_backoff_end(), None);
        scheduler.end(&bad, Some(Kind::Transient), now);
        assert!(scheduler.next_backoff_end().unwrap() > now);
        scheduler.end_backoffs(now + 2 * Backoff::LONGEST);
        assert_eq!(begun(&mut scheduler, &bad), [job(&bad, 1), job(&bad, 2)]);
        scheduler.end(&bad, None, now);
        scheduler.end(&good, None, now);
        assert_eq!(scheduler.len(), 0);
    }

    #[test]
    fn what_only_a_sweep_found_is_told_apart() {
        let (mut scheduler, now, one) = (Scheduler::default(), Instant::now(), task(1));
        scheduler.request(one.clone(), Cause::Sweep);
        begun(&mut scheduler, &one);
        scheduler.request(one.clone(), Cause::Sweep);
        assert!(scheduler.end(&one, None, now));
        scheduler.request(one.clone(), Cause::Sweep);
        begun(&mut scheduler, &one);
        scheduler.request(one.clone(), Cause::Event);
        assert!(!scheduler.end(&one, None, now));
        assert!(scheduler.start_next().is_some());
    }

    #[test]
    fn a_sweep_of_many_holds_up_none_that_is_announced() {
        let mut scheduler = Scheduler::default();
        for number in 0..100 {
            scheduler.request(task(number), Cause::Sweep);
        }
        scheduler.request(task(200), Cause::Event);
        // A repository that a sweep requested first is no later for that.
        scheduler.request(task(90), Cause::Event);
        let order: Vec<Task> = std::iter::from_fn(|| scheduler.start_next()).map(|start| start.task()).collect();
        assert_eq!(order[..4], [task(200), task(0), task(90), task(1)]);
        assert_eq!((order.len(), scheduler.len()), (101, 101), "each once");
    }

    #[test]
    fn only_a_sweep_asks_for_a_comparison() {
        let (mut scheduler, now, one) = (Scheduler::default(), Instant::now(), task(1));
        scheduler.request(one.clone(), Cause::Job(job(&one, 1)));
        assert!(!scheduler.start_next().unwrap().request.compare);
        scheduler.end(&one, None, now);
        scheduler.request(one.clone(), Cause::Job(job(&one, 2)));
        scheduler.request(one.clone(), Cause::Sweep);
        assert!(scheduler.start_next().unwrap().request.compare);
        // It has not looked when it failed.
        scheduler.end(&one, Some(Kind::Transient), now);
        scheduler.end_backoffs(now + 2 * Backoff::LONGEST);
        assert!(scheduler.start_next().unwrap().request.compare);
    }
}
