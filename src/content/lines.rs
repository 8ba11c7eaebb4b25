//! Three-way merges of lines: hunks, merged bytes, and conflicts, with the rules of Git's `xdiff` merges.
//!
//! Changes of both sides that touch are one hunk. A hunk that both sides changed alike is no conflict; the lines in which
//! the sides agree are taken out of a conflict; conflicts at most three lines apart are one.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gix_imara_diff::{Algorithm, Diff, InternedInput, Token};

/// Bytes at the start of a file in which a NUL makes it binary, as in Git.
const BINARY_PROBE_BYTES: usize = 8_000;
/// Most lines between two conflicts that become one.
const JOINED_LINES: u32 = 3;

/// Returns true if Git takes the bytes for binary.
pub fn is_binary(data: &[u8]) -> bool {
    data.iter().take(BINARY_PROBE_BYTES).any(|byte| *byte == 0)
}

/// Side that changed a hunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Only the destination.
    Destination,
    /// Only the source.
    Source,
    /// Both, in the same way.
    Alike,
    /// Both, differently: a conflict.
    Conflict,
}

/// Lines that a side changed, as ranges of line numbers from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// Side that changed the lines.
    pub changed: Changed,
    /// Lines of the base. Conflicts that were taken out of one hunk all have its lines.
    pub base: Range<u32>,
    /// Lines of the destination.
    pub destination: Range<u32>,
    /// Lines of the source.
    pub source: Range<u32>,
}

impl Hunk {
    /// Returns true for conflicts.
    pub fn is_conflict(&self) -> bool {
        self.changed == Changed::Conflict
    }
}

/// Version of which a hunk shows lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Merge base.
    Base,
    /// Destination.
    Destination,
    /// Source.
    Source,
}

/// Lines of one version in a hunk, as the API shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Number of the first line, from 1.
    pub start_line: u32,
    /// Number of the last line; `start_line - 1` if there are none.
    pub end_line: u32,
    /// Bytes of the lines in Base64.
    pub content: String,
}

/// Labels of conflict markers, and the number of characters of a marker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Markers<'a> {
    pub(crate) destination: &'a str,
    pub(crate) source: &'a str,
    pub(crate) size: usize,
}

/// Lines that a merge takes where both sides changed them differently.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Favor<'a> {
    Destination,
    Source,
    /// Both, between conflict markers.
    Both(Markers<'a>),
}

/// Three versions of a file, and the hunks in which they differ.
#[derive(Clone, Debug)]
pub struct LineMerge<'d> {
    base: Vec<&'d [u8]>,
    destination: Vec<&'d [u8]>,
    source: Vec<&'d [u8]>,
    hunks: Vec<Hunk>,
}

impl<'d> LineMerge<'d> {
    /// Compares both sides with the base.
    pub fn new(base: &'d [u8], destination: &'d [u8], source: &'d [u8]) -> Self {
        let [base, destination, source] = [base, destination, source].map(lines);
        let mut input: InternedInput<&[u8]> = InternedInput::default();
        input.update_before(base.iter().copied());
        input.update_after(destination.iter().copied());
        let ours = changes(&input);
        let destination_tokens = std::mem::take(&mut input.after);
        input.update_after(source.iter().copied());
        let theirs = changes(&input);
        let source_tokens = std::mem::take(&mut input.after);
        let mut pieces = Vec::new();
        for cluster in clusters(&ours, &theirs) {
            let here = &destination_tokens[range(&cluster.hunk.destination)];
            let there = &source_tokens[range(&cluster.hunk.source)];
            refine(cluster, here, there, &mut input, &mut pieces);
        }
        LineMerge { base, destination, source, hunks: joined(pieces) }
    }

    /// Hunks, in order.
    pub fn hunks(&self) -> &[Hunk] {
        &self.hunks
    }

    /// Number of conflicts.
    pub fn conflicts(&self) -> u32 {
        self.hunks.iter().map(|hunk| u32::from(hunk.is_conflict())).sum()
    }

    /// Lines of a hunk in one version.
    pub fn detail(&self, hunk: &Hunk, version: Version) -> Detail {
        let (lines, range) = match version {
            Version::Base => (&self.base, &hunk.base),
            Version::Destination => (&self.destination, &hunk.destination),
            Version::Source => (&self.source, &hunk.source),
        };
        let content = STANDARD.encode(lines[self::range(range)].concat());
        Detail { start_line: range.start + 1, end_line: range.end, content }
    }

    /// Returns the merged bytes.
    pub(crate) fn merged(&self, favor: Favor<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        for hunk in &self.hunks {
            out.extend(self.destination[at..hunk.destination.start as usize].concat());
            at = hunk.destination.end as usize;
            let ours = &self.destination[range(&hunk.destination)];
            let theirs = &self.source[range(&hunk.source)];
            match (hunk.changed, favor) {
                (Changed::Destination | Changed::Alike, _) | (Changed::Conflict, Favor::Destination) => {
                    out.extend(ours.concat());
                }
                (Changed::Source, _) | (Changed::Conflict, Favor::Source) => out.extend(theirs.concat()),
                (Changed::Conflict, Favor::Both(markers)) => self.write_both(hunk, markers, &mut out),
            }
        }
        out.extend(self.destination[at..].concat());
        out
    }

    fn write_both(&self, hunk: &Hunk, markers: Markers<'_>, out: &mut Vec<u8>) {
        let end: &[u8] = if self.ends_with_return(hunk) { b"\r\n" } else { b"\n" };
        let marker = |out: &mut Vec<u8>, character: u8, label: &str| {
            out.extend(std::iter::repeat_n(character, markers.size));
            if !label.is_empty() {
                out.push(b' ');
                out.extend_from_slice(label.as_bytes());
            }
            out.extend_from_slice(end);
        };
        let copy = |out: &mut Vec<u8>, lines: &[&[u8]]| {
            out.extend(lines.concat());
            if lines.last().is_some_and(|line| !line.ends_with(b"\n")) {
                out.extend_from_slice(end);
            }
        };
        marker(out, b'<', markers.destination);
        copy(out, &self.destination[range(&hunk.destination)]);
        marker(out, b'=', "");
        copy(out, &self.source[range(&hunk.source)]);
        marker(out, b'>', markers.source);
    }

    /// Returns true if the line before the hunk (or the first one) ends with CRLF on both sides, and in the base.
    fn ends_with_return(&self, hunk: &Hunk) -> bool {
        let sides = [
            ends_with_return(&self.destination, hunk.destination.start.saturating_sub(1)),
            ends_with_return(&self.source, hunk.source.start.saturating_sub(1)),
            ends_with_return(&self.base, 0),
        ];
        !sides.contains(&Some(false)) && sides.contains(&Some(true))
    }
}

/// Line ending of a line, or of the one before where it is the last one without an ending; `None` if there is none.
fn ends_with_return(lines: &[&[u8]], at: u32) -> Option<bool> {
    let at = at as usize;
    let line = lines.get(at)?;
    let line = if line.ends_with(b"\n") { line } else { lines.get(at.checked_sub(1)?)? };
    Some(line.ends_with(b"\r\n"))
}

fn lines(data: &[u8]) -> Vec<&[u8]> {
    data.split_inclusive(|byte| *byte == b'\n').collect()
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Changed lines of one side.
#[derive(Clone, Debug)]
struct Edit {
    base: Range<u32>,
    side: Range<u32>,
}

/// Changes from `input.before` to `input.after`, placed as Git places them.
fn changes(input: &InternedInput<&[u8]>) -> Vec<Edit> {
    let mut diff = Diff::compute(Algorithm::Histogram, input);
    diff.postprocess_no_heuristic(input);
    diff.hunks().map(|hunk| Edit { base: hunk.before, side: hunk.after }).collect()
}

/// Hunk on its way to the result.
struct Piece {
    hunk: Hunk,
    /// Both sides have one change each, of the same lines of the base: if alike, it stands between no conflicts.
    is_pair: bool,
}

/// Groups changes of both sides that overlap or touch in the base.
fn clusters(ours: &[Edit], theirs: &[Edit]) -> Vec<Piece> {
    let sides = [ours, theirs];
    let mut next = [0, 0];
    // Lines by which each side is ahead of the base behind the changes so far.
    let mut ahead = [0i64, 0];
    let mut pieces = Vec::new();
    loop {
        let starts = [0, 1].map(|side| sides[side].get(next[side]).map(|edit| edit.base.start));
        let Some(start) = starts.into_iter().flatten().min() else { return pieces };
        let mut end = start;
        let first = next;
        let before = ahead;
        let mut grown = true;
        while grown {
            grown = false;
            for side in 0..2 {
                while let Some(edit) = sides[side].get(next[side]).filter(|edit| edit.base.start <= end) {
                    end = end.max(edit.base.end);
                    ahead[side] = i64::from(edit.side.end) - i64::from(edit.base.end);
                    next[side] += 1;
                    grown = true;
                }
            }
        }
        let lines = |side: usize| shifted(start, before[side])..shifted(end, ahead[side]);
        let own = [0, 1].map(|side| &sides[side][first[side]..next[side]]);
        let changed = match own {
            [_, []] => Changed::Destination,
            [[], _] => Changed::Source,
            _ => Changed::Conflict,
        };
        let is_pair = matches!(own, [[one], [two]] if one.base == two.base);
        let hunk = Hunk { changed, base: start..end, destination: lines(0), source: lines(1) };
        pieces.push(Piece { hunk, is_pair });
    }
}

fn shifted(line: u32, by: i64) -> u32 {
    u32::try_from(i64::from(line) + by).unwrap_or(0)
}

/// Takes the lines in which both sides agree out of a conflict.
fn refine(
    piece: Piece,
    destination: &[Token],
    source: &[Token],
    input: &mut InternedInput<&[u8]>,
    pieces: &mut Vec<Piece>,
) {
    let Piece { hunk, is_pair } = piece;
    if hunk.changed != Changed::Conflict || (destination.is_empty() != source.is_empty()) {
        pieces.push(Piece { hunk, is_pair: false });
        return;
    }
    if destination == source {
        pieces.push(Piece { hunk: Hunk { changed: Changed::Alike, ..hunk }, is_pair });
        return;
    }
    input.before = destination.to_vec();
    input.after = source.to_vec();
    for edit in changes(input) {
        let destination = hunk.destination.start + edit.base.start..hunk.destination.start + edit.base.end;
        let source = hunk.source.start + edit.side.start..hunk.source.start + edit.side.end;
        let hunk = Hunk { changed: Changed::Conflict, base: hunk.base.clone(), destination, source };
        pieces.push(Piece { hunk, is_pair: false });
    }
}

/// Joins conflicts that are at most [`JOINED_LINES`] apart, with pairs of like changes between them.
fn joined(pieces: Vec<Piece>) -> Vec<Hunk> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let hunk = &piece.hunk;
        let last = out.iter().rposition(|last| !last.is_pair);
        let last = last.filter(|last| {
            let last = &out[*last].hunk;
            let gap = hunk.destination.start.saturating_sub(last.destination.end);
            last.is_conflict() && hunk.is_conflict() && gap <= JOINED_LINES
        });
        let Some(last) = last else {
            out.push(piece);
            continue;
        };
        out.truncate(last + 1);
        if let Some(Piece { hunk: last, .. }) = out.last_mut() {
            last.base.end = last.base.end.max(hunk.base.end);
            last.destination.end = hunk.destination.end;
            last.source.end = hunk.source.end;
        }
    }
    out.into_iter().map(|piece| piece.hunk).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge(base: &str, destination: &str, source: &str) -> (u32, String) {
        let merge = LineMerge::new(base.as_bytes(), destination.as_bytes(), source.as_bytes());
        let markers = Markers { destination: "ours", source: "theirs", size: 7 };
        (merge.conflicts(), String::from_utf8(merge.merged(Favor::Both(markers))).unwrap())
    }

    #[test]
    fn changes_that_do_not_touch_are_merged() {
        let merged = merge("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\nf\n");
        assert_eq!(merged, (0, "A\nb\nc\nd\nE\nf\n".into()));
        assert_eq!(merge("a\nb\n", "a\nx\nb\n", "a\nx\nb\n"), (0, "a\nx\nb\n".into()));
        assert_eq!(merge("", "", "new\n"), (0, "new\n".into()));
        assert_eq!(merge("a\nb\nc\n", "", "a\nb\nc\n"), (0, String::new()));
    }

    #[test]
    fn changes_that_touch_conflict() {
        let (conflicts, text) = merge("a\nb\n", "A\nb\n", "a\nB\n");
        assert_eq!(conflicts, 1);
        assert_eq!(text, "<<<<<<< ours\nA\nb\n=======\na\nB\n>>>>>>> theirs\n");
        let (conflicts, text) = merge("a\nb\nc\nd", "a\nb\nc\nx", "a\nb\nc\ny");
        assert_eq!((conflicts, text.as_str()), (1, "a\nb\nc\n<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\n"));
        let (_, text) = merge("a\r\nb\r\n", "a\r\nx\r\n", "a\r\ny\r\n");
        assert_eq!(text, "a\r\n<<<<<<< ours\r\nx\r\n=======\r\ny\r\n>>>>>>> theirs\r\n");
    }

    #[test]
    fn a_conflict_has_only_the_lines_that_differ() {
        let (conflicts, text) = merge("", "same\nx\nend\n", "same\ny\nend\n");
        assert_eq!((conflicts, text.as_str()), (1, "same\n<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\nend\n"));
    }

    #[test]
    fn hunks_show_the_lines_of_all_versions() {
        let merge = LineMerge::new(b"a\nb\nc\nd\ne\nf\n", b"a\nB\nc\nd\ne\nf\n", b"a\nx\nc\nd\ne\nF\n");
        let [conflict, change] = merge.hunks() else { panic!("two hunks: {:?}", merge.hunks()) };
        assert!(conflict.is_conflict());
        assert_eq!(change.changed, Changed::Source);
        let detail = merge.detail(conflict, Version::Source);
        assert_eq!(detail, Detail { start_line: 2, end_line: 2, content: "eAo=".into() });
        assert_eq!(merge.detail(change, Version::Base), Detail { start_line: 6, end_line: 6, content: "Zgo=".into() });
        assert_eq!(merge.merged(Favor::Source), b"a\nx\nc\nd\ne\nF\n");
        assert_eq!(merge.merged(Favor::Destination), b"a\nB\nc\nd\ne\nF\n");
    }
}
