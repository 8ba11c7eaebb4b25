//! `gitferry iam simulate`

use std::collections::BTreeSet;

use clap::Args;
use gitferry_iam::Simulated;
use gitferry_identity::Administration;
use gitferry_policy::{Context, ContextBuilder, Decider, Decision, Key, PolicySet, Request, actions, evaluate};
use serde::Serialize;

use super::policy_files;
use crate::cli::context::Context as CommandContext;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output;

/// Decide on requests by IAM policies, as a host does, and name the statement that decides.
#[derive(Debug, Args)]
#[command(after_help = "With --as, the policies are those of a user, group or role of the account of --region, and
--policy adds more. Without, nothing is contacted.

A policy is a file, or the ARN of a managed policy, such as
arn:aws:iam::aws:policy/AWSCodeCommitPowerUser. A host decides on a push once without the key
codecommit:References, and then on each ref with it: try it without, and with
--context codecommit:References=refs/heads/main.

Exit code 0 if all requests are allowed, 2 if not.

Example:
  gitferry iam simulate --as arn:aws:iam::111122223333:user/ann --region us --action iam:GetUser
  gitferry iam simulate --policy deny-main.json --action codecommit:GitPush --resource '*'
  gitferry iam simulate --policy a.json b.json --action codecommit:GitPull codecommit:GitPush --json
  gitferry iam simulate --policy a.json --action codecommit:GitPull --context aws:username=ana")]
pub struct Simulate {
    /// User, group, role or session of a role whose policies decide.
    #[arg(long = "as", value_name = "ARN", requires = "region")]
    principal: Option<String>,
    /// Region whose account is read.
    #[arg(long, value_name = "R", requires = "principal")]
    region: Option<String>,
    /// Policies of the identity.
    #[arg(long = "policy", required_unless_present = "principal", num_args = 1.., value_name = "FILE|ARN")]
    policies: Vec<String>,
    /// Permissions boundary.
    #[arg(long, value_name = "FILE|ARN")]
    boundary: Option<String>,
    /// Session policies.
    #[arg(long = "session-policy", num_args = 1.., value_name = "FILE|ARN")]
    session_policies: Vec<String>,
    /// Actions, such as codecommit:GitPush.
    #[arg(long = "action", required = true, num_args = 1.., value_name = "ACTION")]
    actions: Vec<String>,
    /// ARNs of resources; * for actions without one.
    #[arg(long = "resource", num_args = 1.., default_value = "*", value_name = "ARN")]
    resources: Vec<String>,
    /// Condition keys with their values. A comma within a value is written \,
    #[arg(long, num_args = 1.., value_name = "KEY=VALUE[,VALUE]")]
    context: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Decisions on all requests.
#[derive(Debug, Serialize)]
struct Simulation {
    /// True if all requests are allowed.
    allowed: bool,
    results: Vec<Evaluated>,
    /// Condition keys that the policies read for these actions and the context lacks.
    missing_context: Vec<String>,
}

/// Decision on one request.
#[derive(Debug, Serialize)]
struct Evaluated {
    action: String,
    resource: String,
    /// `allowed`, `explicitDeny` or `implicitDeny`, as AWS calls them.
    decision: &'static str,
    /// Layer of the statement that decides, or the first layer that allows nothing.
    layer: String,
    policy: Option<String>,
    statement: Option<String>,
}

impl Simulate {
    pub async fn run(self, context: &CommandContext) -> Result<Exit, Failure> {
        let json = self.json;
        let simulated = self.simulated(context).await?;
        let simulation = self.simulate(simulated)?;
        if json {
            output::json(&simulation)?;
        } else {
            print(&simulation);
        }
        Ok(if simulation.allowed { Exit::Done } else { Exit::Refused })
    }

    /// Policies and condition keys of the principal of the account; none without a principal.
    async fn simulated(&self, context: &CommandContext) -> Result<Simulated, Failure> {
        let (Some(arn), Some(region)) = (&self.principal, &self.region) else {
            return Ok(Simulated { policies: PolicySet::default(), context: Context::builder() });
        };
        let opened = context.region(region).await?;
        let account = Administration::open(&opened, Vec::new()).await?.account().await?;
        account.simulated(arn).ok_or_else(|| {
            let text = format!("the account of {region} has no user, group or role {arn}");
            Failure::usage(text).hint(format!("`gitferry iam user list --region {region}` prints ARNs"))
        })
    }

    fn simulate(self, simulated: Simulated) -> Result<Simulation, Failure> {
        let Simulated { mut policies, context: keys } = simulated;
        policies.identity.extend(read_all(&self.policies)?);
        if let Some(boundary) = &self.boundary {
            policies.boundary = Some(policy_files::read(boundary)?);
        }
        policies.session = read_all(&self.session_policies)?;
        let context = context(&self.context, keys)?;
        let mut results = Vec::new();
        for action in &self.actions {
            check_action(action)?;
            for resource in &self.resources {
                let decision = evaluate(&policies, &Request { action, resource, context: &context });
                results.push(Evaluated::of(action, resource, decision));
            }
        }
        let read: BTreeSet<&Key> = self.actions.iter().flat_map(|action| policies.keys_for(action)).collect();
        let missing = read.into_iter().filter(|key| !context.has(key));
        Ok(Simulation {
            allowed: results.iter().all(|result| result.decision == ALLOWED),
            missing_context: missing.map(|key| key.name().to_owned()).collect(),
            results,
        })
    }
}

const ALLOWED: &str = "allowed";

impl Evaluated {
    fn of(action: &str, resource: &str, decision: Decision) -> Self {
        let (name, layer, by) = match decision {
            Decision::Allowed { by } => (ALLOWED, by.layer, Some(by)),
            Decision::ExplicitDeny { by } => ("explicitDeny", by.layer, Some(by)),
            Decision::ImplicitDeny { missing } => ("implicitDeny", missing, None),
        };
        Evaluated {
            action: action.to_owned(),
            resource: resource.to_owned(),
            decision: name,
            layer: layer.to_string(),
            policy: by.as_ref().map(|by: &Decider| by.policy.to_string()),
            statement: by.map(|by| by.statement.to_string()),
        }
    }

    /// The statement that decides, for a reader.
    fn reason(&self) -> String {
        match (&self.policy, &self.statement) {
            (Some(policy), Some(statement)) => format!("{statement} of {policy} ({})", self.layer),
            _ => format!("no statement allows it ({})", self.layer),
        }
    }
}

fn read_all(arguments: &[String]) -> Result<Vec<gitferry_policy::NamedPolicy>, Failure> {
    arguments.iter().map(|argument| policy_files::read(argument)).collect()
}

/// Refuses an action that no request has: a misspelled one would be denied without a hint.
fn check_action(action: &str) -> Result<(), Failure> {
    let (service, name) = action.split_once(':').unwrap_or_default();
    if service.is_empty() || name.is_empty() || action.contains(['*', '?']) {
        let text = format!("`{action}` is not an action");
        return Err(Failure::usage(text).hint("an action has a service and a name, such as codecommit:GitPush"));
    }
    if service.eq_ignore_ascii_case("codecommit") && actions::find(action).is_none() {
        return Err(Failure::usage(format!("CodeCommit has no action `{action}`")));
    }
    Ok(())
}

/// Context of arguments `KEY=VALUE[,VALUE]` over the keys of the principal. A key that is named twice has the values of
/// both.
fn context(arguments: &[String], of_principal: ContextBuilder) -> Result<Context, Failure> {
    let mut keys: Vec<(Key, Vec<String>)> = Vec::new();
    for argument in arguments {
        let Some((name, values)) = argument.split_once('=').filter(|(name, _)| name.contains(':')) else {
            let text = format!("`{argument}` is not a condition key with a value");
            return Err(Failure::usage(text).hint("write KEY=VALUE, such as codecommit:References=refs/heads/main"));
        };
        let key = Key::new(name);
        match keys.iter_mut().find(|(other, _)| *other == key) {
            Some((_, all)) => all.extend(split(values)),
            None => keys.push((key, split(values))),
        }
    }
    let builder = keys.into_iter().fold(of_principal, |builder, (key, values)| builder.insert(key.name(), values));
    Ok(builder.build())
}

/// Splits values at commas that have no backslash before them.
fn split(values: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut value = String::new();
    let mut chars = values.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' => all.push(std::mem::take(&mut value)),
            '\\' if chars.peek() == Some(&',') => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    all.push(value);
    all
}

fn print(simulation: &Simulation) {
    let heading = ["DECISION", "ACTION", "RESOURCE", "BY"].map(str::to_owned).to_vec();
    let row = |result: &Evaluated| {
        vec![result.decision.to_owned(), result.action.clone(), result.resource.clone(), result.reason()]
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(simulation.results.iter().map(row)).collect();
    output::table(&rows);
    if !simulation.missing_context.is_empty() {
        output::note(format!("absent from the context: {}", simulation.missing_context.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn contexts_have_keys_with_one_or_more_values() {
        let given = context(
            &arguments(&["aws:TagKeys=a,b", "AWS:tagkeys=c", "a:b=x=y\\,z", "a:c="]),
            Context::builder().insert("a:c", ["of the principal"]),
        )
        .unwrap();
        let expected =
            Context::builder().tag_keys(["a", "b", "c"]).insert("a:b", ["x=y,z"]).insert("a:c", [""]).build();
        assert_eq!(given, expected);
        for wrong in ["aws:username", "username=x", "=x", ""] {
            context(&arguments(&[wrong]), Context::builder()).expect_err(wrong);
        }
    }

    #[test]
    fn actions_are_those_that_requests_have() {
        for good in ["codecommit:GitPush", "CodeCommit:gitpull", "s3:GetObject"] {
            check_action(good).unwrap();
        }
        for wrong in ["GitPush", "codecommit:GitPus", "codecommit:Git*", "codecommit:", ":x", "*"] {
            check_action(wrong).expect_err(wrong);
        }
    }
}
