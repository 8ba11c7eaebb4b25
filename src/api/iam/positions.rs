//! Places of statements in the text of a policy.

use gitferry_policy::StatementId;
use serde_json::Value;

/// Line and column, both counted from 1.
pub type Position = (usize, usize);

/// First and last character of a statement in a valid policy; `None` if the text has no such statement.
pub fn of_statement(text: &str, statement: &StatementId) -> Option<(Position, Position)> {
    let spans = spans(text);
    let span = match statement {
        StatementId::Index(index) => spans.get(*index)?,
        StatementId::Sid(sid) => spans.iter().find(|(start, end)| {
            let statement: Option<Value> = text.get(*start..*end).and_then(|text| serde_json::from_str(text).ok());
            statement.is_some_and(|statement| statement["Sid"] == sid.as_str())
        })?,
    };
    Some((position(text, span.0), position(text, span.1 - 1)))
}

fn position(text: &str, at: usize) -> Position {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Ranges of bytes of the statements: the objects within the document's own, as no other element of a policy has any.
fn spans(text: &str) -> Vec<(usize, usize)> {
    let mut spans = Vec::new();
    let mut objects = 0_u32;
    let mut start = 0;
    let mut in_text = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' => {
                objects += 1;
                if objects == 2 {
                    start = at;
                }
            }
            b'}' => {
                if objects == 2 {
                    spans.push((start, at + 1));
                }
                objects = objects.saturating_sub(1);
            }
            _ => {}
        }
    }
    debug_assert_eq!(objects, 0, "a parsed policy has as many brackets that close as open");
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, statement: StatementId) -> Option<(Position, Position)> {
        of_statement(text, &statement)
    }

    #[test]
    fn statements_are_found_by_number_and_name() {
        let text = "{\"Version\": \"2012-10-17\",\n \"Statement\": [\n  {\"Sid\": \"a}{\\\"\", \"Condition\": {\"x\": {\"y\": 1}}},\n  {\"Sid\": \"b\"}]}";
        assert_eq!(of(text, StatementId::Index(0)), Some(((3, 3), (3, 48))));
        assert_eq!(of(text, StatementId::Sid("a}{\"".into())), Some(((3, 3), (3, 48))));
        assert_eq!(of(text, StatementId::Index(1)), Some(((4, 3), (4, 14))));
        assert_eq!(of(text, StatementId::Sid("b".into())), Some(((4, 3), (4, 14))));
        assert_eq!(of(text, StatementId::Index(2)), None);
        assert_eq!(of(text, StatementId::Sid("c".into())), None);
        let one = "{\"Statement\":{\"Effect\":\"Allow\"}}";
        assert_eq!(of(one, StatementId::Index(0)), Some(((1, 14), (1, 31))));
    }
}
