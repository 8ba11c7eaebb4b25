//! Overlap of globs: decides if two lists of globs can match a common name.

use std::collections::HashSet;

/// Longest glob that is compared. Longer ones count as overlapping with all, which bounds the cost to the square.
const MAX_GLOB_CHARS: usize = 512;
/// Most globs that the alternatives of one (`{a,b}`) expand to. A glob with more counts as overlapping with all.
const MAX_ALTERNATIVES: usize = 64;

/// Element of a glob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A literal character.
    One(char),
    /// Any one character. A class (`[a-z]`) is treated as `?`.
    Any,
    /// Any characters, or none.
    Star,
}

/// Returns true if a name can match a glob of both lists, or if that is too expensive to decide.
pub(super) fn overlap(some: &[String], others: &[String]) -> bool {
    some.iter().any(|one| others.iter().any(|other| globs_overlap(one, other)))
}

fn globs_overlap(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (alternatives(one), alternatives(other)) else { return true };
    one.iter().any(|one| other.iter().any(|other| parts_overlap(&parts(one), &parts(other))))
}

/// Expands the alternatives of a glob. Returns `None` if there are too many.
fn alternatives(glob: &str) -> Option<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![glob.to_owned()];
    while let Some(glob) = open.pop() {
        if done.len() + open.len() >= MAX_ALTERNATIVES || glob.len() > MAX_GLOB_CHARS {
            return None;
        }
        // Innermost alternatives are expanded first.
        let end = glob.find('}');
        let begin = end.and_then(|end| glob[..end].rfind('{'));
        match (begin, end) {
            (Some(begin), Some(end)) => {
                let choices = glob[begin + 1..end].split(',');
                open.extend(choices.map(|choice| format!("{}{choice}{}", &glob[..begin], &glob[end + 1..])));
            }
            _ => done.push(glob),
        }
    }
    Some(done)
}

fn parts(glob: &str) -> Vec<Part> {
    let mut parts = Vec::with_capacity(glob.len());
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => {
                // `**/` also matches the empty path.
                let mut stars = 1;
                while chars.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                if stars > 1 {
                    chars.next_if_eq(&'/');
                }
                Part::Star
            }
            '?' => Part::Any,
            '[' => {
                chars.by_ref().skip(1).find(|c| *c == ']');
                Part::Any
            }
            '\\' => Part::One(chars.next().unwrap_or('\\')),
            c => Part::One(c),
        });
    }
    parts
}

/// Returns true if a text can match both, by a search over pairs of positions.
fn parts_overlap(one: &[Part], other: &[Part]) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![(0, 0)];
    while let Some(at) = open.pop() {
        if !seen.insert(at) {
            continue;
        }
        let (i, j) = at;
        match (one.get(i), other.get(j)) {
            (None, None) => return true,
            (Some(Part::Star), right) => {
                open.push((i + 1, j));
                open.extend(right.map(|_| (i, j + 1)));
            }
            (left, Some(Part::Star)) => {
                open.push((i, j + 1));
                open.extend(left.map(|_| (i + 1, j)));
            }
            (Some(Part::One(a)), Some(Part::One(b))) if a != b => {}
            (Some(_), Some(_)) => open.push((i + 1, j + 1)),
            (None, Some(_)) | (Some(_), None) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use globset::{Glob, GlobBuilder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        for (one, other, expected) in [
            ("*", "team/app", true),
            ("team/*", "*/app", true),
            ("team/*", "other/*", false),
            ("team/*", "team", false),
            ("a?", "ab", true),
            ("a?", "a", false),
            ("{team,other}/x", "other/*", true),
            ("{team,other}/x", "third/*", false),
            ("a{b,{c,d}}e", "ade", true),
            ("[ab]x", "cx", true),
            ("app", "app", true),
            ("app", "apple", false),
            ("a/**/b", "a/b", true),
        ] {
            assert_eq!(globs_overlap(one, other), expected, "{one} {other}");
            assert_eq!(globs_overlap(other, one), expected, "{other} {one}");
        }
        assert!(globs_overlap(&"{a,b}".repeat(9), "c"), "too many to write out");
    }

    proptest! {
        #[test]
        fn what_both_match_overlaps(one in "[ab*?/]{0,6}", other in "[ab*?/]{0,6}", name in "[ab/]{0,6}") {
            let matches = |glob: &str| {
                let glob: Option<Glob> = GlobBuilder::new(glob).build().ok();
                glob.is_some_and(|glob| glob.compile_matcher().is_match(&name))
            };
            prop_assert!(!(matches(&one) && matches(&other)) || globs_overlap(&one, &other));
        }
    }
}
