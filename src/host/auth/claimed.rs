//! The user name that a request claims, proven or not. For the audit trail alone.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// User name of Basic authentication, or access key id of a signature; empty for another scheme. `None` if the request
/// carries no credentials.
pub fn claimed_user(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    let signed = || query.into_iter().flat_map(|query| query.split('&')).find_map(presigned);
    let Some(value) = headers.get(AUTHORIZATION) else { return signed().map(str::to_owned) };
    let value = value.to_str().unwrap_or_default();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let user = if scheme.eq_ignore_ascii_case("basic") {
        basic(rest)
    } else {
        rest.split_once("Credential=").map(|(_, scope)| access_key(scope).to_owned())
    };
    Some(user.unwrap_or_default())
}

/// A session token may follow the access key id behind `%`.
fn basic(encoded: &str) -> Option<String> {
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let user = decoded.split(|byte| matches!(byte, b':' | b'%')).next()?;
    String::from_utf8(user.to_vec()).ok()
}

fn presigned(pair: &str) -> Option<&str> {
    Some(access_key(pair.strip_prefix("X-Amz-Credential=")?))
}

/// Access key id of a credential scope, `AKIA…/20260131/us-east-1/codecommit/aws4_request`.
fn access_key(scope: &str) -> &str {
    let end = scope.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(scope.len());
    &scope[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_claimed_in_many_ways() {
        let of = |value: &str, query: Option<&str>| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            claimed_user(&headers, query).unwrap()
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(of(&basic("ann-at-123456789012:secret"), None), "ann-at-123456789012");
        assert_eq!(of(&basic("ASIAIOSFODNN7EXAMPLE%token:signature"), None), "ASIAIOSFODNN7EXAMPLE");
        let signed = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260131/r/s/aws4_request, SignedHeaders=host";
        assert_eq!(of(signed, None), "AKIAIOSFODNN7EXAMPLE");
        for other in ["Bearer secret", "Basic", "Basic !!!", "x"] {
            assert_eq!(of(other, None), "", "{other}");
        }
        let presigned = Some("a=b&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260131");
        assert_eq!(claimed_user(&HeaderMap::new(), presigned).as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
        assert_eq!(claimed_user(&HeaderMap::new(), Some("service=git-upload-pack")), None);
    }
}
