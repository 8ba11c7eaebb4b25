//! Protection against DNS rebinding.
//!
//! A web page can point its own domain name at the loopback address of a browser's machine, and then send requests to a
//! server there as same-origin. A host without authentication therefore refuses requests addressed to a foreign name.

use std::net::IpAddr;

/// Returns true if an authority (`HOST[:PORT]`, as a client sends it) names this machine, or the host of `url`.
pub fn is_own_authority(authority: &str, url: Option<&str>) -> bool {
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
            assert!(is_own_authority(ours, url), "{ours}");
        }
        for other in
            ["", "evil.example:8411", "localhost.evil.example", "10.0.0.1", "[::2]", "127.0.0.1.evil.example", ":8411"]
        {
            assert!(!is_own_authority(other, url) && !is_own_authority(other, None), "{other}");
        }
        assert!(!is_own_authority("git.example", None));
    }
}
