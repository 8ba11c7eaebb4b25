//! Garbage collection of a region beside the other work of a process.

use gitferry_base::supervise::Supervisor;
use gitferry_engine::region::Region;
use gitferry_service::worker::garbage::{SWEEP_EVERY, collect};

/// Collects the garbage of a region at the start and every [`SWEEP_EVERY`], as a supervised task.
pub fn keep_collecting(region: Region, tasks: &mut Supervisor) {
    let stop = tasks.stop();
    let task = format!("the garbage collection of {}", region.name());
    tasks.keep(task, move || collect(region.clone(), SWEEP_EVERY, stop.clone()));
}
