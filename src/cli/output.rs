//! Printing: one place for JSON lines and for the small words in the text.

use std::io::Write as _;

use gitferry_base::printable::{self, Printable};
use serde::Serialize;

use super::failure::Failure;

/// Prints a line, or several; a reader that went away (`| head`) is no error. What clients have put into it (names of
/// refs, actors) can do nothing to a terminal.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{}", safe(text));
}

/// Tells something that is not part of the output.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", safe(text));
}

fn safe(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let lines: Vec<String> = text.split('\n').map(|line| Printable(line).to_string()).collect();
    lines.join("\n")
}

/// The version of what `--json` prints; `docs/json.md` describes it. Members may be added within a version.
const SCHEMA: u32 = 1;

/// One line of JSON: an object, and the version of its schema.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// Prints an object as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(&Versioned { schema: SCHEMA, value })?;
    let _ = writeln!(std::io::stdout(), "{}", printable::json(&text));
    Ok(())
}

/// `1 ref`, `2 refs`; thousands are grouped.
pub fn count(number: u64, what: &str) -> String {
    let plural = match what {
        _ if number == 1 => what.to_owned(),
        _ if what.ends_with('y') => format!("{}ies", &what[..what.len() - 1]),
        _ if what.ends_with('x') => format!("{what}es"),
        _ => format!("{what}s"),
    };
    format!("{} {plural}", indicatif::HumanCount(number))
}

/// `12.3 MiB`.
pub fn bytes(number: u64) -> String {
    indicatif::HumanBytes(number).to_string()
}

/// `340 ms`, `12.3 s`.
pub fn millis(number: u64) -> String {
    match number {
        0..=9_999 => format!("{number} ms"),
        _ => format!("{:.1} s", number as f64 / 1000.0),
    }
}

/// Prints rows in columns as wide as they need; the first row is the heading.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<String>>().join("  ").trim_end());
    }
}

/// How many LFS objects, as the rest of a list; nothing where there are none.
pub fn and_lfs(objects: u64) -> String {
    match objects {
        0 => String::new(),
        objects => format!(", {}", count(objects, "LFS object")),
    }
}
