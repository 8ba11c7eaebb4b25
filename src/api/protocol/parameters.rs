//! Parameters of the query protocol: pairs of name and value, and the tree that the dots in their names make.
//!
//! Source: "Query protocols" of Smithy. Stricter than AWS: a parameter that comes twice, in query or body, is refused.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use serde_json::Value;

use crate::error::{ApiError, Result, shown};

/// Largest number of parameters of a request.
pub const MAX_PARAMETERS: usize = 2_000;
/// Largest number of parts of a parameter's name: `ContextEntries.member.1.ContextKeyValues.member.1` has six.
pub const MAX_DEPTH: usize = 10;
/// Prefix of the parameters of a signature in the query.
const OF_SIGNATURE: &str = "X-Amz-";
/// Parameters that no log gets to see.
const SECRET: [&str; 1] = ["WebIdentityToken"];
/// Part of a name before the number of an element of a list.
const MEMBER: &str = "member";

/// Value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Text.
    Text(String),
    /// Elements in the order of their numbers.
    List(Vec<Node>),
    /// Fields by name.
    Map(BTreeMap<String, Node>),
}

/// Parameters of a request, without those of its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The operation that the request names.
    pub action: Option<String>,
    /// Version of the API.
    pub version: Option<String>,
    /// All others.
    pub fields: BTreeMap<String, Node>,
}

impl Parameters {
    /// Reads the parameters of a query and a form.
    ///
    /// # Errors
    /// `MalformedQueryString`: a parameter comes twice, is not UTF-8, or there are too many.
    pub fn parse(query: &str, form: &[u8]) -> Result<Parameters> {
        let mut root = BTreeMap::new();
        let mut count = 0;
        for part in [query.as_bytes(), form].into_iter().flat_map(|text| text.split(|byte| *byte == b'&')) {
            if part.is_empty() {
                continue;
            }
            count += 1;
            if count > MAX_PARAMETERS {
                return Err(ApiError::malformed(format!("A request has at most {MAX_PARAMETERS} parameters.")));
            }
            let (name, value) = pair(part)?;
            if !name.starts_with(OF_SIGNATURE) {
                insert(&mut root, &name, value)?;
            }
        }
        let mut root: BTreeMap<String, Node> = root.into_iter().map(|(name, node)| (name, listed(node))).collect();
        let mut text = |name: &str| match root.remove(name) {
            Some(Node::Text(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::malformed(format!("The parameter {name} is no text."))),
            None => Ok(None),
        };
        Ok(Parameters { action: text("Action")?, version: text("Version")?, fields: root })
    }

    /// The parameters for the audit trail, without secrets.
    pub fn to_json(&self) -> Value {
        let shown = self.fields.iter().filter(|(name, _)| !SECRET.contains(&name.as_str()));
        shown.map(|(name, node)| (name.clone(), node.to_json())).collect()
    }
}

impl Node {
    fn to_json(&self) -> Value {
        match self {
            Node::Text(text) => text.as_str().into(),
            Node::List(elements) => elements.iter().map(Node::to_json).collect(),
            Node::Map(fields) => fields.iter().map(|(name, node)| (name.clone(), node.to_json())).collect(),
        }
    }
}

/// Decoded name and value of a part of a form: `+` is a space.
fn pair(part: &[u8]) -> Result<(String, String)> {
    let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
    let (name, value) = part.split_at(at);
    Ok((decoded(name)?, decoded(value.get(1..).unwrap_or_default())?))
}

fn decoded(text: &[u8]) -> Result<String> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    String::from_utf8(bytes).map_err(|_| ApiError::malformed("A parameter is not UTF-8."))
}

fn insert(root: &mut BTreeMap<String, Node>, name: &str, value: String) -> Result<()> {
    let twice = || ApiError::malformed(format!("The parameter {} comes more than once.", shown(name)));
    let mut parts: Vec<&str> = name.split('.').collect();
    if parts.len() > MAX_DEPTH {
        return Err(ApiError::malformed(format!("The name of a parameter has at most {MAX_DEPTH} parts.")));
    }
    let Some(last) = parts.pop() else { unreachable!("a split has at least one part") };
    let mut place = root;
    for part in parts {
        let inner = place.entry(part.to_owned()).or_insert_with(|| Node::Map(BTreeMap::new()));
        let Node::Map(fields) = inner else { return Err(twice()) };
        place = fields;
    }
    if place.insert(last.to_owned(), Node::Text(value)).is_some() {
        return Err(twice());
    }
    Ok(())
}

/// Makes lists of the maps `member.1`, `member.2` and so on.
fn listed(node: Node) -> Node {
    let Node::Map(mut fields) = node else { return node };
    if fields.len() == 1
        && let Some(Node::Map(members)) = fields.get_mut(MEMBER)
        && let Some(numbers) = numbers(members.keys())
    {
        let members = std::mem::take(members).into_values().map(listed);
        let mut elements: Vec<(u32, Node)> = numbers.into_iter().zip(members).collect();
        elements.sort_by_key(|(number, _)| *number);
        return Node::List(elements.into_iter().map(|(_, element)| element).collect());
    }
    Node::Map(fields.into_iter().map(|(name, node)| (name, listed(node))).collect())
}

/// The numbers of a list's elements; `None` if a name is not a number in its shortest form.
fn numbers<'a>(names: impl Iterator<Item = &'a String>) -> Option<Vec<u32>> {
    names.map(|name| name.parse().ok().filter(|number: &u32| number.to_string() == *name)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(form: &str) -> Result<Value> {
        Parameters::parse("", form.as_bytes()).map(|parameters| parameters.to_json())
    }

    #[test]
    fn dots_make_a_tree_and_numbers_an_order() {
        let form =
            "Action=A&Version=V&Name=a+b%2Bc&Tags.member.10.Key=z&Tags.member.2.Key=k&Tags.member.2.Value=&Empty=";
        let parameters = Parameters::parse("", form.as_bytes()).unwrap();
        assert_eq!((parameters.action.as_deref(), parameters.version.as_deref()), (Some("A"), Some("V")));
        let expected = json!({"Name": "a b+c", "Tags": [{"Key": "k", "Value": ""}, {"Key": "z"}], "Empty": ""});
        assert_eq!(parameters.to_json(), expected);
    }

    #[test]
    fn a_parameter_comes_once_wherever_it_is() {
        for form in [
            "A=1&A=1",
            "A=1&%41=2",
            "A.member.1=x&A.member.1=y",
            "A=1&A.member.1=x",
            "A.member.1=x&A=1",
            "Action=GetUser&Action=DeleteUser",
        ] {
            assert_eq!(parse(form).unwrap_err().code(), "MalformedQueryString", "{form}");
        }
        Parameters::parse("Action=GetUser", b"Action=DeleteUser").unwrap_err();
        Parameters::parse("", b"Action.member.1=GetUser").unwrap_err();
        // Two spellings of one number would be two elements in one place.
        assert_eq!(parse("A.member.1=x&A.member.01=y").unwrap(), json!({"A": {"member": {"1": "x", "01": "y"}}}));
    }

    #[test]
    fn limits_and_secrets() {
        let many: Vec<String> = (0..=MAX_PARAMETERS).map(|number| format!("P{number}=x")).collect();
        parse(&many[1..].join("&")).unwrap();
        parse(&many.join("&")).unwrap_err();
        parse(&format!("{}=x", ["a"; MAX_DEPTH].join("."))).unwrap();
        parse(&format!("{}=x", ["a"; MAX_DEPTH + 1].join("."))).unwrap_err();
        parse("A=%ff").unwrap_err();
        let query = "X-Amz-Signature=x&X-Amz-Date=y&Action=GetCallerIdentity";
        assert_eq!(Parameters::parse(query, b"").unwrap().fields, BTreeMap::new());
        assert_eq!(parse("WebIdentityToken=secret&RoleArn=r").unwrap(), json!({"RoleArn": "r"}));
    }

    proptest! {
        #[test]
        fn no_form_panics(form in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Parameters::parse("", &form);
        }

        #[test]
        fn no_names_panic(form in "([AB.1=&%]|member){0,40}") {
            let _ = Parameters::parse("", form.as_bytes());
        }
    }
}
