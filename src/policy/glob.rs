//! Wildcard matching with a bounded number of steps.

/// Element of a wildcard pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// This character.
    Char(char),
    /// `?`: one character.
    Any,
    /// `*`: any number of characters.
    Run,
}

/// Compiled wildcard pattern.
///
/// Matching takes the first place in the value that fits each piece between two `*`, which never has to be taken back. So it
/// compares at most as many characters as the lengths of pattern and value multiplied, and their sum in all but hostile cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    /// Pieces of the pattern between its `*`, at least one; some may be empty. `None` is a `?`.
    pieces: Vec<Vec<Option<char>>>,
}

impl Glob {
    pub(crate) fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        for token in tokens {
            match token {
                Token::Char(c) => piece.push(Some(c)),
                Token::Any => piece.push(None),
                Token::Run => pieces.push(std::mem::take(&mut piece)),
            }
        }
        pieces.push(piece);
        Glob { pieces }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        let (first, others) = match &self.pieces[..] {
            [only] => return starts(only, value) == Some(""),
            [first, others @ ..] => (first, others),
            [] => unreachable!("a pattern has at least one piece"),
        };
        let (last, middle) = match others {
            [middle @ .., last] => (last, middle),
            [] => unreachable!("a pattern with a `*` has two pieces or more"),
        };
        let Some(mut rest) = starts(first, value) else { return false };
        for piece in middle {
            let Some(after) = find(piece, rest) else { return false };
            rest = after;
        }
        ends(last, rest)
    }
}

/// Text after the piece, if the text begins with the piece.
fn starts<'a>(piece: &[Option<char>], text: &'a str) -> Option<&'a str> {
    let mut rest = text.chars();
    for expected in piece {
        count_step();
        let c = rest.next()?;
        if expected.is_some_and(|expected| expected != c) {
            return None;
        }
    }
    Some(rest.as_str())
}

/// Returns true if the text ends with the piece.
fn ends(piece: &[Option<char>], text: &str) -> bool {
    let mut rest = text.chars().rev();
    piece.iter().rev().all(|expected| {
        count_step();
        rest.next().is_some_and(|c| expected.is_none_or(|expected| expected == c))
    })
}

/// Text after the first occurrence of the piece.
fn find<'a>(piece: &[Option<char>], text: &'a str) -> Option<&'a str> {
    let mut rest = text;
    loop {
        if let Some(after) = starts(piece, rest) {
            return Some(after);
        }
        let mut chars = rest.chars();
        chars.next()?;
        rest = chars.as_str();
        // A character takes a byte at least.
        if rest.len() < piece.len() {
            return None;
        }
    }
}

#[cfg(not(test))]
fn count_step() {}

#[cfg(test)]
use tests::count_step;

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count_step() {
        STEPS.set(STEPS.get() + 1);
    }

    /// Number of characters that the work compares.
    pub(crate) fn steps<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = STEPS.get();
        let result = work();
        (result, STEPS.get() - before)
    }

    fn glob(pattern: &str) -> Glob {
        Glob::new(pattern.chars().map(|c| match c {
            '*' => Token::Run,
            '?' => Token::Any,
            c => Token::Char(c),
        }))
    }

    #[test]
    fn wildcards_stand_for_text() {
        for (pattern, value, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("*", "abc", true),
            ("**", "abc", true),
            ("?", "", false),
            ("?", "é", true),
            ("??", "é", false),
            ("a*c", "ac", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*a", "a", false),
            ("*a*b*", "xxaxbx", true),
            ("*a*b*", "xxbxax", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "abaab", true),
            ("*ab*ab", "aab", false),
            ("a?c*", "abc", true),
            ("*?b", "b", false),
            ("*?b*é", "aab…é", true),
            ("Get*", "get", false),
        ] {
            assert_eq!(glob(pattern).matches(value), expected, "{pattern:?} {value:?}");
        }
    }

    /// Matching by definition: a table of which prefixes match.
    fn matches_by_table(pattern: &str, value: &str) -> bool {
        let value: Vec<char> = value.chars().collect();
        let mut row = vec![false; value.len() + 1];
        row[0] = true;
        for p in pattern.chars() {
            let mut next = vec![false; value.len() + 1];
            for at in 0..=value.len() {
                next[at] = match p {
                    '*' => row[at] || at > 0 && next[at - 1],
                    '?' => at > 0 && row[at - 1],
                    p => at > 0 && row[at - 1] && value[at - 1] == p,
                };
            }
            row = next;
        }
        row[value.len()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn matching_is_that_of_the_definition(pattern in "[ab*?]{0,10}", value in "[abé]{0,12}") {
            prop_assert_eq!(glob(&pattern).matches(&value), matches_by_table(&pattern, &value));
        }

        #[test]
        fn steps_are_bounded(pattern in "[ab*?]{0,60}", value in "[ab]{0,200}") {
            let glob = glob(&pattern);
            let (_, steps) = steps(|| glob.matches(&value));
            prop_assert!(steps <= (pattern.len() as u64 + 1) * (value.len() as u64 + 1), "{steps}");
        }
    }

    #[test]
    fn hostile_patterns_take_a_bounded_number_of_steps() {
        let value = "a".repeat(2048);
        for unit in ["a*", "*a", "?*", "*?a", "a*b*", "*ab"] {
            let pattern = format!("{}b", unit.repeat(10_240 / unit.len()));
            let glob = glob(&pattern);
            let (matches, steps) = steps(|| glob.matches(&value));
            assert!(!matches);
            assert!(steps <= 2 * 10_240, "{unit}: {steps} steps");
        }
        // The worst case: one long piece that nearly fits everywhere.
        let glob = glob(&format!("*{}b*", "a".repeat(1024)));
        let (matches, steps) = steps(|| glob.matches(&value));
        assert!(!matches);
        assert!(steps <= 1025 * 2048, "{steps} steps");
    }
}
