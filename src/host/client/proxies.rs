//! Address of a client and the URL that it asked for, from the headers of trusted proxies. Pure.
//!
//! Proxies send one of two families of headers: `X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239). A
//! proxy that writes one family passes the other on as the client sent it. If a request has both, neither is trusted.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, header};

use gitferry_config::Network;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A client as trusted proxies report it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Address of the client: the last one that does not belong to a trusted proxy.
    pub address: Option<IpAddr>,
    /// Scheme of the URL that the client asked for.
    pub scheme: Option<&'static str>,
    /// Host of that URL, with the port.
    pub host: Option<Authority>,
}

/// The client of a request that arrived from `peer`. Headers are used only if `peer` is in a `trusted` network.
pub fn client_info(peer: Option<IpAddr>, trusted: &[Network], headers: &HeaderMap) -> ClientInfo {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let direct = ClientInfo { address: peer, ..ClientInfo::default() };
    if !peer.is_some_and(is_trusted) {
        return direct;
    }
    let has_x_forwarded = [FOR, PROTO, HOST].iter().any(|name| headers.contains_key(name));
    match (has_x_forwarded, headers.contains_key(header::FORWARDED)) {
        (false, false) | (true, true) => direct,
        (true, false) => {
            let addresses = values(headers, &FOR).map(address_of);
            ClientInfo {
                address: last_untrusted(addresses, is_trusted).or(peer),
                scheme: values(headers, &PROTO).last().and_then(scheme_of),
                host: values(headers, &HOST).last().and_then(host_of),
            }
        }
        (false, true) => {
            let hops: Vec<ClientInfo> = values(headers, &header::FORWARDED).map(hop_of).collect();
            let address = last_untrusted(hops.iter().map(|hop| hop.address), is_trusted);
            // The entry about the client, written by the first trusted proxy.
            let hop = hops.into_iter().rev().find(|hop| address.is_none() || hop.address == address);
            ClientInfo { address: address.or(peer), ..hop.unwrap_or_default() }
        }
    }
}

/// The values of a list header, over all its lines.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> + 'h {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// The last address that does not belong to a trusted proxy; `None` if a later value is not an address.
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
fn hop_of(text: &str) -> ClientInfo {
    let mut hop = ClientInfo::default();
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
        let info = client_info(Some(peer.parse().unwrap()), &trusted, &headers);
        (info.address.unwrap().to_string(), info.scheme, info.host.map(|host| host.to_string()))
    }

    #[test]
    fn only_trusted_proxies_may_set_the_client() {
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        assert_eq!(of("192.0.2.1", &lines), ("192.0.2.1".into(), None, None));
        assert_eq!(of("127.0.0.1", &lines), ("203.0.113.9".into(), Some("https"), Some("evil".into())));
        assert_eq!(of("127.0.0.1", &[]), ("127.0.0.1".into(), None, None));
    }

    #[test]
    fn values_that_a_client_sends_itself_are_not_trusted() {
        // The client has the last address that is not in a trusted network.
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
