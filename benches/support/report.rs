//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::measure::{Sample, median};

/// One thing measured, with everything that does it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What is done.
    pub what: String,
    /// Who did it; the first is gitferry, which the others are compared with.
    pub lines: Vec<Line>,
    /// What is asked of it.
    pub targets: Vec<Target>,
}

/// One contestant of a row.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The command.
    pub who: String,
    /// The median time, in milliseconds.
    pub median_ms: f64,
    /// All times, in milliseconds.
    pub all_ms: Vec<f64>,
    /// How many times as long as the first line's median.
    pub ratio: f64,
    /// Median processor time of what is measured, in milliseconds; 0: not measured.
    pub cpu_ms: f64,
    /// Peak resident memory of the largest process, in KiB; 0: not measured.
    pub peak_rss_kib: u64,
    /// Peak anonymous memory of the largest process, in KiB; 0: not measured.
    pub peak_anonymous_kib: u64,
    /// Median bytes written to disk; 0 also where that is not measured.
    pub written_bytes: u64,
    /// Median number of requests, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// One demand on a row.
#[derive(Debug, Serialize)]
pub struct Target {
    /// The demand.
    pub asked: String,
    /// What came out.
    pub measured: String,
    /// Whether it is met.
    pub met: bool,
}

/// All of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// About the repository and the machine.
    pub about: Vec<String>,
    /// How many times each row ran.
    pub runs: usize,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Row {
    /// A row without contestants yet.
    pub fn new(what: impl Into<String>) -> Self {
        Row { what: what.into(), lines: Vec::new(), targets: Vec::new() }
    }

    /// Adds a contestant and returns its median.
    pub fn add(&mut self, who: impl Into<String>, samples: &[Sample]) -> Sample {
        let middle = median(samples);
        let median_ms = millis(middle.wall);
        let first = self.lines.first().map_or(median_ms, |line| line.median_ms);
        self.lines.push(Line {
            who: who.into(),
            median_ms,
            all_ms: samples.iter().map(|sample| millis(sample.wall)).collect(),
            ratio: median_ms / first,
            cpu_ms: millis(middle.cpu),
            peak_rss_kib: middle.rss_kib,
            peak_anonymous_kib: middle.anon_kib,
            written_bytes: middle.written,
            requests: middle.requests,
        });
        middle
    }

    /// Adds a demand: at most so much.
    pub fn at_most(&mut self, asked: impl Into<String>, measured: f64, limit: f64, unit: &str) {
        let met = measured <= limit;
        self.targets.push(Target { asked: asked.into(), measured: format!("{measured:.2}{unit}"), met });
    }

    /// Adds a demand: at least so many times as fast.
    pub fn at_least(&mut self, asked: impl Into<String>, ours: Sample, theirs: Sample, factor: f64) {
        let ratio = ratio(theirs, ours);
        self.targets.push(Target { asked: asked.into(), measured: format!("{ratio:.1} ×"), met: ratio >= factor });
    }

    /// Adds a demand on processor time: at least so many times less of it.
    pub fn at_least_cpu(&mut self, asked: impl Into<String>, ours: Sample, theirs: Sample, factor: f64) {
        let ratio = theirs.cpu.as_secs_f64() / ours.cpu.as_secs_f64().max(1e-9);
        self.targets.push(Target { asked: asked.into(), measured: format!("{ratio:.1} ×"), met: ratio >= factor });
    }

    /// Adds a demand: less anonymous memory than this.
    pub fn memory(&mut self, asked: impl Into<String>, ours: Sample, limit_kib: u64) {
        let measured = format!("{} (limit {})", mebi(ours.anon_kib), mebi(limit_kib));
        self.targets.push(Target { asked: asked.into(), measured, met: ours.anon_kib <= limit_kib });
    }

    /// Adds a demand on processor time: at most so many times as much.
    pub fn at_most_cpu(&mut self, asked: impl Into<String>, ours: Sample, theirs: Sample, factor: f64) {
        let ratio = ours.cpu.as_secs_f64() / theirs.cpu.as_secs_f64().max(1e-9);
        self.targets.push(Target { asked: asked.into(), measured: format!("{ratio:.3} ×"), met: ratio <= factor });
    }

    /// Adds a demand: no more resident memory than this.
    pub fn resident(&mut self, asked: impl Into<String>, ours: Sample, limit_kib: u64) {
        let measured = format!("{} (limit {})", mebi(ours.rss_kib), mebi(limit_kib));
        self.targets.push(Target { asked: asked.into(), measured, met: ours.rss_kib <= limit_kib });
    }

    /// The row as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.what);
        for line in &self.lines {
            let _ = writeln!(
                text,
                "  {:<46} {:>11} {:>9}{}   peak {:>10}  anonymous {:>10}{}",
                line.who,
                duration(line.median_ms),
                format!("{} ×", factor(line.ratio)),
                processor(line.cpu_ms),
                mebi(line.peak_rss_kib),
                mebi(line.peak_anonymous_kib),
                counted(line)
            );
        }
        for target in &self.targets {
            let verdict = if target.met { "pass" } else { "MISS" };
            let _ = writeln!(text, "  {verdict}  {}: {}", target.asked, target.measured);
        }
        text
    }
}

/// How many times as long `a` takes as `b`.
pub fn ratio(a: Sample, b: Sample) -> f64 {
    a.wall.as_secs_f64() / b.wall.as_secs_f64()
}

/// In milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn duration(millis: f64) -> String {
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..1_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1_000.0),
    }
}

fn processor(millis: f64) -> String {
    match millis {
        0.0 => String::new(),
        _ => format!("   cpu {:>9}", duration(millis)),
    }
}

fn counted(line: &Line) -> String {
    match line.requests {
        None => String::new(),
        Some(requests) => {
            let written = if line.written_bytes == 0 { "0".into() } else { mebi(line.written_bytes.div_ceil(1024)) };
            format!("  written {written:>10}  requests {requests:>3}")
        }
    }
}

fn factor(ratio: f64) -> String {
    match ratio {
        ..10.0 => format!("{ratio:.2}"),
        ..100.0 => format!("{ratio:.1}"),
        _ => format!("{ratio:.0}"),
    }
}

fn mebi(kib: u64) -> String {
    match kib {
        0 => "–".to_owned(),
        _ => format!("{:.1} MiB", kib as f64 / 1_024.0),
    }
}
