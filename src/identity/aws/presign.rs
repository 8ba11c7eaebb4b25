//! The password of a client: a presigned `sts:GetCallerIdentity` for one host.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use gitferry_iam::aws::{HOST_HEADER, MAX_PRESIGNED_SECONDS, PresignedCaller, StsEndpoint};
use gitferry_iam::secret::SecretText;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Request to be presigned.
#[derive(Debug)]
pub struct Presigning<'a> {
    /// Credentials of the client.
    pub credentials: Credentials,
    /// Region whose STS is asked.
    pub region: &'a str,
    /// Host that the password is for, with its port unless the scheme implies it.
    pub host: &'a str,
    /// Time of the signature.
    pub now: SystemTime,
}

/// Makes a password, which is good for 15 minutes at one host.
///
/// # Errors
/// The credentials or the host cannot be signed with.
pub fn presign(request: &Presigning<'_>) -> Result<(SecretText, SystemTime), String> {
    let Presigning { credentials, region, host, now } = request;
    let lifetime = Duration::from_secs(MAX_PRESIGNED_SECONDS.into());
    let endpoint = StsEndpoint::Regional((*region).to_owned());
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lifetime);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder().identity(&identity).region(endpoint.region()).name("sts");
    let params = params.time(*now).settings(settings).build().map_err(|error| error.to_string())?.into();
    let mut url = format!("https://{}/?Action=GetCallerIdentity&Version=2011-06-15", endpoint.host());
    let headers = [(HOST_HEADER, *host)].into_iter();
    let request = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(b""));
    let request = request.map_err(|error| error.to_string())?;
    let (instructions, _) = sign(request, &params).map_err(|error| error.to_string())?.into_parts();
    let (_, parameters) = instructions.into_parts();
    for (name, value) in parameters {
        url.push_str(&format!("&{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)));
    }
    let password = SecretText::new(PresignedCaller::password_of(&url));
    // The same checks as those of the host: what a host would refuse is said here.
    PresignedCaller::parse(password.expose()).map_err(|error| error.to_string())?;
    Ok((password, *now + lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_password_is_what_a_host_reads() {
        let now = UNIX_EPOCH + Duration::from_secs(1_796_558_400);
        for token in [None, Some("IQoJb3JpZ2luX2VjE//+abc==".to_owned())] {
            let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", token, None, "test");
            let request = Presigning { credentials, region: "eu-west-1", host: "git.example.com:8443", now };
            let (password, expires) = presign(&request).unwrap();
            let parsed = PresignedCaller::parse(password.expose()).unwrap();
            assert_eq!(parsed.access_key_id(), "AKIAIOSFODNN7EXAMPLE");
            assert_eq!(parsed.endpoint(), &StsEndpoint::Regional("eu-west-1".into()));
            assert_eq!(SystemTime::from(parsed.expires()), expires);
            assert_eq!(expires, now + Duration::from_secs(900));
        }
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "test");
        let request = Presigning { credentials, region: "not a region", host: "git.example.com", now };
        assert!(presign(&request).is_err());
    }
}
