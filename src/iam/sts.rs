//! Decisions of STS: who gets temporary credentials, for how long, with which limits.

use std::collections::BTreeSet;

use gitferry_policy::{
    Context, Decision, DocumentKind, Effect, Grant, PolicyDocument, PolicySet, Principal as Trusted, Request,
    TrustDecision, evaluate, evaluate_trust, quota,
};
use jiff::{SignedDuration, Timestamp};

use crate::account::Account;
use crate::error::{IamError, Result};
use crate::ids::IdKind;
use crate::key_ring::KeyRing;
use crate::model::{DEFAULT_SESSION_SECONDS, MIN_SESSION_SECONDS, Role};
use crate::names::{MAX_TAGS, Tags, check_session_name, check_tags};
use crate::policies::everything;
use crate::principal::{Principal, assumed_role_arn};
use crate::random::Random;
use crate::session::{Claims, Credentials, MAX_TOKEN, Session, Subject, issue};
use crate::web_identity::VerifiedToken;

/// Longest session of a role that a session of a role assumed, in seconds.
pub const MAX_CHAINED_SECONDS: u32 = 3_600;
/// Longest session of a user, in seconds.
pub const MAX_USER_SECONDS: u32 = 129_600;
/// Session of a user that asks for no duration, in seconds.
pub const DEFAULT_USER_SECONDS: u32 = 43_200;
/// Longest session of the account itself, in seconds.
pub const MAX_ROOT_SECONDS: u32 = 3_600;
/// Largest number of managed policies that limit a session.
pub const MAX_SESSION_POLICY_ARNS: usize = 10;
/// Shortest external id, in characters.
const MIN_EXTERNAL_ID: usize = 2;
/// Longest external id, in characters.
const MAX_EXTERNAL_ID: usize = 1_224;

const ASSUME_ROLE: &str = "sts:AssumeRole";
const ASSUME_ROLE_WITH_WEB_IDENTITY: &str = "sts:AssumeRoleWithWebIdentity";

/// Request of a session of a role.
#[derive(Clone, Debug, Default)]
pub struct AssumeRole {
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session.
    pub session_name: String,
    /// External id that the role's owner has given the caller.
    pub external_id: Option<String>,
    /// Duration, in seconds.
    pub duration_seconds: Option<u32>,
    /// Policy that limits the session.
    pub policy: Option<String>,
    /// ARNs of managed policies that limit the session.
    pub policy_arns: Vec<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
    /// Keys of the tags that go on to the sessions of roles assumed from this one.
    pub transitive_tag_keys: Vec<String>,
    /// Source identity, which later sessions keep.
    pub source_identity: Option<String>,
}

/// Session of a role that was granted.
#[derive(Clone, Debug)]
pub struct AssumedRole {
    /// Temporary credentials.
    pub credentials: Credentials,
    /// ARN of the session.
    pub arn: String,
    /// Id of the session: role id, `:`, session name.
    pub assumed_role_id: String,
    /// Share of a session token that policies and tags take, in percent.
    pub packed_policy_percent: u32,
    /// Source identity of the session.
    pub source_identity: Option<String>,
}

/// STS of an account.
#[derive(Clone, Copy, Debug)]
pub struct Sts<'a> {
    account: &'a Account,
    keys: &'a KeyRing,
    now: Timestamp,
    random: &'a dyn Random,
}

impl<'a> Sts<'a> {
    /// STS of a state of an account at a time.
    pub fn new(account: &'a Account, keys: &'a KeyRing, now: Timestamp, random: &'a dyn Random) -> Self {
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        Sts { account, keys, now, random }
    }

    /// `AssumeRole` by a principal, whose request has a context.
    ///
    /// The role's trust policy must name the caller; if it names the account only, the caller's own policies must allow
    /// the call too. An explicit deny anywhere wins. A boundary and session policies of the caller limit even what a
    /// trust policy grants by name, which is stricter than AWS for boundaries of users.
    ///
    /// # Errors
    /// `AccessDenied` (also of a role that does not exist), `ValidationError`, `MalformedPolicyDocument`,
    /// `PackedPolicyTooLarge`.
    pub fn assume_role(&self, caller: &Principal, context: &Context, request: AssumeRole) -> Result<AssumedRole> {
        let asked = Asked::check(&request, caller.session().map(|session| &**session))?;
        let denied = |action: &str| {
            let caller = caller.arn();
            let role = &request.role_arn;
            IamError::access_denied(format!(
                "User: {caller} is not authorized to perform: {action} on resource: {role}"
            ))
        };
        if caller.is_root() {
            return Err(IamError::access_denied("Roles may not be assumed by root accounts."));
        }
        let role = self.account.role_by_arn(&request.role_arn).ok_or_else(|| denied(ASSUME_ROLE))?;
        let chained = matches!(caller.session().map(|session| &session.subject), Some(Subject::Role(_)));
        let seconds = duration(role, request.duration_seconds, chained)?;
        let context = with_role(role, asked.describe(&request, context));
        for action in asked.actions(ASSUME_ROLE) {
            if !self.may(caller, role, action, &context) {
                return Err(denied(action));
            }
        }
        self.issue_for(role, request, asked, seconds, None)
    }

    /// Returns true if trust policy and policies of the caller allow an action on a role.
    fn may(&self, caller: &Principal, role: &Role, action: &str, context: &Context) -> bool {
        // A name that was given to a user or role which no longer exists is not that of its successor.
        if role.record.trusted.get(&caller.entity_arn()).is_some_and(|id| id != caller.entity_id()) {
            return false;
        }
        let arn = caller.arn();
        let trusted = Trusted::Aws { arn: &arn, id: Some(caller.entity_id()) };
        let TrustDecision::Trusted { grant, .. } = evaluate_trust(&role.trust, trusted, action, context) else {
            return false;
        };
        let Some(policies) = caller.policies(self.account) else { return false };
        let request = Request { action, resource: &role.arn, context };
        if grant == Grant::Account || caller.account() != self.account.id() {
            return evaluate(&policies, &request).is_allowed();
        }
        let mut granted = PolicySet::clone(&policies);
        granted.identity.push(everything(Effect::Allow, "trust policy"));
        matches!(evaluate(&granted, &request), Decision::Allowed { .. })
    }

    /// `AssumeRoleWithWebIdentity` by a token that has been verified.
    ///
    /// # Errors
    /// `AccessDenied`, `ValidationError`, `MalformedPolicyDocument`, `PackedPolicyTooLarge`.
    pub fn assume_role_with_web_identity(
        &self,
        token: &VerifiedToken,
        context: &Context,
        request: AssumeRole,
    ) -> Result<AssumedRole> {
        if request.external_id.is_some() || !request.tags.is_empty() || request.source_identity.is_some() {
            return Err(IamError::validation("A web identity brings neither external id, tags nor source identity."));
        }
        let asked = Asked::check(&request, None)?;
        let denied = || IamError::access_denied(format!("Not authorized to perform {ASSUME_ROLE_WITH_WEB_IDENTITY}"));
        let role = self.account.role_by_arn(&request.role_arn).ok_or_else(denied)?;
        let seconds = duration(role, request.duration_seconds, false)?;
        let context = with_role(role, token.describe(asked.describe(&request, context).to_builder()).build());
        let provider = token.provider_arn(&self.account.id());
        let trusted = Trusted::Federated(&provider);
        let decision = evaluate_trust(&role.trust, trusted, ASSUME_ROLE_WITH_WEB_IDENTITY, &context);
        if !matches!(decision, TrustDecision::Trusted { .. }) {
            return Err(denied());
        }
        self.issue_for(role, request, asked, seconds, Some(provider))
    }

    fn issue_for(
        &self,
        role: &Role,
        request: AssumeRole,
        asked: Asked,
        seconds: u32,
        provider: Option<String>,
    ) -> Result<AssumedRole> {
        let claims = Claims {
            key: IdKind::TemporaryKey.fresh(self.random)?,
            of: Subject::Role(role.record.id.clone()),
            name: request.session_name,
            issued: self.now.as_second(),
            expires: self.end(seconds)?,
            policy: request.policy,
            policy_arns: request.policy_arns,
            tags: asked.tags,
            transitive: asked.transitive,
            source_identity: asked.source_identity,
            provider,
        };
        let credentials = issue(&self.account.id(), self.keys, &claims, self.random)?;
        let percent = credentials.token.expose().len() * 100 / MAX_TOKEN;
        Ok(AssumedRole {
            credentials,
            arn: assumed_role_arn(&self.account.id(), &role.name, &claims.name),
            assumed_role_id: format!("{}:{}", role.record.id, claims.name),
            packed_policy_percent: u32::try_from(percent).unwrap_or(100),
            source_identity: claims.source_identity,
        })
    }

    fn end(&self, seconds: u32) -> Result<i64> {
        let end = self.now.checked_add(SignedDuration::from_secs(seconds.into()));
        end.map(|end| end.as_second()).map_err(|error| IamError::service_failure(error.to_string()))
    }

    /// `GetSessionToken` of a user with long-term credentials.
    ///
    /// # Errors
    /// `AccessDenied` for a session, `ValidationError` of the duration.
    pub fn get_session_token(&self, caller: &Principal, duration_seconds: Option<u32>) -> Result<Credentials> {
        if caller.user_name().is_none() || caller.session().is_some() {
            return Err(IamError::access_denied("Cannot call GetSessionToken with session credentials"));
        }
        let seconds = duration_seconds.unwrap_or(DEFAULT_USER_SECONDS);
        check_duration(seconds, MAX_USER_SECONDS)?;
        let claims = Claims {
            key: IdKind::TemporaryKey.fresh(self.random)?,
            of: Subject::User(caller.entity_id().to_owned()),
            name: String::new(),
            issued: self.now.as_second(),
            expires: self.end(seconds)?,
            policy: None,
            policy_arns: Vec::new(),
            tags: Tags::new(),
            transitive: BTreeSet::new(),
            source_identity: None,
            provider: None,
        };
        issue(&self.account.id(), self.keys, &claims, self.random)
    }
}

/// Context with the tags of the role that is assumed: `aws:ResourceTag` and `iam:ResourceTag`.
fn with_role(role: &Role, context: Context) -> Context {
    let tags = role.record.tags.iter();
    let tagged = tags.fold(context.to_builder(), |context, (key, value)| {
        context.resource_tag(key, value).insert(&format!("iam:ResourceTag/{key}"), [value])
    });
    tagged.build()
}

fn check_duration(seconds: u32, max: u32) -> Result<()> {
    if (MIN_SESSION_SECONDS..=max).contains(&seconds) {
        return Ok(());
    }
    let text = format!("The requested DurationSeconds is not within {MIN_SESSION_SECONDS} to {max} seconds.");
    Err(IamError::validation(text))
}

fn duration(role: &Role, asked: Option<u32>, chained: bool) -> Result<u32> {
    let longest = role.record.max_session_seconds;
    let longest = if chained { longest.min(MAX_CHAINED_SECONDS) } else { longest };
    let seconds = asked.unwrap_or(DEFAULT_SESSION_SECONDS.min(longest));
    check_duration(seconds, longest)?;
    Ok(seconds)
}

/// What a request asks for, checked, with what the caller's own session hands on.
struct Asked {
    tags: Tags,
    transitive: BTreeSet<String>,
    source_identity: Option<String>,
    tags_asked: Tags,
    sets_identity: bool,
}

impl Asked {
    fn check(request: &AssumeRole, from: Option<&Session>) -> Result<Asked> {
        check_session_name("roleSessionName", &request.session_name)?;
        if let Some(id) = &request.external_id {
            check_external_id(id)?;
        }
        check_session_policies(request)?;
        let tags_asked = check_tags(request.tags.clone())?;
        let transitive_asked: BTreeSet<String> = request.transitive_tag_keys.iter().cloned().collect();
        if !transitive_asked.iter().all(|key| tags_asked.contains_key(key)) {
            return Err(IamError::validation("A transitive tag key is not among the tags of the request."));
        }
        let mut tags = tags_asked.clone();
        let mut transitive = transitive_asked;
        for key in from.into_iter().flat_map(|session| &session.transitive) {
            if tags_asked.keys().any(|asked| asked.to_lowercase() == key.to_lowercase()) {
                return Err(IamError::validation("A transitive tag of the calling session cannot be set anew."));
            }
            let value = from.and_then(|session| session.tags.get(key));
            tags.extend(value.map(|value| (key.clone(), value.clone())));
            transitive.insert(key.clone());
        }
        if tags.len() > MAX_TAGS {
            return Err(IamError::limit_exceeded(format!("A session has at most {MAX_TAGS} tags.")));
        }
        let kept = from.and_then(|session| session.source_identity.clone());
        if let Some(identity) = &request.source_identity {
            check_session_name("sourceIdentity", identity)?;
            if kept.as_ref().is_some_and(|kept| kept != identity) {
                return Err(IamError::access_denied("The source identity of a session cannot be changed."));
            }
        }
        let sets_identity = kept.is_some() || request.source_identity.is_some();
        let source_identity = kept.or_else(|| request.source_identity.clone());
        Ok(Asked { tags, transitive, source_identity, tags_asked, sets_identity })
    }

    /// Actions that must be allowed.
    fn actions<'s>(&self, assume: &'s str) -> impl Iterator<Item = &'s str> {
        let tag = (!self.tags_asked.is_empty()).then_some("sts:TagSession");
        let identity = self.sets_identity.then_some("sts:SetSourceIdentity");
        [Some(assume), tag, identity].into_iter().flatten()
    }

    /// Context of the decisions.
    fn describe(&self, request: &AssumeRole, context: &Context) -> Context {
        let mut context = context
            .to_builder()
            .insert("sts:RoleSessionName", [&request.session_name])
            .insert("sts:ExternalId", &request.external_id)
            .insert("sts:SourceIdentity", &self.source_identity)
            .insert("sts:TransitiveTagKeys", &request.transitive_tag_keys)
            .tag_keys(self.tags_asked.keys());
        for (key, value) in &self.tags_asked {
            context = context.request_tag(key, value);
        }
        context.build()
    }
}

fn check_external_id(id: &str) -> Result<()> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_+=,.@:/-".contains(character);
    if (MIN_EXTERNAL_ID..=MAX_EXTERNAL_ID).contains(&id.len()) && id.chars().all(allowed) {
        return Ok(());
    }
    Err(IamError::validation(format!(
        "An external id has {MIN_EXTERNAL_ID} to {MAX_EXTERNAL_ID} letters, digits and the characters _+=,.@:/-."
    )))
}

fn check_session_policies(request: &AssumeRole) -> Result<()> {
    if let Some(text) = &request.policy {
        if PolicyDocument::size(text) > quota::SESSION {
            return Err(IamError::validation(format!("A session policy has at most {} characters.", quota::SESSION)));
        }
        PolicyDocument::parse(text, DocumentKind::Identity)
            .map_err(|error| IamError::malformed_policy(error.to_string()))?;
    }
    if request.policy_arns.len() > MAX_SESSION_POLICY_ARNS {
        let text = format!("At most {MAX_SESSION_POLICY_ARNS} managed policies limit a session.");
        return Err(IamError::validation(text));
    }
    Ok(())
}
