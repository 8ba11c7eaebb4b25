//! From the text of the model to its tables.

use std::collections::BTreeSet;

use super::{Member, Model, Operation, Pages, Shape, ShapeKind, Type};

/// Errors that `[ENC]` stands for.
const OF_KEYS: [&str; 5] = [
    "EncryptionIntegrityChecksFailedException",
    "EncryptionKeyAccessDeniedException",
    "EncryptionKeyDisabledException",
    "EncryptionKeyNotFoundException",
    "EncryptionKeyUnavailableException",
];
/// Spaces before a line that continues the one before.
const CONTINUED: usize = 4;

/// Words of a line with those that continue it.
type Line = Vec<&'static str>;

/// Reads a model.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(text: &'static str) -> Result<Model, String> {
    let mut model = Model::default();
    let mut open: Option<Operation> = None;
    for line in lines(text) {
        let said = || line.join(" ");
        match line.as_slice() {
            ["operation", name, facts @ ..] => {
                close(&mut model, open.replace(operation(name, facts).ok_or_else(said)?));
            }
            [part @ ("in" | "out" | "pages" | "errors"), words @ ..] => {
                let operation = open.as_mut().ok_or_else(said)?;
                add(operation, part, words).ok_or_else(said)?;
            }
            [kind, name, facts @ ..] => {
                model.shapes.insert(name, shape(kind, facts).ok_or_else(said)?);
            }
            _ => return Err(said()),
        }
    }
    close(&mut model, open);
    Ok(model)
}

fn lines(text: &'static str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = line.split_ascii_whitespace();
        let indent = line.len() - line.trim_start().len();
        match lines.last_mut().filter(|_| indent >= CONTINUED) {
            Some(last) => last.extend(words),
            None => lines.push(words.collect()),
        }
    }
    lines
}

fn operation(name: &'static str, facts: &[&'static str]) -> Option<Operation> {
    let (access, rest) = facts.split_first()?;
    let known = |fact: &&str| matches!(*fact, "refs" | "any");
    if !matches!(*access, "read" | "write") || !rest.iter().all(known) {
        return None;
    }
    Some(Operation {
        name,
        reads_only: *access == "read",
        on_reference: rest.contains(&"refs"),
        on_account: rest.contains(&"any"),
        input: Vec::new(),
        output: Vec::new(),
        pages: None,
        errors: BTreeSet::new(),
    })
}

fn add(operation: &mut Operation, part: &str, words: &[&'static str]) -> Option<()> {
    match (part, words) {
        ("in", words) => operation.input = members(words)?,
        ("out", words) => operation.output = members(words)?,
        ("pages", [token, result, limit @ ..]) => {
            operation.pages = Some(Pages { token, result, limit: limit.first().copied() });
        }
        ("errors", codes) => {
            for code in codes {
                match *code {
                    "[ENC]" => operation.errors.extend(OF_KEYS),
                    code => drop(operation.errors.insert(code)),
                }
            }
        }
        _ => return None,
    }
    Some(())
}

/// Adds an operation that is complete.
fn close(model: &mut Model, operation: Option<Operation>) {
    if let Some(operation) = operation {
        model.operations.insert(operation.name, operation);
    }
}

fn shape(kind: &str, facts: &[&'static str]) -> Option<Shape> {
    let code = |sign: char| facts.iter().find_map(|fact| fact.strip_prefix(sign));
    let facts: Vec<&'static str> = facts.iter().copied().filter(|fact| !fact.starts_with(['?', '!'])).collect();
    let (missing, invalid) = if kind == "struct" { (None, None) } else { (code('?'), code('!')) };
    let kind = match kind {
        "text" => text(&facts)?,
        "blob" => ShapeKind::Blob(facts.first()?.parse().ok()?),
        "enum" => ShapeKind::Enum(facts),
        "number" => ShapeKind::Number,
        "struct" => ShapeKind::Structure(members(&facts)?),
        _ => return None,
    };
    Some(Shape { kind, missing, invalid })
}

fn text(facts: &[&'static str]) -> Option<ShapeKind> {
    let (range, characters) = match facts {
        [] => ("0..", None),
        [range] => (*range, None),
        [range, "of", characters] => (*range, Some(*characters)),
        _ => return None,
    };
    let (least, most) = range.split_once("..")?;
    let most = if most.is_empty() { usize::MAX } else { most.parse().ok()? };
    Some(ShapeKind::Text { least: least.parse().ok()?, most, characters })
}

fn members(words: &[&'static str]) -> Option<Vec<Member>> {
    words.iter().map(|word| member(word)).collect()
}

fn member(word: &'static str) -> Option<Member> {
    let (rest, invalid) = split(word, '!');
    let (rest, missing) = split(rest, '?');
    let (name, kind) = rest.split_once(':')?;
    let required = name.strip_prefix(['*', '+']);
    let is_required = required.is_some();
    Some(Member { name: required.unwrap_or(name), is_required, kind: kind_of(kind)?, missing, invalid })
}

fn split(word: &'static str, sign: char) -> (&'static str, Option<&'static str>) {
    word.split_once(sign).map_or((word, None), |(rest, code)| (rest, Some(code)))
}

fn kind_of(text: &'static str) -> Option<Type> {
    if let Some(item) = text.strip_prefix("list<").and_then(|rest| rest.strip_suffix('>')) {
        return Some(Type::List(Box::new(kind_of(item)?)));
    }
    if let Some(pair) = text.strip_prefix("map<").and_then(|rest| rest.strip_suffix('>')) {
        let (key, value) = pair.split_once(',')?;
        return Some(Type::Map(Box::new(kind_of(key)?), Box::new(kind_of(value)?)));
    }
    Some(match text {
        "boolean" => Type::Boolean,
        "integer" => Type::Integer,
        "long" => Type::Long,
        "timestamp" => Type::Timestamp,
        "blob" => Type::Blob,
        name => Type::Named(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_mean_nothing_are_refused() {
        for text in [
            "operation A",
            "operation A write sometimes",
            "  in a:B",
            "text A 1",
            "text A 1..2 x y",
            "blob A",
            "thing A",
            "struct A b",
            "operation A read\n  pages x",
            "text",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        parse("# comment\ntext A 1..2 of a-z ?B !C\noperation D read any\n  in *a:A\n      b:list<A>\n  errors B")
            .unwrap();
    }
}
