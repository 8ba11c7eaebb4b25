//! `recovery_window` of a region: time for which unreferenced data is kept.

use gitferry_engine::region::RECOVERY_WINDOW;
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};

/// Shortest window. A shorter one could remove packs that requests and transfers in progress still read.
const SHORTEST: SignedDuration = SignedDuration::from_hours(24);
/// Longest window. A longer one would keep every replaced pack for years.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);

pub(super) fn default_window() -> SignedDuration {
    RECOVERY_WINDOW
}

/// Parses a window such as `"7d"`, `"7 days"` or `"36h"`.
pub(super) fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let window = parse(&text)
        .ok_or_else(|| de::Error::custom(format!("`{text}` is not a duration such as \"7d\" or \"36h\"")))?;
    if (SHORTEST..=LONGEST).contains(&window) {
        return Ok(window);
    }
    Err(de::Error::custom(format!("recovery_window must be between 1d and 400d, not {text}")))
}

fn parse(text: &str) -> Option<SignedDuration> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    match text.get(digits.len()..)?.trim() {
        "d" | "day" | "days" => {
            let hours = digits.parse::<i64>().ok()?.checked_mul(24)?;
            SignedDuration::try_from_hours(hours)
        }
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours_are_read() {
        for (text, hours) in [("7d", 168), ("1 day", 24), ("35 days", 840), ("36h", 36), ("48 hours", 48)] {
            assert_eq!(parse(text), Some(SignedDuration::from_hours(hours)), "{text}");
        }
        for bad in ["", "7", "d", "seven days", "-", "7 weeks and a bit", "999999999999999999d"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
