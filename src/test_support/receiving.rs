//! A region with a server for pushes, and clients for it.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gitferry_engine::ledger::head::HeadItem;
use gitferry_engine::region::Region;
use gitferry_engine::region::push::{FreshStates, PushPolicy, PushStates, Serving};
use gitferry_git::protocol::{AdvertisedRefs, PacketReader, PacketWriter, Version, advertise_refs};
use gitferry_git::receive_pack::{CAPABILITIES, PushRequest};
use tokio::runtime::Runtime;

use crate::git::{GitRepo, command};

/// A region with one repository, called `repo`.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub runtime: Arc<Runtime>,
    pub region: Region,
    pub address: SocketAddr,
    policy: Arc<Mutex<PushPolicy>>,
}

impl Host {
    /// An empty repository.
    pub fn new() -> Host {
        Host::with_format(gix::hash::Kind::Sha1)
    }

    pub fn with_format(format: gix::hash::Kind) -> Host {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let region = Region::open_embedded("test", &dir.path().join("objects"), &dir.path().join("table.db")).unwrap();
        runtime.block_on(region.repositories().create("repo", format, "tests")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let policy = Arc::new(Mutex::new(PushPolicy::default()));
        let host = Host { dir, runtime: Arc::new(runtime), region, address, policy };
        let (region, runtime, policy) = (host.region.clone(), host.runtime.clone(), host.policy.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (region, runtime) = (region.clone(), runtime.clone());
                let policy = policy.lock().unwrap().clone();
                std::thread::spawn(move || answer(stream.unwrap(), &region, &runtime, &policy));
            }
        });
        host
    }

    /// Changes what is accepted from now on.
    pub fn accept(&self, change: impl FnOnce(&mut PushPolicy)) {
        change(&mut self.policy.lock().unwrap());
    }

    pub fn url(&self) -> String {
        format!("git://{}/repo", self.address)
    }

    /// Pushes from a repository, whatever comes of it.
    pub fn try_push(&self, from: &GitRepo, args: &[&str]) -> Output {
        let (options, refs): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| arg.starts_with("--"));
        let mut all = vec!["push"];
        all.extend(options);
        let url = self.url();
        all.push(&url);
        all.extend(refs);
        command(&from.path).args(all).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// A push that must succeed; what Git said.
    pub fn push(&self, from: &GitRepo, args: &[&str]) -> String {
        let output = self.try_push(from, args);
        let said = said(&output);
        assert!(output.status.success(), "push {args:?}: {said}");
        said
    }

    /// A push that must fail and say each of these.
    pub fn refuses(&self, from: &GitRepo, args: &[&str], words: &[&str]) -> String {
        let output = self.try_push(from, args);
        let said = said(&output);
        assert!(!output.status.success(), "push {args:?} went through: {said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        said
    }

    pub fn head(&self) -> HeadItem {
        self.runtime.block_on(self.region.repositories().get("repo")).unwrap()
    }

    /// Everything verifies, no file is left over, and an export is what Git takes for the same refs. Returns
    /// the export.
    pub fn verified(&self) -> GitRepo {
        let item = self.head();
        let verified = self.runtime.block_on(self.region.verifier().verify(&item, true, Arc::default())).unwrap();
        assert_eq!(verified.findings, Vec::<String>::new());
        let manifest = self.runtime.block_on(self.region.reader().manifest(&item)).unwrap().0;
        let mut expected: Vec<String> = manifest.packs.iter().map(|pack| pack.key.clone()).collect();
        expected.sort();
        assert_eq!(self.pack_keys(), expected, "packs in the store and in the manifest");
        let to = (0..).map(|n| self.dir.path().join(format!("export-{n}"))).find(|path| !path.exists()).unwrap();
        self.runtime.block_on(self.region.exporter().export("repo", &to)).unwrap();
        let export = GitRepo::at(to);
        export.git(&["fsck", "--strict", "--no-dangling"]);
        export
    }

    /// What is in the region is what is in `from`.
    pub fn assert_mirrors(&self, from: &GitRepo) -> GitRepo {
        let export = self.verified();
        assert_eq!(texts(&export.refs()), texts(&from.refs()));
        assert_eq!(export.reachable(), from.reachable());
        export
    }

    /// Keys of the packs in the store.
    pub fn pack_keys(&self) -> Vec<String> {
        let page = self.runtime.block_on(self.region.objects().list("repositories/", None, 10_000)).unwrap();
        let keys = page.objects.into_iter().map(|object| object.key);
        let mut keys: Vec<String> = keys.filter(|key| key.ends_with(".pack")).collect();
        keys.sort();
        keys
    }

    /// Files in the spool: what refused pushes left, if anything.
    pub fn spooled(&self) -> Vec<PathBuf> {
        let dir = std::fs::read_dir(self.region.spool_dir()).unwrap();
        dir.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// The refs in the region.
    pub fn refs(&self) -> Vec<(String, String)> {
        let item = self.head();
        let refs = self.runtime.block_on(self.region.reader().refs(&item)).unwrap();
        let collected = self.runtime.block_on(async { tokio::task::spawn_blocking(|| refs.collect()).await.unwrap() });
        collected.unwrap().into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    /// A client without Git: says hello and returns the connection behind the advertisement.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        PacketWriter::new(&stream).data(b"git-receive-pack /repo\0host=x\0").unwrap();
        let mut reader = PacketReader::new(BufReader::with_capacity(1, &stream));
        while reader.read().unwrap().unwrap().line().is_some() {}
        stream
    }

    /// Sends commands and whatever follows; everything that comes back: a report alone.
    pub fn talk(&self, commands: &[String], pack: &[u8]) -> String {
        self.talk_with("report-status", commands, pack)
    }

    /// The same with other capabilities behind the first command.
    pub fn talk_with(&self, capabilities: &str, commands: &[String], pack: &[u8]) -> String {
        let mut stream = self.connect();
        let mut writer = PacketWriter::new(&stream);
        for (number, line) in commands.iter().enumerate() {
            let words = if number == 0 { format!("\0{capabilities} object-format=sha1") } else { String::new() };
            writer.data(format!("{line}{words}").as_bytes()).unwrap();
        }
        writer.flush_packet().unwrap();
        // The server may have hung up already.
        let _ = stream.write_all(pack);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn texts(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().map(|line| line.escape_ascii().to_string()).collect()
}

/// One connection. Clients may vanish at any point, so nothing is asserted here.
fn answer(stream: TcpStream, region: &Region, runtime: &Runtime, policy: &PushPolicy) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut input = BufReader::with_capacity(64 << 10, stream.try_clone().ok()?);
    let mut output = std::io::BufWriter::new(stream);
    let mut packets = PacketReader::new(&mut input);
    let hello = packets.read().ok()??.line()?.to_owned();
    assert!(hello.starts_with(b"git-receive-pack /repo\0"));
    let item = runtime.block_on(region.repositories().get("repo")).ok()?;
    let states = FreshStates { region: region.clone(), id: item.id, hidden: policy.hidden.clone(), mirror: false };
    let state = runtime.block_on(states.state()).ok()?;
    let which = AdvertisedRefs { head: false, peeled: None, filter: false };
    advertise_refs(&state.view, Version::V0, which, CAPABILITIES, &mut output).ok()?;
    output.flush().ok()?;
    let request = match PushRequest::read(&mut packets, state.view.format) {
        Ok(request) => request?,
        Err(error) => return PacketWriter::new(&mut output).error(&error.to_string()).ok(),
    };
    let serving = Serving { region, runtime: runtime.handle(), policy, actor: "tester", request: &request };
    let pushed = serving.serve(&states, &mut input, &mut output).ok()?;
    output.flush().ok()?;
    if let Some(item) = pushed.item {
        runtime.block_on(region.snapshots().maintain(item));
    }
    Some(())
}
