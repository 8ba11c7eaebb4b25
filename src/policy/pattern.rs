//! Patterns of policies: text, wildcards (`*`, `?`) and policy variables (`${aws:username}`).

use std::borrow::Cow;

use crate::context::{Context, Key};
use crate::glob::{Glob, Token};
use crate::version::Version;

/// Forms that a pattern may contain beside plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// `*` stands for any text and `?` for any character.
    pub wildcards: bool,
    /// `${…}` stands for a value of the request.
    pub variables: bool,
    /// Upper and lower case are the same.
    pub ignores_case: bool,
}

impl Syntax {
    /// Plain text, compared exactly, with the variables of this version of the language.
    pub(crate) fn exact(version: Version) -> Self {
        Syntax { wildcards: false, variables: version.has_variables(), ignores_case: false }
    }

    /// Text with wildcards, and with the variables of this version of the language.
    pub(crate) fn like(version: Version) -> Self {
        Syntax { wildcards: true, ..Syntax::exact(version) }
    }
}

/// Pattern of a policy. A pattern without variables is compiled when the policy is parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: String,
    ignores_case: bool,
    form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Fixed(Glob),
    /// With at least one variable.
    Open(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Token(Token),
    Variable { key: Key, default: Option<String> },
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// A variable that is not closed, that names no condition key, or whose default value is not in single quotes.
    pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let parts = parts(text, syntax)?;
        let has_variable = parts.iter().any(|part| matches!(part, Part::Variable { .. }));
        let form = if has_variable {
            Form::Open(parts)
        } else {
            let tokens = parts.into_iter().filter_map(|part| match part {
                Part::Token(token) => Some(token),
                Part::Variable { .. } => None,
            });
            Form::Fixed(Glob::new(folded(tokens, syntax.ignores_case)))
        };
        Ok(Pattern { text: text.to_owned(), ignores_case: syntax.ignores_case, form })
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns true if the value is one that the pattern describes; `None` if a variable of the pattern has no value.
    pub(crate) fn matches(&self, value: &str, context: &Context) -> Option<bool> {
        let value = if self.ignores_case { Cow::Owned(value.to_lowercase()) } else { Cow::Borrowed(value) };
        match &self.form {
            Form::Fixed(glob) => Some(glob.matches(&value)),
            Form::Open(parts) => Some(self.resolve(parts, context)?.matches(&value)),
        }
    }

    /// Condition keys that the variables of the pattern stand for.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let parts = match &self.form {
            Form::Fixed(_) => [].iter(),
            Form::Open(parts) => parts.iter(),
        };
        parts.filter_map(|part| match part {
            Part::Token(_) => None,
            Part::Variable { key, .. } => Some(key),
        })
    }

    /// Returns true if the pattern has variables.
    pub(crate) fn has_variables(&self) -> bool {
        matches!(self.form, Form::Open(_))
    }

    /// Replaces variables by their values, character by character: a `*` in a value is a `*` and no wildcard.
    fn resolve(&self, parts: &[Part], context: &Context) -> Option<Glob> {
        let mut tokens = Vec::new();
        for part in parts {
            match part {
                Part::Token(token) => tokens.push(*token),
                Part::Variable { key, default } => {
                    let value = context.variable(key).or(default.as_deref())?;
                    tokens.extend(value.chars().map(Token::Char));
                }
            }
        }
        Some(Glob::new(folded(tokens.into_iter(), self.ignores_case)))
    }
}

/// Tokens in lower case, if case is ignored.
fn folded(tokens: impl Iterator<Item = Token>, ignores_case: bool) -> Vec<Token> {
    if !ignores_case {
        return tokens.collect();
    }
    let fold = |token| match token {
        Token::Char(c) => c.to_lowercase().map(Token::Char).collect(),
        token => vec![token],
    };
    tokens.flat_map(fold).collect()
}

fn parts(text: &str, syntax: Syntax) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if syntax.variables && rest.starts_with("${") {
            let (part, after) = variable(rest)?;
            parts.push(part);
            rest = after;
            continue;
        }
        parts.push(Part::Token(match c {
            '*' if syntax.wildcards => Token::Run,
            '?' if syntax.wildcards => Token::Any,
            c => Token::Char(c),
        }));
        rest = &rest[c.len_utf8()..];
    }
    Ok(parts)
}

/// Parses the variable that the text begins with, and returns the text after it.
fn variable(text: &str) -> Result<(Part, &str), String> {
    let Some((inner, after)) = text[2..].split_once('}') else {
        return Err(format!("`{text}` is a policy variable without its `}}`; a `$` is written `${{$}}`"));
    };
    if let "*" | "?" | "$" = inner {
        let c = inner.chars().next().unwrap_or('$');
        return Ok((Part::Token(Token::Char(c)), after));
    }
    let (name, default) = match inner.split_once(',') {
        None => (inner, None),
        Some((name, default)) => {
            let default = default.trim();
            let quoted = default.strip_prefix('\'').and_then(|default| default.strip_suffix('\''));
            let Some(default) = quoted else {
                return Err(format!("the default value in `${{{inner}}}` is not between single quotes"));
            };
            (name, Some(default.to_owned()))
        }
    };
    let key = Key::parse(name.trim()).map_err(|reason| format!("`${{{inner}}}`: {reason}"))?;
    Ok((Part::Variable { key, default }, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &str, context: &Context) -> Option<bool> {
        Pattern::parse(pattern, Syntax::like(Version::V2012)).unwrap().matches(value, context)
    }

    #[test]
    fn variables_stand_for_values_of_the_request() {
        let context = Context::builder().username("ana").build();
        assert_eq!(matches("home/${aws:username}/*", "home/ana/x", &context), Some(true));
        assert_eq!(matches("home/${AWS:UserName}/*", "home/ana/x", &context), Some(true));
        assert_eq!(matches("home/${aws:username}/*", "home/bob/x", &context), Some(false));
        assert_eq!(matches("home/${aws:userid}/*", "home/ana/x", &context), None);
    }

    #[test]
    fn defaults_stand_for_absent_and_empty_values() {
        let pattern = "bucket-${aws:PrincipalTag/team, 'company-wide'}";
        let yellow = Context::builder().principal_tag("team", "yellow").build();
        assert_eq!(matches(pattern, "bucket-yellow", &yellow), Some(true));
        assert_eq!(matches(pattern, "bucket-company-wide", &yellow), Some(false));
        for context in [Context::default(), Context::builder().principal_tag("team", "").build()] {
            assert_eq!(matches(pattern, "bucket-company-wide", &context), Some(true));
            assert_eq!(matches("bucket-${aws:PrincipalTag/team}", "bucket-", &context), None);
        }
        let two = Context::builder().tag_keys(["a", "b"]).build();
        assert_eq!(matches("${aws:TagKeys}", "a", &two), None);
    }

    #[test]
    fn a_value_is_no_pattern() {
        let context = Context::builder().username("*").principal_tag("t", "a?${aws:username}").build();
        assert_eq!(matches("home/${aws:username}", "home/ana", &context), Some(false));
        assert_eq!(matches("home/${aws:username}", "home/*", &context), Some(true));
        assert_eq!(matches("${aws:PrincipalTag/t}", "ab*", &context), Some(false));
        assert_eq!(matches("${aws:PrincipalTag/t}", "a?${aws:username}", &context), Some(true));
        assert_eq!(matches("${aws:userid, '*'}", "x", &context), Some(false));
    }

    #[test]
    fn special_characters_are_written_as_variables() {
        let none = Context::default();
        assert_eq!(matches("a${*}b${?}c${$}{d}", "a*b?c${d}", &none), Some(true));
        assert_eq!(matches("a${*}b", "axb", &none), Some(false));
        assert_eq!(matches("a${?}b", "axb", &none), Some(false));
        assert_eq!(matches("$5 {x}", "$5 {x}", &none), Some(true));
    }

    #[test]
    fn variables_came_with_version_2012() {
        let context = Context::builder().username("ana").build();
        let pattern = Pattern::parse("${aws:username}${", Syntax::like(Version::V2008)).unwrap();
        assert_eq!(pattern.matches("ana", &context), Some(false));
        assert_eq!(pattern.matches("${aws:username}${", &context), Some(true));
    }

    #[test]
    fn variables_that_are_none_are_refused() {
        for text in ["${aws:username", "${username}", "${}", "${aws:}", "${aws:x, y}", "${aws:x, 'y}", "${aws:x y}"] {
            Pattern::parse(text, Syntax::like(Version::V2012)).expect_err(text);
        }
    }

    #[test]
    fn case_is_ignored_on_both_sides_and_in_values() {
        let syntax = Syntax { ignores_case: true, ..Syntax::exact(Version::V2012) };
        let context = Context::builder().username("Ana").build();
        let matches = |pattern, value| Pattern::parse(pattern, syntax).unwrap().matches(value, &context).unwrap();
        assert!(matches("Home/${aws:username}", "hOME/aNA"));
        assert!(matches("É", "é"));
        assert!(!matches("*", "x") && matches("*", "*"));
    }
}
