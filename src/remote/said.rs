//! A server's own words, fit to be shown: short, in one line, without control characters.

use gix::bstr::ByteSlice as _;

/// Most characters of a server's text that are shown.
const SHOWN_CHARS: usize = 300;

/// The text in one line. `None` where there is none, or where it is a web page.
pub fn shown(text: &[u8]) -> Option<String> {
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
        assert_eq!(shown(b" no\r\n such\x1b[31m thing\xff\n").unwrap(), "no such [31m thing\u{fffd}");
        assert_eq!(shown(b"\n<!DOCTYPE html>"), None);
        assert_eq!(shown(b" \n"), None);
        assert_eq!(shown(&[b'x'; 5000]).unwrap().chars().count(), SHOWN_CHARS + 1);
    }
}
