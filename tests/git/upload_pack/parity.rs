//! The same requests to `git upload-pack` and to ours, answered with the same bytes.
//!
//! These differences are wanted, and there are no others:
//! - the value of `agent`;
//! - the pack's bytes, how they are cut into packets, and the text of progress;
//! - where Git only dies, with its reason on a standard error that HTTP clients never see, ours says it in an `ERR`,
//!   unless the client has hung up in the middle;
//! - a have of a tree or blob, or of an object that no visible ref reaches, is unknown to ours (`permission.rs`);
//! - without `multi_ack`, ours acknowledges the first common object alone, as gitprotocol-pack has it; Git says `ACK`
//!   again for each of its parents that the client names;
//! - `shallow-info` comes before `wanted-refs`, as gitprotocol-v2 has it and Git's client needs it: Git's server has
//!   them the other way round, so that its own clients fail.

use std::process::{Command, Stdio};

use gitferry_git::protocol::{Packet, PacketReader, Version};
use gitferry_git::upload_pack::{Limits, Session, advertise, serve};
use gitferry_git::view::View;
use std::io::Write as _;

use crate::upload_pack::raw::lines;
use crate::upload_pack::repo::{FORMATS, Repo};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Line(String),
    Flush,
    Delimiter,
    /// With how many objects, in bands or not.
    Pack(u32, bool),
    Progress,
    Error,
}

/// Parts in their order; pieces of the pack, and of progress, are one each.
fn parts(mut answer: &[u8]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut pack: Vec<u8> = Vec::new();
    let objects = |pack: &[u8]| pack.get(8..12).map_or(u32::MAX, |count| u32::from_be_bytes(count.try_into().unwrap()));
    while !answer.is_empty() {
        if answer.starts_with(b"PACK") {
            parts.push(Part::Pack(objects(answer), false));
            return parts;
        }
        let mut reader = PacketReader::new(answer);
        let part = match reader.read().unwrap().unwrap() {
            Packet::Flush => Part::Flush,
            Packet::Delimiter => Part::Delimiter,
            Packet::ResponseEnd => panic!("an end of a response"),
            Packet::Data([1, data @ ..]) => {
                pack.extend_from_slice(data);
                Part::Pack(0, true)
            }
            Packet::Data([2, ..]) => Part::Progress,
            Packet::Data([3, ..]) => Part::Error,
            Packet::Data(line) => Part::Line(agents(&String::from_utf8_lossy(line))),
        };
        answer = reader.into_inner();
        if !matches!(part, Part::Pack(..) | Part::Progress) || !parts.contains(&part) {
            parts.push(part);
        }
    }
    // Where progress stands between pieces of the pack is chance.
    let pack_at = parts.iter().position(|part| matches!(part, Part::Pack(..)));
    if let (Some(pack_at), Some(at)) = (pack_at, parts.iter().position(|part| *part == Part::Progress)) {
        let progress = parts.remove(at);
        parts.insert(pack_at.min(at), progress);
    }
    for part in &mut parts {
        if *part == Part::Pack(0, true) {
            *part = Part::Pack(objects(&pack), true);
        }
    }
    parts
}

/// Without the value of `agent`.
fn agents(line: &str) -> String {
    match line.split_once("agent=") {
        Some((front, rest)) => {
            let end = rest.find([' ', '\n']).unwrap_or(rest.len());
            format!("{front}agent=X{}", &rest[end..])
        }
        None => line.into(),
    }
}

fn number(version: Version) -> &'static str {
    match version {
        Version::V0 => "version=0",
        Version::V1 => "version=1",
        Version::V2 => "version=2",
    }
}

/// What Git's server says, and whether it ended well.
fn theirs(repo: &Repo, version: Version, mode: &[&str], request: &[u8]) -> (Vec<u8>, bool) {
    let mut child = Command::new("git")
        .arg("upload-pack")
        .args(mode)
        .arg(repo.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROTOCOL", number(version))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, request) = (child.stdin.take().unwrap(), request.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(&request));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    (output.stdout, output.status.success())
}

fn session(version: Version, stateless: bool) -> Session {
    Session { version, stateless, ref_in_want: true, thorough: false, own: false }
}

fn advertisement(view: &View, version: Version, stateless: bool) -> Vec<u8> {
    let mut heard = Vec::new();
    advertise(view, session(version, stateless), &mut heard).unwrap();
    heard
}

fn ours(view: &View, version: Version, stateless: bool, request: &[u8]) -> Vec<u8> {
    let mut heard = if stateless { Vec::new() } else { advertisement(view, version, false) };
    let mut input = request;
    let cancel = std::sync::atomic::AtomicBool::new(false);
    while serve(view, &mut input, session(version, stateless), &mut heard, &Limits::default(), &cancel)
        .is_ok_and(|served| served.may_follow && !stateless)
    {}
    heard
}

/// Compares one request, with state and without.
fn compare(repo: &Repo, view: &View, version: Version, request: &[&str]) {
    let bytes = lines(request);
    for stateless in [true, false] {
        let mode: &[&str] = if stateless { &["--stateless-rpc"] } else { &[] };
        let (git, well) = theirs(repo, version, mode, &bytes);
        let (git, mut ours) = (parts(&git), parts(&ours(view, version, stateless, &bytes)));
        let told = git.iter().any(|part| matches!(part, Part::Line(line) if line.starts_with("ERR ")));
        if !well && !told {
            let error =
                |part: &mut Part| matches!(part, Part::Line(line) if line.starts_with("ERR ") && !line.ends_with('\n'));
            let told = ours.pop_if(error).is_some();
            assert!(told || !stateless, "{request:?}: git dies, ours ends in {:?}", ours.last());
        }
        let same = ours.iter().zip(&git).take_while(|(ours, git)| ours == git).count();
        let what = format!("{version:?}, without state: {stateless}: {request:?}, behind {same} parts");
        assert_eq!(ours[same..], git[same..], "{what}");
    }
}

#[test]
fn advertisements_are_those_of_git() {
    for format in FORMATS {
        let detached = Repo::with_history(format);
        let main = detached.git(&["rev-parse", "v1"]);
        std::fs::write(detached.path().join("HEAD"), format!("{main}\n")).unwrap();
        let unborn = Repo::with_history(format);
        unborn.git(&["symbolic-ref", "HEAD", "refs/heads/unborn"]);
        for repo in [Repo::with_history(format), Repo::empty(format), detached, unborn] {
            let view = repo.view();
            for version in [Version::V0, Version::V1, Version::V2] {
                let (git, _) = theirs(&repo, version, &["--http-backend-info-refs"], b"");
                let ours = advertisement(&view, version, true);
                assert_eq!(parts(&ours), parts(&git), "{version:?}");
                // A byte more or less shows nowhere else.
                assert_eq!(agents(&String::from_utf8_lossy(&ours)).len(), agents(&String::from_utf8_lossy(&git)).len());
            }
        }
    }
}

#[test]
fn negotiations_of_versions_0_and_1_are_those_of_git() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let id = |name: &str| repo.rev_parse(name).to_string();
    let have = |name: &str| format!("have {}", id(name));
    let unknown = format!("have {:040}", 7);
    let rounds: [&[String]; 11] = [
        &["done".into()],
        &[".".into()],
        &[have("main~3"), ".".into()],
        &[have("main~3"), "done".into()],
        &[have("main~3"), have("main~9"), ".".into()],
        &[unknown.clone(), ".".into()],
        &[unknown.clone(), "done".into()],
        &[unknown.clone(), have("main~9"), unknown.clone(), ".".into()],
        &[
            have("main~30"),
            unknown.clone(),
            have("main"),
            unknown.clone(),
            ".".into(),
            unknown.clone(),
            ".".into(),
            "done".into(),
        ],
        &[have("v1"), unknown.clone(), ".".into(), have("side"), ".".into(), "done".into()],
        &[have("main~40"), have("side~2"), ".".into(), have("main~1"), unknown.clone(), ".".into(), "done".into()],
    ];
    let wants: [&[&str]; 5] = [&["main"], &["side", "main"], &["v2"], &["tree", "main~4"], &["blob"]];
    let modes = ["", "multi_ack", "multi_ack_detailed", "multi_ack_detailed no-done"];
    let others =
        ["", "side-band", "side-band-64k no-progress", "side-band-64k thin-pack ofs-delta include-tag agent=x/1"];
    for (at, mode) in modes.iter().enumerate() {
        for (number, want) in wants.iter().enumerate() {
            for (step, round) in rounds.iter().enumerate() {
                let other = others[(at + number + step) % others.len()];
                let mut all: Vec<String> = want.iter().map(|name| format!("want {}", id(name))).collect();
                all[0] += &format!(" {mode} {other}");
                all.push(".".into());
                all.extend_from_slice(round);
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                let version = if step % 2 == 0 { Version::V0 } else { Version::V1 };
                compare(&repo, &view, version, &all);
            }
        }
    }
}

/// Arguments about depth, and what is left out.
const DEPTHS: [&[&str]; 10] = [
    &["deepen 1"],
    &["deepen 3"],
    &["deepen 2147483647"],
    &["deepen-since 1701000000"],
    &["deepen-not v1"],
    &["deepen-not light", "deepen-since 1700500000"],
    &["filter blob:none"],
    &["filter tree:2"],
    &["filter object:type=tree"],
    &["filter combine:blob:limit=300+tree:3", "deepen 2"],
];

#[test]
fn depths_and_filters_are_those_of_git() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let id = |name: &str| repo.rev_parse(name).to_string();
    for depth in DEPTHS {
        for shallow in [None, Some("main~2"), Some("main~20")] {
            for haves in [&[][..], &["main~2"], &["main~20"]] {
                for ending in ["done", "."] {
                    let line = |word: &str, name: &&str| format!("{word} {}", id(name));
                    let mut shared: Vec<String> = shallow.iter().map(|name| line("shallow", name)).collect();
                    shared.extend(depth.iter().map(|line| (*line).to_owned()));
                    let haves: Vec<String> = haves.iter().map(|name| line("have", name)).collect();
                    let main = id("main");
                    let first = format!("want {main} multi_ack_detailed side-band-64k thin-pack filter");
                    let front = [vec![first], shared.clone(), vec![".".into()]].concat();
                    let v0 = [front.clone(), haves.clone(), vec![ending.into()]].concat();
                    let want = ["command=fetch".to_owned(), "|".into(), "thin-pack".into(), format!("want {main}")];
                    let end = if ending == "done" { vec!["done".into(), ".".into()] } else { vec![".".to_owned()] };
                    let v2 = [want.to_vec(), shared, haves, end].concat();
                    for (version, request) in [(Version::V0, front), (Version::V0, v0), (Version::V2, v2)] {
                        compare(&repo, &view, version, &request.iter().map(String::as_str).collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}

#[test]
fn ends_of_several_histories_are_told_in_the_order_of_git() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let wants = ["main", "side", "light"].map(|name| format!("want {}", repo.rev_parse(name)));
    for depth in ["deepen 1", "deepen-since 1701000000", "deepen-not light"] {
        let first = format!("{} side-band-64k", wants[0]);
        compare(&repo, &view, Version::V0, &[&first, &wants[1], &wants[2], depth, ".", "done"]);
        compare(
            &repo,
            &view,
            Version::V2,
            &["command=fetch", "|", &wants[0], &wants[1], &wants[2], depth, "done", "."],
        );
    }
}

#[test]
fn requests_of_version_2_are_answered_as_by_git() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let id = |name: &str| repo.rev_parse(name).to_string();
    let (main, side, old) = (id("main"), id("side"), id("main~9"));
    let want = format!("want {main}");
    let both = [want.clone(), format!("want {side}")];
    let have = format!("have {old}");
    let unknown = format!("have {:040}", 7);
    fn fetch<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["command=fetch", "agent=x/1", "object-format=sha1", "|"], arguments, &["."]].concat()
    }
    let requests: Vec<Vec<&str>> = vec![
        vec!["command=ls-refs", "."],
        vec!["command=ls-refs", "|", "peel", "symrefs", "unborn", "."],
        vec!["command=ls-refs", "|", "peel", "ref-prefix refs/tags/", "ref-prefix HEAD", "."],
        vec!["command=ls-refs", "|", "symrefs", "ref-prefix refs/heads/", "."],
        fetch(&[]),
        fetch(&["done"]),
        fetch(&[&want, "done"]),
        fetch(&[&want, "done", "no-progress"]),
        fetch(&[&want, &have]),
        fetch(&[&want, &unknown]),
        fetch(&[&want, &have, &unknown, "ofs-delta", "thin-pack"]),
        fetch(&[&want, &have, "done"]),
        fetch(&[&want, &have, "wait-for-done"]),
        fetch(&[&have, "wait-for-done"]),
        fetch(&[&both[0], &both[1], &have, "include-tag"]),
        fetch(&["want-ref refs/heads/side", "done"]),
        fetch(&["want-ref refs/heads/side", &want, &have]),
        fetch(&["want-ref refs/heads/nothing", "done"]),
        fetch(&[&want, "deepen 1", "deepen-relative", "done"]),
    ];
    for request in requests {
        compare(&repo, &view, Version::V2, &request);
    }
}

#[test]
fn what_git_refuses_is_refused() {
    let repo = Repo::with_history(FORMATS[0]);
    let view = repo.view();
    let main = repo.rev_parse("main").to_string();
    let (want, nothing) = (format!("want {main}"), format!("want {:040}", 7));
    let capable = format!("{want} side-band-64k");
    for request in [
        &[&nothing, ".", "done"][..],
        &["nonsense", "."],
        &["want x", "."],
        &[&capable, "deepen 1", "deepen-since 5", "."],
        &[&capable, "deepen-not nothing", ".", "done"],
        &[&capable, "filter nonsense", ".", "done"],
        &[&capable, ".", "nonsense"],
        &[&capable, ".", "have x"],
    ] {
        compare(&repo, &view, Version::V0, request);
    }
    for request in [
        &["command=nonsense", "."][..],
        &["agent=x", "."],
        &["command=fetch", "object-format=sha256", "|", &want, "done", "."],
        &["command=fetch", "|", &nothing, "done", "."],
        &["command=fetch", "|", "want x", "done", "."],
        &["command=fetch", "|", &want, "nonsense", "."],
        &["command=fetch", "|", &want, "have x", "."],
        &["command=fetch", "|", &want, "sideband-all", "done", "."],
        &["command=fetch", "|", &want, "filter nonsense", "done", "."],
        &["command=ls-refs", "|", "nonsense", "."],
    ] {
        compare(&repo, &view, Version::V2, request);
    }
}
