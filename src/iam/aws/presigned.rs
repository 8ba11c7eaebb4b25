//! The password of a client that has an identity of AWS: a presigned URL of `sts:GetCallerIdentity`.
//!
//! The signature covers the header [`HOST_HEADER`] with the name of the host that the password is for, so that no other
//! host gets an answer from STS for it. The URL is never used as it was sent: its parts are checked one by one, and the
//! request is made anew from them.
//!
//! Source: "GetCallerIdentity" in the STS API reference, "Create a signed AWS API request" in the IAM user guide.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::sigv4::{MAX_CLOCK_SKEW, time};

/// Header of the request to STS that names the host.
pub const HOST_HEADER: &str = "x-gitferry-host";
/// User name of clients, which the host does not read.
pub const USER_NAME: &str = "aws";
/// Beginning of the password.
pub const PASSWORD_PREFIX: &str = "gitferry-aws-v1.";
/// Longest password, in characters.
pub const MAX_PASSWORD: usize = 12 << 10;
/// Longest validity that a presigned URL may ask for, in seconds.
pub const MAX_PRESIGNED_SECONDS: u32 = 900;
/// Longest session token that is passed on, in characters.
const MAX_TOKEN: usize = 4_096;
/// Headers that are signed.
const SIGNED_HEADERS: &str = "host;x-gitferry-host";
/// Region of the global endpoint of STS.
const GLOBAL_REGION: &str = "us-east-1";
/// Characters that are encoded in a value of the query (RFC 3986: all but unreserved ones).
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The password is no presigned URL that a host passes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresignedError {
    /// The password has another form.
    #[error("the password is no presigned URL: {0}")]
    Malformed(&'static str),
    /// The URL is of an endpoint that the host does not ask.
    #[error("the presigned URL is of {0}, and the host asks no such endpoint")]
    Endpoint(String),
    /// The URL is of another time.
    #[error(
        "the presigned URL is of {signed} and the host's time is {now}: it has expired, or a clock is more than 15 \
         minutes off"
    )]
    Expired {
        /// Time of the signature.
        signed: Timestamp,
        /// Time of the host.
        now: Timestamp,
    },
}

/// Endpoint of STS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StsEndpoint {
    /// `sts.amazonaws.com`, in `us-east-1`.
    Global,
    /// `sts.REGION.amazonaws.com`.
    Regional(String),
}

impl StsEndpoint {
    /// Endpoint of a host name. The name is one of exactly two forms.
    fn of_host(host: &str) -> Option<Self> {
        if host == "sts.amazonaws.com" {
            return Some(StsEndpoint::Global);
        }
        let region = host.strip_prefix("sts.")?.strip_suffix(".amazonaws.com")?;
        is_region(region).then(|| StsEndpoint::Regional(region.to_owned()))
    }

    /// Host name of the endpoint.
    pub fn host(&self) -> String {
        match self {
            StsEndpoint::Global => "sts.amazonaws.com".to_owned(),
            StsEndpoint::Regional(region) => format!("sts.{region}.amazonaws.com"),
        }
    }

    /// Region of signatures for the endpoint.
    pub fn region(&self) -> &str {
        match self {
            StsEndpoint::Global => GLOBAL_REGION,
            StsEndpoint::Regional(region) => region,
        }
    }
}

/// Returns true for the form of a region's name, such as `eu-west-1`.
fn is_region(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (4..=32).contains(&text.len()) && text.bytes().all(allowed) && text.contains('-')
}

/// Presigned request to STS, taken apart. Nothing about it is proven before STS answers.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedCaller {
    endpoint: StsEndpoint,
    access_key_id: String,
    date: String,
    time: String,
    at: Timestamp,
    seconds: u32,
    token: Option<Zeroizing<String>>,
    signature: String,
}

impl fmt::Debug for PresignedCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PresignedCaller({} of {} for {:?})", self.access_key_id, self.at, self.endpoint)
    }
}

/// Parameters of the query, in the order in which the request is made anew.
const PARAMETERS: [&str; 9] = [
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
];

impl PresignedCaller {
    /// Returns true if a password claims to be of this form.
    pub fn is_password(password: &str) -> bool {
        password.starts_with(PASSWORD_PREFIX)
    }

    /// The password for a presigned URL.
    pub fn password_of(url: &str) -> String {
        format!("{PASSWORD_PREFIX}{}", URL_SAFE_NO_PAD.encode(url))
    }

    /// Takes a password apart.
    ///
    /// # Errors
    /// The password is no presigned URL of `sts:GetCallerIdentity`, or has a part that no client of gitferry sends.
    pub fn parse(password: &str) -> Result<Self, PresignedError> {
        let malformed = PresignedError::Malformed;
        if password.len() > MAX_PASSWORD {
            return Err(malformed("it is too long"));
        }
        let encoded = password.strip_prefix(PASSWORD_PREFIX).ok_or(malformed("its version is unknown"))?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed("it is not base64"))?;
        let url = Zeroizing::new(String::from_utf8(bytes).map_err(|_| malformed("it is not text"))?);
        let rest = url.strip_prefix("https://").ok_or(malformed("the scheme is not https"))?;
        let (host, query) = rest.split_once("/?").ok_or(malformed("the path is not /"))?;
        let endpoint = StsEndpoint::of_host(host).ok_or_else(|| PresignedError::Endpoint(printable(host)))?;
        PresignedCaller::of_query(endpoint, query)
    }

    fn of_query(endpoint: StsEndpoint, query: &str) -> Result<Self, PresignedError> {
        let malformed = PresignedError::Malformed;
        let mut found: [Option<Cow<'_, str>>; 9] = Default::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').ok_or(malformed("a parameter has no value"))?;
            let at = PARAMETERS.iter().position(|known| *known == name).ok_or(malformed("a parameter is unknown"))?;
            // A plus sign is a space to some readers.
            if value.contains('+') {
                return Err(malformed("a parameter has a plus sign"));
            }
            let value = percent_decode_str(value).decode_utf8().map_err(|_| malformed("a parameter is not text"))?;
            if found[at].replace(value).is_some() {
                return Err(malformed("a parameter comes twice"));
            }
        }
        let [
            Some(action),
            Some(version),
            Some(algorithm),
            Some(credential),
            Some(time),
            Some(seconds),
            Some(headers),
            token,
            Some(signature),
        ] = found
        else {
            return Err(malformed("a parameter is missing"));
        };
        if action != "GetCallerIdentity" || version != "2011-06-15" || algorithm != "AWS4-HMAC-SHA256" {
            return Err(malformed("it is not for sts:GetCallerIdentity"));
        }
        if headers != SIGNED_HEADERS {
            return Err(malformed("the signed headers are not host and x-gitferry-host"));
        }
        let (access_key_id, date) = credential_of(&credential, endpoint.region())?;
        let at = time.strip_suffix('Z').filter(|time| time.starts_with(date.as_str())).and_then(time::parse);
        let at = at.ok_or(malformed("the time is malformed"))?;
        let seconds: u32 = seconds.parse().map_err(|_| malformed("the validity is no number"))?;
        if !(1..=MAX_PRESIGNED_SECONDS).contains(&seconds) {
            return Err(malformed("the validity is not from 1 to 900 seconds"));
        }
        let token = token.map(|token| checked_token(&token)).transpose()?;
        let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if signature.len() != 64 || !is_hex(&signature) {
            return Err(malformed("the signature is malformed"));
        }
        let signature = signature.into_owned();
        Ok(PresignedCaller { endpoint, access_key_id, date, time: time.into_owned(), at, seconds, token, signature })
    }

    /// Checks that the URL is valid at `now`, and of one of the endpoints that the host asks.
    ///
    /// # Errors
    /// [`PresignedError::Expired`], also for a time to come; [`PresignedError::Endpoint`].
    pub fn check(&self, endpoints: &[StsEndpoint], now: Timestamp) -> Result<(), PresignedError> {
        if !endpoints.contains(&self.endpoint) {
            return Err(PresignedError::Endpoint(self.endpoint.host()));
        }
        let age = now.duration_since(self.at);
        let valid = SignedDuration::from_secs(self.seconds.into());
        if age > valid || age < -MAX_CLOCK_SKEW {
            return Err(PresignedError::Expired { signed: self.at, now });
        }
        Ok(())
    }

    /// Endpoint that the signature is for.
    pub fn endpoint(&self) -> &StsEndpoint {
        &self.endpoint
    }

    /// Access key that signed.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// End of the validity.
    pub fn expires(&self) -> Timestamp {
        self.at.checked_add(SignedDuration::from_secs(self.seconds.into())).unwrap_or(self.at)
    }

    /// Query of the request to STS, made from the checked parts.
    pub fn query(&self) -> Zeroizing<String> {
        let credential = format!("{}/{}/{}/sts/aws4_request", self.access_key_id, self.date, self.endpoint.region());
        let seconds = self.seconds.to_string();
        let values = [
            Some("GetCallerIdentity"),
            Some("2011-06-15"),
            Some("AWS4-HMAC-SHA256"),
            Some(&credential),
            Some(&self.time),
            Some(&seconds),
            Some(SIGNED_HEADERS),
            self.token.as_ref().map(|token| token.as_str()),
            Some(&self.signature),
        ];
        let mut query = Zeroizing::new(String::new());
        for (name, value) in PARAMETERS.iter().zip(values).filter_map(|(name, value)| Some((name, value?))) {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(name);
            query.push('=');
            query.extend(utf8_percent_encode(value, VALUE));
        }
        query
    }
}

/// Access key and date of a credential scope for STS in a region.
fn credential_of(credential: &str, region: &str) -> Result<(String, String), PresignedError> {
    let malformed = PresignedError::Malformed("the credential is not KEY/DATE/REGION/sts/aws4_request of the endpoint");
    let parts: Vec<&str> = credential.split('/').collect();
    let [key, date, signed, "sts", "aws4_request"] = parts[..] else { return Err(malformed) };
    let is_key =
        (16..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    if !is_key || !is_date || signed != region {
        return Err(malformed);
    }
    Ok((key.to_owned(), date.to_owned()))
}

fn checked_token(token: &str) -> Result<Zeroizing<String>, PresignedError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_');
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(allowed) {
        return Err(PresignedError::Malformed("the session token has other characters than base64, or too many"));
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// The beginning of a host name that a client made up, for the log.
fn printable(host: &str) -> String {
    host.chars().take(100).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URL: &str = "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15\
        &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260131%2Feu-west-1%2Fsts%2Faws4_request\
        &X-Amz-Date=20260131T093000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host%3Bx-gitferry-host\
        &X-Amz-Security-Token=IQoJb3%2F%2BabcD%3D%3D\
        &X-Amz-Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn parse(url: &str) -> Result<PresignedCaller, PresignedError> {
        PresignedCaller::parse(&PresignedCaller::password_of(url))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_request_is_made_anew_from_its_parts() {
        let parsed = parse(URL).unwrap();
        assert_eq!(parsed.endpoint(), &StsEndpoint::Regional("eu-west-1".into()));
        assert_eq!(format!("https://{}/?{}", parsed.endpoint().host(), *parsed.query()), URL);
        assert_eq!(parsed.access_key_id(), "AKIAIOSFODNN7EXAMPLE");
        assert_eq!(parsed.expires(), at("2026-01-31T09:45:00Z"));
        // The order of the parameters and superfluous encoding make no other request.
        let (front, token) = URL.split_once("&X-Amz-Security-Token=").unwrap();
        let (token, signature) = token.split_once('&').unwrap();
        let shuffled =
            format!("{front}&{signature}&X-Amz-Security-Token={token}").replace("Amz-Date=2026", "Amz-Date=%32026");
        assert_eq!(parse(&shuffled).unwrap(), parsed);
        assert!(!format!("{parsed:?}").contains("IQoJb3") && !format!("{parsed:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn urls_of_other_places_and_requests_are_refused() {
        let with = |from: &str, to: &str| {
            assert!(URL.contains(from), "{from}");
            parse(&URL.replace(from, to))
        };
        for host in [
            "169.254.169.254",
            "localhost",
            "evil.example",
            "sts.eu-west-1.amazonaws.com.evil.example",
            "evil.example#sts.eu-west-1.amazonaws.com",
            "evil.example@sts.eu-west-1.amazonaws.com",
            "sts.eu-west-1.amazonaws.com@evil.example",
            "sts.eu-west-1.amazonaws.com:8443",
            "sts.eu-west-1.amazonaws.com%2eevil.example",
            "sts.evil.example%23.amazonaws.com",
            "sts.a.b-c.amazonaws.com",
            "sts..amazonaws.com",
            "STS.eu-west-1.amazonaws.com",
            "iam.amazonaws.com",
            "sts.eu-west-1.amazonaws.com.",
            "sts.eu-west-1.amazonaws.com\r\nx: y",
            "sts.eu-west-1.amazonaws.com/..",
        ] {
            let refused = with("sts.eu-west-1.amazonaws.com", host).unwrap_err();
            assert!(matches!(refused, PresignedError::Endpoint(_)), "{host}: {refused}");
        }
        for (from, to) in [
            ("https://", "http://"),
            ("https://", "file://"),
            ("https://", "HTTPS://"),
            ("/?Action", "/x?Action"),
            ("/?Action", "?Action"),
            ("GetCallerIdentity", "AssumeRole"),
            ("2011-06-15", "2010-05-08"),
            ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            ("eu-west-1%2Fsts", "us-east-1%2Fsts"),
            ("%2Fsts%2F", "%2Fiam%2F"),
            ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7%0d%0aEXAMPLE"),
            ("X-Amz-Expires=900", "X-Amz-Expires=901"),
            ("X-Amz-Expires=900", "X-Amz-Expires=0"),
            ("X-Amz-Expires=900", "X-Amz-Expires=-1"),
            ("X-Amz-Date=20260131", "X-Amz-Date=20260130"),
            ("T093000Z", "T093000"),
            ("host%3Bx-gitferry-host", "host"),
            ("host%3Bx-gitferry-host", "host%3Bx-gitferry-host%3Bx-k8s-aws-id"),
            ("IQoJb3", "IQoJ%0D%0Ab3"),
            ("IQoJb3", "IQoJ+b3"),
            ("&X-Amz-Expires=900", ""),
            ("&X-Amz-Expires=900", "&X-Amz-Expires=900&X-Amz-Expires=900"),
            ("&X-Amz-Expires=900", "&X-Amz-Expires=900&RoleArn=x"),
            ("&X-Amz-Expires=900", "&X-Amz-Expires=900&"),
            ("&X-Amz-Expires=900", "&X-Amz-Expires=900#"),
            ("=0123456789abcdef", "=0123456789ABCDEF"),
            ("=0123456789abcdef", "=123456789abcdef"),
        ] {
            let refused = with(from, to).unwrap_err();
            assert!(matches!(refused, PresignedError::Malformed(_)), "{to}: {refused}");
        }
        for password in ["", "gitferry-aws-v1.", "gitferry-aws-v2.aHR0cHM", "k8s-aws-v1.aHR0cHM", "gitferry-aws-v1.%"] {
            assert!(PresignedCaller::parse(password).is_err(), "{password}");
        }
        assert!(PresignedCaller::parse(&format!("{PASSWORD_PREFIX}{}", "A".repeat(MAX_PASSWORD))).is_err());
    }

    #[test]
    fn a_url_is_good_in_its_time_for_the_endpoints_of_the_host() {
        let parsed = parse(URL).unwrap();
        let own = [StsEndpoint::Global, StsEndpoint::Regional("eu-west-1".into())];
        for (now, good) in [
            ("2026-01-31T09:30:00Z", true),
            ("2026-01-31T09:45:00Z", true),
            ("2026-01-31T09:45:01Z", false),
            ("2026-01-31T09:15:00Z", true),
            ("2026-01-31T09:14:59Z", false),
        ] {
            assert_eq!(parsed.check(&own, at(now)).is_ok(), good, "{now}");
        }
        let other = parsed.check(&own[..1], at("2026-01-31T09:30:00Z"));
        assert_eq!(other, Err(PresignedError::Endpoint("sts.eu-west-1.amazonaws.com".into())));
        let global = URL.replace("sts.eu-west-1", "sts").replace("eu-west-1", "us-east-1");
        assert_eq!(parse(&global).unwrap().endpoint(), &StsEndpoint::Global);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_what_is_made_anew_is_plain(url in "\\PC{0,200}", host in "[a-z0-9.:@/#?%-]{0,40}") {
            let _ = PresignedCaller::parse(&url);
            let _ = parse(&url);
            if let Ok(parsed) = parse(&URL.replace("sts.eu-west-1.amazonaws.com", &host)) {
                let host = parsed.endpoint().host();
                prop_assert!(host.starts_with("sts.") && host.ends_with(".amazonaws.com"));
            }
        }
    }
}
