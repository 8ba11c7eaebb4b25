//! Runs a process and measures it: wall time, processor time, what it writes to disk, and the peak memory of the
//! largest process in its tree.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the memory of a process tree is looked at.
const POLL_EVERY: Duration = Duration::from_millis(2);
/// Bytes of the blocks that getrusage(2) counts.
const BLOCK_BYTES: u64 = 512;

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From before its start to after its end.
    pub wall: Duration,
    /// Processor time of all its processes, or of the server where that is measured; 0 where it is not.
    pub cpu: Duration,
    /// Peak resident memory of the largest single process, in KiB, as the kernel keeps it.
    pub rss_kib: u64,
    /// Peak anonymous resident memory of the largest single process, in KiB, as seen by polling: 0 when
    /// the process was gone before the first look.
    pub anon_kib: u64,
    /// Bytes that all its processes have written to disk, in whole blocks.
    pub written: u64,
    /// Requests to servers, where they are counted.
    pub requests: Option<u64>,
}

impl Sample {
    /// Work inside this process, of which only the time is known.
    pub fn timed(work: impl FnOnce() -> io::Result<()>) -> io::Result<Sample> {
        let start = Instant::now();
        work()?;
        Ok(Sample { wall: start.elapsed(), ..Sample::default() })
    }

    /// Two runs, one after the other.
    pub fn then(self, next: Sample) -> Sample {
        Sample {
            wall: self.wall + next.wall,
            cpu: self.cpu + next.cpu,
            rss_kib: self.rss_kib.max(next.rss_kib),
            anon_kib: self.anon_kib.max(next.anon_kib),
            written: self.written + next.written,
            requests: self.requests.zip(next.requests).map(|(one, other)| one + other),
        }
    }
}

/// Runs a command to its end. Its output is dropped; a failure is an error that shows what it said.
pub fn run(command: &mut Command) -> io::Result<Sample> {
    // In memory where that can be: it is not to count as written to disk.
    let errors = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile())?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let start = Instant::now();
    let child = command.spawn()?;
    let pid = child.id();
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let done = done.clone();
        thread::spawn(move || watch(pid, &done))
    };
    let (status, usage) = wait(pid)?;
    let wall = start.elapsed();
    done.store(true, Ordering::Relaxed);
    let anon_kib = watcher.join().unwrap_or_default();
    if status != 0 {
        return Err(io::Error::other(format!("{command:?} ended with status {status}: {}", said(errors)?)));
    }
    Ok(Sample {
        wall,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        anon_kib,
        written: u64::try_from(usage.ru_oublock).unwrap_or(0) * BLOCK_BYTES,
        requests: None,
    })
}

fn said(mut errors: fs::File) -> io::Result<String> {
    use io::{Read as _, Seek as _};
    let mut text = String::new();
    errors.rewind()?;
    errors.read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// Waits for a child; tells its status and what it and the children that it has waited for have used.
fn wait(pid: u32) -> io::Result<(i32, libc::rusage)> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which all zeroes are valid; both pointers are to locals that
    // outlive the call, and the child is ours and waited for only here.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &mut status, 0, &mut usage), usage)
    };
    match waited {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok((status, usage)),
    }
}

fn duration(time: libc::timeval) -> Duration {
    let (seconds, micros) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
    Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
}

/// Looks at the tree of a process until it is done; tells the largest anonymous memory seen in any of it.
fn watch(root: u32, done: &AtomicBool) -> u64 {
    let mut peaks: HashMap<u32, u64> = HashMap::new();
    while !done.load(Ordering::Relaxed) {
        let mut left = vec![root];
        while let Some(pid) = left.pop() {
            if let Some(anon) = anonymous_kib(pid) {
                let peak = peaks.entry(pid).or_default();
                *peak = anon.max(*peak);
            }
            left.extend(children(pid));
        }
        thread::sleep(POLL_EVERY);
    }
    peaks.into_values().max().unwrap_or(0)
}

/// Anonymous resident memory of a process, in KiB; `None` when it is gone.
pub fn anonymous_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "RssAnon:")
}

/// The most resident memory that a process has had so far, in KiB; `None` when it is gone.
pub fn peak_rss_kib(pid: u32) -> Option<u64> {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of a process and of the children that it has waited for (proc_pid_stat(5)).
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    // utime, stime, cutime, cstime are the fields 14 to 17; the third is the first behind the name.
    let ticks: u64 = fields.get(11..15).unwrap_or_default().iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    // SAFETY: takes a number and returns one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64))
}

/// The children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// The middle one of each figure; memory and what is written to disk are the largest of all.
pub fn median(samples: &[Sample]) -> Sample {
    Sample {
        wall: middle(samples, |sample| sample.wall),
        cpu: middle(samples, |sample| sample.cpu),
        rss_kib: samples.iter().map(|sample| sample.rss_kib).max().unwrap_or(0),
        anon_kib: samples.iter().map(|sample| sample.anon_kib).max().unwrap_or(0),
        written: samples.iter().map(|sample| sample.written).max().unwrap_or(0),
        requests: middle(samples, |sample| sample.requests),
    }
}

fn middle<T: Ord + Copy + Default>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
    let mut all: Vec<T> = samples.iter().map(of).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
