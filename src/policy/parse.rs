//! From JSON to a document: the grammar of the IAM policy language.

use crate::arn::ArnPattern;
use crate::condition::Condition;
use crate::document::{DocumentKind, MAX_DOCUMENT_BYTES, MAX_TEXT_BYTES, PolicyDocument};
use crate::error::PolicyError;
use crate::json::Json;
use crate::pattern::{Pattern, Syntax};
use crate::principal::PrincipalPattern;
use crate::statement::{Actions, Effect, ResourcePattern, Resources, Statement};
use crate::version::Version;

type Result<T> = std::result::Result<T, PolicyError>;

/// Elements of an object, each taken once.
struct Elements<'a> {
    place: &'a str,
    members: Vec<(String, Json)>,
}

impl<'a> Elements<'a> {
    fn of(json: Json, place: &'a str) -> Result<Self> {
        match json {
            Json::Object(members) => Ok(Elements { place, members }),
            _ => Err(PolicyError::new(place, "must be an object")),
        }
    }

    fn path(&self, name: &str) -> String {
        join(self.place, name)
    }

    fn take(&mut self, name: &str) -> Option<Json> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        Some(self.members.remove(at).1)
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(PolicyError::new(self.path(name), "must be a string")),
        }
    }

    /// Takes one of two elements that exclude each other. The flag is true for the second.
    fn either(&mut self, name: &str, negated: &str) -> Result<Option<(bool, String, Json)>> {
        match (self.take(name), self.take(negated)) {
            (Some(_), Some(_)) => {
                Err(PolicyError::new(self.place, format!("has both `{name}` and `{negated}`; a statement has one")))
            }
            (Some(json), None) => Ok(Some((false, self.path(name), json))),
            (None, Some(json)) => Ok(Some((true, self.path(negated), json))),
            (None, None) => Ok(None),
        }
    }

    fn refuse(&self, name: &str, reason: &str) -> Result<()> {
        let has = self.members.iter().any(|(member, _)| member == name);
        if has { Err(PolicyError::new(self.path(name), reason)) } else { Ok(()) }
    }

    /// Ends the object: elements that were not taken are unknown.
    fn end(self) -> Result<()> {
        match self.members.first() {
            None => Ok(()),
            Some((name, _)) => Err(PolicyError::new(self.path(name), "is no element of the policy language here")),
        }
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// Parses a document.
pub(crate) fn document(json: &str, kind: DocumentKind) -> Result<PolicyDocument> {
    check_text(json)?;
    let json = Json::parse(json).map_err(|error| PolicyError::new("", format!("is not valid JSON: {error}")))?;
    let mut elements = Elements::of(json, "")?;
    let version = match elements.text("Version")? {
        None => None,
        Some(text) => Some(Version::parse(&text).ok_or_else(|| {
            PolicyError::new(
                "Version",
                format!("`{text}` must be `2012-10-17`, or `2008-10-17` for a policy without variables"),
            )
        })?),
    };
    let id = elements.text("Id")?;
    let statements = match elements.take("Statement") {
        None => return Err(PolicyError::new("", "lacks the element `Statement`")),
        Some(Json::List(list)) if list.is_empty() => {
            return Err(PolicyError::new("Statement", "must have a statement at least"));
        }
        Some(Json::List(list)) => list,
        Some(one) => vec![one],
    };
    elements.end()?;
    let statements = statements
        .into_iter()
        .enumerate()
        .map(|(at, json)| statement(json, &format!("Statement[{at}]"), kind, version.unwrap_or_default()));
    let statements = statements.collect::<Result<Vec<Statement>>>()?;
    check_sids(&statements)?;
    Ok(PolicyDocument { kind, version, id, statements })
}

fn check_text(json: &str) -> Result<()> {
    if json.len() > MAX_TEXT_BYTES {
        return Err(PolicyError::new("", format!("has {} bytes, more than {MAX_TEXT_BYTES}", json.len())));
    }
    let size = PolicyDocument::size(json);
    if size > MAX_DOCUMENT_BYTES {
        let reason = format!("has {size} characters without white space, more than {MAX_DOCUMENT_BYTES}");
        return Err(PolicyError::new("", reason));
    }
    let is_permitted = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}');
    match json.chars().find(|c| !is_permitted(*c)) {
        None => Ok(()),
        Some(c) => {
            let code = u32::from(c);
            let reason = format!("has the character U+{code:04X}: beyond U+00FF, characters are written as \\uXXXX");
            Err(PolicyError::new("", reason))
        }
    }
}

fn check_sids(statements: &[Statement]) -> Result<()> {
    for (at, statement) in statements.iter().enumerate() {
        let Some(sid) = statement.sid() else { continue };
        if statements[..at].iter().any(|other| other.sid() == Some(sid)) {
            let reason = format!("`{sid}` occurs twice: statement ids (SID) in a single policy must be unique");
            return Err(PolicyError::new(format!("Statement[{at}].Sid"), reason));
        }
    }
    Ok(())
}

fn statement(json: Json, place: &str, kind: DocumentKind, version: Version) -> Result<Statement> {
    let mut elements = Elements::of(json, place)?;
    let sid = elements.text("Sid")?.filter(|sid| !sid.is_empty());
    if sid.as_ref().is_some_and(|sid| !sid.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        return Err(PolicyError::new(join(place, "Sid"), "statement ids (SID) must be letters and digits of ASCII"));
    }
    let effect = match elements.text("Effect")?.as_deref() {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        Some(text) => {
            return Err(PolicyError::new(join(place, "Effect"), format!("`{text}` must be `Allow` or `Deny`")));
        }
        None => return Err(PolicyError::new(place, "lacks the element `Effect`")),
    };
    let (principals, resources) = match kind {
        DocumentKind::Identity => {
            for name in ["Principal", "NotPrincipal"] {
                elements.refuse(name, "a policy of an identity should not specify a principal")?;
            }
            (Vec::new(), Some(resources(&mut elements, version)?))
        }
        DocumentKind::Trust => {
            for name in ["Resource", "NotResource"] {
                elements.refuse(name, "a trust policy has no resource: it belongs to its role")?;
            }
            elements.refuse(
                "NotPrincipal",
                "a trust policy cannot have this element; use `aws:PrincipalArn` in a condition",
            )?;
            (principals(&mut elements)?, None)
        }
    };
    let actions = actions(&mut elements, kind)?;
    let conditions = conditions(&mut elements, version)?;
    elements.end()?;
    Ok(Statement { sid, effect, principals, actions, resources, conditions })
}

/// Reads a string or a list of strings, at least one.
fn texts(json: Json, place: &str) -> Result<Vec<String>> {
    let list = match json {
        Json::Text(text) => return Ok(vec![text]),
        Json::List(list) if !list.is_empty() => list,
        Json::List(_) => return Err(PolicyError::new(place, "must not be empty")),
        _ => return Err(PolicyError::new(place, "must be a string or a list of strings")),
    };
    let text = |(at, json)| match json {
        Json::Text(text) => Ok(text),
        _ => Err(PolicyError::new(format!("{place}[{at}]"), "must be a string")),
    };
    list.into_iter().enumerate().map(text).collect()
}

fn actions(elements: &mut Elements<'_>, kind: DocumentKind) -> Result<Actions> {
    let Some((is_not, place, json)) = elements.either("Action", "NotAction")? else {
        return Err(PolicyError::new(elements.place, "lacks the element `Action`: a statement must contain actions"));
    };
    let texts = texts(json, &place)?;
    let trusted = |text: &String| text.to_ascii_lowercase().starts_with("sts:");
    if kind == DocumentKind::Trust && (is_not || !texts.iter().all(trusted)) {
        return Err(PolicyError::new(place, "a trust policy may only specify STS AssumeRole actions"));
    }
    let patterns = texts.iter().map(|text| action(text, &place)).collect::<Result<_>>()?;
    Ok(Actions { is_not, patterns })
}

fn action(text: &str, place: &str) -> Result<Pattern> {
    let (vendor, name) = text.split_once(':').unwrap_or_default();
    let is_vendor = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if text != "*" && (vendor.is_empty() || !vendor.bytes().all(is_vendor) || !is_name) {
        let reason = format!(
            "`{text}` is no action: a service without wildcards, a colon and a name, such as `codecommit:Git*`; or `*`"
        );
        return Err(PolicyError::new(place, reason));
    }
    let syntax = Syntax { wildcards: true, variables: false, ignores_case: true };
    Pattern::parse(text, syntax).map_err(|reason| PolicyError::new(place, reason))
}

fn resources(elements: &mut Elements<'_>, version: Version) -> Result<Resources> {
    let Some((is_not, place, json)) = elements.either("Resource", "NotResource")? else {
        return Err(PolicyError::new(
            elements.place,
            "lacks the element `Resource`: a statement must contain resources",
        ));
    };
    let pattern = |text: String| match text.as_str() {
        "*" => Ok(ResourcePattern::All),
        text => ArnPattern::resource(text, version)
            .map(ResourcePattern::Arn)
            .map_err(|reason| PolicyError::new(&place, reason)),
    };
    let patterns = texts(json, &place)?.into_iter().map(pattern).collect::<Result<_>>()?;
    Ok(Resources { is_not, patterns })
}

fn principals(elements: &mut Elements<'_>) -> Result<Vec<PrincipalPattern>> {
    let place = elements.path("Principal");
    let kinds = match elements.take("Principal") {
        None => return Err(PolicyError::new(elements.place, "lacks the element `Principal`")),
        Some(Json::Text(text)) if text == "*" => return Ok(vec![PrincipalPattern::Everyone]),
        Some(Json::Object(kinds)) if !kinds.is_empty() => kinds,
        Some(_) => {
            return Err(PolicyError::new(place, "must be `*` or an object such as `{\"AWS\": \"111111111111\"}`"));
        }
    };
    let mut patterns = Vec::new();
    for (kind, json) in kinds {
        let place = join(&place, &kind);
        for text in texts(json, &place)? {
            patterns.push(PrincipalPattern::parse(&kind, &text).map_err(|reason| PolicyError::new(&place, reason))?);
        }
    }
    // In the order in which they are written again.
    patterns.sort_by_key(PrincipalPattern::kind);
    Ok(patterns)
}

fn conditions(elements: &mut Elements<'_>, version: Version) -> Result<Vec<Condition>> {
    let place = elements.path("Condition");
    let Some(json) = elements.take("Condition") else { return Ok(Vec::new()) };
    let operators = Elements::of(json, &place)?.members;
    check_case(operators.iter().map(|(operator, _)| operator), &place)?;
    let mut conditions = Vec::new();
    for (operator, json) in operators {
        let place = join(&place, &operator);
        let keys = Elements::of(json, &place)?.members;
        check_case(keys.iter().map(|(key, _)| key), &place)?;
        for (key, json) in keys {
            let texts = values(json, &join(&place, &key))?;
            let condition = Condition::parse(&operator, &key, texts, version);
            conditions.push(condition.map_err(|reason| PolicyError::new(join(&place, &key), reason))?);
        }
    }
    Ok(conditions)
}

/// Refuses names that differ in case alone, as operators and keys have no case.
fn check_case<'a>(names: impl Iterator<Item = &'a String>, place: &str) -> Result<()> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        let lower = name.to_lowercase();
        if seen.contains(&lower) {
            return Err(PolicyError::new(place, format!("`{name}` occurs twice, in different capitalization")));
        }
        seen.push(lower);
    }
    Ok(())
}

/// Reads the values of a condition. "Quotation marks are optional for numeric and Boolean values."
fn values(json: Json, place: &str) -> Result<Vec<String>> {
    let value = |json: Json| match json {
        Json::Text(text) | Json::Number(text) => Ok(text),
        Json::Bool(value) => Ok(value.to_string()),
        _ => Err(PolicyError::new(place, "must be a string, a number, a Boolean, or a list of these")),
    };
    match json {
        Json::List(list) => list.into_iter().map(value).collect(),
        one => Ok(vec![value(one)?]),
    }
}
