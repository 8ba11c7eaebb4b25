//! Servers that say exactly what a test has them say.

use std::io::{BufRead, Cursor, Read, Write};
use std::sync::Mutex;
use std::time::Duration;

use gitferry_base::Kind;
use gitferry_git::client::{
    ClientError, Connection, Deadline, FetchPack, PushReport, ReceivePack, Request, Server, UploadPack,
};
use gitferry_git::protocol::{Service, Version};
use proptest::prelude::*;

use crate::git_client::fetching::id;
use crate::git_client::pushing::{command, no_objects};

/// Answers with the next of its texts, whatever it is asked; without state.
#[derive(Debug)]
pub struct Scripted(Mutex<Vec<Vec<u8>>>);

impl Scripted {
    /// The greeting, then the answers.
    pub fn new(answers: impl IntoIterator<Item = Vec<u8>>) -> Scripted {
        let mut answers: Vec<Vec<u8>> = answers.into_iter().collect();
        answers.reverse();
        Scripted(Mutex::new(answers))
    }
}

impl Server for Scripted {
    fn url(&self) -> &str {
        "test://scripted"
    }

    fn connect(&self, _: Service, _: Version) -> Result<Box<dyn Connection>, ClientError> {
        let mut answers = std::mem::take(&mut *self.0.lock().unwrap());
        Ok(Box::new(Script { current: Cursor::new(answers.pop().unwrap_or_default()), answers }))
    }
}

struct Script {
    current: Cursor<Vec<u8>>,
    answers: Vec<Vec<u8>>,
}

impl Connection for Script {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        &mut self.current
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        Ok(Box::new(ScriptRequest(self)))
    }
}

struct ScriptRequest<'c>(&'c mut Script);

impl Write for ScriptRequest<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Request for ScriptRequest<'_> {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        self.0.current = Cursor::new(self.0.answers.pop().unwrap_or_default());
        Ok(())
    }
}

/// Lines as packets; `0000` and `0001` are special ones.
pub fn packets(lines: &[&str]) -> Vec<u8> {
    let packet = |line: &&str| match *line {
        "0000" | "0001" => (*line).to_owned(),
        line => format!("{:04x}{line}", line.len() + 4),
    };
    lines.iter().map(packet).collect::<String>().into_bytes()
}

const A: &str = "1111111111111111111111111111111111111111";
const B: &str = "2222222222222222222222222222222222222222";

fn v2_greeting() -> Vec<u8> {
    packets(&["version 2\n", "ls-refs=unborn\n", "fetch=shallow wait-for-done\n", "0000"])
}

fn list(greeting: &[u8], answer: &[u8]) -> Result<gitferry_git::client::RemoteRefs, ClientError> {
    let server = Scripted::new([greeting.to_owned(), answer.to_owned()]);
    UploadPack::open(&server)?.list(&[])
}

#[test]
fn answers_to_ls_refs() {
    let lines = [
        "unborn HEAD symref-target:refs/heads/none\n".to_owned(),
        format!("{A} refs/tags/t peeled:{B}\n"),
        format!("{B} refs/heads/late symref-target:refs/tags/t unknown:thing\n"),
        format!("{A} refs/heads/bad..name"),
        format!("{A} refs/heads/evil\u{1}"),
        "0000".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let refs = list(&v2_greeting(), &packets(&lines)).unwrap();
    let names: Vec<String> = refs.refs.iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!(names, ["refs/heads/late", "refs/tags/t"]);
    assert_eq!(refs.object("refs/heads/late".into()), Some(id(B)));
    assert_eq!(refs.symbolic.len(), 1);
    assert_eq!(refs.unusable, ["refs/heads/bad..name", "refs/heads/evil\u{1}"]);
    assert_eq!(refs.head.unwrap().to_string(), "ref:refs/heads/none");
    for (bad, words) in [
        (vec![format!("{A} refs/heads/a"), format!("{A} refs/heads/a"), "0000".into()], "each ref once"),
        (
            vec![format!("{A} refs/heads/b"), format!("{A} refs/heads/a"), format!("{A} refs/heads/a"), "0000".into()],
            "each ref once",
        ),
        (vec![format!("{} refs/heads/a", "0".repeat(40)), "0000".into()], "the object of a ref"),
        (vec![format!("{} refs/heads/a", "1".repeat(64)), "0000".into()], "an object id"),
        (vec![A.into(), "0000".into()], "<id> <ref>"),
        (vec![format!("{A} refs/heads/a")], "hung up"),
        (vec!["ERR access denied\n".into()], "the server says: access denied"),
        (vec![format!("{A} refs/heads/a"), "0001".into()], "a ref"),
    ] {
        let lines: Vec<&str> = bad.iter().map(String::as_str).collect();
        let error = list(&v2_greeting(), &packets(&lines)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), Kind::Transient);
    }
}

#[test]
fn greetings() {
    let dumb = format!("{A}\trefs/heads/main\n");
    let sha256 = format!("{}\trefs/heads/main\n", "c".repeat(64));
    for (greeting, words) in [
        (dumb.into_bytes(), "dumb HTTP"),
        (sha256.into_bytes(), "dumb HTTP"),
        (b"<!DOCTYPE html>".to_vec(), "bad line length"),
        (Vec::new(), "hung up"),
        (packets(&["ERR no such repository\n"]), "the server says: no such repository"),
        (packets(&["version 1\n", "ERR later"]), "the server says: later"),
        (packets(&["version 2\n", "ls-refs\n", "0000"]), "version 2"),
        (packets(&["version 3\n", "0000"]), "an object id"),
        (packets(&[&format!("{A} HEAD\0multi_ack"), &format!("{B} refs/heads/x")]), "hung up"),
    ] {
        let error = UploadPack::open(&Scripted::new([greeting])).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
    // Old servers say nothing but the end where there are no refs; others say what they can.
    for greeting in [packets(&["0000"]), packets(&["version 1\n", "0000"])] {
        assert!(list(&greeting, b"").unwrap().refs.is_empty());
    }
    let null = format!("{} capabilities^{{}}\0ofs-delta object-format=sha1\n", "0".repeat(40));
    let server = Scripted::new([packets(&[&null, &format!("shallow {A}"), "0000"])]);
    let target = ReceivePack::open(&server).unwrap();
    assert_eq!((target.shallow(), target.refs().refs.len()), (&[id(A)][..], 0));
    assert!(target.capabilities().has("ofs-delta"));
}

fn push(capabilities: &str, answer: &[u8]) -> Result<PushReport, ClientError> {
    let server = Scripted::new([packets(&[&format!("{A} refs/heads/a\0{capabilities}\n"), "0000"]), answer.to_owned()]);
    let commands = [command("refs/heads/a", A, B), command("refs/for/main", "-", A), command("refs/heads/c", "-", A)];
    ReceivePack::open(&server)?.push(&commands, Some(&mut no_objects))
}

#[test]
fn reports_with_options() {
    let lines = [
        "unpack ok\n".to_owned(),
        "ok refs/for/main\n".into(),
        "option refname refs/pull/1/head\n".into(),
        format!("option old-oid {B}\n"),
        format!("option new-oid {A}\n"),
        "option forced-update\n".into(),
        "ok refs/for/main\n".into(),
        "option refname refs/pull/2/head\n".into(),
        "option unheard-of x\n".into(),
        "ng refs/heads/a not \u{7} today\n".into(),
        "ok refs/heads/never/asked\n".into(),
        "option forced-update\n".into(),
        "0000".into(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let report = push("report-status-v2", &packets(&lines)).unwrap();
    let [a, review, c] = &report.refs[..] else { panic!("{report:?}") };
    assert_eq!(a.result, Err("not   today".into()));
    assert_eq!(c.result, Err("the server's report does not mention this ref".into()));
    assert!(review.result.is_ok() && report.unpack.is_ok() && !report.is_ok());
    let [first, second] = &review.effects[..] else { panic!("{review:?}") };
    assert_eq!((first.old, first.new, first.forced), (Some(id(B)), Some(id(A)), true));
    assert_eq!((second.name.as_ref().unwrap().to_string(), second.forced), ("refs/pull/2/head".into(), false));
    let failed = push(
        "report-status",
        &packets(&["unpack index-pack abnormal exit\n", "ng refs/heads/a unpacker error\n", "0000"]),
    );
    assert_eq!(failed.unwrap().unpack, Err("index-pack abnormal exit".into()));
}

#[test]
fn reports_that_are_none() {
    for (capabilities, answer, words) in [
        ("report-status", packets(&["unpack ok\n", "ok refs/heads/a\n"]), "hung up"),
        ("report-status", packets(&["ERR read-only today\n"]), "the server says: read-only today"),
        ("report-status", packets(&["nonsense\n", "0000"]), "unpack ok"),
        ("report-status", packets(&["unpack ok\n", "nonsense\n", "0000"]), "ok, ng or option"),
        ("report-status side-band-64k", packets(&["\u{3}disk full\n", "0000"]), "the server says: disk full"),
        ("report-status side-band-64k", packets(&["\u{2}hello\n", "0000"]), "hung up"),
        ("side-band-64k", packets(&["\u{3}disk full\n", "0000"]), "the server says: disk full"),
        (
            "report-status-v2",
            packets(&["unpack ok\n", "ok refs/heads/a\n", "option new-oid 12\n", "0000"]),
            "an object id",
        ),
    ] {
        let error = push(capabilities, &answer).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_a_server_says_of_a_push_is_final_unless_it_says_otherwise() {
    for (answer, kind) in [
        (packets(&["ERR read-only\n"]), Kind::Refused),
        (packets(&["\u{3}disk full\n", "0000"]), Kind::Refused),
        (packets(&["ERR Temporarily unavailable\n"]), Kind::Transient),
        (packets(&["\u{3}the server is stopping; try again\n", "0000"]), Kind::Transient),
    ] {
        let error = push("report-status side-band-64k", &answer).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn sections_around_a_pack() {
    let pack = gitferry_git::client::empty_pack(gix::hash::Kind::Sha1);
    let banded = [&b"0025\x01"[..], &pack, b"0005\x01000a\x02done\n0000"].concat();
    let fetch = |before: &[&str], pack: &[u8], deepen: Option<u32>| {
        let server = Scripted::new([v2_greeting(), [packets(before), pack.to_owned()].concat()]);
        let request = FetchPack { wants: vec![id(A)], deepen, ..FetchPack::default() };
        let mut upload_pack = UploadPack::open(&server)?;
        let mut input = upload_pack.fetch(&request)?;
        let mut out = Vec::new();
        std::io::copy(&mut input, &mut out).map_err(|error| ClientError::from_io(error).unwrap())?;
        Ok::<_, ClientError>((out, input.shallow().len()))
    };
    let shallow = format!("shallow {A}\n");
    assert_eq!(fetch(&["packfile\n"], &banded, None).unwrap(), (pack.clone(), 0));
    let all = [
        "acknowledgments\n",
        &format!("ACK {B}\n"),
        "ready\n",
        "0001",
        "shallow-info\n",
        &shallow,
        "0001",
        "wanted-refs\n",
        "0001",
        "packfile\n",
    ];
    assert_eq!(fetch(&all, &banded, Some(1)).unwrap(), (pack.clone(), 1));
    assert!(matches!(fetch(&all, &banded, None), Err(ClientError::Shallow { .. })));
    let unshallow = format!("unshallow {A}\n");
    assert!(fetch(&["shallow-info\n", &unshallow, "0001", "packfile\n"], &banded, None).is_ok());
    for (before, pack, words) in [
        (&["packfile-uris\n", "0001"][..], &banded[..], "a section of the answer"),
        (&["acknowledgments\n", "NAK\n", "0000"], b"", "the pack"),
        (&["packfile\n"], b"000b\x03no way0000", "the server says: no way"),
        (&["packfile\n"], b"0000", "hung up"),
        (&["packfile\n"], b"0011\x01PACK\0\0\0\x02\0\0\0\x010000", "hung up"),
        (&["packfile\n"], &[&b"0025\x01"[..], &pack].concat(), "hung up"),
        (&["packfile\n"], &[&b"0025\x01"[..], &pack, b"0006\x01!0000"].concat(), "not the hash of its bytes"),
        (&["packfile\n"], &[&b"0025\x01JACK"[..], &pack[4..], b"0000"].concat(), "begin with a pack header"),
        (&["packfile\n"], &[&b"002e\x01JACKJACKJ"[..], &pack, b"0000"].concat(), "begin with a pack header"),
    ] {
        let error = fetch(before, pack, None).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

/// A line that might stand in some answer.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"0000".to_vec()),
        Just(b"0001".to_vec()),
        "(version [012]|unpack |ok |ng |option (refname|old-oid) |ERR |ACK |NAK|ready|shallow |acknowledgments|packfile|shallow-info|unborn HEAD)?[ -~]{0,20}"
            .prop_map(|line| packets(&[&line])),
        ("(1{40}|2{64}|0{40}) (refs/heads/[a-z/.]{0,5}|HEAD|\\.have|capabilities)(\\^\\{\\})?", "[ -~]{0,30}")
            .prop_map(|(line, rest)| packets(&[&format!("{line}\0{rest}")])),
        "[\u{1}-\u{4}][ -~]{0,30}".prop_map(|line| packets(&[&line])),
        proptest::collection::vec(any::<u8>(), 0..20),
    ]
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(line(), 0..8).prop_map(|lines| lines.concat())
}

proptest! {
    /// Whatever a server says, there is an answer or an error; a pack never ends well unless it is one.
    #[test]
    fn arbitrary_servers_never_panic(greeting in answer(), answers in proptest::collection::vec(answer(), 4), v2: bool) {
        let greeting = if v2 { v2_greeting() } else { greeting };
        let script = || Scripted::new([vec![greeting.clone()], answers.clone()].concat());
        let server = script();
        if let Ok(mut upload_pack) = UploadPack::open(&server) {
            let _ = upload_pack.list(&[b"refs/heads/"]);
            let _ = upload_pack.known(id(A), &[id(A), id(B)]);
            if let Ok(mut input) = upload_pack.fetch(&FetchPack { wants: vec![id(A)], haves: vec![id(B)], ..FetchPack::default() }) {
                prop_assert!(std::io::copy(&mut input, &mut Vec::new()).is_err());
            }
        }
        let server = script();
        if let Ok(mut target) = ReceivePack::open(&server) {
            let _ = target.push(&[command("refs/heads/a", "-", A)], Some(&mut no_objects));
        }
    }
}

/// A server that talks on and on about nothing is cut short.
#[test]
fn what_nobody_asked_for() {
    let v0 = packets(&[&format!("{A} refs/heads/a\0multi_ack_detailed side-band-64k\n"), "0000"]);
    let many = |line: &str, head: &[&str]| [packets(head), packets(&[line]).repeat(2000)].concat();
    let acknowledged = |status: &str| format!("ACK {A}{status}\n");
    let known = |greeting: Vec<u8>, answer: Vec<u8>| {
        let server = Scripted::new([greeting, answer]);
        UploadPack::open(&server).unwrap().known(id(A), &[id(A)]).unwrap_err().to_string()
    };
    let stranger = |status: &str| packets(&[&format!("ACK {B}{status}\n"), "0000"]);
    for (greeting, answer, words) in [
        (v2_greeting(), [packets(&["acknowledgments\n"]), stranger("")].concat(), "asked about"),
        (v2_greeting(), many(&acknowledged(""), &["acknowledgments\n"]), "too many acknowledgments"),
        (v0.clone(), stranger(" common"), "asked about"),
        (v0.clone(), many(&acknowledged(" common"), &[]), "too many acknowledgments"),
        (v0.clone(), many(&acknowledged(" ready"), &[]), "too many acknowledgments"),
    ] {
        let error = known(greeting, answer);
        assert!(error.contains(words), "{error}");
    }
    for (greeting, answer) in [
        (v2_greeting(), many("ready\n", &["acknowledgments\n"])),
        (v2_greeting(), packets(&["acknowledgments\n", "0001"]).repeat(2000)),
        (v0, many(&acknowledged(" common"), &[])),
    ] {
        let server = Scripted::new([greeting, answer]);
        let request = FetchPack { wants: vec![id(A)], haves: vec![id(B)], ..FetchPack::default() };
        let error = UploadPack::open(&server).unwrap().fetch(&request).err().unwrap().to_string();
        assert!(error.contains("too many acknowledgments"), "{error}");
    }
}

#[test]
fn reports_without_end() {
    let name = "x".repeat(60_000);
    let option = format!("option refname refs/heads/{name}\n");
    let lines = ["ok refs/for/main\n", &option].repeat(1000);
    let refused = ["ng refs/heads/c no\n", "0000"];
    let report = push("report-status-v2", &packets(&[&["unpack ok\n"], &lines[..], &refused].concat())).unwrap();
    let kept: usize =
        report.refs.iter().flat_map(|outcome| &outcome.effects).map(|one| one.name.as_ref().unwrap().len()).sum();
    assert!((1 << 20..17 << 20).contains(&kept), "{kept}");
    assert!(report.refs[1].result.is_ok() && report.refs[2].result == Err("no".into()));
}

/// Reports on a push, then says for ever that it is alive.
#[derive(Debug)]
struct Hung;

struct HungConnection {
    said: Cursor<Vec<u8>>,
    alive: Vec<u8>,
    deadline: Deadline,
}

impl Server for Hung {
    fn url(&self) -> &str {
        "test://hung"
    }

    fn connect(&self, _: Service, _: Version) -> Result<Box<dyn Connection>, ClientError> {
        let greeting = packets(&[&format!("{A} refs/heads/a\0report-status side-band-64k\n"), "0000"]);
        Ok(Box::new(HungConnection { said: Cursor::new(greeting), alive: Vec::new(), deadline: Deadline::default() }))
    }
}

impl Connection for HungConnection {
    fn is_stateless(&self) -> bool {
        true
    }

    fn answer(&mut self) -> &mut dyn BufRead {
        self
    }

    fn deadline(&self) -> Deadline {
        self.deadline.clone()
    }

    fn request(&mut self) -> Result<Box<dyn Request + '_>, ClientError> {
        let report = packets(&["unpack ok\n", "ok refs/heads/a\n", "0000"]);
        self.said = Cursor::new([format!("{:04x}\u{1}", report.len() + 5).into_bytes(), report].concat());
        Ok(Box::new(HungRequest))
    }
}

impl BufRead for HungConnection {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if !self.said.fill_buf()?.is_empty() {
            return self.said.fill_buf();
        }
        // As if the time had passed.
        if self.deadline.left().is_some_and(|left| left <= Duration::from_mins(1)) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        if self.alive.is_empty() {
            self.alive = b"0005\x02".to_vec();
        }
        Ok(&self.alive)
    }

    fn consume(&mut self, count: usize) {
        match self.alive.is_empty() {
            true => self.said.consume(count),
            false => drop(self.alive.drain(..count)),
        }
    }
}

impl Read for HungConnection {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

struct HungRequest;

impl Write for HungRequest {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Request for HungRequest {
    fn finish(self: Box<Self>) -> Result<(), ClientError> {
        Ok(())
    }
}

#[test]
fn a_hook_that_hangs_after_the_report_holds_nothing_up() {
    let report = ReceivePack::open(&Hung).unwrap().push(&[command("refs/heads/a", A, B)], Some(&mut no_objects));
    assert!(report.unwrap().is_ok());
}
