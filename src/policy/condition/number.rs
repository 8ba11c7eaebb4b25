//! Decimal numbers of any length, compared exactly.

use std::cmp::Ordering;

/// A decimal number. Equal numbers have equal fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    is_negative: bool,
    /// Digits before the point, without leading zeros.
    whole: String,
    /// Digits after the point, without trailing zeros.
    fraction: String,
}

impl Decimal {
    /// Reads digits with an optional sign and an optional decimal point.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (is_negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal { is_negative: is_negative && !is_zero, whole, fraction })
    }

    fn compare_sizes(&self, other: &Self) -> Ordering {
        let lengths = self.whole.len().cmp(&other.whole.len());
        lengths.then_with(|| self.whole.cmp(&other.whole)).then_with(|| self.fraction.cmp(&other.fraction))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.compare_sizes(other),
            (true, true) => other.compare_sizes(self),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_compared_by_value() {
        let ordered = [
            "-10",
            "-9.5",
            "-0.25",
            "-0.1",
            "0",
            "0.001",
            "0.01",
            "0.1",
            "1",
            "1.05",
            "1.5",
            "9",
            "10",
            "9007199254740993",
        ];
        for (at, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                let order = Decimal::parse(left).unwrap().cmp(&Decimal::parse(right).unwrap());
                assert_eq!(order, at.cmp(&other), "{left} {right}");
            }
        }
        for (left, right) in [("1", "1.0"), ("-0", "0.00"), ("+7", "007"), ("1.50", "1.5")] {
            assert_eq!(Decimal::parse(left), Decimal::parse(right));
        }
        assert_ne!(Decimal::parse("9007199254740993"), Decimal::parse("9007199254740992"));
    }

    #[test]
    fn texts_that_are_no_numbers_are_none() {
        for text in ["", "-", ".", "1.", ".5", "1e3", "0x1", " 1", "1,5", "١", "--1", "1.2.3", "${aws:x}"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_integers(left in -100_000i64..100_000, right in -100_000i64..100_000) {
            let decimal = |number: i64| {
                let sign = if number < 0 { "-" } else { "" };
                Decimal::parse(&format!("{sign}{}.{:02}", number.abs() / 100, number.abs() % 100)).unwrap()
            };
            prop_assert_eq!(decimal(left).cmp(&decimal(right)), left.cmp(&right));
        }
    }
}
