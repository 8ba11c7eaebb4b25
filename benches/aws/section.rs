//! What one part of the benchmark found: a table of figures, and the targets.

use std::fmt::Write as _;

use serde::Serialize;

use super::support::report::{Part, Target};

/// One part.
#[derive(Debug, Serialize)]
pub struct Section {
    /// What was measured.
    pub what: String,
    /// The heads of the columns.
    pub columns: Vec<String>,
    /// What each row is about, and a figure for each column.
    pub rows: Vec<(String, Vec<String>)>,
    /// What has to be known to read it.
    pub notes: Vec<String>,
    /// What is asked of it.
    pub targets: Vec<Target>,
}

impl Section {
    /// A table without rows yet.
    pub fn new(what: impl Into<String>, columns: &[&str]) -> Section {
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        Section { what: what.into(), columns, rows: Vec::new(), notes: Vec::new(), targets: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, about: impl Into<String>, figures: Vec<String>) {
        self.rows.push((about.into(), figures));
    }

    /// Adds something to know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds a demand: at most so much.
    pub fn at_most(&mut self, asked: impl Into<String>, measured: f64, limit: f64, unit: &str) {
        let (asked, measured, met) = (asked.into(), format!("{measured:.1}{unit}"), measured <= limit);
        self.targets.push(Target { asked, measured, met });
    }
}

impl Part for Section {
    const ALL: &'static str = "sections";

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.what);
        let first = self.rows.iter().map(|(about, _)| about.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| {
                let figures = self.rows.iter().filter_map(|(_, figures)| figures.get(at));
                figures.map(|figure| figure.chars().count()).chain([self.columns[at].len()]).max().unwrap_or(0)
            })
            .collect();
        let mut line = |about: &str, figures: &[String]| {
            let _ = write!(text, "  {about:<first$}");
            for (figure, width) in figures.iter().zip(&widths) {
                let _ = write!(text, "  {figure:>width$}");
            }
            text.push('\n');
        };
        if self.columns.iter().any(|column| !column.is_empty()) {
            line("", &self.columns);
        }
        self.rows.iter().for_each(|(about, figures)| line(about, figures));
        for note in &self.notes {
            let _ = writeln!(text, "  ({note})");
        }
        text
    }

    fn targets(&self) -> &[Target] {
        &self.targets
    }
}
