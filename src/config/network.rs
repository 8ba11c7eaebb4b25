//! IP networks in CIDR notation, such as `10.0.0.0/8` and `fd00::/8`, or single addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// An IP network: the addresses that share a prefix of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Returns true if the network contains an address. An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) counts as
    /// IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |all: u32, one: u128, other: u128| match all - self.bits {
            128 => true,
            rest => one >> rest == other >> rest,
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => shared(32, own.to_bits().into(), other.to_bits().into()),
            (IpAddr::V6(own), IpAddr::V6(other)) => shared(128, own.to_bits(), other.to_bits()),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a network: use ADDRESS or ADDRESS/BITS, such as 10.0.0.0/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), |bits| bits.parse().map_err(|_| bad()))?;
        if bits > all {
            return Err(bad());
        }
        Ok(Network { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        gitferry_base::text::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses_alone() {
        let contains =
            |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        for (network, address) in [
            ("10.0.0.0/8", "10.255.0.1"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "::ffff:192.0.2.7"),
            ("0.0.0.0/0", "203.0.113.1"),
            ("fd00::/8", "fdff::1"),
            ("::/0", "2001:db8::1"),
            ("::1", "::1"),
        ] {
            assert!(contains(network, address), "{network} {address}");
        }
        for (network, address) in
            [("10.0.0.0/8", "11.0.0.1"), ("192.0.2.7", "192.0.2.8"), ("::/0", "192.0.2.1"), ("fd00::/8", "fe00::1")]
        {
            assert!(!contains(network, address), "{network} {address}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/", "10.0.0.0/-1", "10.0.0/8"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
