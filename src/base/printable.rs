//! Escaping of untrusted text for logs, terminals and JSON.
//!
//! Ref names, user agents and paths are untrusted. A control character in them can move the cursor of a terminal or
//! change its title, a line feed can forge a log line, and a bidirectional control can display text in a false order
//! (CVE-2021-42574).

use std::fmt::{self, Write};

/// Returns true for characters that must be escaped: C0 (except tab) and C1 controls, DEL, line and paragraph
/// separators, bidirectional controls.
pub fn is_unsafe(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writer that escapes unsafe characters as in Rust (`\n`, `\u{9b}`).
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (safe, behind) = rest.split_at(at);
            self.0.write_str(safe)?;
            let mut characters = behind.chars();
            if let Some(character) = characters.next() {
                write!(self.0, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Value whose unsafe characters are escaped on display.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Escapes unsafe characters in the strings of a JSON text, without a change of its value. Line feeds between values
/// stay.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // JSON permits line feeds only between values, and strings already escape all of C0.
        if character == '\n' || !is_unsafe(character) {
            out.push(character);
        } else {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_a_cursor_or_turns_text_around_is_shown_by_number() {
        let hostile = "a\u{1b}[2J\r\nb\u{9b}31m\u{7f}\u{202e}gpj.exe\u{2066}\u{200f}\u{2028}\tö\u{1f980}";
        assert_eq!(
            Printable(hostile).to_string(),
            "a\\u{1b}[2J\\r\\nb\\u{9b}31m\\u{7f}\\u{202e}gpj.exe\\u{2066}\\u{200f}\\u{2028}\tö\u{1f980}"
        );
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left_and_json_says_the_same(text in any::<String>()) {
            prop_assert!(!Printable(&text).to_string().chars().any(is_unsafe));
            let encoded = json(&serde_json::to_string(&text).unwrap());
            prop_assert!(!encoded.chars().any(is_unsafe));
            prop_assert_eq!(serde_json::from_str::<String>(&encoded).unwrap(), text);
        }
    }
}
