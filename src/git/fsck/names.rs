//! Names of files that Git itself reads, in all the spellings that file systems take for them: HFS+ ignores
//! some characters and case, NTFS has short names and streams (CVE-2014-9390, CVE-2019-1353 and others).

use gix::bstr::{BStr, ByteSlice, decode_utf8};

/// Whether some file system takes this name for `.git`, or for a path with it.
pub fn is_dot_git(name: &BStr) -> bool {
    is_hfs(name, "git") || is_ntfs_dot_git(name)
}

/// Whether some file system takes this name for `.gitmodules`.
pub fn is_dot_gitmodules(name: &BStr) -> bool {
    is_special(name, "gitmodules", "gi7eba")
}

/// Whether some file system takes this name for `.gitattributes`.
pub fn is_dot_gitattributes(name: &BStr) -> bool {
    is_special(name, "gitattributes", "gi7d29")
}

/// Whether some file system takes this name for `.gitignore`.
pub fn is_dot_gitignore(name: &BStr) -> bool {
    is_special(name, "gitignore", "gi250a")
}

/// Whether some file system takes this name for `.mailmap`.
pub fn is_dot_mailmap(name: &BStr) -> bool {
    is_special(name, "mailmap", "maba30")
}

fn is_special(name: &BStr, what: &str, short: &str) -> bool {
    is_hfs(name, what) || is_ntfs(name, what, short)
}

/// HFS+: case is folded, some code points are ignored. As for Git, a name ends at a slash and where it is no
/// longer UTF-8.
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

/// `.git` and its short name on NTFS, as the whole name or between backslashes.
fn is_ntfs_dot_git(name: &BStr) -> bool {
    let end = name.find_byteset(b"/:").unwrap_or(name.len());
    name[..end].split(|byte| *byte == b'\\').any(|part| {
        [&b".git"[..], b"git~1"].iter().any(|dot_git| {
            let (head, tail) = part.split_at(part.len().min(dot_git.len()));
            head.eq_ignore_ascii_case(dot_git) && tail.iter().all(|byte| matches!(byte, b' ' | b'.'))
        })
    })
}

/// NTFS: case is folded, trailing spaces and dots and streams are dropped, and there are short names, such as
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

/// `<up to six characters of the checksummed form>~<digits>`, eight characters in all.
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
