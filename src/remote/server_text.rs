//! Server-supplied text, sanitized for messages: one line, bounded, without control characters.

use gix::bstr::ByteSlice as _;

/// Most characters of server-supplied text in a message.
const SHOWN_CHARS: usize = 300;

/// Returns the text as one line, or `None` if it is blank or an HTML page.
pub fn one_line(text: &[u8]) -> Option<String> {
    let text = text.to_str_lossy();
    let text = text.trim_start();
    if text.starts_with('<') {
        return None;
    }
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut words = String::new();
    for word in clean.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    if words.chars().count() > SHOWN_CHARS {
        words = words.chars().take(SHOWN_CHARS).chain(['…']).collect();
    }
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_one_line() {
        assert_eq!(one_line(b" no\r\n such\x1b[31m thing\xff\n").unwrap(), "no such [31m thing\u{fffd}");
        assert_eq!(one_line(b"\n<!DOCTYPE html>"), None);
        assert_eq!(one_line(b" \n"), None);
        assert_eq!(one_line(&[b'x'; 5000]).unwrap().chars().count(), SHOWN_CHARS + 1);
    }
}
