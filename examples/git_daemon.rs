//! Serves one bare repository over `git://`, for measuring: `git clone git://127.0.0.1:PORT/`.
//!
//! `cargo run --release --example git_daemon -- REPOSITORY PORT`. After each connection it says what it took.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use gitferry_git::local::{RefPatterns, SourceRepository};
use gitferry_git::pack::PackSet;
use gitferry_git::protocol::{Packet, PacketReader, Version};
use gitferry_git::upload_pack::{Limits, Session, advertise, serve};
use gitferry_git::view::{RefTable, View};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (repository, port) = arguments.next().zip(arguments.next()).ok_or("arguments: REPOSITORY PORT")?;
    let view = open(Path::new(&repository))?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    println!("{} refs, {} packs", view.refs.len(), view.packs.len());
    for stream in listener.incoming() {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let sent = connection(&view, &stream?);
        let memory = std::fs::read_to_string("/proc/self/status")?;
        let memory = memory.lines().filter(|line| line.starts_with("RssAnon") || line.starts_with("VmHWM"));
        let memory: Vec<&str> = memory.collect();
        println!("{sent:?} in {:?}, cpu {:.2} s, {memory:?}", started.elapsed(), cpu_seconds() - cpu);
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<View, Failure> {
    let source = SourceRepository::open(path)?;
    let format = source.object_format();
    let mut refs = RefTable::empty(format);
    for entry in source.refs(&RefPatterns::default())? {
        let (name, value) = entry?;
        refs.push(name, value)?;
    }
    let mut packs = PackSet::new(format);
    for file in std::fs::read_dir(path.join("objects/pack"))? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "pack") {
            packs.add(&file, &file.with_extension("idx"))?;
        }
    }
    let head = source.head()?;
    Ok(View { format, head, refs: Arc::new(refs), packs: Arc::new(packs), recent_tips: Default::default() })
}

fn connection(view: &View, mut stream: &TcpStream) -> Result<Vec<String>, Failure> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream);
    let version = match PacketReader::new(&mut input).read()? {
        Some(Packet::Data(request)) => request.split(|byte| *byte == 0).map(Version::negotiate).max(),
        _ => None,
    };
    let session = Session {
        version: version.unwrap_or_default(),
        stateless: false,
        ref_in_want: false,
        thorough: false,
        own: false,
    };
    advertise(view, session, &mut stream)?;
    let mut sent = Vec::new();
    loop {
        let started = Instant::now();
        let cancel = AtomicBool::new(false);
        let served = serve(view, &mut input, session, &mut stream, &Limits::default(), &cancel)?;
        sent.push(format!("{:?} {:?}", served.pack, started.elapsed()));
        if !served.may_follow {
            return Ok(sent);
        }
    }
}

/// Time that this process has used, from `/proc/self/stat` in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
