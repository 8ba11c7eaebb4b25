//! Checks one pack and prints how long that took: `check_pack PACK [IDX] [--threads N]`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gitferry_git::pack::{CheckOptions, CheckProgress, check_pack};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pack = PathBuf::from(arguments.next().ok_or("usage: check_pack PACK [IDX] [THREADS]")?);
    let hint = arguments.next().filter(|hint| hint != "-").map(PathBuf::from);
    let mut options = CheckOptions::new(gix::hash::Kind::Sha1);
    options.threads = arguments.next().map(|count| count.parse()).transpose()?;
    let progress = CheckProgress::default();
    let directory = tempfile::tempdir()?;
    let index = directory.path().join("out.idx");
    let started = Instant::now();
    let (checked, peak) = std::thread::scope(|scope| {
        let check = scope.spawn(|| check_pack(&pack, hint.as_deref(), &options, &index, &progress));
        let mut peak = 0;
        while !check.is_finished() {
            peak = anonymous_kib().max(peak);
            std::thread::sleep(Duration::from_millis(5));
        }
        (check.join(), peak)
    });
    let checked = checked.map_err(|_| "panicked")??;
    println!(
        "{}: {} objects, {} bytes in {:.3} s; peak anonymous memory {} KiB",
        checked.id,
        progress.objects.load(Ordering::Relaxed),
        checked.bytes,
        started.elapsed().as_secs_f64(),
        peak
    );
    println!(
        "index {} bytes, {} unresolved, {} mismatched, {} unparsable",
        checked.index_bytes,
        checked.unresolved.len(),
        checked.mismatched.len(),
        checked.unparsable_count
    );
    Ok(())
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
