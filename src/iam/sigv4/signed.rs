//! The signature of a request: read, checked against the request and the host, verified under a signing key.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};

use crate::request::{Payload, RequestParts};
use crate::sigv4::error::{MAX_CLOCK_SKEW, MAX_PRESIGNED, MAX_SIGNED_HEADERS, SignatureError};
use crate::sigv4::keys::{Scope, SigningKey};
use crate::sigv4::{canonical, time};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Longest credential, signed headers or token that is read, in bytes.
const MAX_PART: usize = 8 << 10;

type Result<T> = std::result::Result<T, SignatureError>;

/// Signature of a request, as the client gave it. Nothing about it is proven before [`Signed::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    access_key_id: Cow<'a, str>,
    date: Cow<'a, str>,
    region: Cow<'a, str>,
    service: Cow<'a, str>,
    /// Time of the signature as the client wrote it.
    time: Cow<'a, str>,
    /// The same time, parsed.
    at: Timestamp,
    /// Names of the signed headers, separated by `;`.
    headers: Cow<'a, str>,
    signature: [u8; 32],
    /// Session token.
    token: Option<Cow<'a, str>>,
    /// Validity of a presigned URL.
    expires: Option<SignedDuration>,
}

impl<'a> Signed<'a> {
    /// The signature that a request carries in its header or query; `None` if it carries none.
    ///
    /// # Errors
    /// The signature is incomplete, or comes twice.
    pub fn of(parts: &RequestParts<'a>) -> Result<Option<Signed<'a>>> {
        let header = parts.single("authorization").map_err(|_| SignatureError::Repeated("the header Authorization"))?;
        let header = header.filter(|value| value.starts_with(ALGORITHM.as_bytes()));
        let presigned =
            canonical::pairs(parts.query).any(|(name, _)| *name == *b"X-Amz-Algorithm" || *name == *b"X-Amz-Signature");
        match (header, presigned) {
            (Some(_), true) => Err(SignatureError::Repeated("the signature")),
            (Some(header), false) => Signed::of_header(parts, header).map(Some),
            (None, true) => Signed::of_query(parts).map(Some),
            (None, false) => Ok(None),
        }
    }

    fn of_header(parts: &RequestParts<'a>, header: &'a [u8]) -> Result<Signed<'a>> {
        let text = std::str::from_utf8(header).map_err(|_| SignatureError::Incomplete("Authorization is not text"))?;
        let fields = text.strip_prefix(ALGORITHM).unwrap_or_default();
        if !fields.starts_with(' ') {
            return Err(SignatureError::Incomplete("the algorithm is AWS4-HMAC-SHA256"));
        }
        let mut found = [None; 3];
        for field in fields.split(',') {
            let (name, value) =
                field.trim().split_once('=').ok_or(SignatureError::Incomplete("a field has no value"))?;
            let at = ["Credential", "SignedHeaders", "Signature"].iter().position(|known| *known == name);
            let place = &mut found[at.ok_or(SignatureError::Incomplete("a field is unknown"))?];
            if place.replace(value).is_some() {
                return Err(SignatureError::Repeated("a field of Authorization"));
            }
        }
        let [Some(credential), Some(headers), Some(signature)] = found else {
            return Err(SignatureError::Incomplete("Credential, SignedHeaders and Signature are needed"));
        };
        let time = single_text(parts, "x-amz-date")?.ok_or(SignatureError::Incomplete("X-Amz-Date is needed"))?;
        let token = single_text(parts, "x-amz-security-token")?.map(Cow::Borrowed);
        Signed::assemble(Fields {
            credential: Cow::Borrowed(credential),
            headers: Cow::Borrowed(headers),
            signature,
            time: Cow::Borrowed(time),
            token,
            expires: None,
        })
    }

    fn of_query(parts: &RequestParts<'a>) -> Result<Signed<'a>> {
        let mut found: [Option<Cow<'a, str>>; 7] = Default::default();
        const NAMES: [&str; 7] = [
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-Security-Token",
        ];
        for (name, value) in canonical::pairs(parts.query) {
            let Some(at) = NAMES.iter().position(|known| known.as_bytes() == &*name) else { continue };
            let value = match value {
                Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).ok(),
                Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).ok(),
            };
            let value = value.ok_or(SignatureError::Incomplete("a parameter is not text"))?;
            if found[at].replace(value).is_some() {
                return Err(SignatureError::Repeated("a parameter of the signature"));
            }
        }
        let [Some(algorithm), Some(credential), Some(headers), Some(signature), Some(time), Some(expires), token] =
            found
        else {
            return Err(SignatureError::Incomplete("a parameter X-Amz-… of the signature is missing"));
        };
        if algorithm != ALGORITHM {
            return Err(SignatureError::Incomplete("the algorithm is AWS4-HMAC-SHA256"));
        }
        let seconds: i64 = expires.parse().map_err(|_| SignatureError::Incomplete("X-Amz-Expires is no number"))?;
        if !(1..=MAX_PRESIGNED.as_secs()).contains(&seconds) {
            return Err(SignatureError::Incomplete("X-Amz-Expires is 1 to 604800 seconds"));
        }
        let expires = Some(SignedDuration::from_secs(seconds));
        Signed::assemble(Fields { credential, headers, signature: &signature, time, token, expires })
    }

    fn assemble(fields: Fields<'a, '_>) -> Result<Signed<'a>> {
        let Fields { credential, headers, signature, time, token, expires } = fields;
        if credential.len() + headers.len() + token.as_ref().map_or(0, |token| token.len()) > MAX_PART {
            return Err(SignatureError::Incomplete("the signature is too long"));
        }
        let at = time
            .strip_suffix('Z')
            .and_then(time::parse)
            .ok_or(SignatureError::Incomplete("the time is YYYYMMDDTHHMMSSZ"))?;
        let [access_key_id, date, region, service] = split_credential(credential)?;
        if date != time[..8] {
            return Err(SignatureError::Incomplete("the day of the credential is that of the time"));
        }
        let signature =
            decode_signature(signature).ok_or(SignatureError::Incomplete("a signature has 64 hexadecimal digits"))?;
        let signed = Signed { access_key_id, date, region, service, time, at, headers, signature, token, expires };
        let names = signed.header_names();
        let sorted = names.windows(2).all(|pair| pair[0] < pair[1]);
        if names.len() > MAX_SIGNED_HEADERS || !sorted || names.iter().any(|name| !is_lower_case(name)) {
            return Err(SignatureError::Incomplete("signed headers are in lower case and in order, each once"));
        }
        Ok(signed)
    }

    fn header_names(&self) -> Vec<&str> {
        self.headers.split(';').collect()
    }

    /// Access key that the client says it has.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// Session token that the client sent.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Day, region and service of the signature.
    pub fn scope(&self) -> Scope<'_> {
        Scope { date: &self.date, region: &self.region, service: &self.service }
    }

    /// Time of the signature.
    pub fn time(&self) -> Timestamp {
        self.at
    }

    /// Checks that the signature is valid at `now`.
    ///
    /// # Errors
    /// [`SignatureError::Expired`], also for a time to come.
    pub fn check_time(&self, now: Timestamp) -> Result<()> {
        let age = now.duration_since(self.at);
        let valid = age >= -MAX_CLOCK_SKEW && age <= self.expires.unwrap_or(MAX_CLOCK_SKEW);
        if valid { Ok(()) } else { Err(SignatureError::Expired { signed: self.at, now }) }
    }

    /// Checks what does not need the secret: everything that must be signed is.
    ///
    /// # Errors
    /// A header is not signed, the path is not normal, or the body was not sent as it was signed.
    pub fn check_coverage(&self, parts: &RequestParts<'_>) -> Result<()> {
        self.canonical_request(parts).map(|_| ())
    }

    /// Verifies the signature of a request, in constant time.
    ///
    /// # Errors
    /// As of [`Signed::check_coverage`], and [`SignatureError::Mismatch`].
    pub fn verify(&self, parts: &RequestParts<'_>, key: &SigningKey) -> Result<()> {
        let request = self.canonical_request(parts)?;
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let hash = hex::encode(digest(&SHA256, &request));
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{hash}", self.time);
        if key.verifies(text.as_bytes(), &self.signature) { Ok(()) } else { Err(SignatureError::Mismatch) }
    }

    fn canonical_request(&self, parts: &RequestParts<'_>) -> Result<Vec<u8>> {
        let names = self.header_names();
        check_signed(parts, &names)?;
        let payload = payload_hash(parts)?;
        let except = self.expires.map(|_| "X-Amz-Signature");
        let head =
            format!("{}\n{}\n{}\n", parts.method, canonical::path(parts.path)?, canonical::query(parts.query, except));
        let mut request = head.into_bytes();
        request.extend_from_slice(&canonical::headers(parts, &names)?);
        request.extend_from_slice(format!("\n{}\n{payload}", self.headers).as_bytes());
        Ok(request)
    }
}

/// Fields of a signature before they are checked.
struct Fields<'a, 's> {
    credential: Cow<'a, str>,
    headers: Cow<'a, str>,
    signature: &'s str,
    time: Cow<'a, str>,
    token: Option<Cow<'a, str>>,
    expires: Option<SignedDuration>,
}

fn split_credential(credential: Cow<'_, str>) -> Result<[Cow<'_, str>; 4]> {
    const WRONG: SignatureError = SignatureError::Incomplete("a credential is KEY/DATE/REGION/SERVICE/aws4_request");
    let parts: Vec<&str> = credential.split('/').collect();
    let [key, date, region, service, "aws4_request"] = parts[..] else { return Err(WRONG) };
    if [key, date, region, service].iter().any(|part| part.is_empty()) {
        return Err(WRONG);
    }
    Ok(match &credential {
        Cow::Borrowed(text) => {
            let mut parts = text.split('/');
            std::array::from_fn(|_| Cow::Borrowed(parts.next().unwrap_or_default()))
        }
        Cow::Owned(_) => [key, date, region, service].map(|part| Cow::Owned(part.to_owned())),
    })
}

/// The 32 bytes of 64 lower-case hexadecimal digits.
pub(super) fn decode_signature(text: &str) -> Option<[u8; 32]> {
    let mut signature = [0; 32];
    let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (lower && hex::decode_to_slice(text, &mut signature).is_ok()).then_some(signature)
}

fn is_lower_case(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
}

fn single_text<'a>(parts: &RequestParts<'a>, name: &'static str) -> Result<Option<&'a str>> {
    let value = parts.single(name).map_err(|_| SignatureError::Repeated(name))?;
    value
        .map(|value| std::str::from_utf8(value).map_err(|_| SignatureError::Incomplete("a header is not text")))
        .transpose()
}

/// Headers that must be signed when they are sent: the host, and all of AWS's own. Each of the latter comes once.
fn check_signed(parts: &RequestParts<'_>, signed: &[&str]) -> Result<()> {
    if signed.binary_search(&"host").is_err() {
        return Err(SignatureError::Unsigned("host".to_owned()));
    }
    for (name, _) in parts.headers.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
        if signed.binary_search(name).is_err() {
            return Err(SignatureError::Unsigned((*name).to_owned()));
        }
        parts.single(name).map_err(|_| SignatureError::Repeated("a header X-Amz-…"))?;
    }
    Ok(())
}

/// Hash of the body as it was read. A header that says otherwise, or that the body is not signed, is refused.
fn payload_hash(parts: &RequestParts<'_>) -> Result<String> {
    let Payload::Sha256(hash) = parts.payload else { return Err(SignatureError::Payload) };
    let hash = hex::encode(hash);
    match single_text(parts, "x-amz-content-sha256")? {
        Some(said) if said != hash => Err(SignatureError::Payload),
        _ => Ok(hash),
    }
}
