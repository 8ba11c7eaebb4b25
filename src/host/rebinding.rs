//! Whether a request was meant for this host. A web page can give a name of its own the address of the reader's
//! machine (DNS rebinding) and talk to what listens there as if to itself; a host that asks nobody who they are
//! must not answer to such a name.

use std::net::IpAddr;

/// Whether an authority (`HOST[:PORT]`, as a client asks for it) names this machine, or the host that `url` is of.
pub fn is_ours(authority: &str, url: Option<&str>) -> bool {
    let name = host_of(authority);
    let local = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let own = url.and_then(|url| Some(host_of(url.split_once("://")?.1.split('/').next()?)));
    local || own.is_some_and(|own| own.eq_ignore_ascii_case(name))
}

/// The host of an authority, without brackets and port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_and_its_own_url() {
        let url = Some("https://git.example:8443/base");
        for ours in
            ["localhost", "LocalHost:8411", "127.0.0.1:8411", "127.1.2.3", "[::1]:8411", "git.example", "GIT.example:1"]
        {
            assert!(is_ours(ours, url), "{ours}");
        }
        for other in
            ["", "evil.example:8411", "localhost.evil.example", "10.0.0.1", "[::2]", "127.0.0.1.evil.example", ":8411"]
        {
            assert!(!is_ours(other, url) && !is_ours(other, None), "{other}");
        }
        assert!(!is_ours("git.example", None));
    }
}
