//! Text of clients, made safe to show: in logs, on terminals, in JSON.
//!
//! Names of refs, user agents and paths come from anywhere. A control character in them moves the cursor of a terminal
//! or changes its title, a line feed forges a line of the log, and a bidirectional control shows text in another order
//! than it has (CVE-2021-42574).

use std::fmt::{self, Write};

/// Whether a character is shown by its number alone: C0 (but for the tab) and C1 controls, DEL, line and paragraph
/// separators, and controls of the direction of text.
pub fn is_unsafe(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Passes text on with its unsafe characters escaped as in Rust (`\n`, `\u{9b}`).
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

/// A value whose text is shown with its unsafe characters escaped.
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// JSON whose strings have their unsafe characters escaped; what it stands for stays the same. Line feeds between
/// values stay, too.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // Outside of strings JSON has no others; the rest of C0 is escaped in strings already.
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
