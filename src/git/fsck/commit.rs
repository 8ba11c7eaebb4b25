//! Commits and tags. Each check ends at the first thing that makes the rest unreadable, as in Git.

use gix::bstr::ByteSlice;
use gix::hash::Kind as Format;

use super::{Message, Rules, Severity};

type Report<'r> = dyn FnMut(Message) + 'r;

/// Checks a commit.
pub fn check_commit(data: &[u8], format: Format, report: &mut Report<'_>) {
    if let Err(message) = commit(data, format, report) {
        report(message);
    }
}

fn commit(data: &[u8], format: Format, report: &mut Report<'_>) -> Result<(), Message> {
    check_headers(data)?;
    let mut rest = data.strip_prefix(b"tree ").ok_or(Message::MissingTree)?;
    rest = id_line(rest, format).map_err(|()| Message::BadTreeSha1)?;
    while let Some(parent) = rest.strip_prefix(b"parent ") {
        rest = id_line(parent, format).map_err(|()| Message::BadParentSha1)?;
    }
    let mut authors = 0;
    while let Some(author) = rest.strip_prefix(b"author ") {
        authors += 1;
        rest = identity(author)?;
    }
    match authors {
        0 => return Err(Message::MissingAuthor),
        1 => {}
        _ => return Err(Message::MultipleAuthors),
    }
    identity(rest.strip_prefix(b"committer ").ok_or(Message::MissingCommitter)?)?;
    if data.contains(&0) {
        report(Message::NulInCommit);
    }
    Ok(())
}

/// Checks a tag.
pub fn check_tag(data: &[u8], format: Format, rules: &Rules, report: &mut Report<'_>) {
    if let Err(message) = tag(data, format, rules, report) {
        report(message);
    }
}

fn tag(data: &[u8], format: Format, rules: &Rules, report: &mut Report<'_>) -> Result<(), Message> {
    check_headers(data)?;
    let rest = data.strip_prefix(b"object ").ok_or(Message::MissingObject)?;
    let rest = id_line(rest, format).map_err(|()| Message::BadObjectSha1)?;
    let rest = rest.strip_prefix(b"type ").ok_or(Message::MissingTypeEntry)?;
    let (kind, rest) = line(rest).ok_or(Message::MissingType)?;
    if !matches!(kind, b"commit" | b"tree" | b"blob" | b"tag") {
        return Err(Message::BadType);
    }
    let rest = rest.strip_prefix(b"tag ").ok_or(Message::MissingTagEntry)?;
    let (name, rest) = line(rest).ok_or(Message::MissingTag)?;
    let full = [b"refs/tags/", name].concat();
    if gix::validate::reference::name(full.as_bstr()).is_err() {
        // Only an error ends the check there.
        report(Message::BadTagName);
        if rules.severity(Message::BadTagName) == Severity::Error {
            return Ok(());
        }
    }
    let rest = match rest.strip_prefix(b"tagger ") {
        Some(tagger) => identity(tagger)?,
        None => {
            report(Message::MissingTaggerEntry);
            if rules.severity(Message::MissingTaggerEntry) == Severity::Error {
                return Ok(());
            }
            rest
        }
    };
    extra_headers(rest)
}

/// What may stand between tagger and message: a signature with its continuation lines.
fn extra_headers(mut rest: &[u8]) -> Result<(), Message> {
    let signature = rest.strip_prefix(b"gpgsig ").or_else(|| rest.strip_prefix(b"gpgsig-sha256 "));
    if let Some(signature) = signature {
        rest = line(signature).ok_or(Message::BadGpgsig)?.1;
        while rest.first() == Some(&b' ') {
            rest = line(rest).ok_or(Message::BadHeaderContinuation)?.1;
        }
    }
    match rest.first() {
        None | Some(b'\n') => Ok(()),
        Some(_) => Err(Message::ExtraHeaderEntry),
    }
}

/// The header ends with an empty line, or at least with a newline, and has no NUL.
fn check_headers(data: &[u8]) -> Result<(), Message> {
    let header = data.find(b"\n\n").map_or(data, |end| &data[..=end]);
    if header.contains(&0) {
        return Err(Message::NulInHeader);
    }
    if header.last() == Some(&b'\n') { Ok(()) } else { Err(Message::UnterminatedHeader) }
}

/// A line without its newline, and what follows.
fn line(data: &[u8]) -> Option<(&[u8], &[u8])> {
    data.find_byte(b'\n').map(|end| (&data[..end], &data[end + 1..]))
}

/// Steps over an object id that fills the rest of its line.
fn id_line(data: &[u8], format: Format) -> Result<&[u8], ()> {
    let (id, rest) = line(data).ok_or(())?;
    let valid = id.len() == format.len_in_hex() && gix::ObjectId::from_hex(id).is_ok();
    if valid { Ok(rest) } else { Err(()) }
}

/// Steps over `Name <email> seconds ±zone` (`fsck_ident` in Git).
fn identity(data: &[u8]) -> Result<&[u8], Message> {
    let (text, rest) = line(data).ok_or(Message::MissingEmail)?;
    if text.first() == Some(&b'<') {
        return Err(Message::MissingNameBeforeEmail);
    }
    let open = match text.find_byteset(b"<>") {
        None => return Err(Message::MissingEmail),
        Some(at) if text[at] == b'>' => return Err(Message::BadName),
        Some(at) => at,
    };
    if text[..open].last() != Some(&b' ') {
        return Err(Message::MissingSpaceBeforeEmail);
    }
    let email = &text[open + 1..];
    let close = match email.find_byteset(b"<>") {
        Some(at) if email[at] == b'>' => at,
        _ => return Err(Message::BadEmail),
    };
    let date = email[close + 1..].strip_prefix(b" ").ok_or(Message::MissingSpaceBeforeDate)?;
    check_date(date.trim_start_with(|c| c == ' ' || c == '\t'))?;
    Ok(rest)
}

/// `seconds ±hhmm`.
fn check_date(text: &[u8]) -> Result<(), Message> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (seconds, zone) = text.split_at(digits);
    match seconds {
        [] => return Err(Message::BadDate),
        [b'0', ..] if text.get(1) != Some(&b' ') => return Err(Message::ZeroPaddedDate),
        _ => {}
    }
    let value = seconds.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    if value.is_none_or(|value| i64::try_from(value).is_err()) {
        return Err(Message::BadDateOverflow);
    }
    let zone = zone.strip_prefix(b" ").ok_or(Message::BadDate)?;
    match zone {
        [b'+' | b'-', digits @ ..] if digits.len() == 4 && digits.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => Err(Message::BadTimezone),
    }
}
