//! The decision on a request: explicit denials first, then an allowance in every layer.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::context::{Context, Key};
use crate::document::{DocumentKind, PolicyDocument};
use crate::statement::{Effect, Statement};

/// A policy with its name, which decisions report. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPolicy {
    name: Arc<str>,
    document: Arc<PolicyDocument>,
}

impl NamedPolicy {
    /// Policy with its ARN, or with the name of an inline policy.
    pub fn new(name: impl Into<Arc<str>>, document: impl Into<Arc<PolicyDocument>>) -> Self {
        let document = document.into();
        assert_eq!(document.kind(), DocumentKind::Identity, "a trust policy is not evaluated as a permission");
        NamedPolicy { name: name.into(), document }
    }

    /// Name or ARN.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Document of the policy.
    pub fn document(&self) -> &PolicyDocument {
        &self.document
    }
}

/// All policies that decide on the requests of one principal. Without policies, everything is denied.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    /// Policies of the user and its groups, or of the role.
    pub identity: Vec<NamedPolicy>,
    /// Permissions boundary of the user or role.
    pub boundary: Option<NamedPolicy>,
    /// Session policies. Empty if the session was made without any.
    pub session: Vec<NamedPolicy>,
}

impl PolicySet {
    /// Policies of each layer that the principal has.
    fn layers(&self) -> impl Iterator<Item = (Layer, &[NamedPolicy])> {
        let boundary = self.boundary.as_slice();
        let limits = [(Layer::Boundary, boundary), (Layer::Session, &self.session[..])];
        let limits = limits.into_iter().filter(|(_, policies)| !policies.is_empty());
        std::iter::once((Layer::Identity, &self.identity[..])).chain(limits)
    }

    /// Condition keys that the policies read. A key that no policy reads need not be computed.
    pub fn keys(&self) -> BTreeSet<&Key> {
        self.layers().flat_map(|(_, policies)| policies).flat_map(|policy| policy.document.keys()).collect()
    }

    /// Returns true if a policy reads the condition key.
    pub fn reads(&self, key: &str) -> bool {
        self.keys().contains(&Key::new(key))
    }
}

/// One request to be decided on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Action, such as `codecommit:GitPush`.
    pub action: &'a str,
    /// ARN of the resource; `*` for an action without one.
    pub resource: &'a str,
    /// Condition keys.
    pub context: &'a Context,
}

/// Layer of policies, each of which must allow a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Policies of the identity.
    Identity,
    /// Permissions boundary.
    Boundary,
    /// Session policies.
    Session,
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Layer::Identity => "identity",
            Layer::Boundary => "boundary",
            Layer::Session => "session",
        })
    }
}

/// Statement of a document: by its `Sid`, or by its place, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StatementId {
    /// The element `Sid`.
    Sid(String),
    /// Place in the list `Statement` of a statement without `Sid`.
    Index(usize),
}

impl StatementId {
    pub(crate) fn of(statement: &Statement, index: usize) -> Self {
        statement.sid().map_or(StatementId::Index(index), |sid| StatementId::Sid(sid.to_owned()))
    }
}

impl fmt::Display for StatementId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatementId::Sid(sid) => formatter.write_str(sid),
            StatementId::Index(index) => write!(formatter, "Statement[{index}]"),
        }
    }
}

/// Statement that decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decider {
    /// Layer of the policy.
    pub layer: Layer,
    /// Name or ARN of the policy.
    pub policy: Arc<str>,
    /// Statement in the policy.
    pub statement: StatementId,
}

impl fmt::Display for Decider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} ({})", self.statement, self.policy, self.layer)
    }
}

/// Decision on a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Every layer allows the request, and no statement denies it.
    Allowed {
        /// First statement of the identity's policies that allows it.
        by: Decider,
    },
    /// A statement denies the request.
    ExplicitDeny {
        /// First statement that denies it.
        by: Decider,
    },
    /// No statement of a layer allows the request.
    ImplicitDeny {
        /// First layer that does not allow it.
        missing: Layer,
    },
}

impl Decision {
    /// Returns true if the request is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed { .. })
    }
}

/// Decides on a request. Compares at most as many characters as the sizes of policies and context multiplied.
pub fn evaluate(policies: &PolicySet, request: &Request<'_>) -> Decision {
    let find = |effect| policies.layers().map(move |(layer, list)| (layer, first(layer, list, effect, request)));
    if let Some(by) = find(Effect::Deny).find_map(|(_, by)| by) {
        return Decision::ExplicitDeny { by };
    }
    let mut allowed_by = None;
    for (layer, by) in find(Effect::Allow) {
        match by {
            None => return Decision::ImplicitDeny { missing: layer },
            // The first layer is that of the identity, which grants; the others limit.
            Some(by) => allowed_by = allowed_by.or(Some(by)),
        }
    }
    allowed_by.map_or(Decision::ImplicitDeny { missing: Layer::Identity }, |by| Decision::Allowed { by })
}

/// First statement with this effect that applies to the request.
fn first(layer: Layer, policies: &[NamedPolicy], effect: Effect, request: &Request<'_>) -> Option<Decider> {
    policies.iter().find_map(|policy| {
        let mut statements = policy.document.statements().iter().enumerate();
        let (index, statement) = statements.find(|(_, statement)| {
            statement.effect() == effect && statement.applies(request.action, request.resource, request.context)
        })?;
        Some(Decider { layer, policy: policy.name.clone(), statement: StatementId::of(statement, index) })
    })
}
