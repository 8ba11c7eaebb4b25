//! XML of the query protocol's answers.

use serde_json::Value;

/// Writes an element. Null writes nothing, a list becomes elements `member`, an object its fields. A list under the name
/// `entry` is the content of a map and is written without an element around it.
pub fn element(out: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(entries) if name == "entry" => entries.iter().for_each(|entry| element(out, name, entry)),
        _ => {
            tag(out, "<", name);
            content(out, value);
            tag(out, "</", name);
        }
    }
}

fn tag(out: &mut String, open: &str, name: &str) {
    debug_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "names of elements are those of the API");
    out.push_str(open);
    out.push_str(name);
    out.push('>');
}

fn content(out: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => escape(out, text),
        Value::Array(members) => members.iter().for_each(|member| element(out, "member", member)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| element(out, name, value)),
    }
}

/// Escapes a text. Characters that XML 1.0 cannot carry are replaced.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(character),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            control if control < ' ' => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn xml(name: &str, value: &Value) -> String {
        let mut out = String::new();
        element(&mut out, name, value);
        out
    }

    #[test]
    fn values_are_elements() {
        assert_eq!(xml("A", &json!({"B": 1, "C": true, "D": [], "E": null})), "<A><B>1</B><C>true</C><D></D></A>");
        assert_eq!(xml("L", &json!(["x", ["y"]])), "<L><member>x</member><member><member>y</member></member></L>");
        let map = json!({"entry": [{"key": "Users", "value": 3}, {"key": "Roles", "value": 0}]});
        let expected = "<SummaryMap><entry><key>Users</key><value>3</value></entry>\
                        <entry><key>Roles</key><value>0</value></entry></SummaryMap>";
        assert_eq!(xml("SummaryMap", &map), expected);
    }

    #[test]
    fn a_text_cannot_leave_its_element() {
        assert_eq!(
            xml("T", &json!("</T><T a=\"&\">\u{0}\r\n")),
            "<T>&lt;/T&gt;&lt;T a=&quot;&amp;&quot;&gt;\u{fffd}&#13;\n</T>"
        );
    }
}
