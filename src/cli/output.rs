//! Output of commands: JSON lines, tables, and numbers with units.

use std::io::Write as _;

use gitferry_base::printable::{self, Printable};
use serde::Serialize;

/// Prints one line or several to standard output. A closed pipe (`| head`) is no error. Control characters are escaped,
/// as ref names and actors come from clients.
pub fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{}", safe(text));
}

/// Prints a message that is not part of the output to standard error, escaped like [`line()`].
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", safe(text));
}

fn safe(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    let lines: Vec<String> = text.split('\n').map(|line| Printable(line).to_string()).collect();
    lines.join("\n")
}

/// Version of the `--json` output, which `docs/json.md` describes. Members may be added within a version.
const SCHEMA: u32 = 1;

/// A JSON object with the version of its schema.
#[derive(Serialize)]
struct Versioned<'a, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'a T,
}

/// Prints an object as one line of JSON.
pub fn json(value: &impl Serialize) -> serde_json::Result<()> {
    let text = serde_json::to_string(&Versioned { schema: SCHEMA, value })?;
    let _ = writeln!(std::io::stdout(), "{}", printable::json(&text));
    Ok(())
}

/// Formats a count: `1 ref`, `2 refs`, `1,000 refs`.
pub fn count(number: u64, what: &str) -> String {
    let noun = if number == 1 {
        what.to_owned()
    } else if let Some(stem) = what.strip_suffix('y') {
        format!("{stem}ies")
    } else if what.ends_with('x') {
        format!("{what}es")
    } else {
        format!("{what}s")
    };
    format!("{} {noun}", indicatif::HumanCount(number))
}

/// Formats a size: `12.3 MiB`.
pub fn bytes(number: u64) -> String {
    indicatif::HumanBytes(number).to_string()
}

/// Formats a duration: `340 ms`, from 10 s on `12.3 s`.
pub fn millis(number: u64) -> String {
    if number < 10_000 { format!("{number} ms") } else { format!("{:.1} s", number as f64 / 1000.0) }
}

/// Prints rows as a table with a heading, the first row. All rows have the same number of cells.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        line(cells.collect::<Vec<String>>().join("  ").trim_end());
    }
}

/// Formats a number of LFS objects as the end of a list: `, 2 LFS objects`; empty for 0.
pub fn and_lfs(objects: u64) -> String {
    if objects == 0 { String::new() } else { format!(", {}", count(objects, "LFS object")) }
}
