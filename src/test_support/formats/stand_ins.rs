//! Stand-ins for the parts of a state that differ each time it is written: ids, times, addresses.

use serde_json::{Map, Value};

/// Members whose numbers depend on the clock.
const VOLATILE: [&str; 12] = [
    "at",
    "elapsed_seconds",
    "expires",
    "lag_ms",
    "lag_seconds",
    "mark",
    "max_lag_seconds",
    "modified",
    "recovery_point_seconds",
    "retries",
    "revision",
    "since",
];

/// Texts with their stand-ins.
#[derive(Clone, Debug, Default)]
pub struct StandIns {
    known: Vec<(String, String)>,
}

impl StandIns {
    /// Adds a text that is known to differ.
    pub fn add(&mut self, text: impl Into<String>, stand_in: impl Into<String>) {
        self.known.push((text.into(), stand_in.into()));
    }

    /// Replaces known texts, ids, hashes of 32 bytes, checksums, times and ports. Git's ids of 20 bytes stay.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (known, stand_in) in &self.known {
            text = text.replace(known, stand_in);
        }
        replace_tokens(&text)
    }

    /// Replaces them in all texts of a JSON value, and numbers that depend on the clock. Arrays are sorted: their order
    /// may depend on which of several concurrent steps ends first.
    pub fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(values) => {
                let mut values: Vec<Value> = values.iter().map(|value| self.json(value)).collect();
                values.sort_by_key(Value::to_string);
                values.into()
            }
            Value::Object(members) => {
                let member = |(name, value): (&String, &Value)| (self.text(name), self.member(name, value));
                members.iter().map(member).collect::<Map<_, _>>().into()
            }
            other => other.clone(),
        }
    }

    fn member(&self, name: &str, value: &Value) -> Value {
        let is_volatile = VOLATILE.contains(&name);
        match value {
            Value::Number(_) if is_volatile => "<number>".into(),
            // An attribute of DynamoDB.
            Value::Object(members) if is_volatile && members.contains_key("N") => "<N>".into(),
            value => self.json(value),
        }
    }

    /// Replaces them in the text of a change, whose line `time` is a number.
    pub fn change(&self, text: &str) -> String {
        let line = |line: &str| match line.strip_prefix("time ") {
            Some(time) if time.bytes().all(|byte| byte.is_ascii_digit()) => format!("time <{} digits>", time.len()),
            _ => self.text(line),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn replace_tokens(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_inside = false;
    while let Some(first) = rest.chars().next() {
        let token = if is_inside { None } else { token(rest) };
        let (length, stand_in) = token.unwrap_or((first.len_utf8(), ""));
        if stand_in.is_empty() {
            replaced.push(first);
        } else {
            replaced.push_str(stand_in);
        }
        is_inside = rest[..length].ends_with(|last: char| last.is_ascii_alphanumeric());
        rest = &rest[length..];
    }
    replaced
}

/// Returns the length of the token at the beginning of a text, and its stand-in.
fn token(text: &str) -> Option<(usize, &'static str)> {
    const ADDRESS: &str = "127.0.0.1:";
    if let Some(port) = text.strip_prefix(ADDRESS) {
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        return (digits > 0).then_some((ADDRESS.len() + digits, "<address>"));
    }
    if is_like(text, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh") {
        return Some((36, "<uuid>"));
    }
    if is_like(text, "dddd-dd-ddTdd:dd:dd") {
        let end = text[19..].find('Z')? + 20;
        return Some((end, "<time>"));
    }
    let hex = text.bytes().take_while(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte)).count();
    let ends = !text[hex..].starts_with(|next: char| next.is_ascii_alphanumeric());
    match hex {
        64 if ends && text[..hex].bytes().any(|byte| byte != b'0') => Some((hex, "<hash>")),
        32 if ends => Some((hex, "<nonce>")),
        16 if ends => Some((hex, "<crc64>")),
        _ => None,
    }
}

/// Returns true if a text begins like a pattern: `h` for a hexadecimal digit, `d` for a decimal one.
fn is_like(text: &str, pattern: &str) -> bool {
    text.len() >= pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, wanted)| match wanted {
            b'h' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            b'd' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        })
}
