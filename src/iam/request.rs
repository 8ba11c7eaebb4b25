//! A request as authentication sees it: what was sent, before anything else is parsed.

use std::net::IpAddr;

/// Parts of a request over HTTP, as they came.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// Method.
    pub method: &'a str,
    /// Path as it was sent, still percent-encoded.
    pub path: &'a str,
    /// Query as it was sent, without the question mark.
    pub query: &'a str,
    /// Headers in their order. Names are in lower case.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The pseudo-header `:authority` of HTTP/2.
    pub authority: Option<&'a str>,
    /// The body, as far as it has been read.
    pub payload: Payload,
    /// Path of the repository that Git asks for, as it was sent: what precedes `/info/refs`, `/git-upload-pack`,
    /// `/git-receive-pack` or `/info/lfs`. `None` for requests that are not Git's.
    pub repository_path: Option<&'a str>,
    /// Address of the client, behind trusted proxies.
    pub source: IpAddr,
    /// True if the request came over TLS.
    pub secure: bool,
}

/// Body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The body has not been read, so no signature of it can be checked. Git's requests are authenticated so.
    Unread,
    /// SHA-256 of the whole body, which may be empty.
    Sha256([u8; 32]),
}

impl Payload {
    /// Payload of a body.
    pub fn of(body: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, body).as_ref());
        Payload::Sha256(hash)
    }
}

/// A header that a request may carry once comes twice, so that two readers may see two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

impl<'a> RequestParts<'a> {
    /// Value of a header that a request carries at most once.
    pub(crate) fn single(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, v)| *v);
        let first = values.next();
        if values.next().is_some() { Err(Repeated) } else { Ok(first) }
    }

    /// Host that the client asked for, with its port: the header `Host` or `:authority`, which agree if both are sent.
    pub(crate) fn host(&self) -> Result<Option<&'a str>, Repeated> {
        let header = self.single("host")?.map(|value| std::str::from_utf8(value).map_err(|_| Repeated)).transpose()?;
        match (header, self.authority) {
            (Some(header), Some(authority)) if header != authority => Err(Repeated),
            (header, authority) => Ok(header.or(authority)),
        }
    }

    /// Header `User-Agent`; empty if it is missing or not text.
    pub(crate) fn user_agent(&self) -> &'a str {
        let value = self.headers.iter().find(|(name, _)| *name == "user-agent").map(|(_, value)| *value);
        std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
    }
}
