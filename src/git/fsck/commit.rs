//! Checks of commits and tags. As in Git, a check ends at the first defect that makes the rest unreadable.

use gix::bstr::ByteSlice;
use gix::hash::Kind as Format;

use super::message::Message;

/// Callback for a finding. Returns true to continue: the finding is no error.
type Report<'r> = dyn FnMut(Message) -> bool + 'r;

/// Unchecked rest of an object; `None` once the check has ended.
type Rest<'d> = Option<&'d [u8]>;

/// Checks a commit.
pub fn check_commit(data: &[u8], format: Format, report: &mut Report<'_>) {
    let _ = commit(data, format, report);
}

fn commit(data: &[u8], format: Format, report: &mut Report<'_>) -> Option<()> {
    check_headers(data, report)?;
    let tree = keyword(data, b"tree ", Message::MissingTree, report)?;
    let mut rest = id_line(tree, format, Message::BadTreeSha1, report)?;
    while let Some(parent) = rest.strip_prefix(b"parent ") {
        rest = id_line(parent, format, Message::BadParentSha1, report)?;
    }
    let mut authors = 0;
    while let Some(author) = rest.strip_prefix(b"author ") {
        authors += 1;
        rest = identity_line(author, report)?;
    }
    match authors {
        0 => go_on(Message::MissingAuthor, report)?,
        1 => {}
        _ => go_on(Message::MultipleAuthors, report)?,
    }
    let committer = keyword(rest, b"committer ", Message::MissingCommitter, report)?;
    identity_line(committer, report)?;
    if data.contains(&0) {
        go_on(Message::NulInCommit, report)?;
    }
    Some(())
}

/// Checks a tag.
pub fn check_tag(data: &[u8], format: Format, report: &mut Report<'_>) {
    let _ = tag(data, format, report);
}

fn tag(data: &[u8], format: Format, report: &mut Report<'_>) -> Option<()> {
    check_headers(data, report)?;
    let rest = keyword(data, b"object ", Message::MissingObject, report)?;
    let rest = id_line(rest, format, Message::BadObjectSha1, report)?;
    let rest = keyword(rest, b"type ", Message::MissingTypeEntry, report)?;
    let (kind, rest) = value(rest, Message::MissingType, report)?;
    if !matches!(kind, b"commit" | b"tree" | b"blob" | b"tag") {
        go_on(Message::BadType, report)?;
    }
    let rest = keyword(rest, b"tag ", Message::MissingTagEntry, report)?;
    let (name, rest) = value(rest, Message::MissingTag, report)?;
    let full = [b"refs/tags/", name].concat();
    if gix::validate::reference::name(full.as_bstr()).is_err() {
        go_on(Message::BadTagName, report)?;
    }
    let rest = match rest.strip_prefix(b"tagger ") {
        Some(tagger) => identity_line(tagger, report)?,
        None => {
            go_on(Message::MissingTaggerEntry, report)?;
            rest
        }
    };
    extra_headers(rest, report)
}

/// Checks the headers between tagger and message: an optional signature with continuation lines.
fn extra_headers(mut rest: &[u8], report: &mut Report<'_>) -> Option<()> {
    let signature = rest.strip_prefix(b"gpgsig ").or_else(|| rest.strip_prefix(b"gpgsig-sha256 "));
    if let Some(signature) = signature {
        rest = value(signature, Message::BadGpgsig, report)?.1;
        while rest.first() == Some(&b' ') {
            rest = value(rest, Message::BadHeaderContinuation, report)?.1;
        }
    }
    match rest.first() {
        None | Some(b'\n') => Some(()),
        Some(_) => go_on(Message::ExtraHeaderEntry, report),
    }
}

/// Reports a finding; `None` ends the check.
fn go_on(message: Message, report: &mut Report<'_>) -> Option<()> {
    report(message).then_some(())
}

/// Skips a keyword. Reports a missing one and ends the check.
fn keyword<'d>(data: &'d [u8], keyword: &[u8], missing: Message, report: &mut Report<'_>) -> Rest<'d> {
    let rest = data.strip_prefix(keyword);
    if rest.is_none() {
        report(missing);
    }
    rest
}

/// Splits off the rest of a line. Reports a missing line end and ends the check.
fn value<'d>(data: &'d [u8], missing: Message, report: &mut Report<'_>) -> Option<(&'d [u8], &'d [u8])> {
    let line = line(data);
    if line.is_none() {
        report(missing);
    }
    line
}

/// Checks that the header contains no NUL and ends with an empty line, or at least a newline.
fn check_headers(data: &[u8], report: &mut Report<'_>) -> Option<()> {
    let header = data.find(b"\n\n").map_or(data, |end| &data[..=end]);
    if header.contains(&0) {
        return go_on(Message::NulInHeader, report);
    }
    if header.last() == Some(&b'\n') { Some(()) } else { go_on(Message::UnterminatedHeader, report) }
}

/// Splits off a line without its newline.
fn line(data: &[u8]) -> Option<(&[u8], &[u8])> {
    data.find_byte(b'\n').map(|end| (&data[..end], &data[end + 1..]))
}

/// Checks and skips an object id up to the end of its line.
fn id_line<'d>(data: &'d [u8], format: Format, bad: Message, report: &mut Report<'_>) -> Rest<'d> {
    let (id, rest) = line(data).unwrap_or((data, b""));
    if id.len() != format.len_in_hex() || gix::ObjectId::from_hex(id).is_err() {
        go_on(bad, report)?;
    }
    Some(rest)
}

/// Checks and skips a line for [`identity`].
fn identity_line<'d>(data: &'d [u8], report: &mut Report<'_>) -> Rest<'d> {
    let (text, rest) = line(data).unwrap_or((data, b""));
    if let Err(message) = identity(text) {
        go_on(message, report)?;
    }
    Some(rest)
}

/// Checks `Name <email> seconds ±zone` (`fsck_ident` in Git).
fn identity(text: &[u8]) -> Result<(), Message> {
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
    check_date(date.trim_start_with(|c| c == ' ' || c == '\t'))
}

/// Checks `seconds ±hhmm`.
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
