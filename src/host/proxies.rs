//! A client's address and the URL that it asked for, as trusted proxies forward them. Pure.
//!
//! Two families of headers say so, `X-Forwarded-For`, `-Proto` and `-Host`, and `Forwarded` (RFC 7239). A proxy writes
//! one of them and passes the other on as the client sent it; where both come, neither is believed.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, header};

use gitferry_config::Network;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A client as proxies have seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its address: the last one that is no trusted proxy's.
    pub address: Option<IpAddr>,
    /// The scheme of the URL that it asked for.
    pub scheme: Option<&'static str>,
    /// The host of that URL, with its port.
    pub host: Option<Authority>,
}

/// What is known of the client of a request that came from `peer`.
pub fn seen(peer: Option<IpAddr>, trusted: &[Network], headers: &HeaderMap) -> Seen {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let direct = Seen { address: peer, ..Seen::default() };
    if !peer.is_some_and(is_trusted) {
        return direct;
    }
    let old = [FOR, PROTO, HOST].iter().any(|name| headers.contains_key(name));
    match (old, headers.contains_key(header::FORWARDED)) {
        (false, false) | (true, true) => direct,
        (true, false) => {
            let addresses = values(headers, &FOR).map(address_of);
            Seen {
                address: last_untrusted(addresses, is_trusted).or(peer),
                scheme: values(headers, &PROTO).last().and_then(scheme_of),
                host: values(headers, &HOST).last().and_then(host_of),
            }
        }
        (false, true) => {
            let hops: Vec<Seen> = values(headers, &header::FORWARDED).map(hop_of).collect();
            let address = last_untrusted(hops.iter().map(|hop| hop.address), is_trusted);
            // The hop of the client itself, as the first trusted proxy saw it.
            let hop = hops.into_iter().rev().find(|hop| address.is_none() || hop.address == address);
            Seen { address: address.or(peer), ..hop.unwrap_or_default() }
        }
    }
}

/// The values of a header that is a list, in all its lines.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> + 'h {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// The last address that is no trusted proxy's. Behind one that is not an address, nothing is known.
fn last_untrusted(
    addresses: impl Iterator<Item = Option<IpAddr>>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let all: Vec<Option<IpAddr>> = addresses.collect();
    let mut farthest = None;
    for address in all.into_iter().rev() {
        farthest = Some(address?);
        if !address.is_some_and(&is_trusted) {
            break;
        }
    }
    farthest
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`
fn address_of(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok();
    }
    text.parse().ok().or_else(|| text.split_once(':')?.0.parse().ok())
}

fn scheme_of(text: &str) -> Option<&'static str> {
    ["https", "http"].into_iter().find(|scheme| text.trim_matches('"').eq_ignore_ascii_case(scheme))
}

fn host_of(text: &str) -> Option<Authority> {
    let authority: Authority = text.trim_matches('"').parse().ok()?;
    Some(authority).filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
}

/// `for=192.0.2.1;proto=https;host=git.example`
fn hop_of(text: &str) -> Seen {
    let mut hop = Seen::default();
    for (name, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => hop.address = address_of(value.trim()),
            "proto" => hop.scheme = scheme_of(value.trim()),
            "host" => hop.host = host_of(value.trim()),
            _ => {}
        }
    }
    hop
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, lines: &[(&'static str, &str)]) -> (String, Option<&'static str>, Option<String>) {
        let trusted = ["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let seen = seen(Some(peer.parse().unwrap()), &trusted, &headers);
        (seen.address.unwrap().to_string(), seen.scheme, seen.host.map(|host| host.to_string()))
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        assert_eq!(of("192.0.2.1", &lines), ("192.0.2.1".into(), None, None));
        assert_eq!(of("127.0.0.1", &lines), ("203.0.113.9".into(), Some("https"), Some("evil".into())));
        assert_eq!(of("127.0.0.1", &[]), ("127.0.0.1".into(), None, None));
    }

    #[test]
    fn what_a_client_writes_itself_is_not_believed() {
        // The client is the last address that no proxy of ours has.
        let chain = [("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.1.1.1"), ("x-forwarded-for", "10.2.2.2")];
        assert_eq!(of("127.0.0.1", &chain).0, "203.0.113.9");
        assert_eq!(of("127.0.0.1", &[("x-forwarded-for", "203.0.113.9, nonsense")]).0, "127.0.0.1");
        let both = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=1.1.1.1;host=evil")];
        assert_eq!(of("127.0.0.1", &both), ("127.0.0.1".into(), None, None));
        for host in ["a@b", "", "a b", "a/b"] {
            assert_eq!(of("127.0.0.1", &[("x-forwarded-host", host)]).2, None, "{host}");
        }
        assert_eq!(of("127.0.0.1", &[("x-forwarded-proto", "javascript")]).1, None);
    }

    #[test]
    fn the_standard_header() {
        let line = "for=\"[2001:db8::7]:4711\";proto=https;host=git.example:8443, for=10.0.0.3;proto=http";
        let expected = ("2001:db8::7".into(), Some("https"), Some("git.example:8443".into()));
        assert_eq!(of("127.0.0.1", &[("forwarded", line)]), expected);
        assert_eq!(of("127.0.0.1", &[("forwarded", "For=203.0.113.9")]).0, "203.0.113.9");
        assert_eq!(of("127.0.0.1", &[("forwarded", "for=_hidden;proto=https")]).0, "127.0.0.1");
    }
}
