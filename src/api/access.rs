//! Authorization of an operation: the requests that the caller's policies have to allow, and the answer if they do not.

use std::borrow::Cow;

use gitferry_iam::Authenticated;
use gitferry_policy::{Context, Decision, Layer, Request, evaluate};

use crate::error::{ApiError, Result};

/// Condition key: ARN of the managed policy that a request attaches or detaches.
const POLICY_ARN: &str = "iam:PolicyARN";
/// Condition key: ARN of the permissions boundary of the user or role, or of the one that a request sets.
const PERMISSIONS_BOUNDARY: &str = "iam:PermissionsBoundary";
/// Prefix of the keys for tags of the user, role or policy; `aws:ResourceTag/` has them too. IAM's requests alone have it.
const RESOURCE_TAG: &str = "iam:ResourceTag/";
/// Longest ARN that is decided on, in characters.
pub const MAX_ARN: usize = 2_048;
/// Largest number of tags in a request.
const MAX_TAGS: usize = 50;
/// Longest key or value of a tag that is decided on, in characters.
const MAX_TAG_TEXT: usize = 256;

/// Resource of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// ARN; `*` for a request without a resource.
    pub arn: String,
    /// Tags of an entity that exists.
    pub tags: Vec<(String, String)>,
    /// ARN of the permissions boundary of a user or role that exists.
    pub boundary: Option<String>,
}

impl Resource {
    /// No resource.
    pub fn none() -> Self {
        Resource::new("*")
    }

    /// Resource without tags.
    pub fn new(arn: impl Into<String>) -> Self {
        Resource { arn: arn.into(), tags: Vec::new(), boundary: None }
    }
}

/// Request that the caller's policies have to allow.
#[derive(Clone, Debug)]
pub struct Demand {
    action: Cow<'static, str>,
    resource: Resource,
    policy_arn: Option<String>,
    boundary: Option<String>,
    request_tags: Vec<(String, String)>,
    tag_keys: Vec<String>,
    reference: Option<String>,
}

impl Demand {
    /// An action, such as `iam:GetUser`, on a resource.
    pub fn new(action: impl Into<Cow<'static, str>>, resource: Resource) -> Self {
        Demand {
            action: action.into(),
            resource,
            policy_arn: None,
            boundary: None,
            request_tags: Vec::new(),
            tag_keys: Vec::new(),
            reference: None,
        }
    }

    /// The request changes a ref: `codecommit:References`.
    pub fn on_reference(self, name: impl Into<String>) -> Self {
        Demand { reference: Some(name.into()), ..self }
    }

    /// The request is about a managed policy: `iam:PolicyARN`.
    pub fn about_policy(self, arn: &str) -> Self {
        Demand { policy_arn: Some(arn.to_owned()), ..self }
    }

    /// The request sets a permissions boundary: `iam:PermissionsBoundary`.
    pub fn sets_boundary(self, arn: Option<&str>) -> Self {
        Demand { boundary: arn.map(str::to_owned), ..self }
    }

    /// The request changes the rights of the resource, within its boundary: `iam:PermissionsBoundary`.
    pub fn within_boundary(self) -> Self {
        Demand { boundary: self.resource.boundary.clone(), ..self }
    }

    /// The request sets tags: `aws:RequestTag/KEY` and `aws:TagKeys`.
    pub fn with_tags(self, tags: &[(String, String)]) -> Self {
        let keys: Vec<String> = tags.iter().map(|(key, _)| key.clone()).collect();
        Demand { request_tags: tags.to_vec(), ..self }.with_tag_keys(&keys)
    }

    /// The request creates its resource with tags. The caller also needs `tagging` on it, if there are tags.
    pub fn and_tag(self, tagging: &'static str, tags: &[(String, String)]) -> Vec<Demand> {
        let tag = (!tags.is_empty()).then(|| Demand::new(tagging, self.resource.clone()).with_tags(tags));
        [self.with_tags(tags)].into_iter().chain(tag).collect()
    }

    /// The request removes tags: `aws:TagKeys`.
    pub fn with_tag_keys(self, keys: &[String]) -> Self {
        Demand { tag_keys: keys.to_vec(), ..self }
    }

    /// Returns true if the request changes a ref.
    pub fn is_on_reference(&self) -> bool {
        self.reference.is_some()
    }

    /// Checks that deciding costs no more than it should: policies are compared with each of these texts.
    fn check_size(&self) -> Result<()> {
        let arns =
            [Some(&self.resource.arn), self.policy_arn.as_ref(), self.boundary.as_ref(), self.reference.as_ref()];
        if arns.into_iter().flatten().any(|arn| arn.len() > MAX_ARN) {
            let text = format!("A name or ARN has more than {MAX_ARN} characters.");
            return Err(ApiError::validation(text));
        }
        let texts = self.request_tags.iter().flat_map(|(key, value)| [key, value]).chain(&self.tag_keys);
        let mut texts = texts.map(|text| text.chars().count());
        let most = self.tag_keys.len().max(self.request_tags.len());
        if most > MAX_TAGS || texts.any(|length| length > MAX_TAG_TEXT) {
            let text = format!("A request has at most {MAX_TAGS} tags of at most {MAX_TAG_TEXT} characters.");
            return Err(ApiError::validation(text));
        }
        Ok(())
    }

    fn context(&self, base: &Context) -> Context {
        let mut context = base
            .to_builder()
            .insert(POLICY_ARN, &self.policy_arn)
            .insert(PERMISSIONS_BOUNDARY, &self.boundary)
            .tag_keys(&self.tag_keys);
        for (key, value) in &self.request_tags {
            context = context.request_tag(key, value);
        }
        for (key, value) in &self.resource.tags {
            context = context.resource_tag(key, value);
            if self.action.starts_with("iam:") {
                context = context.insert(&format!("{RESOURCE_TAG}{key}"), [value]);
            }
        }
        if let Some(reference) = &self.reference {
            context = context.reference(reference);
        }
        context.build()
    }

    /// Decides by the policies of the caller.
    ///
    /// # Errors
    /// `AccessDenied`, with the words of AWS. The statement that denies goes to the log alone.
    pub fn authorize(&self, caller: &Authenticated) -> Result<()> {
        self.check_size()?;
        // The account itself may do everything.
        let Some(policies) = caller.principal.policies(&caller.account) else { return Ok(()) };
        let context = self.context(&caller.context);
        let action = &*self.action;
        let resource = &self.resource.arn;
        let reason = match evaluate(&policies, &Request { action, resource, context: &context }) {
            Decision::Allowed { by } => {
                tracing::debug!(action, resource, %by, "allowed");
                return Ok(());
            }
            Decision::ExplicitDeny { by } => {
                tracing::info!(action, resource, %by, "denied explicitly");
                format!("with an explicit deny in {}", a(by.layer))
            }
            Decision::ImplicitDeny { missing } => {
                tracing::info!(action, resource, %missing, "denied: no statement of this layer allows it");
                format!("because no {} allows the {action} action", word(missing))
            }
        };
        let caller = caller.principal.arn();
        Err(ApiError::denied(format!(
            "User: {caller} is not authorized to perform: {action} on resource: {resource} {reason}"
        )))
    }
}

fn word(layer: Layer) -> &'static str {
    match layer {
        Layer::Identity => "identity-based policy",
        Layer::Boundary => "permissions boundary",
        Layer::Session => "session policy",
    }
}

fn a(layer: Layer) -> String {
    let article = if layer == Layer::Identity { "an" } else { "a" };
    format!("{article} {}", word(layer))
}
