//! `.gitmodules`: names, paths, URLs and commands that would make a clone run or overwrite something
//! (CVE-2018-11235, CVE-2018-17456, CVE-2019-19604, CVE-2020-5260, CVE-2020-11008).

use gix::bstr::{BStr, ByteSlice};
use gix::config::File;
use gix::config::file::Metadata;

use super::Message;

/// Checks a `.gitmodules`.
pub fn check(data: &[u8], report: &mut dyn FnMut(Message)) {
    let parsed = File::from_bytes_no_includes(data, Metadata::api(), gix::config::file::init::Options::default());
    let Ok(config) = parsed else { return report(Message::GitmodulesParse) };
    let Some(sections) = config.sections_by_name("submodule") else { return };
    for section in sections {
        let Some(name) = section.header().subsection_name() else { continue };
        if !is_name_allowed(name) {
            report(Message::GitmodulesName);
        }
        let values = |key: &str| section.values(key);
        if values("url").iter().any(|url| !is_url_allowed(url.as_ref())) {
            report(Message::GitmodulesUrl);
        }
        if values("path").iter().any(|path| path.starts_with(b"-")) {
            report(Message::GitmodulesPath);
        }
        if values("update").iter().any(|update| update.starts_with(b"!")) {
            report(Message::GitmodulesUpdate);
        }
    }
}

/// Not empty, and no `..` between slashes of either kind.
fn is_name_allowed(name: &BStr) -> bool {
    !name.is_empty() && name.split(|byte| matches!(byte, b'/' | b'\\')).all(|part| part != b"..")
}

/// No option, no newline in disguise, no way out of the host.
fn is_url_allowed(url: &BStr) -> bool {
    if url.starts_with(b"-") {
        return false;
    }
    if is_relative(url) || url.starts_with(b"git://") {
        let (ups, rest) = leading_ups(url);
        return !has_newline(url) && !(ups > 0 && matches!(rest.first(), Some(b':' | b'/')));
    }
    match http_url(url) {
        Some(url) => has_host(url) && !has_newline(url),
        None => true,
    }
}

fn is_relative(url: &[u8]) -> bool {
    strip_step(url).is_some()
}

/// Behind a leading `./` or `../`, with either kind of slash, and whether it went up.
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

/// The URL that would be given to the HTTP transport.
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

/// Git only takes URLs that it can normalise: they have a scheme and a host.
fn has_host(url: &BStr) -> bool {
    let Some(at) = url.find(b"://") else { return false };
    let authority = url[at + 3..].split(|byte| matches!(byte, b'/' | b'?' | b'#')).next().unwrap_or_default();
    let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    !host.is_empty() && host[0] != b':' && !host.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'%')
}

/// A newline, percent-encoded or not.
fn has_newline(url: &[u8]) -> bool {
    url.contains(&b'\n') || url.to_ascii_lowercase().contains_str("%0a")
}
