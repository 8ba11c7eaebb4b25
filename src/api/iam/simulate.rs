//! Simulations: decisions of the policy engine on requests that are not made, with the statement that decides.

use std::collections::{BTreeMap, BTreeSet};

use gitferry_iam::model::EntityKind;
use gitferry_iam::{Account, IamArn};
use gitferry_policy::{
    ContextBuilder, Decider, Decision, DocumentKind, Key, NamedPolicy, PolicyDocument, PolicySet, Request, StatementId,
    evaluate, managed,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Ask, Read, listing, name_in, no_entity, operation};
use super::positions;
use crate::access::{Demand, MAX_ARN, Resource};
use crate::error::{ApiError, Result, shown};

/// Largest number of pairs of action and resource in a simulation.
const MAX_PAIRS: usize = 1_000;
/// Largest number of policies in a request.
const MAX_POLICIES: usize = 50;
/// Largest product of the characters of policies, those of the values that they are compared with, and the number of
/// pairs: what a simulation compares at most, a few seconds of work.
const MAX_COMPARISONS: u64 = 4_000_000_000;

/// Condition key with its values, as a request brings it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ContextEntry {
    #[serde(rename = "ContextKeyName")]
    name: String,
    #[serde(default, rename = "ContextKeyValues")]
    values: Vec<String>,
    /// Type of the values. They are texts here, which each operator reads as its own type.
    #[serde(default, rename = "ContextKeyType")]
    _type: Option<String>,
}

/// Requests to be decided on.
struct Simulation<'a> {
    actions: &'a [String],
    resources: &'a [String],
    policies: PolicySet,
    context: ContextBuilder,
    entries: &'a [ContextEntry],
    /// Texts of the policies that came with the request, by name.
    texts: BTreeMap<String, String>,
}

/// Policies of a request: `PREFIX.1`, `PREFIX.2`, …
fn parse_all(prefix: &str, documents: &[String], texts: &mut BTreeMap<String, String>) -> Result<Vec<NamedPolicy>> {
    if documents.len() > MAX_POLICIES {
        return Err(ApiError::invalid_input(format!("A simulation has at most {MAX_POLICIES} policies of each kind.")));
    }
    let parsed = documents.iter().enumerate().map(|(index, text)| {
        let name = format!("{prefix}.{}", index + 1);
        let document = PolicyDocument::parse(text, DocumentKind::Identity)
            .map_err(|error| ApiError::invalid_input(format!("{name}: {error}")))?;
        texts.insert(name.clone(), text.clone());
        Ok(NamedPolicy::new(name, document))
    });
    parsed.collect()
}

fn check_actions(actions: &[String]) -> Result<()> {
    let wrong = |action: &&String| {
        let (service, name) = action.split_once(':').unwrap_or_default();
        service.is_empty() || name.is_empty() || action.contains(['*', '?']) || action.len() > MAX_ARN
    };
    match actions.iter().find(wrong) {
        Some(action) => Err(ApiError::invalid_input(format!("Invalid action: {}.", shown(action)))),
        None if actions.is_empty() => Err(ApiError::validation("ActionNames must not be empty.")),
        None => Ok(()),
    }
}

impl Simulation<'_> {
    fn check_cost(&self, pairs: usize) -> Result<()> {
        if pairs > MAX_PAIRS {
            let text = format!("A simulation has at most {MAX_PAIRS} pairs of action and resource.");
            return Err(ApiError::invalid_input(text));
        }
        let set = &self.policies;
        let policies = set.identity.iter().chain(&set.boundary);
        let policies: u64 = policies.map(|policy| policy.document().to_json().len() as u64).sum();
        let entries = self.entries.iter().flat_map(|entry| entry.values.iter().chain([&entry.name]));
        let longest = |texts: &[String]| texts.iter().map(|text| text.len() as u64).max().unwrap_or_default();
        let values: u64 = entries.map(|text| text.len() as u64).sum();
        let values = values + longest(self.actions) + longest(self.resources) + 1;
        if policies.saturating_mul(values).saturating_mul(pairs as u64) > MAX_COMPARISONS {
            let text = "The simulation compares too much: ask about fewer actions, resources or values at a time.";
            return Err(ApiError::invalid_input(text));
        }
        Ok(())
    }

    fn run(self, ask: &Ask, page: &crate::page::Page) -> Result<Value> {
        check_actions(self.actions)?;
        let everything = ["*".to_owned()];
        let resources: &[String] = if self.resources.is_empty() { &everything } else { self.resources };
        self.check_cost(self.actions.len() * resources.len())?;
        let add = |context: ContextBuilder, entry: &ContextEntry| context.insert(&entry.name, &entry.values);
        let context = self.entries.iter().fold(self.context.clone(), add).build();
        let pairs = self.actions.iter().flat_map(|action| resources.iter().map(move |resource| (action, resource)));
        let results =
            pairs.enumerate().map(|(number, (action, resource))| (format!("{number:06}"), (action, resource)));
        Ok(page.of("EvaluationResults", results, |(action, resource)| {
            let decision = evaluate(&self.policies, &Request { action, resource, context: &context });
            let missing = self.policies.keys_for(action).into_iter().filter(|key| !context.has(key));
            let boundary = self.policies.boundary.as_ref().map(|boundary| {
                let alone = PolicySet { identity: vec![boundary.clone()], ..PolicySet::default() };
                let allows = evaluate(&alone, &Request { action, resource, context: &context }).is_allowed();
                json!({"AllowedByPermissionsBoundary": allows})
            });
            json!({
                "EvalActionName": action,
                "EvalResourceName": resource,
                "EvalDecision": word(&decision),
                "MatchedStatements": decider(&decision).map(|by| self.matched(ask, by)).into_iter().collect::<Value>(),
                "MissingContextValues": missing.map(Key::name).collect::<Value>(),
                "PermissionsBoundaryDecisionDetail": boundary,
            })
        }))
    }

    /// Describes the statement that decides: its policy, and its place in the policy's text.
    fn matched(&self, ask: &Ask, by: &Decider) -> Value {
        let text = self.texts.get(&*by.policy).cloned().or_else(|| text_of(&ask.caller.account, &by.policy));
        let span = text.as_deref().and_then(|text| positions::of_statement(text, &by.statement));
        let place = |(line, column): (usize, usize)| json!({"Line": line, "Column": column});
        let source = match &by.statement {
            StatementId::Sid(sid) => format!("{}#{sid}", by.policy),
            StatementId::Index(_) => by.policy.to_string(),
        };
        json!({
            "SourcePolicyId": source,
            "SourcePolicyType": type_of(&by.policy),
            "StartPosition": span.map(|(start, _)| place(start)),
            "EndPosition": span.map(|(_, end)| place(end)),
        })
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allowed { .. } => "allowed",
        Decision::ExplicitDeny { .. } => "explicitDeny",
        Decision::ImplicitDeny { .. } => "implicitDeny",
    }
}

/// The statement that decides; `None` if no statement applies.
fn decider(decision: &Decision) -> Option<&Decider> {
    match decision {
        Decision::Allowed { by } | Decision::ExplicitDeny { by } => Some(by),
        Decision::ImplicitDeny { .. } => None,
    }
}

/// `SourcePolicyType` of a policy, by the name that decisions give it; `none` for one that came with the request.
fn type_of(policy: &str) -> &'static str {
    let owner = policy.split_once(" of ").and_then(|(_, owner)| IamArn::parse(owner));
    match owner.map(|owner| owner.kind) {
        Some("user") => "user",
        Some("group") => "group",
        Some("role") => "role",
        _ if managed::find(policy).is_some() => "aws-managed",
        _ if IamArn::parse(policy).is_some() => "user-managed",
        _ => "none",
    }
}

/// Text of a policy in force, by the name that decisions give it: an ARN, or `NAME of ARN` for an inline policy.
fn text_of(account: &Account, name: &str) -> Option<String> {
    if let Some(policy) = managed::find(name) {
        return Some(policy.json.to_owned());
    }
    let Some((inline, owner)) = name.split_once(" of ") else {
        return Some(account.policy_by_arn(name)?.default_version()?.text.clone());
    };
    let owner = IamArn::parse(owner)?;
    let policy = match owner.kind {
        "user" => account.user(owner.name)?.inline.get(inline),
        "group" => account.group(owner.name)?.inline.get(inline),
        "role" => account.role(owner.name)?.inline.get(inline),
        _ => None,
    };
    policy.map(|policy| policy.text.clone())
}

/// Condition keys of the caller that a simulation assumes.
fn of_caller(ask: &Ask, caller: Option<&String>, otherwise: ContextBuilder) -> Result<ContextBuilder> {
    let Some(arn) = caller else { return Ok(otherwise) };
    let simulated = ask.caller.account.simulated(arn);
    let unknown = || ApiError::invalid_input(format!("Invalid CallerArn: {}.", shown(arn)));
    Ok(simulated.ok_or_else(unknown)?.context)
}

listing!(SimulatePrincipalPolicy {
    policy_source_arn: String,
    action_names: Vec<String>,
    #[serde(default)]
    resource_arns: Vec<String>,
    #[serde(default)]
    policy_input_list: Vec<String>,
    #[serde(default)]
    permissions_boundary_policy_input_list: Vec<String>,
    #[serde(default)]
    context_entries: Vec<ContextEntry>,
    caller_arn: Option<String>,
});

impl Read for SimulatePrincipalPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(principal(ask, &self.policy_source_arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let mut simulated = simulated(ask, &self.policy_source_arn)?;
        let mut texts = BTreeMap::new();
        simulated.policies.identity.extend(parse_all("PolicyInputList", &self.policy_input_list, &mut texts)?);
        let boundaries = &self.permissions_boundary_policy_input_list;
        if let Some(boundary) = parse_all("PermissionsBoundaryPolicyInputList", boundaries, &mut texts)?.pop() {
            simulated.policies.boundary = Some(boundary);
        }
        let context = of_caller(ask, self.caller_arn.as_ref(), simulated.context)?;
        let simulation = Simulation {
            actions: &self.action_names,
            resources: &self.resource_arns,
            policies: simulated.policies,
            context,
            entries: &self.context_entries,
            texts,
        };
        simulation.run(ask, &self.page()?)
    }
}

/// The user, group or role whose policies are asked about, as a resource.
fn principal(ask: &Ask, arn: &str) -> Resource {
    for kind in [EntityKind::User, EntityKind::Group, EntityKind::Role] {
        if let Some(name) = name_in(arn, kind.word()) {
            let entity = ask.entity(kind, name);
            return if entity.arn == arn { entity } else { Resource::new(arn) };
        }
    }
    Resource::new(arn)
}

/// The user, group or role whose policies are asked about, with its policies in force.
fn simulated(ask: &Ask, arn: &str) -> Result<gitferry_iam::Simulated> {
    let kinds = [EntityKind::User, EntityKind::Group, EntityKind::Role];
    let named = kinds.into_iter().find_map(|kind| Some((kind, name_in(arn, kind.word())?)));
    let (kind, name) = named.ok_or_else(|| {
        let arn = shown(arn);
        ApiError::invalid_input(format!("Invalid Entity Arn: {arn} does not clearly define entity type and name."))
    })?;
    ask.caller.account.simulated(arn).ok_or_else(|| no_entity(kind, name))
}

listing!(SimulateCustomPolicy {
    policy_input_list: Vec<String>,
    action_names: Vec<String>,
    #[serde(default)]
    resource_arns: Vec<String>,
    #[serde(default)]
    permissions_boundary_policy_input_list: Vec<String>,
    #[serde(default)]
    context_entries: Vec<ContextEntry>,
    caller_arn: Option<String>,
});

impl Read for SimulateCustomPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let mut texts = BTreeMap::new();
        let identity = parse_all("PolicyInputList", &self.policy_input_list, &mut texts)?;
        let boundaries = &self.permissions_boundary_policy_input_list;
        let boundary = parse_all("PermissionsBoundaryPolicyInputList", boundaries, &mut texts)?.pop();
        let context = of_caller(ask, self.caller_arn.as_ref(), gitferry_policy::Context::builder())?;
        let simulation = Simulation {
            actions: &self.action_names,
            resources: &self.resource_arns,
            policies: PolicySet { identity, boundary, session: Vec::new() },
            context,
            entries: &self.context_entries,
            texts,
        };
        simulation.run(ask, &self.page()?)
    }
}

fn names_of_keys(policies: &[NamedPolicy]) -> Value {
    let keys: BTreeSet<&Key> = policies.iter().flat_map(|policy| policy.document().keys()).collect();
    json!({"ContextKeyNames": keys.into_iter().map(Key::name).collect::<Value>()})
}

operation!(GetContextKeysForCustomPolicy { policy_input_list: Vec<String> });

impl Read for GetContextKeysForCustomPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(Resource::none())])
    }

    fn read(&self, _: &Ask) -> Result<Value> {
        Ok(names_of_keys(&parse_all("PolicyInputList", &self.policy_input_list, &mut BTreeMap::new())?))
    }
}

operation!(GetContextKeysForPrincipalPolicy {
    policy_source_arn: String,
    #[serde(default)]
    policy_input_list: Vec<String>,
});

impl Read for GetContextKeysForPrincipalPolicy {
    fn demands(&self, ask: &Ask) -> Result<Vec<Demand>> {
        Ok(vec![ask.demand::<Self>(principal(ask, &self.policy_source_arn))])
    }

    fn read(&self, ask: &Ask) -> Result<Value> {
        let mut policies = simulated(ask, &self.policy_source_arn)?.policies.identity;
        policies.extend(parse_all("PolicyInputList", &self.policy_input_list, &mut BTreeMap::new())?);
        Ok(names_of_keys(&policies))
    }
}
