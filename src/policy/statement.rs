//! Statements of a policy.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::arn::ArnPattern;
use crate::condition::Condition;
use crate::context::{Context, Key};
use crate::pattern::Pattern;
use crate::principal::{Named, Principal, PrincipalPattern};

/// Effect of a statement that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The statement permits the request, unless another denies it.
    Allow,
    /// The statement forbids the request.
    Deny,
}

impl Effect {
    /// Name as in documents.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        }
    }
}

/// One statement: an effect on requests with certain actions and resources, under conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principals: Vec<PrincipalPattern>,
    pub(crate) actions: Actions,
    /// `None` in trust policies.
    pub(crate) resources: Option<Resources>,
    pub(crate) conditions: Vec<Condition>,
}

/// `Action`, or `NotAction` with the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actions {
    pub is_not: bool,
    pub patterns: Vec<Pattern>,
}

/// `Resource`, or `NotResource` with the flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resources {
    pub is_not: bool,
    pub patterns: Vec<ResourcePattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResourcePattern {
    /// `*`: every resource, and requests without one.
    All,
    Arn(ArnPattern),
}

impl ResourcePattern {
    fn text(&self) -> &str {
        match self {
            ResourcePattern::All => "*",
            ResourcePattern::Arn(pattern) => pattern.text(),
        }
    }
}

impl Actions {
    fn covers(&self, action: &str) -> bool {
        // Patterns of actions have no variables.
        let context = Context::default();
        self.patterns.iter().any(|pattern| pattern.matches(action, &context) == Some(true)) != self.is_not
    }
}

impl Resources {
    /// Returns true if the statement is about the resource. A variable without a value in a `NotResource` excludes every resource,
    /// as one in a `Resource` includes none.
    fn cover(&self, resource: &str, context: &Context) -> bool {
        let mut is_listed = false;
        for pattern in &self.patterns {
            let matched = match pattern {
                ResourcePattern::All => Some(true),
                ResourcePattern::Arn(pattern) => pattern.matches(resource, context),
            };
            is_listed |= matched.unwrap_or(self.is_not);
        }
        is_listed != self.is_not
    }
}

impl Statement {
    /// The element `Sid`.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// The element `Effect`.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns true if the statement applies to a request.
    pub(crate) fn applies(&self, action: &str, resource: &str, context: &Context) -> bool {
        self.actions.covers(action)
            && self.resources.as_ref().is_none_or(|resources| resources.cover(resource, context))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }

    /// Returns how the statement of a trust policy names the principal; `None` if it does not.
    pub(crate) fn names(&self, principal: Principal<'_>) -> Option<Named> {
        let named: Vec<Named> = self.principals.iter().filter_map(|pattern| pattern.names(principal)).collect();
        if named.contains(&Named::Itself) { Some(Named::Itself) } else { named.first().copied() }
    }

    /// Condition keys that the statement reads.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let resources = self.resources.iter().flat_map(|resources| &resources.patterns);
        let of_resources = resources.flat_map(|pattern| match pattern {
            ResourcePattern::All => Vec::new(),
            ResourcePattern::Arn(pattern) => pattern.keys().collect(),
        });
        of_resources.chain(self.conditions.iter().flat_map(Condition::keys))
    }
}

impl Serialize for Statement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(sid) = &self.sid {
            map.serialize_entry("Sid", sid)?;
        }
        map.serialize_entry("Effect", self.effect.name())?;
        if !self.principals.is_empty() {
            map.serialize_entry("Principal", &Principals(&self.principals))?;
        }
        let actions: Vec<&str> = self.actions.patterns.iter().map(Pattern::text).collect();
        map.serialize_entry(if self.actions.is_not { "NotAction" } else { "Action" }, &actions)?;
        if let Some(resources) = &self.resources {
            let texts: Vec<&str> = resources.patterns.iter().map(ResourcePattern::text).collect();
            map.serialize_entry(if resources.is_not { "NotResource" } else { "Resource" }, &texts)?;
        }
        if !self.conditions.is_empty() {
            map.serialize_entry("Condition", &Conditions(&self.conditions))?;
        }
        map.end()
    }
}

struct Principals<'a>(&'a [PrincipalPattern]);

impl Serialize for Principals<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == [PrincipalPattern::Everyone] {
            return serializer.serialize_str("*");
        }
        let kinds = self.0.chunk_by(|left, right| left.kind() == right.kind());
        let texts = |group: &[PrincipalPattern]| group.iter().map(PrincipalPattern::text).collect::<Vec<String>>();
        serializer.collect_map(kinds.map(|group| (group[0].kind(), texts(group))))
    }
}

/// Conditions grouped by operator, in the order in which they were written.
struct Conditions<'a>(&'a [Condition]);

impl Serialize for Conditions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let groups = self.0.chunk_by(|left, right| left.operator() == right.operator());
        serializer.collect_map(groups.map(|group| (group[0].operator(), Keys(group))))
    }
}

struct Keys<'a>(&'a [Condition]);

impl Serialize for Keys<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|condition| (condition.key().name(), condition.texts())))
    }
}
