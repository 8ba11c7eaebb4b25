//! [`FileSink`]: records in a file, one a line, with rotation.
//!
//! The file may be rotated by another program (logrotate by renaming or by copying and truncating) and shared by
//! processes: each write holds the lock of the file and goes to its end. A write that fails, as on a full disk, leaves no
//! part of a line behind.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{Sink, SinkError};
use gitferry_base::durable::{create_dir_all, sync_dir};
use gitferry_base::private::warn_if_others_read;

/// Mode of a new file: its owner alone.
const MODE: u32 = 0o600;
/// Most attempts to open a file that others rotate at the same moment.
const MAX_OPENS: usize = 8;
/// Most bytes of one write.
const MAX_WRITE_BYTES: usize = 1 << 20;

/// When a file is rotated, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Largest file, in bytes. A record that is larger has a file of its own.
    pub max_bytes: u64,
    /// Number of rotated files, `FILE.1` (the newest) to `FILE.N`, beside `FILE`. Older ones are deleted.
    pub keep: usize,
}

/// Writes to a file, on a thread of its own: a file system that hangs holds that thread alone.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    jobs: SyncSender<Job>,
}

struct Job {
    records: VecDeque<Arc<str>>,
    done: oneshot::Sender<(VecDeque<Arc<str>>, io::Result<()>)>,
}

impl FileSink {
    /// Opens a file, which is created with its folder.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: PathBuf, rotation: Rotation) -> Result<Self, SinkError> {
        let failed = |error| SinkError::File { file: path.clone(), error };
        if let Some(folder) = path.parent() {
            create_dir_all(folder).map_err(failed)?;
        }
        let mut writer = Writer { path: path.clone(), rotation };
        writer.locked().map_err(failed)?;
        warn_if_others_read("the audit trail", &path);
        let (jobs, receiver) = sync_channel(1);
        std::thread::Builder::new().name("audit-file".into()).spawn(move || writer.run(&receiver)).map_err(failed)?;
        Ok(FileSink { path, jobs })
    }
}

#[async_trait]
impl Sink for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn write(&mut self, records: &mut VecDeque<Arc<str>>) -> Result<(), SinkError> {
        let failed = |error| SinkError::File { file: self.path.clone(), error };
        let (done, answer) = oneshot::channel();
        let job = Job { records: records.clone(), done };
        let gone = || io::Error::other("its thread has ended");
        self.jobs.try_send(job).map_err(|_| failed(gone()))?;
        let (left, result) = answer.await.map_err(|_| failed(gone()))?;
        *records = left;
        result.map_err(failed)
    }
}

/// The file, on its thread.
struct Writer {
    path: PathBuf,
    rotation: Rotation,
}

/// The file with its lock, which ends when it is closed.
struct Locked {
    file: File,
    bytes: u64,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>) {
        while let Ok(Job { mut records, done }) = jobs.recv() {
            let result = self.write(&mut records);
            let _ = done.send((records, result));
        }
    }

    /// Writes records, and takes those from the front that are durable.
    fn write(&mut self, records: &mut VecDeque<Arc<str>>) -> io::Result<()> {
        let mut file = self.locked()?;
        while let Some(first) = records.front() {
            let needed = first.len() as u64 + 1;
            if file.bytes > 0 && file.bytes + needed > self.rotation.max_bytes {
                file = self.rotate(file)?;
            }
            let room = self.rotation.max_bytes.saturating_sub(file.bytes).max(needed);
            let (lines, taken) = lines(records, room.min(MAX_WRITE_BYTES as u64).max(needed));
            file.append(&lines)?;
            records.drain(..taken);
        }
        Ok(())
    }

    /// Opens the file that the path names now, and locks it.
    fn locked(&mut self) -> io::Result<Locked> {
        for _ in 0..MAX_OPENS {
            let file = OpenOptions::new().create(true).read(true).append(true).mode(MODE).open(&self.path)?;
            file.lock()?;
            let opened = file.metadata()?;
            // Another process may have rotated the file before this one had the lock.
            if fs::metadata(&self.path).is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
                let mut locked = Locked { file, bytes: opened.len() };
                locked.end_line()?;
                return Ok(locked);
            }
        }
        Err(io::Error::other("other processes rotate it all the time"))
    }

    /// Moves the file away, and opens a new one. `full` keeps its lock meanwhile.
    fn rotate(&mut self, full: Locked) -> io::Result<Locked> {
        full.file.sync_all()?;
        let Rotation { keep, .. } = self.rotation;
        if keep == 0 {
            fs::remove_file(&self.path)?;
        }
        for number in (0..keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let next = self.locked()?;
        sync_dir(self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        drop(full);
        Ok(next)
    }

    /// `FILE` for 0, `FILE.N` for others.
    fn numbered(&self, number: usize) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// The lines of the first records that fit into `room` bytes, and their number.
fn lines(records: &VecDeque<Arc<str>>, room: u64) -> (Vec<u8>, usize) {
    let mut lines = Vec::new();
    let mut taken = 0;
    for record in records {
        if (lines.len() + record.len() + 1) as u64 > room {
            break;
        }
        lines.extend_from_slice(record.as_bytes());
        lines.push(b'\n');
        taken += 1;
    }
    (lines, taken)
}

impl Locked {
    /// Appends lines durably, or leaves the file as it was.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // The lock keeps others from appending behind the part that is removed.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }

    /// Ends a line that a crash has cut off, so that the next record is readable.
    fn end_line(&mut self) -> io::Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        if last != *b"\n" { self.append(b"\n") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn writer(path: &Path, max_bytes: u64, keep: usize) -> Writer {
        Writer { path: path.into(), rotation: Rotation { max_bytes, keep } }
    }

    fn records(numbers: std::ops::Range<usize>) -> VecDeque<Arc<str>> {
        numbers.map(|number| format!("{{\"n\":{number:06}}}").into()).collect()
    }

    /// Numbers of the records in a file, in its order.
    fn numbers(path: &Path) -> Vec<usize> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let of = |line: &str| line.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok();
        text.lines().map(|line| of(line).unwrap_or_else(|| panic!("{line}"))).collect()
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        // A record has 13 bytes with its line feed.
        let mut writer = writer(&path, 130, 2);
        for start in 0..35 {
            writer.write(&mut records(start..start + 1)).unwrap();
        }
        writer.write(&mut records(35..47)).unwrap();
        let files = ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"].map(|name| numbers(&dir.path().join(name)));
        assert_eq!(files, [(40..47).collect::<Vec<_>>(), (30..40).collect(), (20..30).collect()]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        // A record beyond the limit has a file of its own.
        let mut large: VecDeque<Arc<str>> = ["x".repeat(1_000).into()].into();
        writer.write(&mut large).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1_001);
    }

    #[test]
    fn rotation_by_others_and_cut_off_lines_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut writer = writer(&path, 1 << 20, 2);
        writer.write(&mut records(0..5)).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        writer.write(&mut records(5..10)).unwrap();
        fs::copy(&path, dir.path().join("copied")).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        writer.write(&mut records(10..15)).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "{\"n\":").unwrap();
        writer.write(&mut records(15..20)).unwrap();
        assert_eq!(numbers(&dir.path().join("moved")), (0..5).collect::<Vec<_>>());
        assert_eq!(numbers(&dir.path().join("copied")), (5..10).collect::<Vec<_>>());
        let text = fs::read_to_string(&path).unwrap();
        let whole: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!((text.lines().next(), whole.len()), (Some("{\"n\":"), 5));
    }

    /// Processes that share a file and rotate it lose no record and cut none.
    #[test]
    fn writers_that_share_a_file_under_load() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || {
                    let mut writer = writer(path, 13 * 50, 1_000);
                    for step in 0..50 {
                        let start = thread * 1_000 + step * 10;
                        let mut waiting = records(start..start + 10);
                        // Files this small are rotated more often than one of four can be opened. What is not written
                        // stays with the writer, and is tried again.
                        let written = (0..100).any(|_| writer.write(&mut waiting).is_ok());
                        assert!(written && waiting.is_empty(), "{} records wait", waiting.len());
                    }
                });
            }
        });
        let mut found = Vec::new();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let file = entry.unwrap().path();
            assert!(fs::metadata(&file).unwrap().len() <= 13 * 50, "{}", file.display());
            found.extend(numbers(&file));
        }
        found.sort_unstable();
        let expected: Vec<usize> = (0..4).flat_map(|thread| thread * 1_000..thread * 1_000 + 500).collect();
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn a_full_disk_keeps_the_records_for_later() {
        let mut full = FileSink::open("/dev/full".into(), Rotation { max_bytes: 1 << 20, keep: 1 }).unwrap();
        let mut waiting = records(0..3);
        let error = full.write(&mut waiting).await.unwrap_err().to_string();
        assert!(error.contains("/dev/full") && waiting.len() == 3, "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/audit.jsonl");
        let mut sink = FileSink::open(path.clone(), Rotation { max_bytes: 1 << 20, keep: 1 }).unwrap();
        sink.write(&mut waiting).await.unwrap();
        assert_eq!((waiting.len(), numbers(&path)), (0, vec![0, 1, 2]));
        let nowhere = FileSink::open("/proc/nothing/audit".into(), Rotation { max_bytes: 1, keep: 1 });
        assert!(nowhere.unwrap_err().to_string().contains("/proc/nothing"));
    }
}
