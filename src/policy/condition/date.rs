//! Dates of policies: the formats of the W3C note on ISO 8601, and seconds since 1970.

use jiff::Timestamp;

/// Reads `YYYY-MM`, `YYYY-MM-DD`, `YYYY-MM-DDThh:mm` with optional seconds and their fraction and with a time zone, or seconds since
/// 1970. A number of four digits counts seconds and is no year.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).ok();
    }
    // jiff reads more formats of ISO 8601 than policies have.
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let full = match shape.as_str() {
        "0000-00" => format!("{text}-01T00:00Z"),
        "0000-00-00" => format!("{text}T00:00Z"),
        shape if shape.starts_with("0000-00-00T00:00") => text.to_owned(),
        _ => return None,
    };
    full.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formats_of_the_note_are_read() {
        for (text, seconds) in [
            ("2020-01", 1_577_836_800),
            ("2020-01-01", 1_577_836_800),
            ("2020-01-01T00:00Z", 1_577_836_800),
            ("2020-01-01T00:00:01Z", 1_577_836_801),
            ("2020-01-01T01:00:01+01:00", 1_577_836_801),
            ("2019-12-31T19:00:01.000-05:00", 1_577_836_801),
            ("1577836801", 1_577_836_801),
            ("2020", 2020),
            ("-1", -1),
        ] {
            assert_eq!(parse(text), Timestamp::from_second(seconds).ok(), "{text}");
        }
        assert_eq!(parse("2020-01-01T00:00:00.5Z").unwrap().as_millisecond(), 1_577_836_800_500);
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "now",
            "2020-1-1",
            "2020-13-01",
            "2020-02-30",
            "2020-01-01T00:00:00",
            "2020-01-01 00:00:00Z",
            "20200101T000000Z",
            "*",
            "1.5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
