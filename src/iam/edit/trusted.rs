//! Users and roles that a trust policy names, bound to their unique ids.
//!
//! "If your Principal element in a role trust policy contains an ARN that points to a specific IAM user or role, then
//! IAM transforms the ARN to a unique principal ID when you save the policy. This helps mitigate the risk of someone
//! escalating their privileges by removing and recreating the user or role." (IAM user guide, "Principal")

use std::collections::BTreeMap;

use serde_json::Value;

use crate::arn::IamArn;
use crate::edit::{Editor, shown};
use crate::error::{IamError, Result};

impl Editor<'_> {
    /// Unique ids of this account's users and roles that a trust policy names, by ARN.
    ///
    /// # Errors
    /// `MalformedPolicyDocument` if the policy names one that does not exist.
    pub(super) fn trusted(&self, trust_policy: &str) -> Result<BTreeMap<String, String>> {
        let policy: Value =
            serde_json::from_str(trust_policy).map_err(|error| IamError::malformed_policy(error.to_string()))?;
        let mut trusted = BTreeMap::new();
        for arn in one_or_many(&policy["Statement"]).iter().flat_map(principals) {
            let Some(parts) = IamArn::parse(arn) else { continue };
            if parts.account != self.account.id().as_str() {
                continue;
            }
            let id = match parts.kind {
                "user" => self.account.user(parts.name).filter(|user| user.arn == arn).map(|user| &user.record.id),
                "role" => self.account.role_by_arn(arn).map(|role| &role.record.id),
                _ => continue,
            };
            let id = id.ok_or_else(|| {
                IamError::malformed_policy(format!("Invalid principal in policy: \"AWS\":\"{}\"", shown(arn)))
            })?;
            trusted.insert(arn.to_owned(), id.clone());
        }
        Ok(trusted)
    }
}

fn one_or_many(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

fn principals(statement: &Value) -> impl Iterator<Item = &str> {
    let named = ["Principal", "NotPrincipal"].map(|element| &statement[element]["AWS"]);
    named.into_iter().flat_map(one_or_many).filter_map(Value::as_str)
}
