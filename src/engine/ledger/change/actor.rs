//! [`Actor`]: the principal in whose name a change is made, with the origin of the request.

use std::fmt;

/// Separates the name from the origin.
const FROM: &str = " from ";

/// Actor of a change, in the ledger `NAME` or `NAME from ORIGIN`.
///
/// The name is the ARN of a principal, the name of a token, or the login name of a command's user. The origin is the
/// address of the client, or the machine on which a command ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor<'a> {
    name: &'a str,
    origin: Option<&'a str>,
}

impl<'a> Actor<'a> {
    /// Creates an actor. An origin has no white space; one that has is left out.
    pub fn new(name: &'a str, origin: Option<&'a str>) -> Self {
        Actor { name, origin: origin.filter(|origin| is_origin(origin)) }
    }

    /// Reads the actor of a change. A name without an origin that ends like one, such as a token named `a from b`, is
    /// read as a name with an origin: hosts write the address behind every name.
    pub fn parse(text: &'a str) -> Self {
        match text.rsplit_once(FROM) {
            Some((name, origin)) if !name.is_empty() && is_origin(origin) => Actor { name, origin: Some(origin) },
            _ => Actor { name: text, origin: None },
        }
    }

    /// Name of the principal.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Address of the client, or name of the machine; `None` if the change does not record it.
    pub fn origin(&self) -> Option<&'a str> {
        self.origin
    }
}

fn is_origin(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

impl fmt::Display for Actor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        match self.origin {
            Some(origin) => write!(f, "{FROM}{origin}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_read_as_it_was_written() {
        for (name, origin) in [
            ("arn:aws:iam::123456789012:user/ann", Some("192.0.2.1")),
            ("arn:aws:sts::123456789012:assumed-role/ci/run 1", Some("2001:db8::1")),
            ("a name from somewhere", Some("192.0.2.1")),
            ("ann", Some("build-7")),
            ("import:/srv/git/linux.git", None),
        ] {
            let text = Actor::new(name, origin).to_string();
            assert_eq!(Actor::parse(&text), Actor::new(name, origin), "{text}");
        }
        assert_eq!(Actor::new("ann", Some("a b\n")).to_string(), "ann");
        assert_eq!(Actor::parse(" from x").origin(), None);
    }
}
