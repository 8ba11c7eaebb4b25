//! Canonical requests.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode, utf8_percent_encode};

use crate::request::RequestParts;
use crate::sigv4::error::SignatureError;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// Path encoded once more, as all services but S3 sign it. A path that is not in its normal form is refused: its
/// signature would be that of another path.
pub(super) fn path(raw: &str) -> Result<Cow<'_, str>, SignatureError> {
    let segments = raw.strip_prefix('/').ok_or(SignatureError::Path)?;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if matches!(segment, "." | "..") || (segment.is_empty() && !is_last) {
            return Err(SignatureError::Path);
        }
    }
    Ok(utf8_percent_encode(raw, RESERVED_IN_PATH).into())
}

/// Decoded names and values of a query, as the host's services read them: `+` is a space.
pub(super) fn pairs(raw: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
        return Cow::Owned(percent_decode(&spaced).collect());
    }
    percent_decode(text.as_bytes()).into()
}

/// Canonical query without the parameter `except`: encoded, then sorted.
pub(super) fn query(raw: &str, except: Option<&str>) -> String {
    let kept = pairs(raw).filter(|(name, _)| except.is_none_or(|except| **name != *except.as_bytes()));
    let encode = |bytes: &[u8]| percent_encode(bytes, RESERVED).to_string();
    let mut encoded: Vec<(String, String)> = kept.map(|(name, value)| (encode(&name), encode(&value))).collect();
    encoded.sort();
    let pairs: Vec<String> = encoded.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// Canonical headers of the signed names: values of one name joined by commas, without outer spaces and with single
/// inner ones.
pub(super) fn headers(parts: &RequestParts<'_>, signed: &[&str]) -> Result<Vec<u8>, SignatureError> {
    let mut lines = Vec::new();
    for name in signed {
        lines.extend_from_slice(name.as_bytes());
        lines.push(b':');
        if *name == "host" {
            let host = parts.host().map_err(|_| SignatureError::Repeated("host"))?;
            lines.extend_from_slice(host.ok_or(SignatureError::Incomplete("no host"))?.trim().as_bytes());
        } else {
            let mut values = parts.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| *value);
            trim_into(&mut lines, values.next().ok_or(SignatureError::Incomplete("a signed header was not sent"))?);
            for value in values {
                lines.push(b',');
                trim_into(&mut lines, value);
            }
        }
        lines.push(b'\n');
    }
    Ok(lines)
}

fn trim_into(line: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    for (number, word) in words.enumerate() {
        if number > 0 {
            line.push(b' ');
        }
        line.extend_from_slice(word);
    }
}

/// Host without its port.
pub(crate) fn bare_host(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((bare, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    }
}
