//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::measure::{Sample, median};
use super::place::{git_says, out_dir};

/// A part of a report.
pub trait Part: Serialize {
    /// What all of them are called in JSON.
    const ALL: &'static str;

    /// What was measured, as text.
    fn text(&self) -> String;

    /// What is asked of it.
    fn targets(&self) -> &[Target];
}

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
    /// Most bytes written to disk; 0 also where that is not measured.
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

/// All of one run. It is printed part by part, and written to `target/bench/NAME.json` at the end.
#[derive(Debug)]
pub struct Report<P> {
    /// The name of the benchmark.
    name: &'static str,
    /// Whether it is printed as JSON.
    json: bool,
    /// About the repository and the machine.
    about: Vec<String>,
    /// How many times each part ran, where that is one number.
    runs: Option<usize>,
    /// The parts.
    parts: Vec<P>,
}

impl<P: Part> Report<P> {
    /// A report without parts yet; prints what it is about.
    pub fn new(name: &'static str, json: bool, about: Vec<String>, runs: Option<usize>) -> Self {
        if !json {
            about.iter().for_each(|line| println!("{line}"));
        }
        Report { name, json, about, runs, parts: Vec::new() }
    }

    /// Adds a part and prints it.
    pub fn show(&mut self, part: P) {
        if !self.json {
            println!("\n{}", part.text().trim_end());
            for Target { asked, measured, met } in part.targets() {
                println!("  {}  {asked}: {measured}", if *met { "pass" } else { "MISS" });
            }
        }
        self.parts.push(part);
    }

    /// Writes all of it, and says how many targets were missed.
    pub fn end(&self) -> io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        let file = out_dir().join(format!("{}.json", self.name));
        std::fs::write(&file, &json)?;
        let missed = self.parts.iter().flat_map(Part::targets).filter(|target| !target.met).count();
        match self.json {
            true => println!("{json}"),
            false => println!("{missed} targets missed; all figures are in {}", file.display()),
        }
        Ok(())
    }
}

impl<P: Part> Serialize for Report<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("about", &self.about)?;
        if let Some(runs) = self.runs {
            map.serialize_entry("runs", &runs)?;
        }
        map.serialize_entry(P::ALL, &self.parts)?;
        map.end()
    }
}

/// About the machine.
pub fn machine() -> io::Result<[String; 2]> {
    let processors = std::thread::available_parallelism()?;
    let git = git_says(Path::new("."), &["--version"])?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    Ok([
        format!("{processors} processors; {git}; gitferry {}", env!("CARGO_PKG_VERSION")),
        format!("load before the run: {} (times are worth little when others use the processors)", load.join(" ")),
    ])
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
        let measured = format!("{} (limit {})", memory(ours.anon_kib), memory(limit_kib));
        self.targets.push(Target { asked: asked.into(), measured, met: ours.anon_kib <= limit_kib });
    }

    /// Adds a demand on processor time: at most so many times as much.
    pub fn at_most_cpu(&mut self, asked: impl Into<String>, ours: Sample, theirs: Sample, factor: f64) {
        let ratio = ours.cpu.as_secs_f64() / theirs.cpu.as_secs_f64().max(1e-9);
        self.targets.push(Target { asked: asked.into(), measured: format!("{ratio:.3} ×"), met: ratio <= factor });
    }

    /// Adds a demand: no more resident memory than this.
    pub fn resident(&mut self, asked: impl Into<String>, ours: Sample, limit_kib: u64) {
        let measured = format!("{} (limit {})", memory(ours.rss_kib), memory(limit_kib));
        self.targets.push(Target { asked: asked.into(), measured, met: ours.rss_kib <= limit_kib });
    }
}

impl Part for Row {
    const ALL: &'static str = "rows";

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.what);
        for line in &self.lines {
            let _ = writeln!(
                text,
                "  {:<46} {:>11} {:>9}{}   peak {:>10}  anonymous {:>10}{}",
                line.who,
                duration(line.median_ms),
                format!("{} ×", factor(line.ratio)),
                processor(line.cpu_ms),
                memory(line.peak_rss_kib),
                memory(line.peak_anonymous_kib),
                counted(line)
            );
        }
        text
    }

    fn targets(&self) -> &[Target] {
        &self.targets
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
            let written = if line.written_bytes == 0 { "0".into() } else { mebi(line.written_bytes) };
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

fn memory(kib: u64) -> String {
    match kib {
        0 => "–".to_owned(),
        _ => mebi(kib * 1024),
    }
}

/// A size.
pub fn mebi(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
