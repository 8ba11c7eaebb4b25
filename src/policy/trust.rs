//! The decision of a role's trust policy.

use crate::context::Context;
use crate::document::{DocumentKind, PolicyDocument};
use crate::evaluate::StatementId;
use crate::principal::{Named, Principal};
use crate::statement::Effect;

/// Decision of a trust policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TrustDecision {
    /// A statement allows the principal.
    Trusted {
        /// First such statement.
        by: StatementId,
        /// Further permission that the principal needs.
        grant: Grant,
    },
    /// A statement denies the principal.
    ExplicitDeny {
        /// First such statement.
        by: StatementId,
    },
    /// No statement allows the principal.
    NotTrusted,
}

/// Extent of a trust policy's permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The policy names the principal, its role, or everyone. A principal of the role's own account needs no other permission. A
    /// principal of another account needs that of its own policies, too.
    Principal,
    /// The policy names the account of the principal, whose own policies must allow the action, too.
    Account,
}

/// Decides if a principal may assume the role with this trust policy. The condition `sts:ExternalId` is among the keys of the
/// context if the request has one.
pub fn evaluate_trust(
    document: &PolicyDocument,
    principal: Principal<'_>,
    action: &str,
    context: &Context,
) -> TrustDecision {
    assert_eq!(document.kind(), DocumentKind::Trust, "a policy of permissions trusts no principal");
    let mut trusted: Option<TrustDecision> = None;
    for (index, statement) in document.statements().iter().enumerate() {
        let Some(named) = statement.names(principal) else { continue };
        if !statement.applies(action, "", context) {
            continue;
        }
        let by = StatementId::of(statement, index);
        if statement.effect() == Effect::Deny {
            return TrustDecision::ExplicitDeny { by };
        }
        let grant = match named {
            Named::Itself => Grant::Principal,
            Named::ByAccount => Grant::Account,
        };
        let is_better = match &trusted {
            Some(TrustDecision::Trusted { grant: Grant::Principal, .. }) => false,
            Some(_) => grant == Grant::Principal,
            None => true,
        };
        if is_better {
            trusted = Some(TrustDecision::Trusted { by, grant });
        }
    }
    trusted.unwrap_or(TrustDecision::NotTrusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: Principal<'_> =
        Principal::Aws { arn: "arn:aws:iam::111111111111:user/people/ana", id: Some("AIDAEXAMPLEEXAMPLE01") };
    const ROOT: Principal<'_> = Principal::Aws { arn: "arn:aws:iam::111111111111:root", id: None };
    const SESSION: Principal<'_> =
        Principal::Aws { arn: "arn:aws:sts::111111111111:assumed-role/deploy/run1", id: Some("AROAEXAMPLEEXAMPLE01") };
    const GITHUB: Principal<'_> =
        Principal::Federated("arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com");
    const LAMBDA: Principal<'_> = Principal::Service("lambda.amazonaws.com");

    fn document(principal: &str, more: &str) -> PolicyDocument {
        let json = format!(
            r#"{{"Version": "2012-10-17", "Statement": [
                {{"Effect": "Allow", "Action": "sts:AssumeRole*", "Principal": {principal}{more}}}]}}"#
        );
        PolicyDocument::parse(&json, DocumentKind::Trust).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn grant(principal: &str, of: Principal<'_>) -> Option<Grant> {
        match evaluate_trust(&document(principal, ""), of, "sts:AssumeRole", &Context::default()) {
            TrustDecision::Trusted { grant, .. } => Some(grant),
            TrustDecision::NotTrusted => None,
            TrustDecision::ExplicitDeny { .. } => panic!("nothing is denied"),
        }
    }

    #[test]
    fn principals_are_named_in_the_ways_of_aws() {
        let (account, principal) = (Some(Grant::Account), Some(Grant::Principal));
        for (pattern, expected) in [
            (r#"{"AWS": "111111111111"}"#, [account, principal, account, None, None]),
            (
                r#"{"AWS": ["222222222222", "arn:aws:iam::111111111111:root"]}"#,
                [account, principal, account, None, None],
            ),
            (r#"{"AWS": "222222222222"}"#, [None; 5]),
            (r#"{"AWS": "arn:aws:iam::111111111111:user/people/ana"}"#, [principal, None, None, None, None]),
            (r#"{"AWS": "arn:aws:iam::111111111111:user/people/Ana"}"#, [None; 5]),
            (r#"{"AWS": "arn:aws:iam::111111111111:user/ana"}"#, [None; 5]),
            (r#"{"AWS": "arn:aws:iam::111111111111:role/ci/deploy"}"#, [None, None, principal, None, None]),
            (r#"{"AWS": "arn:aws:iam::222222222222:role/ci/deploy"}"#, [None; 5]),
            (r#"{"AWS": "arn:aws:iam::111111111111:role/deploy/ci"}"#, [None; 5]),
            (r#"{"AWS": "arn:aws:sts::111111111111:assumed-role/deploy/run1"}"#, [None, None, principal, None, None]),
            (r#"{"AWS": "arn:aws:sts::111111111111:assumed-role/deploy/run2"}"#, [None; 5]),
            (r#"{"AWS": "AIDAEXAMPLEEXAMPLE01"}"#, [principal, None, None, None, None]),
            (r#"{"AWS": "AROAEXAMPLEEXAMPLE01"}"#, [None, None, principal, None, None]),
            (r#"{"AWS": "AIDAEXAMPLEEXAMPLE02"}"#, [None; 5]),
            (
                r#"{"Federated": "arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com"}"#,
                [None, None, None, principal, None],
            ),
            (r#"{"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]}"#, [None, None, None, None, principal]),
            (r#""*""#, [principal; 5]),
            (r#"{"AWS": "*"}"#, [principal; 5]),
            (
                r#"{"AWS": ["111111111111", "arn:aws:iam::111111111111:user/people/ana"]}"#,
                [principal, principal, account, None, None],
            ),
        ] {
            let found = [ANA, ROOT, SESSION, GITHUB, LAMBDA].map(|of| grant(pattern, of));
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn conditions_and_actions_limit_trust() {
        let document =
            document(r#"{"AWS": "222222222222"}"#, r#", "Condition": {"StringEquals": {"sts:ExternalId": "12345"}}"#);
        let deputy = Principal::Aws { arn: "arn:aws:sts::222222222222:assumed-role/a/b", id: None };
        let with = |id: &str| Context::builder().insert("sts:ExternalId", [id]).build();
        let trusted = TrustDecision::Trusted { by: StatementId::Index(0), grant: Grant::Account };
        assert_eq!(evaluate_trust(&document, deputy, "sts:assumerole", &with("12345")), trusted);
        for context in [with("1234"), Context::default()] {
            assert_eq!(evaluate_trust(&document, deputy, "sts:AssumeRole", &context), TrustDecision::NotTrusted);
        }
        assert_eq!(evaluate_trust(&document, deputy, "sts:TagSession", &with("12345")), TrustDecision::NotTrusted);
    }

    #[test]
    fn a_denial_wins_and_the_stronger_grant_is_reported() {
        let json = r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "111111111111"}},
            {"Sid": "Ana", "Effect": "Allow", "Action": "sts:AssumeRole",
             "Principal": {"AWS": "arn:aws:iam::111111111111:user/people/ana"}},
            {"Sid": "NoMfa", "Effect": "Deny", "Action": "sts:AssumeRole", "Principal": "*",
             "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}, "Null": {"aws:username": "true"}}}]}"#;
        let document = PolicyDocument::parse(json, DocumentKind::Trust).unwrap();
        let decide = |context: &Context| evaluate_trust(&document, ANA, "sts:AssumeRole", context);
        let ana = Context::builder().username("ana").build();
        let by = StatementId::Sid("Ana".into());
        assert_eq!(decide(&ana), TrustDecision::Trusted { by, grant: Grant::Principal });
        assert_eq!(decide(&Context::default()), TrustDecision::ExplicitDeny { by: StatementId::Sid("NoMfa".into()) });
    }
}
