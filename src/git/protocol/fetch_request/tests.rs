use super::super::PacketWriter;
use super::*;
use proptest::prelude::*;

const A: &str = "1111111111111111111111111111111111111111";
const B: &str = "2222222222222222222222222222222222222222";

fn packets(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = PacketWriter::new(&mut out);
    lines.iter().for_each(|line| writer.line(line.as_bytes()).unwrap());
    writer.flush_packet().unwrap();
    out
}

const LIMITS: RequestLimits =
    RequestLimits { wants: 3, haves: 3, shallow: 3, deepen_not: 3, name_bytes: 30, line_bytes: 1000 };

fn read_v2(lines: &[&str], ref_in_want: bool) -> Result<FetchRequest, String> {
    let packets = packets(lines);
    let mut input = PacketReader::new(&packets[..]);
    FetchRequest::read_v2::<_, ProtocolError>(&mut input, Format::Sha1, (&LIMITS, Offers { ref_in_want }), &mut |_| {
        Ok(true)
    })
    .map_err(|e| e.to_string())
}

fn v2(lines: &[&str]) -> Result<FetchRequest, String> {
    read_v2(lines, true)
}

fn v0(lines: &[&str]) -> Result<FetchRequest, String> {
    let limits = RequestLimits::default();
    let packets = packets(lines);
    let mut input = PacketReader::new(&packets[..]);
    FetchRequest::read_v0::<_, ProtocolError>(&mut input, Format::Sha1, &limits, &mut |_| Ok(true))
        .map_err(|e| e.to_string())
}

#[test]
fn every_argument_of_version_2() {
    let (want, have, shallow) = (format!("want {A}"), format!("have {B}"), format!("shallow {B}"));
    let request = v2(&[
        &want,
        "want-ref refs/heads/x",
        &have,
        &shallow,
        "deepen 3",
        "deepen-relative",
        "done",
        "thin-pack",
        "no-progress",
        "include-tag",
        "ofs-delta",
        "wait-for-done",
        "filter tree:1",
    ])
    .unwrap();
    let id = |hex: &str| ObjectId::from_hex(hex.as_bytes()).unwrap();
    assert_eq!(
        (&request.wants[..], &request.haves[..], &request.shallow[..]),
        (&[id(A)][..], &[id(B)][..], &[id(B)][..])
    );
    assert_eq!(request.want_refs, ["refs/heads/x"]);
    assert_eq!(request.deepen, Some(Deepen::Relative(3)));
    assert_eq!(request.filter, Filter { tree_depth: Some(1), ..Filter::default() });
    assert!(request.done && request.thin_pack && request.no_progress && request.include_tag);
    assert!(request.ofs_delta && request.wait_for_done);
    let by_time = v2(&["deepen-since 100", "deepen-not v1", "deepen-not v2"]).unwrap();
    let not = vec!["v1".into(), "v2".into()];
    assert_eq!(by_time.deepen, Some(Deepen::Commits { since: Some(100), not }));
}

#[test]
fn what_version_2_refuses() {
    let (want, short, null) = (format!("want {A}"), format!("want {}", &A[1..]), format!("want {}", "g".repeat(40)));
    for lines in [
        &[&*want; 4][..],
        &[&short],
        &[&null],
        &["deepen 0"],
        &["deepen -1"],
        &["deepen x"],
        &["packfile-uris https"],
        &["sideband-all"],
        &["deepen 1", "deepen-since 5"],
        &["deepen-since"],
        &["filter nonsense"],
        &["whatever"],
    ] {
        assert!(v2(lines).is_err(), "{lines:?}");
    }
    assert!(v2(&[want.as_str(); 4]).unwrap_err().contains("at most 3"));
}

#[test]
fn names_and_lines_have_a_limit_in_bytes_and_what_was_not_offered_none_at_all() {
    let long = |word: &str| format!("{word} refs/heads/{}", "x".repeat(20));
    for line in [long("want-ref"), long("deepen-not")] {
        assert!(v2(&[&line]).unwrap_err().contains("bytes in names of refs"), "{line}");
    }
    let half = "deepen-not refs/heads/12345678";
    assert!(v2(&[half]).is_ok() && v2(&[half, half]).is_err());
    assert!(v2(&["done"; 300]).unwrap_err().contains("bytes in a request"));
    assert!(read_v2(&["want-ref refs/heads/x"], false).unwrap_err().contains("an argument of fetch"));
}

#[test]
fn wants_are_shown_as_they_arrive_and_only_kept_if_admitted() {
    let (a, b) = (format!("want {A}"), format!("want {B}"));
    let read = |lines: &[&str], fail_at: usize| {
        let (input, mut shown) = (packets(lines), 0);
        FetchRequest::read_v2::<_, ProtocolError>(
            &mut PacketReader::new(&input[..]),
            Format::Sha1,
            (&LIMITS, Offers::default()),
            &mut |_| {
                shown += 1;
                if shown == fail_at { Err(ProtocolError::Together("wants")) } else { Ok(shown <= 2) }
            },
        )
        .map_err(|error| error.to_string())
    };
    // The following line is never read.
    assert_eq!(read(&[&a, &b, &a, &a, &a, "nonsense"], 3), Err("wants cannot be used together".into()));
    assert_eq!(read(&[&a, &b, &a, &a, &a], 0).unwrap().wants.len(), 2);
}

#[test]
fn the_first_want_of_version_0_carries_capabilities() {
    let first =
        format!("want {A} multi_ack_detailed multi_ack side-band side-band-64k thin-pack ofs-delta agent=git/2 x");
    let second = format!("want {B} no-progress");
    let request = v0(&[&first, &second, "deepen 2147483647"]).unwrap();
    assert_eq!((request.wants.len(), request.multi_ack), (2, MultiAck::Detailed));
    assert_eq!((request.sideband, request.deepen), (SidebandWidth::Large, Some(Deepen::Depth(Deepen::WHOLE))));
    assert!(request.thin_pack && request.ofs_delta && !request.no_progress);
    assert!(v0(&[]).unwrap().wants.is_empty());
    assert!(v0(&[&format!("want {A} object-format=sha256")]).is_err());
    assert!(v0(&["have x"]).is_err());
    assert_eq!(have_or_done(b"done", Format::Sha1).unwrap(), HaveOrDone::Done);
    assert!(have_or_done(b"have 12", Format::Sha1).is_err());
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(lines in proptest::collection::vec("(want |have |deepen |filter |shallow |)[ -~]{0,60}", 0..8)) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let _ = v2(&lines);
        let _ = v0(&lines);
        let mut raw = packets(&lines);
        raw.truncate(raw.len() / 2);
        let limits = RequestLimits::default();
        let _ = FetchRequest::read_v2::<_, ProtocolError>(
            &mut PacketReader::new(&raw[..]), Format::Sha256, (&limits, Offers::default()), &mut |_| Ok(true),
        );
    }
}
