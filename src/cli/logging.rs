//! Log on standard error, as text or JSON lines.
//!
//! Logging never blocks or fails other work: a thread writes the lines from a bounded queue. Lines that do not fit into
//! the queue, or that cannot be written (a full disk, a closed terminal), are counted and dropped. All lines pass
//! through [`gitferry_base::printable`] here, so that text of clients cannot control a terminal.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use gitferry_base::printable::{self, Escaping};
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

use super::output;

/// Capacity of the queue in lines; more are dropped and counted.
const QUEUE_LINES: usize = 8192;
/// Maximum time that the end of the process waits for queued lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts the log with the filter in `GITFERRY_LOG` (default: `warn`). With `immediate`, each line is written before
/// its call returns, for environments that freeze the process between two pieces of work.
pub fn start(format: LogFormat, immediate: bool) -> Log {
    let filter = EnvFilter::try_from_env("GITFERRY_LOG").unwrap_or_else(|error| {
        if std::env::var_os("GITFERRY_LOG").is_some_and(|said| !said.is_empty()) {
            output::note(format!(
                "warning: GITFERRY_LOG is not a log filter such as `info` or `gitferry=debug` \
                ({error}); logging warnings"
            ));
        }
        EnvFilter::new("warn")
    });
    let (lines, log) = Lines::new(format, immediate);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).log_internal_errors(false);
    match format {
        LogFormat::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let colours = io::stderr().is_terminal() && !plain;
            builder.with_ansi(colours).fmt_fields(SafeFields).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).init(),
    }
    log
}

/// Handle to the running log.
#[derive(Debug)]
pub struct Log(Option<SyncSender<Entry>>);

impl Log {
    /// Waits until all lines logged so far are written, at most [`FLUSH_TIMEOUT`].
    pub fn flush(&self) {
        let Some(sender) = &self.0 else { return };
        let (done, written) = sync_channel(1);
        if sender.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Answered after all earlier lines are written.
    Flush(SyncSender<()>),
}

/// Destination of log lines.
#[derive(Clone, Debug)]
struct Lines {
    format: LogFormat,
    /// Queue of the writing thread; `None` if lines are written at once.
    sender: Option<SyncSender<Entry>>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn new(format: LogFormat, immediate: bool) -> (Lines, Log) {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let writing = move || write_all(&receiver, format, &counted, io::stderr());
        let thread = (!immediate).then(|| std::thread::Builder::new().name("log".into()).spawn(writing));
        let sender = matches!(thread, Some(Ok(_))).then_some(sender);
        (Lines { format, sender: sender.clone(), lost }, Log(sender))
    }

    fn take(&self, line: Vec<u8>) {
        let line = match self.format {
            LogFormat::Text => line,
            LogFormat::Json => printable::json(&String::from_utf8_lossy(&line)).into_bytes(),
        };
        match &self.sender {
            None => _ = io::stderr().write_all(&line),
            Some(sender) => {
                if let Err(TrySendError::Full(_)) = sender.try_send(Entry::Line(line)) {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn write_all(entries: &Receiver<Entry>, format: LogFormat, lost: &AtomicU64, mut out: impl Write) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Flush(done) => _ = done.send(()),
            Entry::Line(line) => {
                let count = lost.swap(0, Ordering::Relaxed);
                if count > 0 && out.write_all(lost_line(format, count).as_bytes()).is_err() {
                    lost.fetch_add(count, Ordering::Relaxed);
                }
                if out.write_all(&line).is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn lost_line(format: LogFormat, count: u64) -> String {
    let message = format!("{count} lines of the log could not be written");
    match format {
        LogFormat::Text => format!("{message}\n"),
        LogFormat::Json => format!("{}\n", serde_json::json!({ "level": "WARN", "message": message })),
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Line;

    fn make_writer(&'w self) -> Line {
        Line { text: Vec::new(), lines: self.clone() }
    }
}

/// Buffer for one line; dropping it logs the line.
#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    lines: Lines,
}

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.is_empty() {
            self.lines.take(text);
        }
    }
}

/// Formats fields of events and spans with control characters escaped.
#[derive(Debug)]
struct SafeFields;

impl<'w> FormatFields<'w> for SafeFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = SafeVisitor { out: Escaping(writer), first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct SafeVisitor<'w> {
    out: Escaping<Writer<'w>>,
    first: bool,
    result: fmt::Result,
}

impl Visit for SafeVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_err() {
            return;
        }
        let space = if std::mem::take(&mut self.first) { "" } else { " " };
        self.result = match field.name() {
            "message" => write!(self.out, "{space}{value:?}"),
            name => write!(self.out, "{space}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output whose second to fourth write fails, as on a full disk.
    struct Full<'a> {
        writes: usize,
        written: &'a mut Vec<u8>,
    }

    impl Write for Full<'_> {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            if (2..=4).contains(&self.writes) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.written.extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (sender, receiver) = sync_channel(10);
        for number in 0..4 {
            sender.send(Entry::Line(format!("{number}\n").into_bytes())).unwrap();
        }
        drop(sender);
        let mut written = Vec::new();
        write_all(&receiver, LogFormat::Text, &AtomicU64::new(0), Full { writes: 0, written: &mut written });
        assert_eq!(String::from_utf8(written).unwrap(), "0\n2 lines of the log could not be written\n3\n");
    }
}
