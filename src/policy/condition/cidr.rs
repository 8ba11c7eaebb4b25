//! Ranges of IP addresses.

use std::net::IpAddr;

/// A range of addresses with a common prefix. An IPv4 address in the form of IPv6 counts as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    prefix: u32,
}

/// Number of bits of an address, and the address as a number.
fn bits(address: IpAddr) -> (u32, u128) {
    match address {
        IpAddr::V4(address) => (32, address.to_bits().into()),
        IpAddr::V6(address) => (128, address.to_bits()),
    }
}

impl Cidr {
    /// Reads an address with or without the length of a prefix. Without one, the range is the address alone.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let (length, _) = bits(address);
        let prefix = match prefix {
            None => length,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        (prefix <= length).then_some(Cidr { address, prefix })
    }

    /// Returns true if the text is an address in the range.
    pub(crate) fn contains(self, address: &str) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let (length, address) = bits(address.to_canonical());
        let (own_length, own) = bits(self.address);
        // `checked_shr` is `None` for a shift by 128 bits, that of `::/0`.
        length == own_length && (address ^ own).checked_shr(length - self.prefix).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_the_addresses_with_their_prefix() {
        for (range, address, expected) in [
            ("203.0.113.0/24", "203.0.113.1", true),
            ("203.0.113.0/24", "198.51.100.1", false),
            ("203.0.113.77/24", "203.0.113.1", true),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.8", false),
            ("203.0.113.7/31", "203.0.113.6", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "ffff::1", true),
            ("::/0", "10.0.0.1", false),
            ("2001:DB8:1234:5678::/64", "2001:db8:1234:5678:ffff::1", true),
            ("2001:DB8:1234:5678::/64", "2001:db8:1234:5679::1", false),
            ("2001:db8::1", "2001:db8:0:0:0:0:0:1", true),
            ("192.0.2.0/24", "::ffff:192.0.2.9", true),
            ("192.0.2.0/24", "x", false),
            ("192.0.2.0/24", "", false),
        ] {
            assert_eq!(Cidr::parse(range).unwrap().contains(address), expected, "{range} {address}");
        }
    }

    #[test]
    fn texts_that_are_no_ranges_are_none() {
        for text in [
            "",
            "*",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "010.0.0.0",
            "host",
        ] {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }
}
