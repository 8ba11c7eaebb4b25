//! docs/aws.md: every figure of the costs is what its calculation gives, and every price in a calculation is a unit price.

use std::collections::BTreeSet;

use crate::hcl_files::root;
use crate::policies::documented;

const DOCUMENT: &str = "docs/aws.md";
/// Largest difference that rounding explains, in dollars.
const ROUNDING: f64 = 0.005_000_1;

/// The value of sums and products of numbers, with brackets.
fn value(calculation: &str) -> f64 {
    let tokens: Vec<char> = calculation.chars().filter(|c| !c.is_whitespace()).collect();
    let mut at = 0;
    let value = sum(&tokens, &mut at);
    assert_eq!(at, tokens.len(), "{calculation}");
    value
}

fn sum(tokens: &[char], at: &mut usize) -> f64 {
    let mut value = product(tokens, at);
    while let Some(sign @ ('+' | '−')) = tokens.get(*at) {
        *at += 1;
        let next = product(tokens, at);
        value += if *sign == '+' { next } else { -next };
    }
    value
}

fn product(tokens: &[char], at: &mut usize) -> f64 {
    let mut value = factor(tokens, at);
    while tokens.get(*at) == Some(&'×') {
        *at += 1;
        value *= factor(tokens, at);
    }
    value
}

fn factor(tokens: &[char], at: &mut usize) -> f64 {
    if tokens[*at] == '(' {
        *at += 1;
        let value = sum(tokens, at);
        assert_eq!(tokens[*at], ')');
        *at += 1;
        return value;
    }
    let number: String = tokens[*at..].iter().take_while(|c| c.is_ascii_digit() || **c == '.').collect();
    *at += number.len();
    number.parse().unwrap_or_else(|_| panic!("{tokens:?} at {at}"))
}

fn figure(cell: &str) -> f64 {
    cell.trim_matches('*').parse().unwrap_or_else(|_| panic!("{cell} is not a figure"))
}

/// Numbers with decimals in a text.
fn decimals(text: &str) -> BTreeSet<String> {
    let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    numbers
        .filter(|word| word.trim_end_matches('.').contains('.'))
        .map(|word| word.trim_end_matches('.').to_owned())
        .collect()
}

#[test]
fn every_figure_is_what_its_calculation_gives() {
    for heading in ["| idle", "| busy"] {
        let rows = documented(DOCUMENT, heading);
        let (total, items) = rows.split_last().unwrap();
        assert!(items.len() >= 8, "{rows:?}");
        for region in [1, 3] {
            let mut added = 0.0;
            for item in items {
                let (calculated, shown) = (value(&item[region]), figure(&item[region + 1]));
                assert!((calculated - shown).abs() < ROUNDING, "{item:?}: {calculated}");
                added += shown;
            }
            let shown = figure(&total[region + 1]);
            assert!((added - shown).abs() < ROUNDING, "{heading}: the total is {added:.2}, not {shown}");
        }
    }
}

#[test]
fn every_price_in_a_calculation_is_a_unit_price_of_its_region() {
    let prices = documented(DOCUMENT, "| unit price");
    for (column, region) in [(1, 1), (2, 3)] {
        let known: BTreeSet<String> = prices.iter().flat_map(|row| decimals(&row[column])).collect();
        for heading in ["| idle", "| busy"] {
            for item in documented(DOCUMENT, heading).split_last().unwrap().1 {
                for price in decimals(&item[region]) {
                    // Amounts that are no prices: half a vCPU or GB, GB of logs, millions of reads.
                    let amount = ["0.5", "1.6", "8.4"].contains(&price.as_str());
                    assert!(amount || known.contains(&price), "{item:?}: {price} is no unit price");
                }
            }
        }
    }
}

/// The formula gives the tables' totals for their amounts.
#[test]
fn the_formula_agrees_with_the_tables() {
    let text = std::fs::read_to_string(root(DOCUMENT)).unwrap();
    let formula = text.split("For your own numbers").nth(1).unwrap();
    let lines: Vec<&str> = formula.lines().filter(|line| line.starts_with("    ")).collect();
    // T, c, m, s, W, P, C, G
    let amounts = [("T", "2"), ("c", "1"), ("m", "2"), ("s", "50"), ("W", "1"), ("P", "0"), ("C", "0"), ("G", "0")];
    let idle: f64 = lines
        .iter()
        .map(|line| {
            let term = line.split("    ").map(str::trim).find(|part| !part.is_empty()).unwrap();
            let mut written = String::new();
            for word in term.trim_start_matches("+ ").split(' ') {
                let (open, name, close) = (word.starts_with('('), word.trim_matches(['(', ')']), word.ends_with(')'));
                match amounts.iter().find(|(amount, _)| *amount == name) {
                    // A number before a letter is multiplied with it.
                    Some((_, amount)) => {
                        let times = written.ends_with(|c: char| c.is_ascii_digit());
                        let brackets = (if open { "(" } else { "" }, if close { ")" } else { "" });
                        written += &format!("{}{}{amount}{}", if times { "×" } else { "" }, brackets.0, brackets.1);
                    }
                    None if word.starts_with('(') && written.ends_with(|c: char| c.is_ascii_digit()) => {
                        written += &format!("×{word}");
                    }
                    None => written += word,
                }
            }
            value(&written)
        })
        .sum();
    let rows = documented(DOCUMENT, "| idle");
    let shown = figure(&rows.last().unwrap()[2]);
    assert!((idle - shown).abs() < 0.03, "the formula gives {idle:.2}, the table {shown}");
}
