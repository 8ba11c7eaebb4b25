//! Figures of the embedded stores: `cargo run --release --example store_figures -- DIR [FILE]`.
//!
//! DIR is a directory on the disk to measure; FILE is what to copy (else 318 MB are made up). Prints the
//! time of opening and using a table, and of copying FILE between two stores beside a plain copy + fsync.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use gitferry_store::objects::{Crc64, FilesystemStore, ObjectStore, PART_BYTES, Part};
use gitferry_store::table::{Condition, Key, SqliteTable, Table, Write as TableWrite};
use serde_json::json;

const ROUNDS: usize = 7;
const IN_FLIGHT: usize = 4;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let base = arguments.next().ok_or("usage: store_figures DIR [FILE]")?;
    fs::create_dir_all(&base)?;
    let scratch = tempfile::tempdir_in(&base)?;
    table_figures(scratch.path()).await?;
    let file = match arguments.next() {
        Some(file) => file,
        None => made_up(&scratch.path().join("made-up"))?,
    };
    copy_figures(scratch.path(), &file).await
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn made_up(path: &Path) -> Result<PathBuf> {
    let mut file = File::create(path)?;
    let mut state = 1u64;
    for _ in 0..318 {
        let block: Vec<u8> = (0..131_072)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_le_bytes()
            })
            .collect();
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(path.to_owned())
}

async fn table_figures(dir: &Path) -> Result<()> {
    let path = dir.join("table.db");
    let start = Instant::now();
    let table = SqliteTable::open(&path, "figures")?;
    println!("table: create {:?}", start.elapsed());
    let keys: Vec<Key> = (0..100).map(|i| Key::new("repository/1", format!("change/{i:020}"))).collect();
    let document = json!({"seq": 1, "hash": "0123456789abcdef0123456789abcdef", "text": "x".repeat(200)});
    table
        .transact(keys.iter().map(|k| TableWrite::put(k.clone(), Condition::Absent, document.clone())).collect())
        .await?;
    let (mut one, mut hundred, mut six) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..200 {
        let start = Instant::now();
        table.get(&keys[round % 100]).await?;
        one.push(start.elapsed());
        let start = Instant::now();
        table.get_many(&keys).await?;
        hundred.push(start.elapsed());
        let writes = keys.iter().take(6).map(|k| TableWrite::put(k.clone(), Condition::Present, document.clone()));
        let start = Instant::now();
        table.transact(writes.collect()).await?;
        six.push(start.elapsed());
    }
    println!("table: get {:?}, get_many(100) {:?}, transact(6) {:?}", median(one), median(hundred), median(six));
    drop(table);
    let mut open = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        let table = SqliteTable::open(&path, "figures")?;
        table.get(&keys[0]).await?;
        open.push(start.elapsed());
    }
    println!("table: open and first get, no other process has it open: {:?}", median(open));
    let mut fsyncs = Vec::new();
    let mut file = File::create(dir.join("fsync"))?;
    for _ in 0..50 {
        file.write_all(&[0; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        fsyncs.push(start.elapsed());
    }
    println!("disk: append 4 KiB and fdatasync {:?}", median(fsyncs));
    Ok(())
}

async fn copy_figures(dir: &Path, file: &Path) -> Result<()> {
    let source = FilesystemStore::open(dir.join("source"), "source")?;
    let target = FilesystemStore::open(dir.join("target"), "target")?;
    let spooled = tempfile::NamedTempFile::new_in(source.spool_dir().ok_or("no spool")?)?.into_temp_path();
    fs::copy(file, &spooled)?;
    let start = Instant::now();
    let size = source.put_file("packs/a.pack", spooled).await?.size;
    println!("objects: put_file of {size} bytes {:?}", start.elapsed());
    let path = source.local_path("packs/a.pack").ok_or("no path")?;
    let crc64 = Crc64::of(&fs::read(&path)?);
    let (mut plain, mut generic) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let copy = dir.join("plain");
        let start = Instant::now();
        fs::copy(&path, &copy)?;
        File::open(&copy)?.sync_all()?;
        plain.push(start.elapsed());
        fs::remove_file(&copy)?;
        let key = format!("packs/{round}.pack");
        let start = Instant::now();
        copy_in_parts(&source, "packs/a.pack", &target, &key, size, crc64).await?;
        generic.push(start.elapsed());
        target.delete(&key).await?;
    }
    println!("objects: plain {plain:.3?}, in parts {generic:.3?}");
    let (plain, generic) = (median(plain), median(generic));
    let ratio = generic.as_secs_f64() / plain.as_secs_f64();
    println!("objects: plain copy + fsync {plain:?}, in parts {generic:?}, ratio {ratio:.2}");
    Ok(())
}

/// The loop that replication uses: get a part, put a part, a few at a time.
async fn copy_in_parts(
    source: &dyn ObjectStore,
    source_key: &str,
    target: &dyn ObjectStore,
    key: &str,
    size: u64,
    crc64: Crc64,
) -> Result<()> {
    let upload = &target.begin(key).await?;
    let count = u32::try_from(size.div_ceil(PART_BYTES))?;
    let copies = (0..count).map(|number| async move {
        let from = u64::from(number) * PART_BYTES;
        let bytes = source.get(source_key, from..size.min(from + PART_BYTES)).await?;
        target.put_part(upload, number, bytes).await
    });
    let begun = Instant::now();
    let parts: Vec<Part> = stream::iter(copies).buffered(IN_FLIGHT).try_collect().await?;
    let copied = begun.elapsed();
    target.complete(upload, &parts, size, crc64).await?;
    if std::env::var_os("GITFERRY_FIGURES_VERBOSE").is_some() {
        println!("objects: parts {copied:?}, complete {:?}", begun.elapsed() - copied);
    }
    Ok(())
}
