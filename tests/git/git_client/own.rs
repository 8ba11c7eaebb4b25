//! gitferry's own services as the server: the same library at both ends.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Cursor, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gitferry_git::client::{ClientError, Connection, FetchPack, ReceivePack, Request, Server, UploadPack};
use gitferry_git::local::{RefPatterns, SourceRepository};
use gitferry_git::pack::PackSet;
use gitferry_git::protocol::{Filter, PacketWriter, Service, Version};
use gitferry_git::refs::RefValue;
use gitferry_git::upload_pack::{Limits, Session, advertise, serve};
use gitferry_git::view::{RefTable, View};
use gix::ObjectId;

use crate::git_client::fetching::{fetched, id, tips};
use crate::git_client::pushing::{assert_same, command, no_objects, relay};
use gitferry_test_support::git::GitRepo;
use gitferry_test_support::receiving::Host;
use gitferry_test_support::scripted_server::{FORMATS, GitServer, ways};
use gitferry_test_support::serving;

fn view(path: &Path) -> View {
    let source = SourceRepository::open(path).unwrap();
    let format = source.object_format();
    let mut refs = RefTable::empty(format);
    for entry in source.refs(&RefPatterns::default()).unwrap() {
        let (name, value) = entry.unwrap();
        refs.push(name, value).unwrap();
    }
    let mut packs = PackSet::new(format);
    for file in std::fs::read_dir(path.join("objects/pack")).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "pack") {
            packs.add(&file, &file.with_extension("idx")).unwrap();
        }
    }
    View {
        format,
        head: source.head().unwrap(),
        refs: Arc::new(refs),
        packs: Arc::new(packs),
        recent_tips: Default::default(),
    }
}

/// `git://`: a connection with state.
#[derive(Debug)]
pub struct Daemon {
    pub url: String,
    version: Version,
}

impl Server for Daemon {
    fn url(&self) -> &str {
        &self.url
    }

    fn connect(&self, service: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        let address = self.url.strip_prefix("git://").unwrap().split('/').next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let version = match version.min(self.version) {
            Version::V0 => "",
            Version::V1 => "\0version=1\0",
            Version::V2 => "\0version=2\0",
        };
        let hello = format!("{} /repo\0host=x\0{version}", service.name());
        PacketWriter::new(&mut stream).data(hello.as_bytes()).unwrap();
        Ok(Box::new(Socket { answer: BufReader::new(stream.try_clone().unwrap()), stream }))
    }
}

struct Socket {
    answer: BufReader<TcpStream>,
    stream: TcpStream,
}

struct SocketRequest<'c> {
    stream: &'c TcpStream,
    finished: bool,
}

impl Connection for Socket {
    fn is_stateless(&self) -> bool {
        false
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        Ok(Box::new(SocketRequest { stream: &self.stream, finished: false }))
    }
}

impl Write for SocketRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.stream.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Request for SocketRequest<'_> {
    fn finish(mut self: Box<Self>) -> Result<(), ClientError> {
        self.finished = true;
        Ok(())
    }
}

impl Drop for SocketRequest<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// The library itself, without state.
struct InProcess {
    view: View,
    version: Version,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InProcess")
    }
}

impl Server for InProcess {
    fn url(&self) -> &str {
        "gitferry://here"
    }

    fn connect(&self, _: Service, version: Version) -> Result<Box<dyn Connection>, ClientError> {
        let session = Session {
            version: version.min(self.version),
            stateless: true,
            ref_in_want: false,
            thorough: false,
            own: false,
        };
        let mut greeting = Vec::new();
        advertise(&self.view, session, &mut greeting).unwrap();
        Ok(Box::new(Here { view: self.view.clone(), session, answer: Cursor::new(greeting), body: Vec::new() }))
    }
}

struct Here {
    view: View,
    session: Session,
    answer: Cursor<Vec<u8>>,
    body: Vec<u8>,
}

impl Connection for Here {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.answer
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        self.body.clear();
        Ok(Box::new(HereRequest(self)))
    }
}

struct HereRequest<'c>(&'c mut Here);

impl Write for HereRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.body.write(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Request for HereRequest<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        let Here { view, session, answer, body } = self.0;
        let mut out = Vec::new();
        // What goes wrong is told to the client.
        let _ = serve(view, &mut &body[..], *session, &mut out, &Limits::default(), &AtomicBool::new(false));
        *answer = Cursor::new(out);
        Ok(())
    }
}

/// Every version of gitferry's upload-pack on a repository, with and without state.
fn each(repo: &GitRepo, test: impl Fn(&dyn Server, Version)) {
    repo.git(&["repack", "-adq"]);
    let daemon = serving::Server::start(view(&repo.path));
    for (version, stateless) in ways() {
        match stateless {
            false => test(&Daemon { url: daemon.git_url(), version }, version),
            true => test(&InProcess { view: view(&repo.path), version }, version),
        }
    }
}

#[test]
fn refs_packs_and_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let repo = GitRepo::with_history(dir.path().join(format), &["--object-format", format]);
        let names = repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
        let commits: Vec<ObjectId> = repo.git(&["rev-list", "--all"]).lines().map(id).collect();
        let stranger = id(&commits[0].to_string().chars().rev().collect::<String>());
        each(&repo, |server, version| {
            let mut upload_pack = UploadPack::open(server).unwrap();
            assert_eq!(upload_pack.version(), version);
            let refs = upload_pack.list(&[]).unwrap();
            let listed: Vec<String> =
                refs.refs.iter().map(|entry| format!("{} {}", entry.name, entry.id.unwrap())).collect();
            assert_eq!(listed.join("\n"), names);
            assert_eq!(refs.head, Some(RefValue::Symbolic("refs/heads/main".try_into().unwrap())));
            assert_eq!(upload_pack.list(&[b"refs/tags/"]).unwrap().refs.len(), 3);
            let main = tips(&repo, &["main"])[0];
            let asked = [vec![stranger], commits.clone()].concat();
            assert_eq!(upload_pack.known(main, &asked).unwrap(), commits);
            let to = GitRepo::init(tempfile::tempdir_in(dir.path()).unwrap().keep(), &["--object-format", format]);
            let first = FetchPack { wants: tips(&repo, &["main~2"]), ofs_delta: true, ..FetchPack::default() };
            let (pack, _) = fetched(&mut upload_pack, &first);
            to.feed(&["index-pack", "--strict", "--stdin"], &pack);
            let wants = tips(&repo, &["main", "side", "v2"]);
            let rest = FetchPack { wants, haves: first.wants.clone(), thin: true, ..FetchPack::default() };
            let (pack, _) = fetched(&mut upload_pack, &rest);
            to.feed(&["index-pack", "--strict", "--fix-thin", "--stdin"], &pack);
            to.git(&["update-ref", "refs/heads/main", &main.to_string()]);
            to.git(&["fsck", "--strict", "--no-dangling"]);
            let filter = Some(Filter::parse(b"tree:0").unwrap());
            let (_, objects) =
                fetched(&mut upload_pack, &FetchPack { wants: vec![main], filter, ..FetchPack::default() });
            assert_eq!(objects as usize, repo.git(&["rev-list", "main"]).lines().count());
            let nowhere = FetchPack { wants: vec![stranger], ..FetchPack::default() };
            assert!(matches!(upload_pack.fetch(&nowhere), Err(ClientError::Remote { .. })));
        });
    }
}

#[test]
fn into_a_region_and_out_of_one() {
    let dir = tempfile::tempdir().unwrap();
    for format in [gix::hash::Kind::Sha1, gix::hash::Kind::Sha256] {
        let name = format.to_string();
        let from = GitRepo::with_history(dir.path().join(&name), &["--object-format", &name]);
        let host = Host::with_format(format);
        let target = Daemon { url: host.url(), version: Version::V2 };
        for (version, stateless) in ways() {
            from.commit("main", "file", &format!("{version:?} {stateless}"));
            from.git(&["update-ref", &format!("refs/x/{version:?}{stateless}"), "main"]);
            from.try_git(&["update-ref", "-d", "refs/tags/light"]);
            let report = relay(&GitServer::new(&from, version, stateless), &target);
            assert!(report.is_ok(), "{report:?}");
            host.assert_mirrors(&from);
        }
        let export = host.verified();
        let to = GitRepo::init(dir.path().join(format!("{name}-back")), &["--object-format", &name]);
        export.git(&["repack", "-adq"]);
        let report = relay(
            &InProcess { view: view(&export.path), version: Version::V2 },
            &GitServer::new(&to, Version::V0, true),
        );
        assert!(report.is_ok(), "{report:?}");
        assert_same(&from, &to);
    }
}

#[test]
fn a_region_refuses_each_ref_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let from = GitRepo::with_history(dir.path().join("from"), &[]);
    let host = Host::new();
    let server = Daemon { url: host.url(), version: Version::V2 };
    assert!(relay(&GitServer::new(&from, Version::V2, false), &server).is_ok());
    let at: BTreeMap<&str, String> = ["main", "side"].map(|name| (name, from.git(&["rev-parse", name]))).into();
    let mut target = ReceivePack::open(&server).unwrap();
    let commands = [
        command("refs/heads/side", &at["main"], "-"),
        command("refs/heads/new", "-", &at["side"]),
        command("refs/heads/nowhere", "-", &"12".repeat(20)),
    ];
    let report = target.push(&commands, Some(&mut no_objects)).unwrap();
    let done: Vec<bool> = report.refs.iter().map(|outcome| outcome.result.is_ok()).collect();
    assert_eq!(done, [false, true, false], "{report:?}");
    let confirmed = target.confirm(&commands).unwrap();
    assert_eq!(confirmed.refs.iter().map(|outcome| outcome.result.is_ok()).collect::<Vec<_>>(), done);
}
