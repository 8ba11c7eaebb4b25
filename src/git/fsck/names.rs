//! Special file names of Git in all spellings that file systems treat as equal: HFS+ ignores case and some code points,
//! NTFS has short names and streams (CVE-2014-9390, CVE-2019-1353 and others).

use gix::bstr::{BStr, ByteSlice, decode_utf8};

/// Returns true if a file system treats the name as `.git`, or as a path that contains `.git`.
pub fn is_dot_git(name: &BStr) -> bool {
    is_hfs(name, "git") || is_ntfs_dot_git(name)
}

/// Returns true if a file system treats the name as `.gitmodules`.
pub fn is_dot_gitmodules(name: &BStr) -> bool {
    is_special(name, "gitmodules", "gi7eba")
}

/// Returns true if a file system treats the name as `.gitattributes`.
pub fn is_dot_gitattributes(name: &BStr) -> bool {
    is_special(name, "gitattributes", "gi7d29")
}

/// Returns true if a file system treats the name as `.gitignore`.
pub fn is_dot_gitignore(name: &BStr) -> bool {
    is_special(name, "gitignore", "gi250a")
}

/// Returns true if a file system treats the name as `.mailmap`.
pub fn is_dot_mailmap(name: &BStr) -> bool {
    is_special(name, "mailmap", "maba30")
}

fn is_special(name: &BStr, what: &str, short: &str) -> bool {
    is_hfs(name, what) || is_ntfs(name, what, short)
}

/// Compares as HFS+ does: folds case and ignores some code points. As in Git, a name ends at a slash or at invalid
/// UTF-8.
fn is_hfs(name: &BStr, what: &str) -> bool {
    if name.is_ascii() && name.first() != Some(&b'.') {
        return false;
    }
    let mut rest = name.as_bytes();
    let mut next = || {
        loop {
            let (c, size) = decode_utf8(rest);
            rest = rest.get(size..).unwrap_or_default();
            match c {
                Some('\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}') => {}
                Some('\u{fffe}' | '\u{ffff}') | None => return None,
                c => return c.map(|c| c.to_ascii_lowercase()),
            }
        }
    };
    next() == Some('.') && what.chars().all(|c| next() == Some(c)) && matches!(next(), None | Some('/'))
}

/// Returns true for `.git` and its NTFS short name, as the whole name or between backslashes.
fn is_ntfs_dot_git(name: &BStr) -> bool {
    let end = name.find_byteset(b"/:").unwrap_or(name.len());
    name[..end].split(|byte| *byte == b'\\').any(|part| {
        [&b".git"[..], b"git~1"].iter().any(|dot_git| {
            let (head, tail) = part.split_at(part.len().min(dot_git.len()));
            head.eq_ignore_ascii_case(dot_git) && tail.iter().all(|byte| matches!(byte, b' ' | b'.'))
        })
    })
}

/// Compares as NTFS does: folds case, drops streams, trailing spaces and dots, and accepts short names such as
/// `GITIGN~1` or, with a checksum of the long name, `GI250A~1`.
fn is_ntfs(name: &BStr, what: &str, short: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix(b".").and_then(|rest| rest.strip_prefix(what.as_bytes())) {
        return ends_ntfs_name(rest);
    }
    let prefix = &what.as_bytes()[..what.len().min(6)];
    if let Some([b'~', b'1'..=b'4', rest @ ..]) = lower.strip_prefix(prefix) {
        return ends_ntfs_name(rest);
    }
    is_hashed_short_name(&lower, short.as_bytes())
}

/// Returns true for a short name of eight characters: up to six of the checksummed form, `~`, digits.
fn is_hashed_short_name(lower: &[u8], short: &[u8]) -> bool {
    let Some((head, rest)) = lower.split_at_checked(8) else { return false };
    let Some(tilde) = head.find_byte(b'~') else { return false };
    let (base, number) = head.split_at(tilde);
    let number = &number[1..];
    base.len() <= short.len()
        && base == &short[..base.len()]
        && number.first().is_some_and(|byte| (b'1'..=b'9').contains(byte))
        && number.iter().all(u8::is_ascii_digit)
        && ends_ntfs_name(rest)
}

fn ends_ntfs_name(rest: &[u8]) -> bool {
    let end = rest.find_byte(b':').unwrap_or(rest.len());
    rest[..end].iter().all(|byte| matches!(byte, b' ' | b'.'))
}
