//! `.gitmodules`: names, paths, URLs and commands that make a recursive clone run programs or overwrite files
//! (CVE-2018-11235, CVE-2018-17456, CVE-2019-19604, CVE-2020-5260, CVE-2020-11008).

use gix::bstr::{BStr, BString, ByteSlice};

use super::config::{Reading, parse};
use super::message::Message;

/// Checks the content of a `.gitmodules`, parsed from memory as by `git fsck` and from a file as by `git submodule`.
/// Reports each message once, with the first offending name or value.
pub fn check(data: &[u8], report: &mut dyn FnMut(Message, Option<&BStr>)) {
    let mut found = Vec::new();
    let from_memory = parse(data, Reading::Memory, |name, value| check_entry(name, value, &mut found));
    // `git submodule` applies entries before a syntax error, so only these matter.
    let _ = parse(data, Reading::File, |name, value| check_entry(name, value, &mut found));
    found.sort_by_key(|(message, _)| *message);
    found.iter().for_each(|(message, culprit)| report(*message, Some(culprit.as_bstr())));
    if from_memory.is_err() {
        report(Message::GitmodulesParse, None);
    }
}

/// Checks one entry (`fsck_gitmodules_fn` in Git).
fn check_entry(name: &[u8], value: Option<&[u8]>, found: &mut Vec<(Message, BString)>) {
    let Some(rest) = name.strip_prefix(b"submodule.") else { return };
    let Some(dot) = rest.rfind_byte(b'.') else { return };
    let name = rest[..dot].as_bstr();
    let key = &rest[dot + 1..];
    let mut record = |message: Message, culprit: &[u8]| {
        if !found.iter().any(|(known, _)| *known == message) {
            found.push((message, culprit.into()));
        }
    };
    if !is_name_allowed(name) {
        record(Message::GitmodulesName, name);
    }
    let Some(value) = value else { return };
    match key {
        b"url" if !is_url_allowed(value.as_bstr()) => record(Message::GitmodulesUrl, value),
        b"path" if value.starts_with(b"-") => record(Message::GitmodulesPath, value),
        b"update" if value.starts_with(b"!") => record(Message::GitmodulesUpdate, value),
        _ => {}
    }
}

/// Returns true if a submodule name is not empty and has no segment `..`, by slashes of either kind.
fn is_name_allowed(name: &BStr) -> bool {
    !name.is_empty() && name.split(|byte| matches!(byte, b'/' | b'\\')).all(|part| part != b"..")
}

/// Returns true if a URL is no option, contains no newline, and does not escape its host.
fn is_url_allowed(url: &BStr) -> bool {
    if url.starts_with(b"-") {
        return false;
    }
    if is_relative(url) || url.starts_with(b"git://") {
        let (ups, rest) = leading_ups(url);
        let escapes = ups > 0 && matches!(rest.first(), Some(b':' | b'/'));
        return !escapes && !has_newline(url);
    }
    match http_url(url) {
        Some(url) => is_normal(url) && !has_newline(url),
        None => true,
    }
}

fn is_relative(url: &[u8]) -> bool {
    strip_step(url).is_some()
}

/// Strips a leading `./` (false) or `../` (true), with a slash of either kind.
fn strip_step(url: &[u8]) -> Option<(bool, &[u8])> {
    let slash = |rest: &'_ [u8]| matches!(rest.first(), Some(b'/' | b'\\'));
    if let Some(rest) = url.strip_prefix(b"..").filter(|rest| slash(rest)) {
        return Some((true, &rest[1..]));
    }
    url.strip_prefix(b".").filter(|rest| slash(rest)).map(|rest| (false, &rest[1..]))
}

fn leading_ups(mut url: &[u8]) -> (usize, &[u8]) {
    let mut ups = 0;
    while let Some((up, rest)) = strip_step(url) {
        ups += usize::from(up);
        url = rest;
    }
    (ups, url)
}

/// Returns the URL that Git would pass to its HTTP transport; `None` for other transports.
fn http_url(url: &BStr) -> Option<&BStr> {
    for scheme in ["http", "https", "ftp", "ftps"] {
        if let Some(rest) = url.strip_prefix(scheme.as_bytes()) {
            if let Some(inner) = rest.strip_prefix(b"::") {
                return Some(inner.as_bstr());
            }
            if rest.starts_with(b"://") {
                return Some(url);
            }
        }
    }
    None
}

/// Returns true if Git can normalise a URL (`url_normalize_1`): it has a valid scheme, host and port, no malformed
/// escapes, and does not leave its root.
fn is_normal(url: &BStr) -> bool {
    let Some(at) = url.find(b"://") else { return false };
    let scheme = &url[..at];
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+.-".contains(byte);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_scheme) {
        return false;
    }
    let rest = &url[at + 3..];
    let (authority, path) = rest.split_at(rest.find_byteset(b"/?#").unwrap_or(rest.len()));
    let (user, host) = match authority.find_byte(b'@') {
        Some(at) => (&authority[..at], &authority[at + 1..]),
        None => (&b""[..], authority),
    };
    has_sound_escapes(user) && is_host(host) && has_sound_escapes(path) && stays_below_root(path)
}

/// Returns true for a valid host with an optional port.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.rfind_byteset(b":]") {
        Some(at) if host[at] == b':' => (&host[..at], &host[at + 1..]),
        _ => (host, &b""[..]),
    };
    let number = port.trim_start_with(|digit| digit == '0');
    let port_is_sound = match (port.is_empty(), number.to_str().map(str::parse::<u16>)) {
        (true, _) => true,
        (false, Ok(Ok(number))) => number > 0 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_[:]".contains(byte);
    !name.is_empty() && name[0] != b':' && name.iter().all(is_name) && port_is_sound
}

/// Returns true if two hexadecimal digits follow each percent sign.
fn has_sound_escapes(part: &[u8]) -> bool {
    let is_escape = |at: usize| part.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    part.find_iter("%").all(is_escape)
}

/// Returns true if no segment `..` leads above the root.
fn stays_below_root(path: &[u8]) -> bool {
    let path = &path[..path.find_byteset(b"?#").unwrap_or(path.len())];
    let mut depth = 0u64;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        match segment.to_ascii_lowercase().replace("%2e", ".").as_slice() {
            b"." => {}
            b".." if depth == 0 => return false,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    true
}

/// Returns true if a URL contains a newline, percent-encoded or not.
fn has_newline(url: &[u8]) -> bool {
    url.contains(&b'\n') || url.to_ascii_lowercase().contains_str("%0a")
}
